/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver-API program with bad manners, which prints what came of them. Knows nothing of
 * Aliquot.
 *
 *   rogue closefrom          allocate, close all descriptors from 3 on, go on allocating
 *   rogue dup2 FILE          allocate, put FILE in the place of all descriptors, go on allocating
 *   rogue exec PROGRAM ...   allocate 512 MiB, exec PROGRAM
 *   rogue alarms N           N allocations and frees of 700 MiB with a signal every 500 us
 *   rogue threads N KIB      N threads with stacks of KIB initialise, allocate and free at once
 *                            while the process forks
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cu.h"

#define MIB ((size_t)1 << 20)
#define MAX_THREADS 256

static CUresult start(void)
{
	CUcontext ctx;
	CUresult r = cuInit(0);

	if (r == CUDA_SUCCESS)
		r = cuDevicePrimaryCtxRetain(&ctx, 0);
	if (r == CUDA_SUCCESS)
		r = cuCtxSetCurrent(ctx);
	return r;
}

static void allocate(size_t mib)
{
	CUdeviceptr p;

	printf("alloc code=%d\n", (int)cuMemAlloc(&p, mib * MIB));
}

/* More than one chunk of any grant: each has to ask. */
static int go_on(void)
{
	size_t free_bytes = 0, total = 0;
	CUresult r;

	allocate(512);
	allocate(1024);
	r = cuMemGetInfo(&free_bytes, &total);
	printf("info code=%d free=%zu total=%zu\n", (int)r, free_bytes, total);
	return 0;
}

static int close_all(void)
{
	closefrom(3);
	return go_on();
}

static int replace_all(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct stat st;

	if (fd < 0)
		return 1;
	for (int i = 3; i < 1024; i++) {
		if (i != fd && fcntl(i, F_GETFD) >= 0 && dup2(fd, i) < 0)
			return 1;
	}
	go_on();
	if (fstat(fd, &st) < 0)
		return 1;
	printf("file bytes=%lld\n", (long long)st.st_size);
	return 0;
}

static void on_alarm(int number)
{
	(void)number;
}

static int alarms(int n)
{
	struct sigaction action = {.sa_handler = on_alarm}; /* and no SA_RESTART */
	struct itimerval every = {{0, 500}, {0, 500}};
	int bad = 0;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < n; i++) {
		CUdeviceptr p;

		bad += cuMemAlloc(&p, 700 * MIB) || cuMemFree(p);
	}
	printf("alarms bad=%d\n", bad);
	return bad != 0;
}

static void *work(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	CUdeviceptr held[8] = {0};
	uintptr_t bad = start() != CUDA_SUCCESS;

	for (int i = 0; i < 100; i++) {
		CUdeviceptr *p = &held[(unsigned int)rand_r(&seed) % 8];
		CUresult r;

		if (*p) {
			bad += cuMemFree(*p) != CUDA_SUCCESS;
			*p = 0;
			continue;
		}
		r = cuMemAlloc(p, ((size_t)rand_r(&seed) % 64 + 1) * MIB);
		if (r != CUDA_SUCCESS)
			*p = 0;
		bad += r != CUDA_SUCCESS && r != CUDA_ERROR_OUT_OF_MEMORY;
	}
	for (int i = 0; i < 8; i++)
		bad += held[i] && cuMemFree(held[i]) != CUDA_SUCCESS;
	return (void *)bad;
}

static int threads(int n, size_t stack_kib)
{
	pthread_t thread[MAX_THREADS];
	pthread_attr_t attr;
	uintptr_t bad = 0;
	int made = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack_kib << 10);
	while (made < n && made < MAX_THREADS &&
	       !pthread_create(&thread[made], &attr, work, (void *)(uintptr_t)made))
		made++;
	pthread_attr_destroy(&attr);
	for (int i = 0; i < 50; i++) {
		pid_t child = fork();

		if (!child)
			_exit(0);
		if (child > 0)
			waitpid(child, NULL, 0);
	}
	for (int i = 0; i < made; i++) {
		void *result = NULL;

		pthread_join(thread[i], &result);
		bad += (uintptr_t)result;
	}
	printf("threads made=%d bad=%d\n", made, (int)bad);
	return bad || made < n;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	CUresult r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(what, "threads"))
		return threads((int)strtol(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
	r = start();
	if (r != CUDA_SUCCESS) {
		printf("start code=%d\n", (int)r);
		return 1;
	}
	if (argc == 2 && !strcmp(what, "closefrom"))
		return close_all();
	if (argc == 3 && !strcmp(what, "dup2"))
		return replace_all(argv[2]);
	if (argc == 3 && !strcmp(what, "alarms"))
		return alarms((int)strtol(argv[2], NULL, 10));
	if (argc > 2 && !strcmp(what, "exec")) {
		allocate(512);
		execvp(argv[2], argv + 2);
		return 127;
	}
	fprintf(stderr, "usage: rogue closefrom|dup2 FILE|exec PROGRAM ...|alarms N|threads N KIB\n");
	return 2;
}
