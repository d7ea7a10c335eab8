/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Simulated NVML: every entry point of the catalogue that the other files do not define answers
 * that it is not supported. A weak definition gives way to a real one of the same name.
 *
 * The signatures do not matter here: callers expect a nvmlReturn_t and clean up their own
 * arguments.
 */
#include "nvml/nvml_abi.h"

#define STUB(sym)                                                                                  \
	__attribute__((weak, visibility("default"))) nvmlReturn_t sym(void);                       \
	nvmlReturn_t sym(void)                                                                     \
	{                                                                                          \
		return NVML_ERROR_NOT_SUPPORTED;                                                   \
	}

#define AQ_NVML(sym, role, params, args) STUB(sym)
#define AQ_NVML_UNTYPED(sym, role) STUB(sym)
#include "nvml/nvml_api.def"
