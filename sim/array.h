/* SPDX-License-Identifier: Apache-2.0 */
/* What arrays and mipmapped arrays have in common. */
#ifndef SIM_ARRAY_H
#define SIM_ARRAY_H

#include "sim.h"

/* What an array takes beside its elements. Source: guess; tiles on real cards are 64 KiB. */
#define ARRAY_ALIGN 65536ull

/* Flags, limits and format; how large an element is. */
CUresult sim_array_check_desc(const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t *ret_elem);

void sim_array_fill_in(struct sim_array *a, const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t elem,
		       struct sim_context *ctx);

CUresult sim_array_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *req, uint64_t bytes,
				CUdevice device);

/* Memory for @bytes of elements; its record points to @owner, the array or mipmap. */
CUresult sim_array_take_memory(struct sim_context *ctx, uint64_t bytes, void *owner,
			       CUdeviceptr *ret_base);

/* Take the record of an array's or mipmap's memory, so that one thread frees it. Under sim.lock. */
struct sim_alloc *sim_array_claim(uint64_t base);

/* The level of a mipmap that a handle is; NULL: it is none. Under sim.lock. */
struct sim_array *sim_mipmap_level(CUarray handle);

#endif /* SIM_ARRAY_H */
