/* SPDX-License-Identifier: Apache-2.0 */
/* Checks descriptions of copies and memsets and finds out what they go through; see plan.h. */
#include "plan.h"

#include <string.h>

#include "base/banned.h"

/* What one side of a copy turned out to be. */
struct side {
	struct sim_device *device; /* NULL: host */
	bool pageable;
};

static CUresult find_side(uint64_t address, size_t bytes, enum sim_side said, struct side *ret_side)
{
	struct sim_span span;
	CUresult r;

	if (!address)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_resolve(address, bytes, &span);
	if (r != CUDA_SUCCESS)
		return r;
	if (said == SIM_SIDE_DEVICE && span.kind == SIM_MEMORY_NONE)
		return CUDA_ERROR_INVALID_VALUE;
	*ret_side = (struct side){
		.device = sim_memory_on_device(span.kind) || span.kind == SIM_MEMORY_MANAGED
				  ? span.device
				  : NULL,
		.pageable = span.kind == SIM_MEMORY_NONE,
	};
	return CUDA_SUCCESS;
}

static void set_route(struct sim_copy_task *c, const struct side *dst, const struct side *src)
{
	if (dst->device && src->device)
		c->route = dst->device == src->device ? SIM_ROUTE_DEVICE : SIM_ROUTE_PEER;
	else if (dst->device)
		c->route = SIM_ROUTE_H2D;
	else if (src->device)
		c->route = SIM_ROUTE_D2H;
	else
		c->route = SIM_ROUTE_HOST;
	c->dst_pageable = dst->pageable;
	c->src_pageable = src->pageable;
}

CUresult sim_plan_linear(uint64_t dst, enum sim_side dst_side, uint64_t src, enum sim_side src_side,
			 size_t bytes, struct sim_task *ret_task)
{
	struct sim_copy_task *c = &ret_task->copy;
	struct side to, from;
	CUresult r;

	r = find_side(dst, bytes, dst_side, &to);
	if (r == CUDA_SUCCESS)
		r = find_side(src, bytes, src_side, &from);
	if (r != CUDA_SUCCESS)
		return r;
	ret_task->kind = SIM_TASK_COPY;
	*c = (struct sim_copy_task){
		.dst = {.address = dst},
		.src = {.address = src},
		.width_bytes = bytes,
		.height = 1,
		.depth = 1,
	};
	set_route(c, &to, &from);
	return CUDA_SUCCESS;
}

/* One side as the description has it. */
struct half {
	CUmemorytype type;
	uint64_t host, device;
	CUarray array;
	size_t x, y, z, lod, pitch, height;
};

/* Bytes from the first to behind the last of a linear box; 0: they do not fit into addresses. */
static size_t box_extent(const struct sim_box *b, size_t width, size_t height, size_t depth)
{
	size_t rows, layers, extent;

	if (__builtin_mul_overflow(height - 1, b->pitch, &rows) ||
	    __builtin_mul_overflow(depth - 1, b->slice, &layers) ||
	    __builtin_add_overflow(rows, layers, &extent) ||
	    __builtin_add_overflow(extent, width, &extent))
		return 0;
	return extent;
}

static CUresult plan_linear_half(const struct half *h, size_t width, size_t height, size_t depth,
				 struct sim_box *box, struct side *side)
{
	enum sim_side said = h->type == CU_MEMORYTYPE_HOST     ? SIM_SIDE_HOST
			     : h->type == CU_MEMORYTYPE_DEVICE ? SIM_SIDE_DEVICE
							       : SIM_SIDE_ANY;
	size_t rows = h->height ? h->height : height, extent, skipped;

	box->address = h->type == CU_MEMORYTYPE_HOST ? h->host : h->device;
	box->pitch = h->pitch;
	if (height > 1 || depth > 1 || h->y || h->z) {
		if (h->pitch < width || h->pitch - width < h->x || rows < height ||
		    (depth > 1 && rows - height < h->y) ||
		    __builtin_mul_overflow(h->pitch, rows, &box->slice))
			return CUDA_ERROR_INVALID_VALUE;
	}
	box->x_bytes = h->x;
	box->y = h->y;
	box->z = h->z;
	skipped = h->x + h->y * box->pitch + h->z * box->slice;
	extent = box_extent(box, width, height, depth);
	if (!extent)
		return CUDA_ERROR_INVALID_VALUE;
	return find_side(box->address ? box->address + skipped : 0, extent, said, side);
}

static CUresult plan_half(const struct half *h, size_t width, size_t height, size_t depth,
			  struct sim_box *box, struct side *side)
{
	struct sim_array *array;
	CUresult r;

