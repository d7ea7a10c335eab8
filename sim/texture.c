/* SPDX-License-Identifier: Apache-2.0 */
/* Texture and surface objects: made, described and destroyed. Nothing samples them, since kernels
 * that are known by name do not, and the others are not run. Texture references are not simulated.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "base/banned.h"

/* Objects are numbers to programs, and never 0. */
struct object {
	uint64_t number;
	bool surface;
	bool has_view;
	CUDA_RESOURCE_DESC resource;
	CUDA_TEXTURE_DESC texture;
	CUDA_RESOURCE_VIEW_DESC view;
	struct aq_list link;
};

/* Under sim.lock. */
static struct aq_list objects = {&objects, &objects};
static uint64_t last_number;

static struct object *find(uint64_t number, bool surface)
{
	struct object *o, *tmp;

	AQ_LIST_FOREACH (o, tmp, &objects, link) {
		if (o->number == number && o->surface == surface)
			return o;
	}
	return NULL;
}

/* What a texture may be of; a surface only of an array. */
static CUresult check_resource(const CUDA_RESOURCE_DESC *r, bool surface)
{
	struct sim_array *array;
	struct sim_span span;

	if (r->flags || (surface && r->resType != CU_RESOURCE_TYPE_ARRAY))
		return CUDA_ERROR_INVALID_VALUE;
	switch ((int)r->resType) {
	case CU_RESOURCE_TYPE_ARRAY:
		if (sim_array_check(r->res.array.hArray, &array) != CUDA_SUCCESS)
			return CUDA_ERROR_INVALID_VALUE;
		return surface && !(array->desc.Flags & CUDA_ARRAY3D_SURFACE_LDST)
			       ? CUDA_ERROR_INVALID_VALUE
			       : CUDA_SUCCESS;
	case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
		return r->res.mipmap.hMipmappedArray ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_RESOURCE_TYPE_LINEAR:
		return sim_format_bytes(r->res.linear.format)
			       ? sim_resolve(r->res.linear.devPtr, r->res.linear.sizeInBytes, &span)
			       : CUDA_ERROR_INVALID_VALUE;
	case CU_RESOURCE_TYPE_PITCH2D:
		/* CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT */
		return sim_format_bytes(r->res.pitch2D.format) &&
				       r->res.pitch2D.pitchInBytes % 32 == 0
			       ? sim_resolve(r->res.pitch2D.devPtr, 1, &span)
			       : CUDA_ERROR_INVALID_VALUE;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

static CUresult create(uint64_t *ret, const CUDA_RESOURCE_DESC *resource,
		       const CUDA_TEXTURE_DESC *texture, const CUDA_RESOURCE_VIEW_DESC *view,
		       bool surface)
{
	struct object *o;
	CUresult r = check_resource(resource, surface);

	if (r != CUDA_SUCCESS)
		return r;
	o = calloc(1, sizeof(*o));
	if (!o)
		return CUDA_ERROR_OUT_OF_MEMORY;
	o->surface = surface;
	o->resource = *resource;
	if (texture)
		o->texture = *texture;
	o->has_view = view != NULL;
	if (view)
		o->view = *view;
	sim_lock_process();
	*ret = o->number = ++last_number;
	aq_list_append(&objects, &o->link);
	sim_unlock_process();
	return CUDA_SUCCESS;
}

static CUresult destroy(uint64_t number, bool surface)
{
	struct object *o;

	sim_lock_process();
	o = find(number, surface);
	if (o)
		aq_list_remove(&o->link);
	sim_unlock_process();
	free(o);
	return o ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* A copy of an object, if there is such. */
static CUresult get(uint64_t number, bool surface, struct object *ret)
{
	struct object *o;

	sim_lock_process();
	o = find(number, surface);
	if (o)
		*ret = *o;
	sim_unlock_process();
	return o ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuTexObjectCreate(CUtexObject *tex_object, const CUDA_RESOURCE_DESC *res_desc,
			   const CUDA_TEXTURE_DESC *tex_desc,
			   const CUDA_RESOURCE_VIEW_DESC *res_view_desc)
{
	uint64_t number;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!tex_object || !res_desc || !tex_desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = create(&number, res_desc, tex_desc, res_view_desc, false);
	if (r == CUDA_SUCCESS)
		*tex_object = number;
	return r;
}

CUresult cuTexObjectDestroy(CUtexObject tex)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return destroy(tex, false);
}

CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *res_desc, CUtexObject tex)
{
	struct object o;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!res_desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = get(tex, false, &o);
	if (r == CUDA_SUCCESS)
		*res_desc = o.resource;
	return r;
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *tex_desc, CUtexObject tex)
{
	struct object o;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!tex_desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = get(tex, false, &o);
	if (r == CUDA_SUCCESS)
		*tex_desc = o.texture;
	return r;
}

CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *res_view_desc, CUtexObject tex)
{
	struct object o;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!res_view_desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = get(tex, false, &o);
	if (r == CUDA_SUCCESS && !o.has_view)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		*res_view_desc = o.view;
	return r;
}

CUresult cuSurfObjectCreate(CUsurfObject *surf_object, const CUDA_RESOURCE_DESC *res_desc)
{
	uint64_t number;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!surf_object || !res_desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = create(&number, res_desc, NULL, NULL, true);
	if (r == CUDA_SUCCESS)
		*surf_object = number;
	return r;
}

CUresult cuSurfObjectDestroy(CUsurfObject surf)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return destroy(surf, true);
}

CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *res_desc, CUsurfObject surf)
{
	struct object o;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (!res_desc)
		return CUDA_ERROR_INVALID_VALUE;
	r = get(surf, true, &o);
	if (r == CUDA_SUCCESS)
		*res_desc = o.resource;
	return r;
}
