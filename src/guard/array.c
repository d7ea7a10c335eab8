/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arrays and mipmapped arrays. Their layout is the driver's secret: what is charged is an estimate
 * from the descriptor, made exact where the driver tells (cuArrayGetMemoryRequirements). Sparse and
 * deferred arrays have no memory of their own: what is mapped into them is charged by vmm.c.
 *
 * When we fail: as in linear.c. An estimate that is too small is found by the daemon's measuring.
 */
#include "guard/blocks.h"
#include "guard/guard.h"
#include "guard/track.h"
#include "guard/guest.h"

/*
 * Source: block-linear layout in tiles of 64 bytes by 8 rows (NVIDIA, open-gpu-doc, "block linear
 * surfaces"); how many tiles the driver rounds up to beyond that is not documented.
 */
#define TILE_BYTES 64u
#define TILE_ROWS 8u

#define NO_MEMORY_FLAGS (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING)

struct shape {
	uint64_t width, height, depth;
	uint64_t element_bytes;
	unsigned int levels;
	unsigned int flags;
};

/* Bytes of one element; what is not known is taken for 16, the most that an element has. */
static uint64_t element_bytes(CUarray_format format, unsigned int channels)
{
	switch (format) {
	case CU_AD_FORMAT_UNSIGNED_INT8:
	case CU_AD_FORMAT_SIGNED_INT8:
		return channels;
	case CU_AD_FORMAT_UNSIGNED_INT16:
	case CU_AD_FORMAT_SIGNED_INT16:
	case CU_AD_FORMAT_HALF:
		return 2ull * channels;
	case CU_AD_FORMAT_UNSIGNED_INT32:
	case CU_AD_FORMAT_SIGNED_INT32:
	case CU_AD_FORMAT_FLOAT:
		return 4ull * channels;
	case CU_AD_FORMAT_UNORM_INT8X1:
	case CU_AD_FORMAT_SNORM_INT8X1:
		return 1;
	case CU_AD_FORMAT_UNORM_INT8X2:
	case CU_AD_FORMAT_SNORM_INT8X2:
	case CU_AD_FORMAT_UNORM_INT16X1:
	case CU_AD_FORMAT_SNORM_INT16X1:
		return 2;
	case CU_AD_FORMAT_NV12:
		return 2; /* 1.5, with the chroma plane */
	case CU_AD_FORMAT_UNORM_INT8X4:
	case CU_AD_FORMAT_SNORM_INT8X4:
	case CU_AD_FORMAT_UNORM_INT16X2:
	case CU_AD_FORMAT_SNORM_INT16X2:
	case CU_AD_FORMAT_UNORM_INT_101010_2:
		return 4;
	case CU_AD_FORMAT_UNORM_INT16X4:
	case CU_AD_FORMAT_SNORM_INT16X4:
		return 8;
	case CU_AD_FORMAT_BC1_UNORM: /* 4 by 4 texels in 8 or 16 bytes */
	case CU_AD_FORMAT_BC1_UNORM_SRGB:
	case CU_AD_FORMAT_BC4_UNORM:
	case CU_AD_FORMAT_BC4_SNORM:
	case CU_AD_FORMAT_BC2_UNORM:
	case CU_AD_FORMAT_BC2_UNORM_SRGB:
	case CU_AD_FORMAT_BC3_UNORM:
	case CU_AD_FORMAT_BC3_UNORM_SRGB:
	case CU_AD_FORMAT_BC5_UNORM:
	case CU_AD_FORMAT_BC5_SNORM:
	case CU_AD_FORMAT_BC6H_UF16:
	case CU_AD_FORMAT_BC6H_SF16:
	case CU_AD_FORMAT_BC7_UNORM:
	case CU_AD_FORMAT_BC7_UNORM_SRGB:
		return 1;
	default:
		return 16;
	}
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
	uint64_t sum;

	return __builtin_add_overflow(n, to - 1, &sum) ? UINT64_MAX : sum / to * to;
}

static uint64_t product(uint64_t a, uint64_t b)
{
	uint64_t p;

	return __builtin_mul_overflow(a, b, &p) ? UINT64_MAX : p;
}

static uint64_t at_least_one(uint64_t n)
{
	return n ? n : 1;
}

/* UINT64_MAX when no number holds it: then nothing fits. */
static uint64_t estimate(const struct shape *s)
{
	uint64_t w = s->width, h = s->height, d = s->depth, sum = 0;

	if (s->flags & NO_MEMORY_FLAGS)
		return 0;
	for (unsigned int level = 0; level < at_least_one(s->levels) && level < 64; level++) {
		uint64_t row = round_up(product(at_least_one(w), s->element_bytes), TILE_BYTES);
		uint64_t rows = h ? round_up(h, TILE_ROWS) : 1;
		uint64_t bytes = product(product(row, rows), at_least_one(d));

		if (__builtin_add_overflow(sum, bytes, &sum))
			return UINT64_MAX;
		w /= 2;
		h = h ? at_least_one(h / 2) : 0;
		if (!(s->flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)))
			d /= 2;
	}
	return sum;
}

static CUresult enter(const struct aq__place *p, enum aq__class class, const void *handle,
		      uint32_t grains)
{
	struct aq__item old;
	struct aq__item item = {
		.key = (uintptr_t)handle,
		.class = class,
		.index = (int16_t)p->index,
		.owner = p->owner,
		.grains = grains,
	};

	if (p->index == AQ__UNBOUND)
		return CUDA_SUCCESS;
	if (!aq__track_put(&item, &old))
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (old.class)
		aq__release(old.index, old.grains);
	return CUDA_SUCCESS;
}

