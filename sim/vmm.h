/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of memory ask about mapped memory and pools. All under sim.lock. */
#ifndef SIM_VMM_H
#define SIM_VMM_H

#include "sim.h"

/* Properties of the physical memory behind a SIM_MEMORY_VMM allocation. */
const CUmemAllocationProp *sim_vmm_prop(const struct sim_alloc *alloc);

CUmemAllocationHandleType sim_pool_handle_types(const struct sim_pool *pool);

#endif /* SIM_VMM_H */
