/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcuda.so to link test programs against, as a CUDA toolkit's stub is: it has every name of the
 * driver and answers CUDA_ERROR_STUB_LIBRARY. No program ever runs with it.
 */
#define AQ_API(sym, since, role, params, args) int sym(void);
#define AQ_API_UNTYPED(sym, since, role) int sym(void);
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED

#define STUB(sym)                                                                                  \
	__attribute__((visibility("default"))) int sym(void)                                       \
	{                                                                                          \
		return 34; /* CUDA_ERROR_STUB_LIBRARY */                                           \
	}
#define AQ_API(sym, since, role, params, args) STUB(sym)
#define AQ_API_UNTYPED(sym, since, role) STUB(sym)
#include "cuda/cuda_api.def"
