/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of stream memory operations, for streams and for graph nodes. */
#ifndef SIM_MEMOPS_H
#define SIM_MEMOPS_H

#include "cuda/cuda_abi.h"

/* More at a time are refused. Source: CUDA driver API, cuStreamBatchMemOp: count < 256. */
#define SIM_MEMOPS_MAX 256u

/* CUDA_ERROR_INVALID_VALUE: one of them is not what a stream can do. */
CUresult sim_memops_check(unsigned int count, const CUstreamBatchMemOpParams *ops,
			  unsigned int flags);

#endif /* SIM_MEMOPS_H */