	*box = (struct sim_box){0};
	if (h->lod)
		return CUDA_ERROR_INVALID_VALUE;
	switch ((int)h->type) {
	case CU_MEMORYTYPE_ARRAY:
		r = sim_array_check(h->array, &array);
		if (r != CUDA_SUCCESS)
			return r;
		box->array = h->array;
		box->x_bytes = h->x;
		box->y = h->y;
		box->z = h->z;
		*side = (struct side){.device = array->ctx->device};
		return sim_box_check(box, width, height, depth);
	case CU_MEMORYTYPE_HOST:
	case CU_MEMORYTYPE_DEVICE:
	case CU_MEMORYTYPE_UNIFIED:
		return plan_linear_half(h, width, height, depth, box, side);
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

CUresult sim_plan_box(const CUDA_MEMCPY3D_PEER *p, struct sim_task *ret_task)
{
	const struct half dst = {
		.type = p->dstMemoryType,
		.host = (uintptr_t)p->dstHost,
		.device = p->dstDevice,
		.array = p->dstArray,
		.x = p->dstXInBytes,
		.y = p->dstY,
		.z = p->dstZ,
		.lod = p->dstLOD,
		.pitch = p->dstPitch,
		.height = p->dstHeight,
	};
	const struct half src = {
		.type = p->srcMemoryType,
		.host = (uintptr_t)p->srcHost,
		.device = p->srcDevice,
		.array = p->srcArray,
		.x = p->srcXInBytes,
		.y = p->srcY,
		.z = p->srcZ,
		.lod = p->srcLOD,
		.pitch = p->srcPitch,
		.height = p->srcHeight,
	};
	struct sim_copy_task *c = &ret_task->copy;
	struct side to, from;
	CUresult r;

	ret_task->kind = SIM_TASK_COPY;
	*c = (struct sim_copy_task){
		.width_bytes = p->WidthInBytes,
		.height = p->Height,
		.depth = p->Depth,
	};
	if (sim_plan_is_empty(ret_task))
		return CUDA_SUCCESS;
	r = plan_half(&dst, p->WidthInBytes, p->Height, p->Depth, &c->dst, &to);
	if (r == CUDA_SUCCESS)
		r = plan_half(&src, p->WidthInBytes, p->Height, p->Depth, &c->src, &from);
	if (r == CUDA_SUCCESS)
		set_route(c, &to, &from);
	return r;
}

void sim_plan_from_3d(const CUDA_MEMCPY3D *p, CUDA_MEMCPY3D_PEER *ret)
{
	*ret = (CUDA_MEMCPY3D_PEER){
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

void sim_plan_from_2d(const CUDA_MEMCPY2D *p, CUDA_MEMCPY3D_PEER *ret)
{
	*ret = (CUDA_MEMCPY3D_PEER){
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
		.Depth = 1,
	};
}

void sim_plan_describe(const struct sim_copy_task *t, CUDA_MEMCPY3D *ret)
{
	bool src_host = t->route == SIM_ROUTE_H2D || t->route == SIM_ROUTE_HOST;
	bool dst_host = t->route == SIM_ROUTE_D2H || t->route == SIM_ROUTE_HOST;

	*ret = (CUDA_MEMCPY3D){
		.srcXInBytes = t->src.x_bytes,
		.srcY = t->src.y,
		.srcZ = t->src.z,
		.srcMemoryType = t->src.array ? CU_MEMORYTYPE_ARRAY
				 : src_host   ? CU_MEMORYTYPE_HOST
					      : CU_MEMORYTYPE_DEVICE,
		.srcHost = src_host ? (void *)(uintptr_t)t->src.address : NULL,
		.srcDevice = src_host ? 0 : t->src.address,
		.srcArray = t->src.array,
		.srcPitch = t->src.pitch ? t->src.pitch : t->width_bytes,
		.srcHeight = t->src.pitch ? t->src.slice / t->src.pitch : t->height,
		.dstXInBytes = t->dst.x_bytes,
		.dstY = t->dst.y,
		.dstZ = t->dst.z,
		.dstMemoryType = t->dst.array ? CU_MEMORYTYPE_ARRAY
				 : dst_host   ? CU_MEMORYTYPE_HOST
					      : CU_MEMORYTYPE_DEVICE,
		.dstHost = dst_host ? (void *)(uintptr_t)t->dst.address : NULL,
		.dstDevice = dst_host ? 0 : t->dst.address,
		.dstArray = t->dst.array,
		.dstPitch = t->dst.pitch ? t->dst.pitch : t->width_bytes,
		.dstHeight = t->dst.pitch ? t->dst.slice / t->dst.pitch : t->height,
		.WidthInBytes = t->width_bytes,
		.Height = t->height,
		.Depth = t->depth,
	};
}

CUresult sim_plan_set(CUdeviceptr dst, size_t pitch, uint32_t value, unsigned int elem_bytes,
		      size_t width, size_t height, struct sim_task *ret_task)
{
	size_t row, extent;
	struct side side;

	ret_task->kind = SIM_TASK_SET;
	ret_task->set = (struct sim_set_task){
		.dst = dst,
		.pitch = pitch,
		.value = value,
		.elem_bytes = elem_bytes,
		.width = width,
		.height = height,
	};
	if ((elem_bytes != 1 && elem_bytes != 2 && elem_bytes != 4) || dst % elem_bytes)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_plan_is_empty(ret_task))
		return CUDA_SUCCESS;
	if (__builtin_mul_overflow(width, elem_bytes, &row) ||
	    (height > 1 && (pitch < row || pitch % elem_bytes)) ||
	    __builtin_mul_overflow(height - 1, height > 1 ? pitch : 0, &extent) ||
	    __builtin_add_overflow(extent, row, &extent))
		return CUDA_ERROR_INVALID_VALUE;
	return find_side(dst, extent, SIM_SIDE_DEVICE, &side);
}

bool sim_plan_is_empty(const struct sim_task *t)
{
	return t->kind == SIM_TASK_COPY ? !t->copy.width_bytes || !t->copy.height || !t->copy.depth
					: !t->set.width || !t->set.height;
}
