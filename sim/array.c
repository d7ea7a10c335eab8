/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays and mipmapped arrays. Elements lie row after row, layer after layer, without padding: the
 * layout of real ones is secret and nobody can see it. Sparse arrays, planes and block-compressed
 * formats are not simulated.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "va.h"
#include "base/banned.h"

#define MAX_LEVELS 17 /* of a side of 65536 */

/* What an array takes beside its elements. Source: guess; tiles on real cards are 64 KiB. */
#define ARRAY_ALIGN 65536ull

#define KNOWN_FLAGS                                                                                \
	(CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP |                 \
	 CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_DEPTH_TEXTURE | CUDA_ARRAY3D_COLOR_ATTACHMENT)

struct sim_mipmap {
	uint32_t magic;
	uint64_t bytes; /* of all levels */
	unsigned int n_levels;
	struct sim_array levels[MAX_LEVELS]; /* made with the mipmap, so that handles stay */
	struct aq_list link;
};

#define MIPMAP_MAGIC 0x53494d4du /* "SIMM" */

/* Under sim.lock. */
static struct aq_list arrays = {&arrays, &arrays};
static struct aq_list mipmaps = {&mipmaps, &mipmaps};

uint32_t sim_format_bytes(CUarray_format format)
{
	switch ((int)format) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return 1;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return 2;
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return 4;
	default:
		return 0;
	}
}

/* Known formats whose number says the channels too. */
static uint32_t norm_format_bytes(CUarray_format format, unsigned int *ret_channels)
{
	int f = (int)format;

	if ((f >= CU_AD_FORMAT_UNORM_INT8X1 && f <= CU_AD_FORMAT_UNORM_INT16X4) ||
	    (f >= CU_AD_FORMAT_SNORM_INT8X1 && f <= CU_AD_FORMAT_SNORM_INT16X4)) {
		int i = (f - CU_AD_FORMAT_UNORM_INT8X1) % 6; /* 8x1 8x2 8x4 16x1 16x2 16x4 */

		*ret_channels = 1u << (i % 3);
		return i < 3 ? 1 : 2;
	}
	return 0;
}

static CUresult elem_bytes(const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t *ret_bytes)
{
	unsigned int channels = 0;
	uint32_t bytes = sim_format_bytes(desc->Format);

	if (bytes) {
		if (desc->NumChannels != 1 && desc->NumChannels != 2 && desc->NumChannels != 4)
			return CUDA_ERROR_INVALID_VALUE;
		*ret_bytes = bytes * desc->NumChannels;
		return CUDA_SUCCESS;
	}
	bytes = norm_format_bytes(desc->Format, &channels);
	if (!bytes)
		return CUDA_ERROR_NOT_SUPPORTED;
	if (desc->NumChannels != channels)
		return CUDA_ERROR_INVALID_VALUE;
	*ret_bytes = bytes * channels;
	return CUDA_SUCCESS;
}

