/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of memory tell each other and context.c. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include "sim.h"

/* Free all that ends with a context: linear memory, arrays, managed and pinned memory. Not
 * cuMemCreate's and the pools'. Source: cuda.h, cuCtxDestroy. */
void sim_memory_end_context(struct sim_context *ctx);

/* Take what cuMemFree may free, and begins at @address, out of the reach of other threads; NULL:
 * there is no such. Then free it, once nothing uses it. */
struct sim_alloc *sim_memory_claim(CUdeviceptr address);
void sim_memory_release(struct sim_alloc *alloc);

/* One allocation of those that cuMemFree frees (also IPC openings, at the end of a context). */
void sim_linear_release(struct sim_alloc *alloc);
void sim_ipc_release(struct sim_alloc *alloc);
void sim_array_release(struct sim_alloc *alloc);
void sim_managed_release(struct sim_alloc *alloc);
void sim_host_release(struct sim_alloc *alloc);
CUresult sim_pool_free_now(struct sim_alloc *alloc);

/* Wait for the work that may use memory before it is freed; refuses during captures that forbid
 * it. */
CUresult sim_memory_quiesce(struct sim_context *ctx);

#endif /* SIM_MEMORY_H */
