/* SPDX-License-Identifier: Apache-2.0 */
/* What other files of memory ask about mapped memory and pools. All under sim.lock. */
#ifndef SIM_VMM_H
#define SIM_VMM_H

#include "sim.h"

/* What appears at addresses and in handles is in whole frames. */
#define GRANULARITY SIM_FRAME_BYTES

/* The physical memory behind a SIM_MEMORY_VMM allocation. */
struct sim_phys *sim_mapping_phys(const struct sim_alloc *alloc);

/* The physical memory that a handle names; NULL: it is none. Takes no reference. */
struct sim_phys *sim_handle_phys(CUmemGenericAllocationHandle handle);

CUmemAllocationHandleType sim_pool_handle_types(const struct sim_pool *pool);

#endif /* SIM_VMM_H */
