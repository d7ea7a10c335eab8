/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one driver call costs through whichever libcuda.so.1 the loader finds: prints a JSON object
 * of nanoseconds per call. Run by bench/micro/run under nothing, a no-op interposer and the guard;
 * the differences are the result, not the numbers themselves.
 *
 * Usage: calls [ROUNDS] [CALLS_PER_ROUND]
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/timing.h"
#include "micro.h"

#define MAX_ROUNDS 2000
#define BATCH 64 /* allocations held at once, so that the tracking table is not empty */

#define CALLS(CU)                                                                                  \
	CU(launch, cuLaunchKernel)                                                                 \
	CU(graph_launch, cuGraphLaunch)                                                            \
	CU(copy, cuMemcpyHtoDAsync_v2)                                                             \
	CU(query, cuStreamQuery)                                                                   \
	CU(alloc, cuMemAlloc_v2)                                                                   \
	CU(free, cuMemFree_v2)                                                                     \
	CU(info, cuMemGetInfo_v2)

/* Written once, at the start. */
static struct {
	CALLS(MICRO_FIELD)
} cu;

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static uint64_t launch(unsigned int calls)
{
	uint64_t start = aq_now_ns();

	for (unsigned int i = 0; i < calls; i++)
		cu.launch(NULL, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL);
	return aq_now_ns() - start;
}

static uint64_t graph_launch(unsigned int calls)
{
	uint64_t start = aq_now_ns();

	for (unsigned int i = 0; i < calls; i++)
		cu.graph_launch(NULL, NULL);
	return aq_now_ns() - start;
}

static uint64_t copy(unsigned int calls)
{
	uint64_t start = aq_now_ns();

	for (unsigned int i = 0; i < calls; i++)
		cu.copy(0, NULL, 0, NULL);
	return aq_now_ns() - start;
}

static uint64_t query(unsigned int calls)
{
	uint64_t start = aq_now_ns();

	for (unsigned int i = 0; i < calls; i++)
		cu.query(NULL);
	return aq_now_ns() - start;
}

/* What the allocations of a round took, or what their frees took: the other is not counted. */
static uint64_t alloc_free(unsigned int calls, size_t bytes, bool time_frees)
{
	CUdeviceptr held[BATCH];
	uint64_t sum = 0;

	for (unsigned int i = 0; i < calls; i += BATCH) {
		uint64_t start = aq_now_ns(), middle;

		for (unsigned int k = 0; k < BATCH; k++)
			must(cu.alloc(&held[k], bytes), "cuMemAlloc");
		middle = aq_now_ns();
		for (unsigned int k = 0; k < BATCH; k++)
			cu.free(held[k]);
		sum += time_frees ? aq_now_ns() - middle : middle - start;
	}
	return sum;
}

/* Pieces of 4 KiB share a block of 2 MiB; those of 20 MiB, as frameworks ask for, have their own.
 */
static uint64_t alloc_4k(unsigned int calls)
{
	return alloc_free(calls, 4096, false);
}

static uint64_t free_4k(unsigned int calls)
{
	return alloc_free(calls, 4096, true);
}

static uint64_t alloc_20m(unsigned int calls)
{
	return alloc_free(calls, 20u << 20, false);
}

static uint64_t free_20m(unsigned int calls)
{
	return alloc_free(calls, 20u << 20, true);
}

static uint64_t info(unsigned int calls)
{
	uint64_t start = aq_now_ns();
	size_t free_bytes, total_bytes;

	for (unsigned int i = 0; i < calls; i++)
		cu.info(&free_bytes, &total_bytes);
	return aq_now_ns() - start;
}

static void measure(const char *name, uint64_t (*work)(unsigned int), unsigned int rounds,
		    unsigned int calls, const char *separator)
{
	static double ns[MAX_ROUNDS];

	work(calls); /* warm */
	for (unsigned int i = 0; i < rounds; i++)
		ns[i] = (double)work(calls) / calls;
	qsort(ns, rounds, sizeof(ns[0]), compare);
	printf("\"%s\": {\"min_ns\": %.2f, \"median_ns\": %.2f, \"p99_ns\": %.2f, \"rounds\": %u, "
	       "\"calls_per_round\": %u}%s",
	       name, ns[0], ns[rounds / 2], ns[rounds * 99 / 100], rounds, calls, separator);
}

int main(int argc, char **argv)
{
	unsigned int rounds = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 200;
	unsigned int calls = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10) : 20000;

	if (!rounds || rounds > MAX_ROUNDS || calls < 10 * BATCH) {
		fprintf(stderr, "usage: calls [ROUNDS<=%d] [CALLS>=%d]\n", MAX_ROUNDS, 10 * BATCH);
		return 2;
	}
	MICRO_FIND(CALLS);
	micro_context();
	printf("{");
	measure("launch_kernel", launch, rounds, calls, ", ");
	measure("graph_launch", graph_launch, rounds, calls, ", ");
	measure("copy_async", copy, rounds, calls, ", ");
	measure("stream_query", query, rounds, calls, ", ");
	measure("alloc_4k", alloc_4k, rounds, calls / 10 / BATCH * BATCH, ", ");
	measure("free_4k", free_4k, rounds, calls / 10 / BATCH * BATCH, ", ");
	measure("alloc_20m", alloc_20m, rounds, calls / 10 / BATCH * BATCH, ", ");
	measure("free_20m", free_20m, rounds, calls / 10 / BATCH * BATCH, ", ");
	measure("mem_get_info", info, rounds / 10 ? rounds / 10 : 1, calls / 100, "}\n");
	return 0;
}
