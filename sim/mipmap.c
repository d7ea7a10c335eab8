/* SPDX-License-Identifier: Apache-2.0 */
/* Mipmapped arrays: levels in one piece of memory, each an array of its own that owns none. */
#include <stdlib.h>

#include "array.h"
#include "memory.h"
#include "va.h"
#include "base/banned.h"

#define MAX_LEVELS 17 /* of a side of 65536 */

/* Begins with an array, which has the memory and is never a handle. */
struct sim_mipmap {
	struct sim_array whole;
	unsigned int n_levels;
	struct sim_array levels[MAX_LEVELS]; /* made with the mipmap, so that handles stay */
};

/* Under sim.lock. */
static struct aq_list mipmaps = {&mipmaps, &mipmaps};

struct sim_array *sim_mipmap_level(CUarray handle)
{
	struct sim_mipmap *m, *tmp;

	AQ_LIST_FOREACH (m, tmp, &mipmaps, whole.link) {
		for (unsigned int i = 0; i < m->n_levels; i++) {
			if (&m->levels[i] == (struct sim_array *)handle)
				return &m->levels[i];
		}
	}
	return NULL;
}

static struct sim_mipmap *find_mipmap(CUmipmappedArray handle)
{
	struct sim_mipmap *m, *tmp;

	AQ_LIST_FOREACH (m, tmp, &mipmaps, whole.link) {
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
		sim_array_fill_in(&m->levels[i], &level, elem, ctx);
		m->levels[i].mipmap = m;
		m->levels[i].base = m->whole.bytes; /* in the whole; the caller adds its base */
		m->whole.bytes +=
			(m->levels[i].bytes + SIM_ALIGN_BYTES - 1) & ~(SIM_ALIGN_BYTES - 1ull);
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
	r = sim_array_check_desc(desc, &elem);
	if (r != CUDA_SUCCESS)
		return r;
	while ((desc->Width >> possible) || (desc->Height >> possible) ||
	       (!(desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)) &&
		(desc->Depth >> possible)))
		possible++;
	SIM_REFUSE_IN_CAPTURE();
	m = calloc(1, sizeof(*m));
	if (!m)
		return CUDA_ERROR_OUT_OF_MEMORY;
	/* More levels than there can be are as many as there can be. Source: cuda.h */
	if (n_mipmap_levels > possible)
		n_mipmap_levels = possible;
	aq_list_init(&m->whole.link);
	m->n_levels = n_mipmap_levels < MAX_LEVELS ? n_mipmap_levels : MAX_LEVELS;
	make_levels(m, desc, elem, ctx);
	r = sim_array_take_memory(ctx, m->whole.bytes, m, &base);
	if (r != CUDA_SUCCESS) {
		free(m);
		return r;
	}
	for (unsigned int i = 0; i < m->n_levels; i++)
		m->levels[i].base += base;
	sim_lock_process();
	aq_list_append(&mipmaps, &m->whole.link);
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
		alloc = sim_array_claim(m->levels[0].base);
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
	return m ? sim_array_requirements(req, m->whole.bytes, device) : CUDA_ERROR_INVALID_HANDLE;
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
