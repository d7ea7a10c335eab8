/* SPDX-License-Identifier: Apache-2.0 */
/* Managed memory, as advice, prefetches and queries see it. */
#ifndef SIM_MANAGED_H
#define SIM_MANAGED_H

#include "sim.h"

/* alloc->owner of managed memory. Under sim.lock. */
struct sim_managed {
	struct sim_phys *phys; /* what is charged */
	bool read_mostly;
	CUmemLocation preferred;
	CUmemLocation prefetched;
	uint32_t accessed_by; /* bit per device ordinal; bit 31: the host */
};

/* The managed allocation that has all of a range; NULL: none. Under sim.lock. */
struct sim_managed *sim_managed_find(CUdeviceptr dptr, size_t count);

/* Whether a location is a place where managed memory can be. */
bool sim_location_valid(const CUmemLocation *l);

/* The location of calls that name a device or CU_DEVICE_CPU. */
CUmemLocation sim_location_of(CUdevice device);

#endif /* SIM_MANAGED_H */
