/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running program that is resized by bench/micro/resize, and says when it sees it: it looks again
 * and again until what it waits for is so, and prints the instant (CLOCK_MONOTONIC, ns). Whichever
 * libcuda.so.1 the loader finds; knows nothing of who resizes it.
 *
 * One command a line, answered by `{}` when it begins to look, and by a line of JSON at the end:
 *   total BYTES          cuMemGetInfo says that total
 *   fits BYTES           so much can be allocated (and is freed again)
 *   refused BYTES        so much can no longer be allocated
 *   gate BITS VALUE      those bits of the shared page's gate have that value
 *   hold BYTES           no looking: keep so much more, in pieces of 64 MiB, every byte written
 *   info                 no looking: cuMemGetInfo
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <aliquot/abi.h>

#include "base/timing.h"
#include "micro.h"

#define PIECE (64ull << 20)
#define PATIENCE_NS (20 * AQ_NS_PER_S)
#define NAP_US 1000 /* between two allocations: else the program has the memory all the time */

#define CALLS(CU)                                                                                  \
	CU(alloc, cuMemAlloc_v2)                                                                   \
	CU(free, cuMemFree_v2)                                                                     \
	CU(info, cuMemGetInfo_v2)                                                                  \
	CU(fill, cuMemsetD32_v2)

/* Written once, at the start. */
static struct {
	CALLS(MICRO_FIELD)
} cu;

/* The page that the guard has mapped into this process. */
static const struct aq_page *find_page(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	const struct aq_page *page = NULL;
	char line[512];
	void *from;

	while (maps && !page && fgets(line, sizeof(line), maps))
		if (strstr(line, "memfd:aliquot-page") && sscanf(line, "%p-", &from) == 1)
			page = from;
	if (maps)
		fclose(maps);
	return page;
}

static bool total_is(uint64_t bytes, uint64_t unused)
{
	size_t left, total;

	(void)unused;
	must(cu.info(&left, &total), "cuMemGetInfo");
	return total == bytes;
}

static bool fits(uint64_t bytes, uint64_t unused)
{
	CUdeviceptr p;

	(void)unused;
	usleep(NAP_US);
	if (cu.alloc(&p, bytes) != CUDA_SUCCESS)
		return false;
	must(cu.free(p), "cuMemFree");
	return true;
}

static bool refused(uint64_t bytes, uint64_t unused)
{
	return !fits(bytes, unused);
}

static bool gate_is(uint64_t bits, uint64_t value)
{
	static const struct aq_page *page;

	if (!page)
		page = find_page();
	return page && (page->device[0].gate & bits) == value;
}

static void look(bool (*so)(uint64_t, uint64_t), uint64_t a, uint64_t b)
{
	uint64_t began = aq_now_ns(), at;
	uint64_t looks = 0;
	bool seen;

	printf("{}\n");
	fflush(stdout);
	do {
		looks++;
		seen = so(a, b);
		at = aq_now_ns();
	} while (!seen && at - began < PATIENCE_NS);
	printf("{\"seen\": %s, \"at_ns\": %" PRIu64 ", \"looks\": %" PRIu64 "}\n",
	       seen ? "true" : "false", at, looks);
}

static void hold(uint64_t bytes)
{
	CUdeviceptr p;

	for (uint64_t part; bytes; bytes -= part) {
		part = bytes < PIECE ? bytes : PIECE;
		must(cu.alloc(&p, part), "cuMemAlloc");
		must(cu.fill(p, 1, part / 4), "cuMemsetD32");
	}
	printf("{}\n");
}

static void info(void)
{
	size_t left, total;

	must(cu.info(&left, &total), "cuMemGetInfo");
	printf("{\"free_bytes\": %zu, \"total_bytes\": %zu}\n", left, total);
}

int main(void)
{
	struct micro_command c;

	MICRO_FIND(CALLS);
	micro_context();
	printf("{}\n");
	while (micro_command(&c)) {
		if (!strcmp(c.verb, "total"))
			look(total_is, c.a, c.b);
		else if (!strcmp(c.verb, "fits"))
			look(fits, c.a, c.b);
		else if (!strcmp(c.verb, "refused"))
			look(refused, c.a, c.b);
		else if (!strcmp(c.verb, "gate"))
			look(gate_is, c.a, c.b);
		else if (!strcmp(c.verb, "hold"))
			hold(c.a);
		else if (!strcmp(c.verb, "info"))
			info();
		else
			return 2;
	}
	return 0;
}
