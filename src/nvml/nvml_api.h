/* SPDX-License-Identifier: Apache-2.0 */
/* Prototypes of NVML's functions, exported, for those who define them: the simulator, the guard. */
#ifndef AQ_NVML_API_H
#define AQ_NVML_API_H

#include "nvml/nvml_abi.h"

#define AQ_NVML_EXPORT __attribute__((visibility("default")))

#define AQ_NVML_UNTYPED(sym, role)
#define AQ_NVML(sym, role, params, args) AQ_NVML_EXPORT nvmlReturn_t sym params;
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED

AQ_NVML_EXPORT const char *nvmlErrorString(nvmlReturn_t status);

#endif /* AQ_NVML_API_H */
