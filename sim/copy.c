/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entry points that copy runs of bytes, and their batches. Those without a stream use the
 * default one and return when the bytes are there, but for copies inside devices, which they only
 * hand over.
 */
#include "copy.h"

#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "sim.h"

#include "base/banned.h"

/* Pageable sources of this size are taken at once, so that the call need not wait. Source: CUDA
 * driver API, "API synchronization behavior": 64 KB. */
#define STAGE_BYTES 65536u

/* Take the source bytes of a copy from pageable memory now, since the program may change them. */
static CUresult stage(struct sim_copy_task *c)
{
	uint8_t *bytes = malloc(c->width_bytes);
	CUresult r;

	if (!bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = sim_bytes_read(bytes, c->src.address + c->src.x_bytes, c->width_bytes);
	if (r != CUDA_SUCCESS) {
		free(bytes);
		return r;
	}
	c->staged = bytes;
	c->src = (struct sim_box){.address = (uintptr_t)bytes};
	return CUDA_SUCCESS;
}

CUresult sim_copy_enqueue(struct sim_stream *s, struct sim_task *t, enum sim_enqueue how)
{
	struct sim_copy_task *c = &t->copy;
	bool small =
		c->height == 1 && c->depth == 1 && !c->src.array && c->width_bytes <= STAGE_BYTES;
	CUresult r = CUDA_SUCCESS;

	if (sim_plan_is_empty(t))
		return CUDA_SUCCESS;
	if (how == SIM_SYNC && (c->route == SIM_ROUTE_DEVICE || c->route == SIM_ROUTE_PEER))
		how = SIM_ASYNC;
	if (how == SIM_ASYNC && (c->src_pageable || c->dst_pageable)) {
		if (c->dst_pageable || !small)
			how = SIM_STAGED;
		else if (!sim_stream_capturing(s))
			r = stage(c);
	}
	if (r == CUDA_SUCCESS)
		r = sim_enqueue(s, t, how);
	free(c->staged); /* not any more ours when the task was queued */
	return r;
}

static CUresult linear(uint64_t dst, enum sim_side dst_side, uint64_t src, enum sim_side src_side,
		       size_t bytes, CUstream stream, bool per_thread, enum sim_enqueue how)
{
	struct sim_stream *s;
	struct sim_task t;
	CUresult r;

	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS || !bytes)
		return r;
	r = sim_plan_linear(dst, dst_side, src, src_side, bytes, &t);
	return r == CUDA_SUCCESS ? sim_copy_enqueue(s, &t, how) : r;
}

/* An entry point of runs of bytes, and its per-thread twin. */
#define SYNC(name, params, dst, dst_side, src, src_side)                                           \
	CUresult name params                                                                       \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return linear(dst, dst_side, src, src_side, bytes, NULL, false, SIM_SYNC);         \
	}                                                                                          \
	CUresult name##_ptds params                                                                \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return linear(dst, dst_side, src, src_side, bytes, NULL, true, SIM_SYNC);          \
	}
#define ASYNC(name, params, dst, dst_side, src, src_side)                                          \
	CUresult name params                                                                       \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return linear(dst, dst_side, src, src_side, bytes, stream, false, SIM_ASYNC);      \
	}                                                                                          \
	CUresult name##_ptsz params                                                                \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return linear(dst, dst_side, src, src_side, bytes, stream, true, SIM_ASYNC);       \
	}

SYNC(cuMemcpy, (CUdeviceptr dst, CUdeviceptr src, size_t bytes), dst, SIM_SIDE_ANY, src,
     SIM_SIDE_ANY)
SYNC(cuMemcpyHtoD_v2, (CUdeviceptr dst, const void *src, size_t bytes), dst, SIM_SIDE_DEVICE,
     (uintptr_t)src, SIM_SIDE_HOST)
SYNC(cuMemcpyDtoH_v2, (void *dst, CUdeviceptr src, size_t bytes), (uintptr_t)dst, SIM_SIDE_HOST,
     src, SIM_SIDE_DEVICE)
