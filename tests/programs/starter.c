/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of many processes that start at once: initialises the driver, makes a context and a small
 * allocation when told to, prints how long each took in microseconds, and stays until its stdin
 * ends. Knows nothing of Aliquot.
 *
 *   starter [--context] [--hold]
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cu.h"

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv)
{
	bool context = false, hold = false;
	double t0, t1, t2 = 0, t3 = 0;
	CUcontext ctx;
	CUdeviceptr p;
	char line[200];
	CUresult r;
	int n;

	for (int i = 1; i < argc; i++) {
		context |= !strcmp(argv[i], "--context");
		hold |= !strcmp(argv[i], "--hold");
	}
	t0 = now_us();
	r = cuInit(0);
	t1 = now_us();
	if (r == CUDA_SUCCESS && context) {
		r = cuDevicePrimaryCtxRetain(&ctx, 0);
		if (r == CUDA_SUCCESS)
			r = cuCtxSetCurrent(ctx);
		t2 = now_us();
		if (r == CUDA_SUCCESS)
			r = cuMemAlloc(&p, 64 << 10);
		t3 = now_us();
	}
	n = snprintf(line, sizeof(line),
		     "starter code=%d pid=%d begin_us=%.0f init_us=%.0f context_us=%.0f "
		     "alloc_us=%.0f\n",
		     (int)r, (int)getpid(), t0, t1 - t0, context ? t2 - t1 : 0.0,
		     context ? t3 - t2 : 0.0);
	/* One write, so that lines of many processes on one pipe do not mix. */
	if (n < 0 || write(1, line, (size_t)n) != n)
		return 1;
	if (hold) {
		while (read(0, line, sizeof(line)) > 0)
			;
	}
	return r != CUDA_SUCCESS;
}
