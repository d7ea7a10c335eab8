/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays. Elements lie row after row, layer after layer, without padding: the
 * layout of real ones is secret and nobody can see it. Sparse arrays, planes and block-compressed
 * formats are not simulated. Mipmapped arrays are in mipmap.c.
 */
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "memory.h"
#include "va.h"
#include "base/banned.h"

/* Under sim.lock. */
static struct aq_list arrays = {&arrays, &arrays};

/* Memory for @bytes of elements; its record points to the array or mipmap. */
CUresult sim_array_take_memory(struct sim_context *ctx, uint64_t bytes, void *owner,
			       CUdeviceptr *ret_base)
{
	uint64_t rounded = (bytes + ARRAY_ALIGN - 1) & ~(ARRAY_ALIGN - 1);
	struct sim_alloc *a;
	CUresult r = sim_linear_alloc(ctx, SIM_MEMORY_ARRAY, rounded, ret_base);

	if (r != CUDA_SUCCESS)
		return r;
	sim_lock_process();
	a = sim_alloc_find(*ret_base);
	a->array = owner;
	sim_unlock_process();
	return CUDA_SUCCESS;
}

static CUresult create(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *desc,
		       struct sim_context *ctx)
{
	struct sim_array *a;
	CUdeviceptr base;
	uint32_t elem;
	CUresult r = sim_array_check_desc(desc, &elem);

	if (r != CUDA_SUCCESS)
		return r;
	SIM_REFUSE_IN_CAPTURE();
	a = calloc(1, sizeof(*a));
	if (!a)
		return CUDA_ERROR_OUT_OF_MEMORY;
	sim_array_fill_in(a, desc, elem, ctx);
	r = sim_array_take_memory(ctx, a->bytes, a, &base);
	if (r != CUDA_SUCCESS) {
		free(a);
		return r;
	}
	a->base = base;
	sim_lock_process();
	aq_list_append(&arrays, &a->link);
	sim_unlock_process();
	*handle = (CUarray)a;
	return CUDA_SUCCESS;
}

/* Under sim.lock. A level of a mipmap is an array too. */
static struct sim_array *find_array(CUarray handle)
{
	struct sim_array *a, *tmp;

	AQ_LIST_FOREACH (a, tmp, &arrays, link) {
		if (a == (struct sim_array *)handle)
			return a;
	}
	return sim_mipmap_level(handle);
}

CUresult sim_array_check(CUarray handle, struct sim_array **ret_array)
{
	struct sim_array *a;

	sim_lock_process();
	a = handle ? find_array(handle) : NULL;
	sim_unlock_process();
	if (!a)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_array = a;
	return CUDA_SUCCESS;
}

/* Of a mipmap too, which begins with an array. */
void sim_array_release(struct sim_alloc *alloc)
{
	struct sim_array *a = alloc->array;

	sim_lock_process();
	aq_list_remove(&a->link);
	a->magic = 0;
	sim_unlock_process();
	sim_linear_release(alloc);
	free(a);
}

/* Take the record of an array's or mipmap's memory, so that one thread frees it. Under sim.lock. */
struct sim_alloc *sim_array_claim(uint64_t base)
{
	struct sim_alloc *a = sim_alloc_find(base);

	if (!a || a->freeing)
		return NULL;
	a->freeing = true;
	return a;
}

CUresult cuArrayCreate_v2(CUarray *handle, const CUDA_ARRAY_DESCRIPTOR *desc)
{
	CUDA_ARRAY3D_DESCRIPTOR full;

	SIM_ENTER_CONTEXT(ctx);
	if (!handle || !desc)
		return CUDA_ERROR_INVALID_VALUE;
	full = (CUDA_ARRAY3D_DESCRIPTOR){
		.Width = desc->Width,
		.Height = desc->Height,
		.Format = desc->Format,
		.NumChannels = desc->NumChannels,
	};
	return create(handle, &full, ctx);
}

CUresult cuArrayCreate(CUarray *handle, const CUDA_ARRAY_DESCRIPTOR_v1 *desc)
{
	CUDA_ARRAY3D_DESCRIPTOR full;

	SIM_ENTER_CONTEXT(ctx);
	if (!handle || !desc)
		return CUDA_ERROR_INVALID_VALUE;
	full = (CUDA_ARRAY3D_DESCRIPTOR){
		.Width = desc->Width,
		.Height = desc->Height,
		.Format = desc->Format,
		.NumChannels = desc->NumChannels,
	};
	return create(handle, &full, ctx);
}