SYNC(cuMemcpyDtoD_v2, (CUdeviceptr dst, CUdeviceptr src, size_t bytes), dst, SIM_SIDE_DEVICE, src,
     SIM_SIDE_DEVICE)
ASYNC(cuMemcpyAsync, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream), dst,
      SIM_SIDE_ANY, src, SIM_SIDE_ANY)
ASYNC(cuMemcpyHtoDAsync_v2, (CUdeviceptr dst, const void *src, size_t bytes, CUstream stream), dst,
      SIM_SIDE_DEVICE, (uintptr_t)src, SIM_SIDE_HOST)
ASYNC(cuMemcpyDtoHAsync_v2, (void *dst, CUdeviceptr src, size_t bytes, CUstream stream),
      (uintptr_t)dst, SIM_SIDE_HOST, src, SIM_SIDE_DEVICE)
ASYNC(cuMemcpyDtoDAsync_v2, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream), dst,
      SIM_SIDE_DEVICE, src, SIM_SIDE_DEVICE)

/* Between contexts. The addresses say where the memory is; the contexts are only checked. */
static CUresult peer(CUdeviceptr dst, CUcontext dst_ctx, CUdeviceptr src, CUcontext src_ctx,
		     size_t bytes, CUstream stream, bool per_thread, enum sim_enqueue how)
{
	struct sim_context *to, *from;
	CUresult r;

	r = sim_context_check(dst_ctx, &to);
	if (r == CUDA_SUCCESS)
		r = sim_context_check(src_ctx, &from);
	if (r != CUDA_SUCCESS)
		return r;
	return linear(dst, SIM_SIDE_DEVICE, src, SIM_SIDE_DEVICE, bytes, stream, per_thread, how);
}

#define PEER_PARAMS                                                                                \
	CUdeviceptr dst, CUcontext dst_ctx, CUdeviceptr src, CUcontext src_ctx, size_t bytes

CUresult cuMemcpyPeer(PEER_PARAMS)
{
	SIM_ENTER_CONTEXT(ctx);
	return peer(dst, dst_ctx, src, src_ctx, bytes, NULL, false, SIM_SYNC);
}

CUresult cuMemcpyPeer_ptds(PEER_PARAMS)
{
	SIM_ENTER_CONTEXT(ctx);
	return peer(dst, dst_ctx, src, src_ctx, bytes, NULL, true, SIM_SYNC);
}

CUresult cuMemcpyPeerAsync(PEER_PARAMS, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return peer(dst, dst_ctx, src, src_ctx, bytes, stream, false, SIM_ASYNC);
}

CUresult cuMemcpyPeerAsync_ptsz(PEER_PARAMS, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return peer(dst, dst_ctx, src, src_ctx, bytes, stream, true, SIM_ASYNC);
}

/*
 * Batches: in any order by contract; here one after the other. Not for the legacy default stream.
 */
static bool order_is_valid(const CUmemcpyAttributes *attr)
{
	return attr->srcAccessOrder > CU_MEMCPY_SRC_ACCESS_ORDER_INVALID &&
	       attr->srcAccessOrder <= CU_MEMCPY_SRC_ACCESS_ORDER_ANY;
}

static CUresult batch(const CUdeviceptr *dsts, const CUdeviceptr *srcs, const size_t *sizes,
		      size_t count, const CUmemcpyAttributes *attrs, const size_t *attr_idx,
		      size_t nattrs, size_t *fail_idx, CUstream stream, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (fail_idx)
		*fail_idx = SIZE_MAX;
	if (!dsts || !srcs || !sizes || !count || !attrs || !attr_idx || !nattrs ||
	    nattrs > count || attr_idx[0] != 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (s->kind == SIM_STREAM_LEGACY)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_stream_capturing(s)) {
		sim_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	for (size_t i = 0; i < nattrs; i++)
		if (!order_is_valid(&attrs[i]) || (i && attr_idx[i] <= attr_idx[i - 1]) ||
		    attr_idx[i] >= count)
			return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < count; i++) {
		r = sizes[i] ? linear(dsts[i], SIM_SIDE_ANY, srcs[i], SIM_SIDE_ANY, sizes[i],
				      stream, per_thread, SIM_ASYNC)
			     : CUDA_ERROR_INVALID_VALUE;
		if (r != CUDA_SUCCESS) {
			if (fail_idx)
				*fail_idx = i;
			return r;
		}
	}
	return CUDA_SUCCESS;
}

