/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory at an address: cuMemAlloc, cuMemAllocPitch, cuMemAllocManaged, and cuMemFree of all of
 * these and of stream-ordered memory. Charged on the current context's device in the blocks that
 * the driver takes (blocks.h), managed memory in full (it may migrate there at any time).
 *
 * When we fail: no room, or no memory for our own entry, is CUDA_ERROR_OUT_OF_MEMORY with nothing
 * taken. An address that we do not know is freed by the driver all the same.
 */
#include "guard/blocks.h"
#include "guard/guard.h"
#include "guard/movable.h"
#include "guard/space.h"
#include "guard/track.h"
#include "guard/guest.h"

/* Source: cuMemAllocPitch() on compute capability 3 to 9 returns pitches of multiples of 512. */
#define PITCH_ALIGN 512u

struct hold {
	struct aq__place place;
	uint32_t grains; /* reserved */
	const char *api;
};

/*
 * Room for whole blocks, for the driver takes no less. What it then puts into a block that is
 * charged already needs none, and gives it back at once; but whether it will cannot be known
 * before, and a limit is not passed even for that moment.
 */
static CUresult hold_at(struct hold *h, uint64_t bytes, const char *api)
{
	h->api = api;
	h->grains = 0;
	return aq__reserve(h->place.index, aq__blocks_round(bytes), api, &h->grains);
}

static CUresult hold(struct hold *h, uint64_t bytes, const char *api)
{
	aq__place_here(&h->place);
	return hold_at(h, bytes, api);
}

/* Make what is reserved what is needed. */
static CUresult settle(struct hold *h, uint32_t grains)
{
	uint32_t more;
	CUresult r;

	if (grains <= h->grains) {
		aq__release(h->place.index, h->grains - grains);
	} else {
		r = aq__reserve(h->place.index, (uint64_t)(grains - h->grains) * AQ_GRAIN_BYTES,
				h->api, &more);
		if (r != CUDA_SUCCESS)
			return r;
	}
	h->grains = grains;
	return CUDA_SUCCESS;
}

/* Enter what the driver gave at @ptr; @in_blocks: memory that may share its first and last one.
 * Return: CUDA_ERROR_OUT_OF_MEMORY: nothing is entered. */
static CUresult commit(struct hold *h, CUdeviceptr ptr, uint64_t bytes, bool in_blocks)
{
	struct aq__item old, item = {
				     .key = ptr,
				     .class = AQ__POINTER,
				     .kind = AQ__LINEAR,
				     .index = (int16_t)h->place.index,
				     .owner = h->place.owner,
				     .grains = h->grains,
				     .bytes = in_blocks ? bytes : 0,
			     };
	uint32_t own, shared;

	if (h->place.index == AQ__UNBOUND || !ptr)
		return CUDA_SUCCESS;
	if (in_blocks) {
		if (!aq__blocks_enter(&h->place, ptr, bytes, &own, &shared))
			return CUDA_ERROR_OUT_OF_MEMORY;
		item.grains = own;
		if (settle(h, own + shared) != CUDA_SUCCESS || !aq__track_put(&item, &old)) {
			(void)aq__blocks_leave(ptr, bytes);
			return CUDA_ERROR_OUT_OF_MEMORY;
		}
	} else if (!aq__track_put(&item, &old)) {
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (old.class)
		aq__pointer_lost(&old);
	return CUDA_SUCCESS;
}

/* What follows the driver's call, its result in @r. */
static CUresult finish(struct hold *h, CUresult r, CUdeviceptr ptr, uint64_t bytes, bool in_blocks)
{
	if (r == CUDA_SUCCESS) {
		r = commit(h, ptr, bytes, in_blocks);
		if (r == CUDA_SUCCESS)
			return r;
		(void)AQ__CALL(cuMemFree_v2, ptr);
	}
	aq__release(h->place.index, h->grains);
	return r;
}

/* Out of an arena, where there is one. Return: CUDA_ERROR_NOT_SUPPORTED: there is none, and room is
 * still to be held where it says. */
static CUresult movable(struct hold *h, CUdeviceptr *dptr, uint64_t bytes, const char *api)
{
	aq__place_here(&h->place);
	if (!aq__movable_on())
		return CUDA_ERROR_NOT_SUPPORTED;
	return aq__movable_alloc(&h->place, bytes, api, dptr);
}

/* CHARGE. */
CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr)
		return AQ__CALL(cuMemAlloc_v2, dptr, bytes);
	r = movable(&h, dptr, bytes, "cuMemAlloc_v2");
	if (r != CUDA_ERROR_NOT_SUPPORTED)
		return r;
	r = hold_at(&h, bytes, "cuMemAlloc_v2");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAlloc_v2, dptr, bytes);
	return finish(&h, r, *dptr, bytes, true);
}

