/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interposer of the guard's form that only forwards: a libcuda.so.1 that has the real driver as
 * its dependency and one function for every symbol that the guard hooks. What it adds to a call is
 * the price of standing in between at all; the guard is compared with it, and with nothing.
 */
#include <dlfcn.h>
#include <stddef.h>

#include "cuda/cuda_abi.h"

/* Roles that the guard hooks. */
#define HOOKED_CHARGE(text) text
#define HOOKED_RELEASE(text) text
#define HOOKED_SUBMIT(text) text
#define HOOKED_REPORT(text) text
#define HOOKED_LIFECYCLE(text) text
#define HOOKED_RESOLVE(text)
#define HOOKED_WATCH(text)
#define HOOKED_PASS(text)

#define AQ_API_UNTYPED(sym, since, role)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)

/* Written once by the constructor, before any call. */
static struct {
#define AQ_API(sym, since, role, params, args) HOOKED_##role(CUresult(*sym) params;)
#include "cuda/cuda_api.def"
#undef AQ_API
} real;

__attribute__((constructor)) static void find_real(void)
{
	void *handle = dlopen("libaliquot-driver.so.1", RTLD_LAZY | RTLD_NOLOAD);

	if (!handle)
		return;
#define FIND(sym) *(void **)&real.sym = dlsym(handle, #sym);
#define AQ_API(sym, since, role, params, args) HOOKED_##role(FIND(sym))
#include "cuda/cuda_api.def"
#undef AQ_API
}

#define FORWARD(sym, params, args)                                                                 \
	CUresult sym params                                                                        \
	{                                                                                          \
		return real.sym ? real.sym args : CUDA_ERROR_NOT_SUPPORTED;                        \
	}
#define AQ_API(sym, since, role, params, args) HOOKED_##role(FORWARD(sym, params, args))
#include "cuda/cuda_api.def"