#define BATCH_PARAMS                                                                               \
	CUdeviceptr *dsts, CUdeviceptr *srcs, size_t *sizes, size_t count,                         \
		CUmemcpyAttributes *attrs, size_t *attr_idx, size_t nattrs

CUresult cuMemcpyBatchAsync(BATCH_PARAMS, size_t *fail_idx, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(dsts, srcs, sizes, count, attrs, attr_idx, nattrs, fail_idx, stream, false);
}

CUresult cuMemcpyBatchAsync_ptsz(BATCH_PARAMS, size_t *fail_idx, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(dsts, srcs, sizes, count, attrs, attr_idx, nattrs, fail_idx, stream, true);
}

CUresult cuMemcpyBatchAsync_v2(BATCH_PARAMS, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(dsts, srcs, sizes, count, attrs, attr_idx, nattrs, NULL, stream, false);
}

CUresult cuMemcpyBatchAsync_v2_ptsz(BATCH_PARAMS, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(dsts, srcs, sizes, count, attrs, attr_idx, nattrs, NULL, stream, true);
}

/*
 * Of before CUDA 3.2: the same with addresses and sizes of 32 bits. No memory here has such an
 * address, so those with one only fail as they should.
 */
CUresult cuMemcpyHtoD(CUdeviceptr_v1 dst, const void *src, unsigned int bytes)
{
	return cuMemcpyHtoD_v2(dst, src, bytes);
}

CUresult cuMemcpyDtoH(void *dst, CUdeviceptr_v1 src, unsigned int bytes)
{
	return cuMemcpyDtoH_v2(dst, src, bytes);
}

CUresult cuMemcpyDtoD(CUdeviceptr_v1 dst, CUdeviceptr_v1 src, unsigned int bytes)
{
	return cuMemcpyDtoD_v2(dst, src, bytes);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr_v1 dst, const void *src, unsigned int bytes, CUstream stream)
{
	return cuMemcpyHtoDAsync_v2(dst, src, bytes, stream);
}

CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr_v1 src, unsigned int bytes, CUstream stream)
{
	return cuMemcpyDtoHAsync_v2(dst, src, bytes, stream);
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr_v1 dst, CUdeviceptr_v1 src, unsigned int bytes,
			   CUstream stream)
{
	return cuMemcpyDtoDAsync_v2(dst, src, bytes, stream);
}

/*
 * One copy with attributes: as without, for none of them is of account here.
 */
static CUresult with_attributes(CUdeviceptr dst, CUdeviceptr src, size_t bytes,
				const CUmemcpyAttributes *attr, CUstream stream, bool per_thread)
{
	if (!attr || !order_is_valid(attr))
		return CUDA_ERROR_INVALID_VALUE;
	return linear(dst, SIM_SIDE_ANY, src, SIM_SIDE_ANY, bytes, stream, per_thread, SIM_ASYNC);
}

CUresult cuMemcpyWithAttributesAsync(CUdeviceptr dst, CUdeviceptr src, size_t bytes,
				     CUmemcpyAttributes *attr, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return with_attributes(dst, src, bytes, attr, stream, false);
}

CUresult cuMemcpyWithAttributesAsync_ptsz(CUdeviceptr dst, CUdeviceptr src, size_t bytes,
					  CUmemcpyAttributes *attr, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return with_attributes(dst, src, bytes, attr, stream, true);
}
