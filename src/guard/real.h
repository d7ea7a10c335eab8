/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver behind the guard: a pointer to every entry point that cuda_api.def knows the signature
 * of. What the driver at hand does not have stays NULL.
 */
#ifndef AQ_GUARD_REAL_H
#define AQ_GUARD_REAL_H

#include <stdbool.h>

#include "cuda/cuda_abi.h"

#define AQ__DRIVER_SONAME "libaliquot-driver.so.1"

struct aq__real {
#define AQ_API(sym, since, role, params, args) CUresult(*sym) params;
#define AQ_API_UNTYPED(sym, since, role)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
};

/* The same for entry points whose signature nobody has published: aq__untyped_SYMBOL. */
#define AQ_API(sym, since, role, params, args)
#define AQ_API_UNTYPED(sym, since, role)                                                           \
	extern void *aq__untyped_##sym __attribute__((visibility("hidden")));
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS

/* Filled by a constructor of the library; aq__real_load() for callers that come before it. */
extern struct aq__real aq__real;

/* Fill aq__real unless that is done. Any thread; keeps errno. */
void aq__real_load(void);

/*
 * The driver's entry point, or NULL where it has none. The second look is for programs that call
 * from a constructor that runs before ours.
 */
#define AQ__REAL(sym)                                                                              \
	({                                                                                         \
		__typeof__(aq__real.sym) aq_fn_ = aq__real.sym;                                    \
		if (__builtin_expect(!aq_fn_, 0)) {                                                \
			aq__real_load();                                                           \
			aq_fn_ = aq__real.sym;                                                     \
		}                                                                                  \
		aq_fn_;                                                                            \
	})

/* Call it, or answer as a driver that is too old does. */
#define AQ__CALL(sym, ...)                                                                         \
	({                                                                                         \
		__typeof__(aq__real.sym) aq_call_ = AQ__REAL(sym);                                 \
		aq_call_ ? aq_call_(__VA_ARGS__) : CUDA_ERROR_NOT_SUPPORTED;                       \
	})

#endif /* AQ_GUARD_REAL_H */
