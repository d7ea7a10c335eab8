/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of what the simulated driver executes: the kernels that it knows, launched. */
#ifndef AQ_TESTS_SIMCU_H
#define AQ_TESTS_SIMCU_H

#include <string.h>
#include <time.h>

#include "sim/kernels.ptx.h"
#include "simtest.h"

#define MS 1000000ull

#define FAILS(error, call) assert_int_equal(call, error)

static inline CUmodule simcu_kernels(void)
{
	CUmodule m;

	ok(cuModuleLoadData(&m, SIM_KERNELS_PTX));
	return m;
}

static inline CUfunction simcu_function(CUmodule m, const char *name)
{
	CUfunction f;

	ok(cuModuleGetFunction(&f, m, name));
	return f;
}

static inline CUdeviceptr simcu_alloc(size_t bytes)
{
	CUdeviceptr p;

	ok(cuMemAlloc_v2(&p, bytes));
	return p;
}

static inline uint32_t simcu_read_u32(CUdeviceptr p)
{
	uint32_t v = 0;

	ok(cuMemcpyDtoH_v2(&v, p, sizeof(v)));
	return v;
}

static inline uint64_t simcu_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Launches with one block, which is enough for the known kernels. */
static inline CUresult simcu_launch(CUfunction f, CUstream s, void **params)
{
	return cuLaunchKernel(f, 1, 1, 1, 128, 1, 1, 0, s, params, NULL);
}

static inline CUresult simcu_spin(CUfunction f, CUstream s, uint64_t ns)
{
	void *params[] = {&ns};

	return simcu_launch(f, s, params);
}

static inline CUresult simcu_mad(CUfunction f, CUstream s, CUdeviceptr x, uint32_t m, uint32_t a,
				 uint64_t n)
{
	void *params[] = {&x, &m, &a, &n};

	return simcu_launch(f, s, params);
}

static inline float simcu_elapsed_ms(CUevent a, CUevent b)
{
	float ms = -1;

	ok(cuEventElapsedTime(&ms, a, b));
	return ms;
}

#endif /* AQ_TESTS_SIMCU_H */
