/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points that copy boxes, and those that copy runs of an array's bytes. */
#include "copy.h"

#include "exec.h"
#include "sim.h"

#include "base/banned.h"

static CUresult box(const CUDA_MEMCPY3D_PEER *p, CUstream stream, bool per_thread,
		    enum sim_enqueue how)
{
	struct sim_stream *s;
	struct sim_task t;
	CUresult r;

	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_plan_box(p, &t);
	return r == CUDA_SUCCESS ? sim_copy_enqueue(s, &t, how) : r;
}

static CUresult copy2d(const CUDA_MEMCPY2D *p, CUstream stream, bool per_thread,
		       enum sim_enqueue how)
{
	CUDA_MEMCPY3D_PEER wide;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	sim_plan_from_2d(p, &wide);
	return box(&wide, stream, per_thread, how);
}

static CUresult copy3d(const CUDA_MEMCPY3D *p, CUstream stream, bool per_thread,
		       enum sim_enqueue how)
{
	CUDA_MEMCPY3D_PEER wide;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	sim_plan_from_3d(p, &wide);
	return box(&wide, stream, per_thread, how);
}

static CUresult copy3d_peer(const CUDA_MEMCPY3D_PEER *p, CUstream stream, bool per_thread,
			    enum sim_enqueue how)
{
	struct sim_context *ctx;
	CUresult r;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	/* A context may be missing: then it is the current one. */
	r = sim_context_check(p->srcContext, &ctx);
	if (r == CUDA_SUCCESS)
		r = sim_context_check(p->dstContext, &ctx);
	return r == CUDA_SUCCESS ? box(p, stream, per_thread, how) : r;
}

#define SYNC(name, fn, type)                                                                       \
	CUresult name(const type *copy)                                                            \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(copy, NULL, false, SIM_SYNC);                                            \
	}                                                                                          \
	CUresult name##_ptds(const type *copy)                                                     \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(copy, NULL, true, SIM_SYNC);                                             \
	}
#define ASYNC(name, fn, type)                                                                      \
	CUresult name(const type *copy, CUstream stream)                                           \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(copy, stream, false, SIM_ASYNC);                                         \
	}                                                                                          \
	CUresult name##_ptsz(const type *copy, CUstream stream)                                    \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(copy, stream, true, SIM_ASYNC);                                          \
	}

SYNC(cuMemcpy2D_v2, copy2d, CUDA_MEMCPY2D)
SYNC(cuMemcpy2DUnaligned_v2, copy2d, CUDA_MEMCPY2D)
ASYNC(cuMemcpy2DAsync_v2, copy2d, CUDA_MEMCPY2D)
SYNC(cuMemcpy3D_v2, copy3d, CUDA_MEMCPY3D)
ASYNC(cuMemcpy3DAsync_v2, copy3d, CUDA_MEMCPY3D)
SYNC(cuMemcpy3DPeer, copy3d_peer, CUDA_MEMCPY3D_PEER)
ASYNC(cuMemcpy3DPeerAsync, copy3d_peer, CUDA_MEMCPY3D_PEER)

/*
 * Runs of bytes of one-dimensional arrays, whose offsets count bytes.
 */

/* @other_type: of the side that is no array. */
static CUresult array_run(CUarray dst_array, size_t dst_offset, CUarray src_array,
			  size_t src_offset, uint64_t other, CUmemorytype other_type, size_t bytes,
			  CUstream stream, bool per_thread, enum sim_enqueue how)
{
	const CUDA_MEMCPY3D_PEER p = {
		.srcXInBytes = src_array ? src_offset : 0,
		.srcMemoryType = src_array ? CU_MEMORYTYPE_ARRAY : other_type,
		.srcHost = (const void *)(uintptr_t)other,
		.srcDevice = other,
		.srcArray = src_array,
		.dstXInBytes = dst_array ? dst_offset : 0,
		.dstMemoryType = dst_array ? CU_MEMORYTYPE_ARRAY : other_type,
		.dstHost = (void *)(uintptr_t)other,
		.dstDevice = other,
		.dstArray = dst_array,
		.WidthInBytes = bytes,
		.Height = 1,
		.Depth = 1,
	};

	return box(&p, stream, per_thread, how);
}

/* NULL instead of the array that the name of the call promises. */
#define NEED(array)                                                                                \
	do {                                                                                       \
		if (!(array))                                                                      \
			return CUDA_ERROR_INVALID_HANDLE;                                          \
	} while (0)

