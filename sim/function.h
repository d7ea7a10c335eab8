/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of functions, for launches and occupancy. */
#ifndef SIM_FUNCTION_H
#define SIM_FUNCTION_H

#include <stdint.h>

#include "module.h"

#define SIM_MAX_BLOCK_THREADS 1024u /* Source: CUDA programming guide, all devices since 2.0 */

/* Dynamic shared memory that a launch may ask for. */
int32_t sim_function_max_dynamic(const struct sim_function *f);
/* Threads that a block may have. */
uint32_t sim_function_max_threads(const struct sim_function *f);
uint32_t sim_function_regs(const struct sim_function *f);

/* Blocks that fit on one multiprocessor at a time (occupancy.c). */
uint32_t sim_function_blocks_per_sm(const struct sim_function *f, uint32_t block_threads,
				    uint64_t dynamic_bytes);

#endif /* SIM_FUNCTION_H */