/* Limits of cuDeviceGetAttribute, MAXIMUM_TEXTURE*. */
static CUresult check_extent(const CUDA_ARRAY3D_DESCRIPTOR *d)
{
	bool layered = d->Flags & CUDA_ARRAY3D_LAYERED, cube = d->Flags & CUDA_ARRAY3D_CUBEMAP;

	if (d->Width == 0 || (layered && d->Depth == 0))
		return CUDA_ERROR_INVALID_VALUE;
	if (cube &&
	    (d->Width != d->Height || d->Depth == 0 || d->Depth % 6 || (!layered && d->Depth != 6)))
		return CUDA_ERROR_INVALID_VALUE;
	if (layered || cube)
		return d->Width > 32768 || d->Height > 32768 || d->Depth > 2048
			       ? CUDA_ERROR_INVALID_VALUE
			       : CUDA_SUCCESS;
	if (d->Depth)
		return d->Height == 0 || d->Width > 16384 || d->Height > 16384 || d->Depth > 32768
			       ? CUDA_ERROR_INVALID_VALUE
			       : CUDA_SUCCESS;
	return d->Width > 131072 || d->Height > 65536 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static CUresult check_desc(const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t *ret_elem)
{
	if (desc->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING |
			   CUDA_ARRAY3D_VIDEO_ENCODE_DECODE))
		return CUDA_ERROR_NOT_SUPPORTED;
	if (desc->Flags & ~(unsigned int)KNOWN_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	if (check_extent(desc) != CUDA_SUCCESS)
		return CUDA_ERROR_INVALID_VALUE;
	return elem_bytes(desc, ret_elem);
}

static void fill_in(struct sim_array *a, const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t elem,
		    struct sim_context *ctx)
{
	a->magic = SIM_ARRAY_MAGIC;
	a->ctx = ctx;
	a->desc = *desc;
	a->elem_bytes = elem;
	a->width = desc->Width;
	a->height = desc->Height ? desc->Height : 1;
	a->depth = desc->Depth ? desc->Depth : 1;
	a->bytes = (uint64_t)a->width * a->height * a->depth * elem;
	aq_list_init(&a->link);
}

/* Memory for @bytes of elements; its record points to the array or mipmap. */
static CUresult take_memory(struct sim_context *ctx, uint64_t bytes, void *owner,
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
	CUresult r = check_desc(desc, &elem);

	if (r != CUDA_SUCCESS)
		return r;
	a = calloc(1, sizeof(*a));
	if (!a)
		return CUDA_ERROR_OUT_OF_MEMORY;
	fill_in(a, desc, elem, ctx);
	r = take_memory(ctx, a->bytes, a, &base);
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
	struct sim_mipmap *m, *mtmp;
	struct sim_array *a, *tmp;

	AQ_LIST_FOREACH (a, tmp, &arrays, link) {
		if (a == (struct sim_array *)handle)
			return a;
	}
	AQ_LIST_FOREACH (m, mtmp, &mipmaps, link) {
		for (unsigned int i = 0; i < m->n_levels; i++) {
			if (&m->levels[i] == (struct sim_array *)handle)
				return &m->levels[i];
		}
	}
	return NULL;
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

/* Free the memory, and the array or mipmap that it is for; both are out of the lists already, or go
 * with their context. */
void sim_array_release(struct sim_alloc *alloc)
{
	uint32_t *object = alloc->array; /* both kinds begin with their magic */

	sim_lock_process();
	if (*object == MIPMAP_MAGIC)
		aq_list_remove(&((struct sim_mipmap *)(void *)object)->link);
	else
		aq_list_remove(&((struct sim_array *)(void *)object)->link);
	*object = 0;
	sim_unlock_process();
	sim_linear_release(alloc);
	free(object);
}

/* Take the record of an array's or mipmap's memory, so that one thread frees it. Under sim.lock. */
static struct sim_alloc *claim(uint64_t base)
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
		alloc = claim(a->base);
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

static CUresult requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *req, uint64_t bytes, CUdevice device)
{
	if (!req)
		return CUDA_ERROR_INVALID_VALUE;
	if (!sim_device_get(device))
		return CUDA_ERROR_INVALID_DEVICE;
	*req = (CUDA_ARRAY_MEMORY_REQUIREMENTS){
		.size = (bytes + ARRAY_ALIGN - 1) & ~(ARRAY_ALIGN - 1),
		.alignment = ARRAY_ALIGN,
	};
	return CUDA_SUCCESS;
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *req, CUarray array,
				      CUdevice device)
{
	struct sim_array *a;
	CUresult r;

	SIM_ENTER();
	r = sim_array_check(array, &a);
	return r == CUDA_SUCCESS ? requirements(req, a->bytes, device) : r;
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

/*
 * Mipmapped arrays.
 */

static struct sim_mipmap *find_mipmap(CUmipmappedArray handle)
{
	struct sim_mipmap *m, *tmp;

	AQ_LIST_FOREACH (m, tmp, &mipmaps, link) {
		if (m == (struct sim_mipmap *)handle)
			return m;
	}
	return NULL;
}

static size_t halved(size_t side, unsigned int level)
{
	return side && !(side >> level) ? 1 : side >> level;
}

/* Fill in the levels; addresses come later. Layers are not halved. */
static void make_levels(struct sim_mipmap *m, const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t elem,
			struct sim_context *ctx)
{
	bool keep_depth = desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);

	for (unsigned int i = 0; i < m->n_levels; i++) {
		CUDA_ARRAY3D_DESCRIPTOR level = *desc;

		level.Width = halved(desc->Width, i);
		level.Height = halved(desc->Height, i);
		level.Depth = keep_depth ? desc->Depth : halved(desc->Depth, i);
		fill_in(&m->levels[i], &level, elem, ctx);
		m->levels[i].mipmap = m;
		m->levels[i].base = m->bytes; /* offset for now */
		m->bytes += (m->levels[i].bytes + SIM_ALIGN_BYTES - 1) & ~(SIM_ALIGN_BYTES - 1ull);
	}
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *handle,
				const CUDA_ARRAY3D_DESCRIPTOR *mipmapped_array_desc,
				unsigned int n_mipmap_levels)
{
	const CUDA_ARRAY3D_DESCRIPTOR *desc = mipmapped_array_desc;
	unsigned int possible = 1;
	struct sim_mipmap *m;
	CUdeviceptr base;
	uint32_t elem;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!handle || !desc || n_mipmap_levels == 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = check_desc(desc, &elem);
	if (r != CUDA_SUCCESS)
		return r;
	while ((desc->Width >> possible) || (desc->Height >> possible) ||
	       (!(desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) &&
		(desc->Depth >> possible)))
		possible++;
	m = calloc(1, sizeof(*m));
	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	/* More levels than there can be are as many as there can be. Source: cuda.h */
	if (n_mipmap_levels > possible)
		n_mipmap_levels = possible;
	m->magic = MIPMAP_MAGIC;
	m->n_levels = n_mipmap_levels < MAX_LEVELS ? n_mipmap_levels : MAX_LEVELS;
	make_levels(m, desc, elem, ctx);
	r = take_memory(ctx, m->bytes, m, &base);
	if (r != CUDA_SUCCESS) {
		free(m);
		return r;
	}
	for (unsigned int i = 0; i < m->n_levels; i++)
		m->levels[i].base += base;
	sim_lock_process();
	aq_list_append(&mipmaps, &m->link);
	sim_unlock_process();
	*handle = (CUmipmappedArray)m;
	return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray mipmapped_array)
{
	struct sim_alloc *alloc = NULL;
	struct sim_context *owner = NULL;
	struct sim_mipmap *m;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	sim_lock_process();
	m = find_mipmap(mipmapped_array);
	if (m) {
		alloc = claim(m->levels[0].base);
		owner = m->levels[0].ctx;
	}
	sim_unlock_process();
	if (!alloc)
		return CUDA_ERROR_INVALID_HANDLE;
	r = sim_memory_quiesce(owner);
	sim_array_release(alloc);
	return r;
}

CUresult cuMipmappedArrayGetLevel(CUarray *level_array, CUmipmappedArray mipmapped_array,
				  unsigned int level)
{
	CUresult r = CUDA_ERROR_INVALID_HANDLE;
	struct sim_mipmap *m;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!level_array)
		return CUDA_ERROR_INVALID_VALUE;
	sim_lock_process();
	m = find_mipmap(mipmapped_array);
	if (m && level < m->n_levels) {
		*level_array = (CUarray)&m->levels[level];
		r = CUDA_SUCCESS;
	} else if (m) {
		r = CUDA_ERROR_INVALID_VALUE;
	}
	sim_unlock_process();
	return r;
}

CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *req,
					       CUmipmappedArray mipmap, CUdevice device)
{
	struct sim_mipmap *m;

	SIM_ENTER();
	sim_lock_process();
	m = find_mipmap(mipmap);
	sim_unlock_process();
	return m ? requirements(req, m->bytes, device) : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *props,
					     CUmipmappedArray mipmap)
{
	struct sim_mipmap *m;

	SIM_ENTER();
	(void)props;
	sim_lock_process();
	m = find_mipmap(mipmap);
	sim_unlock_process();
	return m ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}