#define ARRAY_RUN(name, twin, params, a, b, call)                                                  \
	CUresult name params                                                                       \
	{                                                                                          \
		const bool per_thread = false;                                                     \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		NEED(a);                                                                           \
		NEED(b);                                                                           \
		return call;                                                                       \
	}                                                                                          \
	CUresult name##twin params                                                                 \
	{                                                                                          \
		const bool per_thread = true;                                                      \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		NEED(a);                                                                           \
		NEED(b);                                                                           \
		return call;                                                                       \
	}

ARRAY_RUN(cuMemcpyDtoA_v2, _ptds, (CUarray dst, size_t offset, CUdeviceptr src, size_t bytes), dst,
	  dst,
	  array_run(dst, offset, NULL, 0, src, CU_MEMORYTYPE_DEVICE, bytes, NULL, per_thread,
		    SIM_SYNC))
ARRAY_RUN(cuMemcpyAtoD_v2, _ptds, (CUdeviceptr dst, CUarray src, size_t offset, size_t bytes), src,
	  src,
	  array_run(NULL, 0, src, offset, dst, CU_MEMORYTYPE_DEVICE, bytes, NULL, per_thread,
		    SIM_SYNC))
ARRAY_RUN(cuMemcpyHtoA_v2, _ptds, (CUarray dst, size_t offset, const void *src, size_t bytes), dst,
	  dst,
	  array_run(dst, offset, NULL, 0, (uintptr_t)src, CU_MEMORYTYPE_HOST, bytes, NULL,
		    per_thread, SIM_SYNC))
ARRAY_RUN(cuMemcpyAtoH_v2, _ptds, (void *dst, CUarray src, size_t offset, size_t bytes), src, src,
	  array_run(NULL, 0, src, offset, (uintptr_t)dst, CU_MEMORYTYPE_HOST, bytes, NULL,
		    per_thread, SIM_SYNC))
ARRAY_RUN(cuMemcpyAtoA_v2, _ptds,
	  (CUarray dst, size_t dst_offset, CUarray src, size_t src_offset, size_t bytes), dst, src,
	  array_run(dst, dst_offset, src, src_offset, 0, 0, bytes, NULL, per_thread, SIM_SYNC))
ARRAY_RUN(cuMemcpyHtoAAsync_v2, _ptsz,
	  (CUarray dst, size_t offset, const void *src, size_t bytes, CUstream stream), dst, dst,
	  array_run(dst, offset, NULL, 0, (uintptr_t)src, CU_MEMORYTYPE_HOST, bytes, stream,
		    per_thread, SIM_ASYNC))
ARRAY_RUN(cuMemcpyAtoHAsync_v2, _ptsz,
	  (void *dst, CUarray src, size_t offset, size_t bytes, CUstream stream), src, src,
	  array_run(NULL, 0, src, offset, (uintptr_t)dst, CU_MEMORYTYPE_HOST, bytes, stream,
		    per_thread, SIM_ASYNC))

/*
 * Batches of boxes.
 */

