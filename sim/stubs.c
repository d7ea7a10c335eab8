/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every entry point of the catalogue, so that programs which look all of them up find them. Each is
 * weak and refuses; the files that simulate something have the real one. Exported variables of the
 * genuine driver (for its debugger) are left out.
 */
#include "sim.h"

#include "base/banned.h"

/* What nobody simulates still says whether the driver is initialised. */
static CUresult refuse(const char *api)
{
	CUresult r = sim_enter(api);

	return r == CUDA_SUCCESS ? CUDA_ERROR_NOT_SUPPORTED : r;
}

#define STUB __attribute__((weak, visibility("default")))
#define AQ_API(sym, since, role, params, args)                                                     \
	STUB CUresult sym params                                                                   \
	{                                                                                          \
		return refuse(#sym);                                                               \
	}
#define AQ_API_UNTYPED(sym, since, role)                                                           \
	STUB CUresult sym(void);                                                                   \
	STUB CUresult sym(void)                                                                    \
	{                                                                                          \
		return refuse(#sym);                                                               \
	}
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
