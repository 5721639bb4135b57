/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
//go:build ignore
/* clang-format on */

/*
 * timed FILE CMD [ARG...]: runs a command and writes to FILE how many ns it took, from before its
 * start to after its end, and the most memory it had resident, in KiB. A tracer that starts this
 * program has attached by then and has not begun to end, so that what it takes for that is not in
 * the figure. A program inherits its parent's peak until exec, and this parent is small. The status
 * is that of the command.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void __attribute__((noreturn)) die(const char *what, int err)
{
	fprintf(stderr, "timed: %s: %s\n", what, strerror(err));
	exit(126);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	int status;
	pid_t pid;
	struct rusage used;

	if (argc < 3) {
		fprintf(stderr, "usage: timed FILE CMD [ARG...]\n");
		return 2;
	}
	FILE *out = fopen(argv[1], "we");
	if (!out)
		die(argv[1], errno);
	long long began = now();
	int err = posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ);
	if (err)
		die(argv[2], err);
	if (wait4(pid, &status, 0, &used) != pid)
		die("wait", errno);
	fprintf(out, "%lld %ld\n", now() - began, used.ru_maxrss);
	if (fclose(out))
		die(argv[1], errno);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
