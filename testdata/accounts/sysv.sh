#!/bin/sh
# needs: gcc
cat >main.c <<'C'
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <unistd.h>
int main(void)
{
	for (int n = 0;; n++) {
		int id = shmget(IPC_PRIVATE, 4 << 20, 0600);
		char *p = shmat(id, NULL, 0);

		shmctl(id, IPC_RMID, NULL); /* it goes with its last user */
		memset(p, n, 3 << 20);
		if (!fork()) {
			memset(p + (3 << 20), n, 1 << 20);
			usleep(200000);
			_exit(0);
		}
		usleep(100000);
		shmdt(p);
	}
}
C
gcc -O1 -o main main.c && exec ./main
