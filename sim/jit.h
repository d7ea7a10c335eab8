/* SPDX-License-Identifier: Apache-2.0 */
/* Options of loading and linking: which there are is checked, and logs are written; the rest means
 * nothing where nothing is compiled. */
#ifndef SIM_JIT_H
#define SIM_JIT_H

#include <stdbool.h>
#include <stddef.h>

#include "cuda/cuda_abi.h"
#include "ptx.h"

struct sim_jit {
	char *info, *error; /* buffers of the program; NULL: none wanted */
	unsigned int info_bytes, error_bytes;
	void **info_size, **error_size; /* where the used length goes: the option's own value */
	void **wall_time;
};

/* Take options apart. Return: false when one is unknown or an array is missing. */
bool sim_jit_read(struct sim_jit *jit, unsigned int n, const CUjit_option *options, void **values);

/* Write the logs of one compilation. @jit may be NULL. */
void sim_jit_log(const struct sim_jit *jit, CUresult result, const struct sim_ptx *why);

/* Map a file of code. CUDA_ERROR_FILE_NOT_FOUND, CUDA_ERROR_INVALID_IMAGE (empty). */
CUresult sim_file_map(const char *path, void **ret_bytes, size_t *ret_size);

#endif /* SIM_JIT_H */