CUresult cuMemAlloc(CUdeviceptr_v1 *dptr, unsigned int bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr)
		return AQ__CALL(cuMemAlloc, dptr, bytes);
	r = hold(&h, bytes, "cuMemAlloc");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAlloc, dptr, bytes);
	return finish(&h, r, *dptr, bytes, true);
}

/* It has blocks of its own: host and device share its addresses, but nobody else does. */
CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytes, unsigned int flags)
{
	struct hold h = {.api = "cuMemAllocManaged"};
	CUresult r;

	if (!dptr)
		return AQ__CALL(cuMemAllocManaged, dptr, bytes, flags);
	aq__place_here(&h.place);
	r = aq__reserve(h.place.index, aq__blocks_round(bytes), h.api, &h.grains);
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAllocManaged, dptr, bytes, flags);
	return finish(&h, r, *dptr, bytes, false);
}

/* Bytes of @height rows of @width; UINT64_MAX when no number holds them: then nothing fits. */
static uint64_t rows(uint64_t width, uint64_t height)
{
	uint64_t bytes;

	return __builtin_mul_overflow(width, height, &bytes) ? UINT64_MAX : bytes;
}

static uint64_t pitched(size_t width, size_t height)
{
	uint64_t pitch;

	if (__builtin_add_overflow((uint64_t)width, PITCH_ALIGN - 1, &pitch))
		return UINT64_MAX;
	return rows(pitch / PITCH_ALIGN * PITCH_ALIGN, height);
}

/* Arguments that the driver takes as they are; what it says to others it says itself. */
static bool sane_pitch(size_t width, size_t height, unsigned int elem_bytes)
{
	return width && height && width <= INT32_MAX && height <= INT32_MAX &&
	       (elem_bytes == 4 || elem_bytes == 8 || elem_bytes == 16);
}

/* CHARGE: pitch times height, as the driver returns it. */
CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pitch, size_t width, size_t height,
			    unsigned int elem_bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr || !pitch)
		return AQ__CALL(cuMemAllocPitch_v2, dptr, pitch, width, height, elem_bytes);
	if (sane_pitch(width, height, elem_bytes)) {
		r = movable(&h, dptr, pitched(width, height), "cuMemAllocPitch_v2");
		if (r == CUDA_SUCCESS)
			*pitch = (width + PITCH_ALIGN - 1) / PITCH_ALIGN * PITCH_ALIGN;
		if (r != CUDA_ERROR_NOT_SUPPORTED)
			return r;
	}
	r = hold(&h, pitched(width, height), "cuMemAllocPitch_v2");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAllocPitch_v2, dptr, pitch, width, height, elem_bytes);
	return finish(&h, r, *dptr, rows(*pitch, height), true);
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *dptr, unsigned int *pitch, unsigned int width,
			 unsigned int height, unsigned int elem_bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr || !pitch)
		return AQ__CALL(cuMemAllocPitch, dptr, pitch, width, height, elem_bytes);
	r = hold(&h, pitched(width, height), "cuMemAllocPitch");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAllocPitch, dptr, pitch, width, height, elem_bytes);
	return finish(&h, r, *dptr, rows(*pitch, height), true);
}

/* What follows the driver's freeing of the entry @item, if it was @known. */
static CUresult freed(CUresult r, bool known, const struct aq__item *item)
{
	struct aq__item old;

	if (!known) {
		/* Perhaps memory of a graph or of a pool that we did not see being taken. */
		if (r == CUDA_SUCCESS)
			aq__pools_mark_dirty();
	} else if (r != CUDA_SUCCESS) {
		(void)aq__track_put(item, &old); /* the slot that it just left is there */
		return r;
	} else {
		aq__pointer_lost(item);
	}
	aq__synchronised();
	return r;
}

/* RELEASE. */
CUresult cuMemFree_v2(CUdeviceptr dptr)
{
	struct aq__item item;
	bool known = aq__track_take(AQ__POINTER, dptr, &item);
	CUresult r;

	if (known && aq__is_movable(&item)) {
		r = aq__movable_free(&item);
		aq__synchronised();
		return r;
	}
	return freed(AQ__CALL(cuMemFree_v2, dptr), known, &item);
}

CUresult cuMemFree(CUdeviceptr_v1 dptr)
{
	struct aq__item item;
	bool known = aq__track_take(AQ__POINTER, dptr, &item);

	return freed(AQ__CALL(cuMemFree, dptr), known, &item);
}
