/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An ordinary program on NVIDIA's runtime that does what memory limits meet: one check a run, named
 * by the first argument. It knows nothing of Aliquot. Prints `key=value ...` and exits 0, or says
 * what was wrong and exits 1.
 *
 *   info           what the runtime says of the device's memory
 *   fill [CHUNK]   cudaMalloc of CHUNK MiB until refused; afterwards everything still works
 *   async          the same with cudaMallocAsync, trimmed and given back
 *   managed        the same with cudaMallocManaged (never touched)
 *   graph          a captured graph with kernels and memory nodes, launched a thousand times
 *   streams        work on own, per-thread and legacy streams, ordered by events
 *   hold MIB       that much, then a line, then until standard input ends
 *   child          forks before CUDA, both processes fill; neither may pass the limit of both
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

static const size_t MIB = 1 << 20;

static __global__ void scale(int *a, int n, int by)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < n)
		a[i] = i * by;
}

#define CHECK(call)                                                                                \
	do {                                                                                       \
		cudaError_t e_ = (call);                                                           \
		if (e_ != cudaSuccess) {                                                           \
			printf("%s: error %d %s\n", #call, (int)e_, cudaGetErrorName(e_));         \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

/* A kernel gives the right numbers in memory that was got before. */
static int compute(int *a, int n, int by, cudaStream_t stream)
{
	std::vector<int> h(n);

	scale<<<(n + 255) / 256, 256, 0, stream>>>(a, n, by);
	CHECK(cudaGetLastError());
	CHECK(cudaMemcpyAsync(h.data(), a, n * sizeof(int), cudaMemcpyDeviceToHost, stream));
	CHECK(cudaStreamSynchronize(stream));
	for (int i = 0; i < n; i++)
		if (h[i] != i * by) {
			printf("wrong result at %d\n", i);
			return 1;
		}
	return 0;
}

static int info()
{
	size_t left, total;
	cudaDeviceProp props;

	CHECK(cudaMemGetInfo(&left, &total));
	CHECK(cudaGetDeviceProperties(&props, 0));
	printf("free=%zu total=%zu props=%zu\n", left, total, (size_t)props.totalGlobalMem);
	return 0;
}

enum method { PLAIN, ASYNC, MANAGED };

static cudaError_t take(enum method how, void **p, size_t bytes)
{
	if (how == ASYNC)
		return cudaMallocAsync(p, bytes, 0);
	if (how == MANAGED)
		return cudaMallocManaged(p, bytes);
	return cudaMalloc(p, bytes);
}

static cudaError_t give(enum method how, void *p)
{
	return how == ASYNC ? cudaFreeAsync(p, 0) : cudaFree(p);
}

static int fill(enum method how, size_t chunk)
{
	size_t left, total, got = 0;
	cudaError_t e = cudaSuccess;
	std::vector<void *> all;
	int *a;

	CHECK(cudaMemGetInfo(&left, &total));
	CHECK(cudaMalloc(&a, MIB));
	/* Managed memory is never asked for beyond what is free: a device may hang on it. */
	while (how == MANAGED ? got + chunk <= left + MIB : got <= total + chunk) {
		void *p;

		e = take(how, &p, chunk);
		if (e == cudaSuccess && how == ASYNC)
			e = cudaStreamSynchronize(0);
		if (e != cudaSuccess)
			break;
		all.push_back(p);
		got += chunk;
	}
	/* Reported once, then forgotten: an allocation refused breaks nothing. */
	if (cudaGetLastError() != e || cudaGetLastError() != cudaSuccess) {
		printf("the error stays\n");
		return 1;
	}
	if (e != cudaErrorMemoryAllocation && how != MANAGED) {
		printf("refused with %d %s\n", (int)e, cudaGetErrorName(e));
		return 1;
	}
	if (compute(a, 1000, 3, 0))
		return 1;
	for (void *p : all)
		CHECK(give(how, p));
	CHECK(cudaDeviceSynchronize());
	if (!all.empty()) { /* what was given back can be had again */
		void *p;

		CHECK(take(how, &p, chunk));
		CHECK(give(how, p));
		CHECK(cudaDeviceSynchronize());
	}
	if (compute(a, 1000, 5, 0))
		return 1;
	CHECK(cudaFree(a));
	printf("got=%zu total=%zu refused=%d\n", got, total, (int)e);
	return 0;
}

static int graph()
{
	const int n = 1 << 16;
	cudaStream_t s;
	cudaGraph_t g;
	cudaGraphExec_t exec;
	size_t before, after, total;
	int *a;

	CHECK(cudaStreamCreate(&s));
	CHECK(cudaMalloc(&a, n * sizeof(int)));
	CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
	for (int i = 0; i < 20; i++) {
		int *t;

		CHECK(cudaMallocAsync(&t, 4 * MIB, s));
		scale<<<n / 256, 256, 0, s>>>(t, n, i);
		scale<<<n / 256, 256, 0, s>>>(a, n, i);
		CHECK(cudaFreeAsync(t, s));
	}
	CHECK(cudaStreamEndCapture(s, &g));
	CHECK(cudaGraphInstantiate(&exec, g, 0));
	CHECK(cudaGraphLaunch(exec, s));
	CHECK(cudaStreamSynchronize(s));
	CHECK(cudaMemGetInfo(&before, &total));
	for (int i = 0; i < 1000; i++)
		CHECK(cudaGraphLaunch(exec, s));
	CHECK(cudaStreamSynchronize(s));
	CHECK(cudaMemGetInfo(&after, &total));
	std::vector<int> h(n);
	CHECK(cudaMemcpy(h.data(), a, n * sizeof(int), cudaMemcpyDeviceToHost));
	for (int i = 0; i < n; i++)
		if (h[i] != i * 19) {
			printf("wrong result at %d\n", i);
			return 1;
		}
	CHECK(cudaGraphExecDestroy(exec));
	CHECK(cudaGraphDestroy(g));
	printf("launches=1001 grew=%lld\n", (long long)before - (long long)after);
	return 0;
}

static int streams()
{
	cudaStream_t own[4], kinds[6];
	cudaEvent_t e;
	int *a;

	CHECK(cudaMalloc(&a, 4 * MIB));
	CHECK(cudaEventCreate(&e));
	for (int i = 0; i < 4; i++)
		CHECK(cudaStreamCreateWithFlags(&own[i], cudaStreamNonBlocking));
	for (int i = 0; i < 4; i++)
		kinds[i] = own[i];
	kinds[4] = cudaStreamLegacy;
	kinds[5] = cudaStreamPerThread;
	for (int round = 1; round < 50; round++) {
		cudaStream_t from = kinds[round % 6], to = kinds[(round * 5 + 1) % 6];

		scale<<<1000, 256, 0, from>>>(a, 256000, 1);
		CHECK(cudaEventRecord(e, from));
		CHECK(cudaStreamWaitEvent(to, e, 0));
		if (compute(a, 256000, round, to))
			return 1;
	}
	printf("rounds=49\n");
	return 0;
}

static int hold(size_t mib)
{
	char c;
	void *p;

	CHECK(cudaMalloc(&p, mib * MIB));
	CHECK(cudaMemset(p, 1, mib * MIB));
	CHECK(cudaDeviceSynchronize());
	printf("holding=%zu\n", mib * MIB);
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}

/* Takes what it can and keeps it until the other has had its try, too. */
static int fill_and_keep(int wait_for, int tell, size_t *ret_got)
{
	size_t chunk = 64 * MIB, got = 0, left, total;
	char c = 0;
	void *p;

	CHECK(cudaMemGetInfo(&left, &total));
	while (got < total && cudaMalloc(&p, chunk) == cudaSuccess)
		got += chunk;
	*ret_got = got;
	if (write(tell, &c, 1) != 1 || read(wait_for, &c, 1) != 1)
		return 1;
	return 0;
}

static int child()
{
	int there[2], back[2], result[2], status;
	size_t own = 0, others = 0, left, total;
	pid_t pid;

	if (pipe(there) || pipe(back) || pipe(result))
		return 1;
	pid = fork();
	if (!pid) {
		size_t got = 0;
		int r = fill_and_keep(there[0], back[1], &got);

		if (write(result[1], &got, sizeof(got)) != (ssize_t)sizeof(got))
			r = 1;
		_exit(r);
	}
	if (fill_and_keep(back[0], there[1], &own))
		return 1;
	CHECK(cudaMemGetInfo(&left, &total));
	if (read(result[0], &others, sizeof(others)) != (ssize_t)sizeof(others))
		return 1;
	waitpid(pid, &status, 0);
	printf("own=%zu child=%zu total=%zu status=%d\n", own, others, total, status);
	return status != 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t number = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;

	if (!strcmp(what, "info"))
		return info();
	if (!strcmp(what, "fill"))
		return fill(PLAIN, (number ? number : 64) * MIB);
	if (!strcmp(what, "async"))
		return fill(ASYNC, 64 * MIB);
	if (!strcmp(what, "managed"))
		return fill(MANAGED, 64 * MIB);
	if (!strcmp(what, "graph"))
		return graph();
	if (!strcmp(what, "streams"))
		return streams();
	if (!strcmp(what, "hold"))
		return hold(number ? number : 256);
	if (!strcmp(what, "child"))
		return child();
	fprintf(stderr, "runtime: there is no check '%s'\n", what);
	return 2;
}