static CUresult box_operand(const CUmemcpy3DOperand *o, const CUextent3D *extent, bool is_dst,
			    CUDA_MEMCPY3D_PEER *p)
{
	struct sim_array *array;
	size_t elem = 1;
	CUresult r;

	/* Extents count elements of an array, and bytes between addresses. */
	if (o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
		r = sim_array_check(o->op.array.array, &array);
		if (r != CUDA_SUCCESS)
			return r;
		elem = array->elem_bytes;
		p->WidthInBytes = extent->width * elem;
	} else if (o->type != CU_MEMCPY_OPERAND_TYPE_POINTER) {
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (is_dst) {
		p->dstMemoryType = o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY ? CU_MEMORYTYPE_ARRAY
									   : CU_MEMORYTYPE_UNIFIED;
		if (o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
			p->dstArray = o->op.array.array;
			p->dstXInBytes = o->op.array.offset.x * elem;
			p->dstY = o->op.array.offset.y;
			p->dstZ = o->op.array.offset.z;
		} else {
			p->dstDevice = o->op.ptr.ptr;
			p->dstPitch = o->op.ptr.rowLength;
			p->dstHeight = o->op.ptr.layerHeight;
		}
		return CUDA_SUCCESS;
	}
	p->srcMemoryType = o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY ? CU_MEMORYTYPE_ARRAY
								   : CU_MEMORYTYPE_UNIFIED;
	if (o->type == CU_MEMCPY_OPERAND_TYPE_ARRAY) {
		p->srcArray = o->op.array.array;
		p->srcXInBytes = o->op.array.offset.x * elem;
		p->srcY = o->op.array.offset.y;
		p->srcZ = o->op.array.offset.z;
	} else {
		p->srcDevice = o->op.ptr.ptr;
		p->srcPitch = o->op.ptr.rowLength;
		p->srcHeight = o->op.ptr.layerHeight;
	}
	return CUDA_SUCCESS;
}

static CUresult batch_one(const CUDA_MEMCPY3D_BATCH_OP *op, CUstream stream, bool per_thread)
{
	CUDA_MEMCPY3D_PEER p = {
		.WidthInBytes = op->extent.width,
		.Height = op->extent.height,
		.Depth = op->extent.depth,
	};
	size_t elem;
	CUresult r;

	r = box_operand(&op->dst, &op->extent, true, &p);
	if (r == CUDA_SUCCESS)
		r = box_operand(&op->src, &op->extent, false, &p);
	if (r != CUDA_SUCCESS)
		return r;
	/* Row lengths count what widths count. */
	elem = op->extent.width ? p.WidthInBytes / op->extent.width : 1;
	p.dstPitch = p.dstPitch ? p.dstPitch * elem : p.WidthInBytes;
	p.srcPitch = p.srcPitch ? p.srcPitch * elem : p.WidthInBytes;
	return box(&p, stream, per_thread, SIM_ASYNC);
}

static CUresult batch(size_t nops, const CUDA_MEMCPY3D_BATCH_OP *ops, size_t *fail_idx,
		      unsigned long long flags, CUstream stream, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (fail_idx)
		*fail_idx = SIZE_MAX;
	if (!nops || !ops || flags)
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
	for (size_t i = 0; i < nops; i++) {
		r = batch_one(&ops[i], stream, per_thread);
		if (r != CUDA_SUCCESS) {
			if (fail_idx)
				*fail_idx = i;
			return r;
		}
	}
	return CUDA_SUCCESS;
}

CUresult cuMemcpy3DBatchAsync(size_t nops, CUDA_MEMCPY3D_BATCH_OP *ops, size_t *fail_idx,
			      unsigned long long flags, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(nops, ops, fail_idx, flags, stream, false);
}

CUresult cuMemcpy3DBatchAsync_ptsz(size_t nops, CUDA_MEMCPY3D_BATCH_OP *ops, size_t *fail_idx,
				   unsigned long long flags, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(nops, ops, fail_idx, flags, stream, true);
}

CUresult cuMemcpy3DBatchAsync_v2(size_t nops, CUDA_MEMCPY3D_BATCH_OP *ops, unsigned long long flags,
				 CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(nops, ops, NULL, flags, stream, false);
}

CUresult cuMemcpy3DBatchAsync_v2_ptsz(size_t nops, CUDA_MEMCPY3D_BATCH_OP *ops,
				      unsigned long long flags, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return batch(nops, ops, NULL, flags, stream, true);
}

CUresult cuMemcpy3DWithAttributesAsync(CUDA_MEMCPY3D_BATCH_OP *op, unsigned long long flags,
				       CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return op && !flags ? batch_one(op, stream, false) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemcpy3DWithAttributesAsync_ptsz(CUDA_MEMCPY3D_BATCH_OP *op, unsigned long long flags,
					    CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return op && !flags ? batch_one(op, stream, true) : CUDA_ERROR_INVALID_VALUE;
}

/*
 * Of before CUDA 3.2: sizes of 32 bits. Arrays and host memory have no address that would not fit.
 */

static CUDA_MEMCPY2D widen2d(const CUDA_MEMCPY2D_v1 *p)
{
	return (CUDA_MEMCPY2D){
		.srcXInBytes = p->srcXInBytes,
		.srcY = p->srcY,
		.srcMemoryType = p->srcMemoryType,
		.srcHost = p->srcHost,
		.srcDevice = p->srcDevice,
		.srcArray = p->srcArray,
		.srcPitch = p->srcPitch,
		.dstXInBytes = p->dstXInBytes,
		.dstY = p->dstY,
		.dstMemoryType = p->dstMemoryType,
		.dstHost = p->dstHost,
		.dstDevice = p->dstDevice,
		.dstArray = p->dstArray,
		.dstPitch = p->dstPitch,
		.WidthInBytes = p->WidthInBytes,
		.Height = p->Height,
	};
}

static CUDA_MEMCPY3D widen3d(const CUDA_MEMCPY3D_v1 *p)
{
	return (CUDA_MEMCPY3D){
		.srcXInBytes = p->srcXInBytes,
		.srcY = p->srcY,
		.srcZ = p->srcZ,
		.srcLOD = p->srcLOD,
		.srcMemoryType = p->srcMemoryType,
		.srcHost = p->srcHost,
		.srcDevice = p->srcDevice,
		.srcArray = p->srcArray,
		.srcPitch = p->srcPitch,
		.srcHeight = p->srcHeight,
		.dstXInBytes = p->dstXInBytes,
		.dstY = p->dstY,
		.dstZ = p->dstZ,
		.dstLOD = p->dstLOD,
		.dstMemoryType = p->dstMemoryType,
		.dstHost = p->dstHost,
		.dstDevice = p->dstDevice,
		.dstArray = p->dstArray,
		.dstPitch = p->dstPitch,
		.dstHeight = p->dstHeight,
		.WidthInBytes = p->WidthInBytes,
		.Height = p->Height,
		.Depth = p->Depth,
	};
}

#define WIDEN(name, type, wide_type, widen, now)                                                   \
	CUresult name(const type *copy)                                                            \
	{                                                                                          \
		wide_type wide;                                                                    \
                                                                                                   \
		if (!copy)                                                                         \
			return now(NULL);                                                          \
		wide = widen(copy);                                                                \
		return now(&wide);                                                                 \
	}
#define WIDEN_ASYNC(name, type, wide_type, widen, now)                                             \
	CUresult name(const type *copy, CUstream stream)                                           \
	{                                                                                          \
		wide_type wide;                                                                    \
                                                                                                   \
		if (!copy)                                                                         \
			return now(NULL, stream);                                                  \
		wide = widen(copy);                                                                \
		return now(&wide, stream);                                                         \
	}

WIDEN(cuMemcpy2D, CUDA_MEMCPY2D_v1, CUDA_MEMCPY2D, widen2d, cuMemcpy2D_v2)
WIDEN(cuMemcpy2DUnaligned, CUDA_MEMCPY2D_v1, CUDA_MEMCPY2D, widen2d, cuMemcpy2DUnaligned_v2)
WIDEN_ASYNC(cuMemcpy2DAsync, CUDA_MEMCPY2D_v1, CUDA_MEMCPY2D, widen2d, cuMemcpy2DAsync_v2)
WIDEN(cuMemcpy3D, CUDA_MEMCPY3D_v1, CUDA_MEMCPY3D, widen3d, cuMemcpy3D_v2)
WIDEN_ASYNC(cuMemcpy3DAsync, CUDA_MEMCPY3D_v1, CUDA_MEMCPY3D, widen3d, cuMemcpy3DAsync_v2)

CUresult cuMemcpyDtoA(CUarray dst, unsigned int offset, CUdeviceptr_v1 src, unsigned int bytes)
{
	return cuMemcpyDtoA_v2(dst, offset, src, bytes);
}

CUresult cuMemcpyAtoD(CUdeviceptr_v1 dst, CUarray src, unsigned int offset, unsigned int bytes)
{
	return cuMemcpyAtoD_v2(dst, src, offset, bytes);
}

CUresult cuMemcpyHtoA(CUarray dst, unsigned int offset, const void *src, unsigned int bytes)
{
	return cuMemcpyHtoA_v2(dst, offset, src, bytes);
}

CUresult cuMemcpyAtoH(void *dst, CUarray src, unsigned int offset, unsigned int bytes)
{
	return cuMemcpyAtoH_v2(dst, src, offset, bytes);
}

CUresult cuMemcpyAtoA(CUarray dst, unsigned int dst_offset, CUarray src, unsigned int src_offset,
		      unsigned int bytes)
{
	return cuMemcpyAtoA_v2(dst, dst_offset, src, src_offset, bytes);
}

CUresult cuMemcpyHtoAAsync(CUarray dst, unsigned int offset, const void *src, unsigned int bytes,
			   CUstream stream)
{
	return cuMemcpyHtoAAsync_v2(dst, offset, src, bytes, stream);
}

CUresult cuMemcpyAtoHAsync(void *dst, CUarray src, unsigned int offset, unsigned int bytes,
			   CUstream stream)
{
	return cuMemcpyAtoHAsync_v2(dst, src, offset, bytes, stream);
}
