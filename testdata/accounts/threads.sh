#!/bin/sh
# needs: gcc
cat >main.c <<'C'
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *work(void *arg)
{
	char buf[200000];
	void *kept[40];

	memset(buf, (long)arg, sizeof(buf));
	for (int i = 0; i < 40; i++) {
		kept[i] = malloc(1000 + i * 500);
		memset(kept[i], 1, 1000 + i * 500);
	}
	usleep(100000);
	for (int i = 0; i < 40; i++)
		free(kept[i]);
	return NULL;
}
int main(void)
{
	for (long n = 0;; n++) {
		pthread_t all[16];

		for (int i = 0; i < 16; i++)
			pthread_create(&all[i], NULL, work, (void *)n);
		for (int i = 0; i < 16; i++)
			pthread_join(all[i], NULL);
		usleep(50000);
	}
}
C
gcc -O1 -pthread -o main main.c && exec ./main
