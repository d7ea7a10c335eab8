/* SPDX-License-Identifier: Apache-2.0 */
/* Copies and memsets as the API describes them, checked and made tasks; and back. */
#ifndef SIM_PLAN_H
#define SIM_PLAN_H

#include "cuda/cuda_abi.h"
#include "task.h"

/* What a caller says that an address is. */
enum sim_side {
	SIM_SIDE_HOST,
	SIM_SIDE_DEVICE, /* has to be memory that a device can reach */
	SIM_SIDE_ANY,	 /* whatever the address is */
};

/**
 * sim_plan_linear() - copy of @bytes > 0.
 * Return: CUDA_SUCCESS; CUDA_ERROR_INVALID_VALUE: an address is not what its side says.
 */
CUresult sim_plan_linear(uint64_t dst, enum sim_side dst_side, uint64_t src, enum sim_side src_side,
			 size_t bytes, struct sim_task *ret_task);

/* Copy of a box. A size of 0 gives a task of no bytes. Also CUDA_ERROR_INVALID_HANDLE (arrays). */
CUresult sim_plan_box(const CUDA_MEMCPY3D_PEER *p, struct sim_task *ret_task);

/* The same from the narrower descriptions. */
void sim_plan_from_3d(const CUDA_MEMCPY3D *p, CUDA_MEMCPY3D_PEER *ret);
void sim_plan_from_2d(const CUDA_MEMCPY2D *p, CUDA_MEMCPY3D_PEER *ret);

/* What a copy task does, in the words of the API. */
void sim_plan_describe(const struct sim_copy_task *t, CUDA_MEMCPY3D *ret);

/* Memset of @height rows; @pitch counts when there is more than one. Sizes of 0 are allowed. */
CUresult sim_plan_set(CUdeviceptr dst, size_t pitch, uint32_t value, unsigned int elem_bytes,
		      size_t width, size_t height, struct sim_task *ret_task);

/* Whether a copy or memset does nothing, and is neither submitted nor captured. */
bool sim_plan_is_empty(const struct sim_task *t);

#endif /* SIM_PLAN_H */
