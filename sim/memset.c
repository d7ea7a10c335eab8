/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points that fill memory. Those without a stream use the default one, and do not wait
 * for device memory to be filled, as on hardware. */
#include "capture.h"
#include "exec.h"
#include "plan.h"
#include "sim.h"

#include "base/banned.h"

static CUresult set2d(CUdeviceptr dst, size_t pitch, uint32_t value, unsigned int elem_bytes,
		      size_t width, size_t height, CUstream stream, bool per_thread)
{
	struct sim_stream *s;
	struct sim_task t;
	CUresult r;

	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_plan_set(dst, pitch, value, elem_bytes, width, height, &t);
	if (r != CUDA_SUCCESS || sim_plan_is_empty(&t))
		return r;
	return sim_enqueue(s, &t, SIM_ASYNC);
}

/* cuMemsetD<bits>_v2, cuMemsetD<bits>Async and the 2D ones, each with its per-thread twin. */
#define MEMSET(bits, type)                                                                         \
	CUresult cuMemsetD##bits##_v2(CUdeviceptr dst, type value, size_t count)                   \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, 0, value, bits / 8, count, 1, NULL, false);                      \
	}                                                                                          \
	CUresult cuMemsetD##bits##_v2_ptds(CUdeviceptr dst, type value, size_t count)              \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, 0, value, bits / 8, count, 1, NULL, true);                       \
	}                                                                                          \
	CUresult cuMemsetD##bits##Async(CUdeviceptr dst, type value, size_t count, CUstream s)     \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, 0, value, bits / 8, count, 1, s, false);                         \
	}                                                                                          \
	CUresult cuMemsetD##bits##Async_ptsz(CUdeviceptr dst, type value, size_t count,            \
					     CUstream s)                                           \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, 0, value, bits / 8, count, 1, s, true);                          \
	}                                                                                          \
	CUresult cuMemsetD2D##bits##_v2(CUdeviceptr dst, size_t pitch, type value, size_t width,   \
					size_t height)                                             \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, pitch, value, bits / 8, width, height, NULL, false);             \
	}                                                                                          \
	CUresult cuMemsetD2D##bits##_v2_ptds(CUdeviceptr dst, size_t pitch, type value,            \
					     size_t width, size_t height)                          \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, pitch, value, bits / 8, width, height, NULL, true);              \
	}                                                                                          \
	CUresult cuMemsetD2D##bits##Async(CUdeviceptr dst, size_t pitch, type value, size_t width, \
					  size_t height, CUstream s)                               \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, pitch, value, bits / 8, width, height, s, false);                \
	}                                                                                          \
	CUresult cuMemsetD2D##bits##Async_ptsz(CUdeviceptr dst, size_t pitch, type value,          \
					       size_t width, size_t height, CUstream s)            \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return set2d(dst, pitch, value, bits / 8, width, height, s, true);                 \
	}                                                                                          \
	/* Of before CUDA 3.2, with addresses of 32 bits, which nothing here has. */               \
	CUresult cuMemsetD##bits(CUdeviceptr_v1 dst, type value, unsigned int count)               \
	{                                                                                          \
		return cuMemsetD##bits##_v2(dst, value, count);                                    \
	}                                                                                          \
	CUresult cuMemsetD2D##bits(CUdeviceptr_v1 dst, unsigned int pitch, type value,             \
				   unsigned int width, unsigned int height)                        \
	{                                                                                          \
		return cuMemsetD2D##bits##_v2(dst, pitch, value, width, height);                   \
	}

MEMSET(8, unsigned char)
MEMSET(16, unsigned short)
MEMSET(32, unsigned int)
