/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks around the driver in the ways that programs do, and prints what each side saw. Knows
 * nothing of Aliquot.
 *
 *   forker before             fork, then both use the driver
 *   forker after              use the driver, fork, the child tries to, the parent goes on
 *   forker after-quiet        use the driver, fork a child that never touches it and outlives it
 *   forker exec PROGRAM ...   fork, exec PROGRAM with the environment as it is
 *   forker env-i PROGRAM ...  fork, exec PROGRAM with an empty environment
 *   forker many N PROGRAM ... N children at once that exec PROGRAM; waits for all
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cu.h"

#define MIB (1ull << 20)

static CUdeviceptr held;

/* The line of one side; it holds @bytes afterwards. */
static int use(const char *who, size_t bytes)
{
	size_t total = 0, free_now = 0;
	CUcontext ctx = NULL;
	const char *step = "init";
	CUresult r = cuInit(0);

	if (r == CUDA_SUCCESS) {
		step = "retain";
		r = cuDevicePrimaryCtxRetain(&ctx, 0);
	}
	if (r == CUDA_SUCCESS)
		r = cuCtxSetCurrent(ctx);
	if (r == CUDA_SUCCESS) {
		step = "alloc";
		r = cuMemAlloc(&held, bytes);
	}
	if (r == CUDA_SUCCESS) {
		step = "info";
		r = cuMemGetInfo(&free_now, &total);
	}
	printf("%s code=%d step=%s total=%zu free=%zu\n", who, (int)r, step, total, free_now);
	fflush(stdout);
	return (int)r;
}

static int wait_for(pid_t child)
{
	int status = 0;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int before(void)
{
	pid_t child = fork();
	int r, r2;

	if (child == 0)
		_exit(use("child", 64 * MIB) ? 1 : 0);
	r = wait_for(child);
	r2 = use("parent", 32 * MIB);
	printf("forker child_exit=%d\n", r);
	return r || r2;
}

static int after(void)
{
	size_t total, free_before = 0, free_after = 0;
	pid_t child;
	int r;

	if (use("parent", 64 * MIB))
		return 1;
	cuMemGetInfo(&free_before, &total);
	child = fork();
	if (child == 0) {
		use("child", 32 * MIB);
		_exit(0);
	}
	r = wait_for(child);
	cuMemGetInfo(&free_after, &total);
	printf("forker child_exit=%d before=%zu after=%zu free=%d\n", r, free_before, free_after,
	       (int)cuMemFree(held));
	return r != 0;
}

static int after_quiet(void)
{
	pid_t child;

	if (use("parent", 64 * MIB))
		return 1;
	child = fork();
	if (child == 0) {
		getchar(); /* until whoever started us is done looking */
		_exit(0);
	}
	printf("forker child=%d\n", (int)child);
	return 0;
}

static int start_one(char **argv, char **env)
{
	pid_t child = fork();

	if (child == 0) {
		execve(argv[0], argv, env);
		_exit(127);
	}
	return child;
}

static int many(unsigned int n, char **argv)
{
	unsigned int bad = 0;
	pid_t *children = calloc(n ? n : 1, sizeof(*children));

	if (!children)
		return 1;
	for (unsigned int i = 0; i < n; i++)
		children[i] = start_one(argv, environ);
	for (unsigned int i = 0; i < n; i++)
		bad += children[i] < 0 || wait_for(children[i]) != 0;
	free(children);
	fprintf(stderr, "forker many=%u bad=%u\n", n, bad);
	return bad != 0;
}

int main(int argc, char **argv)
{
	char *empty[] = {NULL};

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(argv[1], "before"))
		return before();
	if (argc == 2 && !strcmp(argv[1], "after"))
		return after();
	if (argc == 2 && !strcmp(argv[1], "after-quiet"))
		return after_quiet();
	if (argc > 2 && !strcmp(argv[1], "exec"))
		return wait_for(start_one(argv + 2, environ));
	if (argc > 2 && !strcmp(argv[1], "env-i"))
		return wait_for(start_one(argv + 2, empty));
	if (argc > 3 && !strcmp(argv[1], "many"))
		return many((unsigned int)strtoul(argv[2], NULL, 10), argv + 3);
	fprintf(stderr, "usage: forker before|after|after-quiet|exec|env-i|many ...\n");
	return 2;
}
