/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver that does nothing, as fast as possible: every entry point of the catalogue returns
 * success at once. What remains of a call's time is what stands in front of the driver. Not a
 * simulator: nothing is kept, nothing is checked.
 */
#include "cuda/cuda_abi.h"

/* Weak: null_answers.c has the few that must say something. */
#define AQ_API(sym, since, role, params, args)                                                     \
	__attribute__((weak)) CUresult sym params                                                  \
	{                                                                                          \
		return CUDA_SUCCESS;                                                               \
	}
#define AQ_API_UNTYPED(sym, since, role)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
