/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel launches taken apart and checked, for streams and for graph nodes. */
#ifndef SIM_LAUNCH_H
#define SIM_LAUNCH_H

#include "cuda/cuda_abi.h"
#include "module.h"
#include "task.h"

/* Parameters that fit here need no allocation to be launched. */
#define SIM_LAUNCH_LOCAL_BYTES 4096u

/**
 * sim_launch_prepare() - make a task of a launch.
 * @f:      checked
 * @config: dimensions, shared memory, attributes; the stream is not looked at
 * @params, @extra: as the caller of the API gave them
 * @local:  SIM_LAUNCH_LOCAL_BYTES for packed parameters
 * @ret_task: refers to @local or to the caller's buffer of @extra: copy it with sim_task_dup()
 * Return: CUDA_SUCCESS, CUDA_ERROR_INVALID_VALUE, ..._COOPERATIVE_LAUNCH_TOO_LARGE,
 * ..._INVALID_CLUSTER_SIZE.
 */
CUresult sim_launch_prepare(struct sim_function *f, const CUlaunchConfig *config, void **params,
			    void **extra, uint8_t *local, struct sim_task *ret_task);

#endif /* SIM_LAUNCH_H */
