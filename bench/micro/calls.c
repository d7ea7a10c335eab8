/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one driver call costs through whichever libcuda.so.1 the loader finds: prints a JSON object
 * of nanoseconds per call. Run by bench/micro/run under nothing, a no-op interposer and the guard;
 * the differences are the result, not the numbers themselves.
 *
 * Usage: calls [ROUNDS] [CALLS_PER_ROUND]
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/timing.h"
#include "cuda/cuda_abi.h"

#define MAX_ROUNDS 2000
#define BATCH 64 /* allocations held at once, so that the tracking table is not empty */

static struct {
	__typeof__(&cuInit) init;
	__typeof__(&cuDevicePrimaryCtxRetain) retain;
	__typeof__(&cuCtxSetCurrent) set_current;
	__typeof__(&cuLaunchKernel) launch;
	__typeof__(&cuGraphLaunch) graph_launch;
	__typeof__(&cuMemcpyHtoDAsync_v2) copy;
	__typeof__(&cuStreamQuery) query;
	__typeof__(&cuMemAlloc_v2) alloc;
	__typeof__(&cuMemFree_v2) free;
	__typeof__(&cuMemGetInfo_v2) info;
} cu;

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void launch(unsigned int calls)
{
	for (unsigned int i = 0; i < calls; i++)
		cu.launch(NULL, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL);
}

static void graph_launch(unsigned int calls)
{
	for (unsigned int i = 0; i < calls; i++)
		cu.graph_launch(NULL, NULL);
}

static void copy(unsigned int calls)
{
	for (unsigned int i = 0; i < calls; i++)
		cu.copy(0, NULL, 0, NULL);
}

static void query(unsigned int calls)
{
	for (unsigned int i = 0; i < calls; i++)
		cu.query(NULL);
}

/* Counted per allocation: each is an alloc and, later, its free. */
static void alloc_free_of(unsigned int calls, size_t bytes)
{
	CUdeviceptr held[BATCH];

	for (unsigned int i = 0; i < calls; i += BATCH) {
		for (unsigned int k = 0; k < BATCH; k++)
			if (cu.alloc(&held[k], bytes) != CUDA_SUCCESS) {
				fprintf(stderr, "calls: allocation refused\n");
				exit(1);
			}
		for (unsigned int k = 0; k < BATCH; k++)
			cu.free(held[k]);
	}
}

/* Share a block of 2 MiB with others. */
static void alloc_free_small(unsigned int calls)
{
	alloc_free_of(calls, 4096);
}

/* Have blocks of their own, as frameworks ask for them. */
static void alloc_free_large(unsigned int calls)
{
	alloc_free_of(calls, 20u << 20);
}

static void info(unsigned int calls)
{
	size_t free_bytes, total_bytes;

	for (unsigned int i = 0; i < calls; i++)
		cu.info(&free_bytes, &total_bytes);
}

static void measure(const char *name, void (*work)(unsigned int), unsigned int rounds,
		    unsigned int calls, const char *separator)
{
	static double ns[MAX_ROUNDS];

	work(calls); /* warm */
	for (unsigned int i = 0; i < rounds; i++) {
		uint64_t start = aq_now_ns();

		work(calls);
		ns[i] = (double)(aq_now_ns() - start) / calls;
	}
	qsort(ns, rounds, sizeof(ns[0]), compare);
	printf("\"%s\": {\"min_ns\": %.2f, \"median_ns\": %.2f, \"p99_ns\": %.2f, \"rounds\": %u, "
	       "\"calls_per_round\": %u}%s",
	       name, ns[0], ns[rounds / 2], ns[rounds * 99 / 100], rounds, calls, separator);
}

static void *need(void *handle, const char *symbol)
{
	void *found = dlsym(handle, symbol);

	if (!found) {
		fprintf(stderr, "calls: no %s: %s\n", symbol, dlerror());
		exit(1);
	}
	return found;
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 200;
	unsigned int calls = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 20000;
	void *handle = dlopen("libcuda.so.1", RTLD_NOW);
	CUcontext ctx;
	CUresult r;

	if (!handle) {
		fprintf(stderr, "calls: %s\n", dlerror());
		return 1;
	}
	if (!rounds || rounds > MAX_ROUNDS || calls < 10 * BATCH) {
		fprintf(stderr, "usage: calls [ROUNDS<=%d] [CALLS>=%d]\n", MAX_ROUNDS, 10 * BATCH);
		return 2;
	}
	cu.init = need(handle, "cuInit");
	cu.retain = need(handle, "cuDevicePrimaryCtxRetain");
	cu.set_current = need(handle, "cuCtxSetCurrent");
	cu.launch = need(handle, "cuLaunchKernel");
	cu.graph_launch = need(handle, "cuGraphLaunch");
	cu.copy = need(handle, "cuMemcpyHtoDAsync_v2");
	cu.query = need(handle, "cuStreamQuery");
	cu.alloc = need(handle, "cuMemAlloc_v2");
	cu.free = need(handle, "cuMemFree_v2");
	cu.info = need(handle, "cuMemGetInfo_v2");

	r = cu.init(0);
	if (r == CUDA_SUCCESS)
		r = cu.retain(&ctx, 0);
	if (r == CUDA_SUCCESS)
		r = cu.set_current(ctx);
	if (r != CUDA_SUCCESS) {
		fprintf(stderr, "calls: driver says %d\n", (int)r);
		return 1;
	}
	printf("{");
	measure("launch_kernel", launch, rounds, calls, ", ");
	measure("graph_launch", graph_launch, rounds, calls, ", ");
	measure("copy_async", copy, rounds, calls, ", ");
	measure("stream_query", query, rounds, calls, ", ");
	measure("alloc_free_4k", alloc_free_small, rounds, calls / 10 / BATCH * BATCH, ", ");
	measure("alloc_free_20m", alloc_free_large, rounds, calls / 10 / BATCH * BATCH, ", ");
	measure("mem_get_info", info, rounds / 10 ? rounds / 10 : 1, calls / 100, "}\n");
	return 0;
}
