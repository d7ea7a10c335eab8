/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the programs of bench/micro come to a driver: whichever libcuda.so.1 the loader finds, each
 * entry point by its name, and no way on without it; and to commands. Measures nothing.
 *
 * A program lists what it calls, and has a struct and the looking up made of it:
 *	#define CALLS(CU) CU(alloc, cuMemAlloc_v2) CU(free, cuMemFree_v2)
 *	static struct { CALLS(MICRO_FIELD) } cu;
 *	MICRO_FIND(CALLS);
 */
#ifndef AQ_BENCH_MICRO_H
#define AQ_BENCH_MICRO_H

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda/cuda_abi.h"

#define MICRO_FIELD(field, symbol) __typeof__(&symbol) field;
#define MICRO_FIND_ONE(field, symbol) *(void **)&cu.field = micro_find(#symbol);
#define MICRO_FIND(calls)                                                                          \
	do {                                                                                       \
		calls(MICRO_FIND_ONE)                                                              \
	} while (0)

/* Ends the program when the loader finds none. The loader keeps it: asking again is cheap. */
static inline void *micro_driver(void)
{
	void *handle = dlopen("libcuda.so.1", RTLD_NOW);

	if (handle)
		return handle;
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, dlerror());
	exit(1);
}

/* Ends the program when the driver has no @symbol. */
static inline void *micro_find(const char *symbol)
{
	void *found = dlsym(micro_driver(), symbol);

	if (found)
		return found;
	fprintf(stderr, "%s: no %s: %s\n", program_invocation_short_name, symbol, dlerror());
	exit(1);
}

/* Ends the program when the driver says anything but success. */
static inline void must(CUresult r, const char *what)
{
	if (r == CUDA_SUCCESS)
		return;
	fprintf(stderr, "%s: %s: error %d\n", program_invocation_short_name, what, (int)r);
	exit(1);
}

/* The primary context of the first device, current. */
static inline void micro_context(void)
{
	__typeof__(&cuInit) init;
	__typeof__(&cuDevicePrimaryCtxRetain) retain;
	__typeof__(&cuCtxSetCurrent) set_current;
	CUcontext ctx;

	*(void **)&init = micro_find("cuInit");
	*(void **)&retain = micro_find("cuDevicePrimaryCtxRetain");
	*(void **)&set_current = micro_find("cuCtxSetCurrent");
	must(init(0), "cuInit");
	must(retain(&ctx, 0), "cuDevicePrimaryCtxRetain");
	must(set_current(ctx), "cuCtxSetCurrent");
}

/* A line of standard input, after all that was answered before: a word, and numbers. */
struct micro_command {
	char verb[16];
	uint64_t a, b; /* 0 where the line has none */
	int words;     /* that it has, of the three */
};

/* Return: whether there is another, waiting for it; empty lines are passed over. */
static inline bool micro_command(struct micro_command *c)
{
	char line[128];

	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		*c = (struct micro_command){.words = 0};
		c->words = sscanf(line, "%15s %" SCNu64 " %" SCNu64, c->verb, &c->a, &c->b);
		if (c->words >= 1)
			return true;
	}
	return false;
}

#endif /* AQ_BENCH_MICRO_H */
