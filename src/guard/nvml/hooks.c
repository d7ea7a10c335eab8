/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing at run time: a function that the catalogue gives to the guard and nobody wrote does not
 * link. */
#include "nvml/nvml_api.h"

#include "guard/guest.h"

#define REPORT(sym) (const void *)sym,
#define SHARED(sym)
#define IDENTITY(sym)
#define LIFECYCLE(sym)
#define WATCH(sym)
#define PASS(sym)

__attribute__((used)) static const void *const written[] = {
#define AQ_NVML(sym, role, params, args) role(sym)
#define AQ_NVML_UNTYPED(sym, role)
#include "nvml/nvml_api.def"
#undef AQ_NVML
#undef AQ_NVML_UNTYPED
};
