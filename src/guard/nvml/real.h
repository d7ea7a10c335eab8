/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NVML library behind this face: pointers to the functions that the face answers itself, and to
 * what it needs to know a device by. What the library at hand does not have stays NULL.
 */
#ifndef AQ_GUARD_NVML_REAL_H
#define AQ_GUARD_NVML_REAL_H

#include "nvml/nvml_abi.h"

struct aq__nvml_real {
#define AQ_NVML(sym, role, params, args) nvmlReturn_t(*sym) params;
#define AQ_NVML_UNTYPED(sym, role)
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED
};

/* The pointers, filled by the first call. Any thread; keeps errno. */
const struct aq__nvml_real *aq__nvml_real(void);

/* Call it, or answer as a library that is too old does. */
#define AQ__REAL(sym, ...)                                                                         \
	({                                                                                         \
		__typeof__(aq__nvml_real()->sym) aq_fn_ = aq__nvml_real()->sym;                    \
		aq_fn_ ? aq_fn_(__VA_ARGS__) : NVML_ERROR_FUNCTION_NOT_FOUND;                      \
	})

#endif /* AQ_GUARD_NVML_REAL_H */