CUresult cuArray3DCreate_v2(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!handle || !desc)
		return CUDA_ERROR_INVALID_VALUE;
	return create(handle, desc, ctx);
}

CUresult cuArray3DCreate(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR_v1 *desc)
{
	CUDA_ARRAY3D_DESCRIPTOR full;

	SIM_ENTER_CONTEXT(ctx);
	if (!handle || !desc)
		return CUDA_ERROR_INVALID_VALUE;
	full = (CUDA_ARRAY3D_DESCRIPTOR){
		.Width = desc->Width,
		.Height = desc->Height,
		.Depth = desc->Depth,
		.Format = desc->Format,
		.NumChannels = desc->NumChannels,
		.Flags = desc->Flags,
	};
	return create(handle, &full, ctx);
}

CUresult cuArrayDestroy(CUarray handle)
{
	struct sim_alloc *alloc = NULL;
	struct sim_array *a;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	sim_lock_process();
	a = handle ? find_array(handle) : NULL;
	if (a && !a->mipmap)
		alloc = sim_array_claim(a->base);
	sim_unlock_process();
	if (!alloc)
		return CUDA_ERROR_INVALID_HANDLE;
	r = sim_memory_quiesce(a->ctx);
	sim_array_release(alloc);
	return r;
}

static CUresult get_desc(CUarray handle, CUDA_ARRAY3D_DESCRIPTOR *ret)
{
	struct sim_array *a;
	CUresult r = sim_array_check(handle, &a);

	if (r == CUDA_SUCCESS)
		*ret = a->desc;
	return r;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *desc, CUarray array)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return desc ? get_desc(array, desc) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArray3DGetDescriptor(CUDA_ARRAY3D_DESCRIPTOR_v1 *desc, CUarray array)
{
	CUDA_ARRAY3D_DESCRIPTOR full;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = get_desc(array, &full);
	if (r == CUDA_SUCCESS)
		*desc = (CUDA_ARRAY3D_DESCRIPTOR_v1){
			.Width = (unsigned int)full.Width,
			.Height = (unsigned int)full.Height,
			.Depth = (unsigned int)full.Depth,
			.Format = full.Format,
			.NumChannels = full.NumChannels,
			.Flags = full.Flags,
		};
	return r;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *desc, CUarray array)
{
	CUDA_ARRAY3D_DESCRIPTOR full;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = get_desc(array, &full);
	if (r == CUDA_SUCCESS)
		*desc = (CUDA_ARRAY_DESCRIPTOR){
			.Width = full.Width,
			.Height = full.Height,
			.Format = full.Format,
			.NumChannels = full.NumChannels,
		};
	return r;
}

CUresult cuArrayGetDescriptor(CUDA_ARRAY_DESCRIPTOR_v1 *desc, CUarray array)
{
	CUDA_ARRAY3D_DESCRIPTOR full;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = get_desc(array, &full);
	if (r == CUDA_SUCCESS)
		*desc = (CUDA_ARRAY_DESCRIPTOR_v1){
			.Width = (unsigned int)full.Width,
			.Height = (unsigned int)full.Height,
			.Format = full.Format,
			.NumChannels = full.NumChannels,
		};
	return r;
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *req, CUarray array,
				      CUdevice device)
{
	struct sim_array *a;
	CUresult r;

	SIM_ENTER();
	r = sim_array_check(array, &a);
	return r == CUDA_SUCCESS ? sim_array_requirements(req, a->bytes, device) : r;
}

/* One plane per array, since planar formats are refused. */
CUresult cuArrayGetPlane(CUarray *plane_array, CUarray array, unsigned int plane_idx)
{
	struct sim_array *a;
	CUresult r;

	SIM_ENTER();
	r = sim_array_check(array, &a);
	if (r != CUDA_SUCCESS)
		return r;
	(void)plane_idx;
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *props, CUarray array)
{
	struct sim_array *a;
	CUresult r;

	SIM_ENTER();
	r = sim_array_check(array, &a);
	if (r != CUDA_SUCCESS)
		return r;
	(void)props;
	return CUDA_ERROR_INVALID_VALUE; /* it is not sparse */
}