/*
 * Large ones have whole blocks (blocks.h), which are then charged. Where small ones lie cannot be
 * seen: each is charged its part of a block that is full of its like. What that misses the daemon's
 * measuring finds.
 */
static uint64_t in_blocks(uint64_t bytes)
{
	uint64_t piece = round_up(bytes, AQ_GRAIN_BYTES);

	if (!bytes || piece > AQ__BLOCK_BYTES / 2)
		return aq__blocks_round(bytes);
	return AQ__BLOCK_BYTES / (AQ__BLOCK_BYTES / piece);
}

/* What the driver says that the array takes, or 0. */
static uint64_t told_array(CUarray array, CUdevice dev)
{
	CUDA_ARRAY_MEMORY_REQUIREMENTS need = {0};
	CUresult r = AQ__CALL(cuArrayGetMemoryRequirements, &need, array, dev);

	return r == CUDA_SUCCESS ? need.size : 0;
}

static uint64_t told_mipmap(CUmipmappedArray array, CUdevice dev)
{
	CUDA_ARRAY_MEMORY_REQUIREMENTS need = {0};
	CUresult r = AQ__CALL(cuMipmappedArrayGetMemoryRequirements, &need, array, dev);

	return r == CUDA_SUCCESS ? need.size : 0;
}

/*
 * CHARGE, all variants: reserve by the descriptor, call, settle by what the driver tells, enter.
 * NULL arguments are the driver's to refuse.
 */
#define HOOK_ARRAY(sym, params, handle, desc, n_levels, h, d, f, told, destroy, class_, ...)       \
	CUresult sym params                                                                        \
	{                                                                                          \
		struct aq__place p;                                                                \
		struct shape s;                                                                    \
		uint64_t bytes;                                                                    \
		uint32_t grains;                                                                   \
		CUresult r;                                                                        \
                                                                                                   \
		if (!handle || !desc)                                                              \
			return AQ__CALL(sym, __VA_ARGS__);                                         \
		s = (struct shape){.width = desc->Width,                                           \
				   .height = h,                                                    \
				   .depth = d,                                                     \
				   .element_bytes =                                                \
					   element_bytes(desc->Format, desc->NumChannels),         \
				   .levels = n_levels,                                             \
				   .flags = f};                                                    \
		aq__place_here(&p);                                                                \
		r = aq__reserve(p.index, in_blocks(estimate(&s)), #sym, &grains);                  \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		r = AQ__CALL(sym, __VA_ARGS__);                                                    \
		if (r != CUDA_SUCCESS) {                                                           \
			aq__release(p.index, grains);                                              \
			return r;                                                                  \
		}                                                                                  \
		bytes = s.flags & NO_MEMORY_FLAGS ? 0 : told(*handle, p.dev);                      \
		if (bytes)                                                                         \
			r = aq__settle(p.index, in_blocks(bytes), #sym, &grains);                  \
		if (r == CUDA_SUCCESS)                                                             \
			r = enter(&p, class_, *handle, grains);                                    \
		if (r != CUDA_SUCCESS) {                                                           \
			(void)AQ__CALL(destroy, *handle);                                          \
			aq__release(p.index, grains);                                              \
		} else if (!bytes && grains) {                                                     \
			aq__unmeasured(p.index);                                                   \
		}                                                                                  \
		return r;                                                                          \
	}

HOOK_ARRAY(cuArrayCreate, (CUarray * handle, const CUDA_ARRAY_DESCRIPTOR_v1 *desc), handle, desc, 1,
	   desc->Height, 0, 0, told_array, cuArrayDestroy, AQ__ARRAY, handle, desc)
HOOK_ARRAY(cuArrayCreate_v2, (CUarray * handle, const CUDA_ARRAY_DESCRIPTOR *desc), handle, desc, 1,
	   desc->Height, 0, 0, told_array, cuArrayDestroy, AQ__ARRAY, handle, desc)
HOOK_ARRAY(cuArray3DCreate, (CUarray * handle, const CUDA_ARRAY3D_DESCRIPTOR_v1 *desc), handle,
	   desc, 1, desc->Height, desc->Depth, desc->Flags, told_array, cuArrayDestroy, AQ__ARRAY,
	   handle, desc)
HOOK_ARRAY(cuArray3DCreate_v2, (CUarray * handle, const CUDA_ARRAY3D_DESCRIPTOR *desc), handle,
	   desc, 1, desc->Height, desc->Depth, desc->Flags, told_array, cuArrayDestroy, AQ__ARRAY,
	   handle, desc)
HOOK_ARRAY(cuMipmappedArrayCreate,
	   (CUmipmappedArray * handle, const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned int levels),
	   handle, desc, levels, desc->Height, desc->Depth, desc->Flags, told_mipmap,
	   cuMipmappedArrayDestroy, AQ__MIPMAP, handle, desc, levels)

static CUresult gone(CUresult r, bool known, const struct aq__item *item)
{
	struct aq__item old;

	if (!known)
		return r;
	if (r == CUDA_SUCCESS) {
		aq__release(item->index, item->grains);
		aq__vmm_array_gone(item->key);
	} else {
		(void)aq__track_put(item, &old);
	}
	return r;
}

/* RELEASE. */
CUresult cuArrayDestroy(CUarray array)
{
	struct aq__item item;
	bool known = aq__track_take(AQ__ARRAY, (uintptr_t)array, &item);

	return gone(AQ__CALL(cuArrayDestroy, array), known, &item);
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array)
{
	struct aq__item item;
	bool known = aq__track_take(AQ__MIPMAP, (uintptr_t)array, &item);

	return gone(AQ__CALL(cuMipmappedArrayDestroy, array), known, &item);
}
