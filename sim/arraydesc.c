/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptions of arrays: formats, limits, and how much memory they need. */
#include "array.h"

#include "base/banned.h"

#define KNOWN_FLAGS                                                                                \
	(CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP |                 \
	 CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_DEPTH_TEXTURE | CUDA_ARRAY3D_COLOR_ATTACHMENT)

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

CUresult sim_array_check_desc(const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t *ret_elem)
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

void sim_array_fill_in(struct sim_array *a, const CUDA_ARRAY3D_DESCRIPTOR *desc, uint32_t elem,
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

CUresult sim_array_requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *req, uint64_t bytes,
				CUdevice device)
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
