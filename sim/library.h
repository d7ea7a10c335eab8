/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel handles of libraries, for the entry points that ask them. */
#ifndef SIM_LIBRARY_H
#define SIM_LIBRARY_H

#include "module.h"

/* A CUkernel is a pointer to this. Its magic lies where a function's does. */
struct sim_kernel_handle {
	uint32_t magic;
	uint32_t index; /* of the entry in the library's code */
	struct sim_library *library;
	int32_t max_dynamic_shared_bytes; /* 0: the default */
	int32_t carveout;
};

/* A handle that a caller gave. CUDA_ERROR_INVALID_HANDLE. */
CUresult sim_kernel_check(CUkernel handle, struct sim_kernel_handle **ret_kernel);
const struct sim_ptx_entry *sim_kernel_entry(const struct sim_kernel_handle *k);
/* Take what was set over to the functions that are loaded. */
void sim_kernel_set(struct sim_kernel_handle *k);

#endif /* SIM_LIBRARY_H */
