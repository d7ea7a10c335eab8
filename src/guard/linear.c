/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory at an address: cuMemAlloc, cuMemAllocPitch, cuMemAllocManaged, and cuMemFree of all of
 * these and of stream-ordered memory. Charged on the current context's device, by the frames that
 * it takes there (frames.h); managed memory in full, for it may migrate there at any time.
 *
 * When we fail: no room, or no memory for our own entry, is CUDA_ERROR_OUT_OF_MEMORY with nothing
 * taken. An address that we do not know is freed by the driver all the same.
 */
#include "guard/frames.h"
#include "guard/guard.h"
#include "guard/space.h"
#include "guard/track.h"
#include "guard/guest.h"

/* Source: cuMemAllocPitch() on compute capability 3 to 9 returns pitches of multiples of 512. */
#define PITCH_ALIGN 512u

struct hold {
	struct aq__place place;
	struct aq__frames_call call;
	const char *api;
};

static CUresult hold(struct hold *h, uint64_t bytes, bool alone, const char *api)
{
	h->api = api;
	aq__place_here(&h->place);
	return aq__frames_begin(h->place.index, bytes, alone, api, &h->call);
}

/* Enter @bytes that the driver gave at @ptr. Return: CUDA_ERROR_OUT_OF_MEMORY: nothing is. */
static CUresult commit(const struct hold *h, CUdeviceptr ptr, uint64_t bytes)
{
	struct aq__item old;
	struct aq__item item = {
		.class = AQ__POINTER,
		.index = (int16_t)h->place.index,
		.owner = h->place.owner,
	};
	CUresult r = aq__frames_commit(&h->call, ptr, bytes, h->api, &item);

	if (r != CUDA_SUCCESS || h->place.index == AQ__UNBOUND)
		return r;
	if (!aq__track_put(&item, &old)) {
		aq__pointer_lost(&item);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (old.class)
		aq__pointer_lost(&old);
	return CUDA_SUCCESS;
}

/* What follows the driver's call, its result in @r. */
static CUresult finish(const struct hold *h, CUresult r, CUdeviceptr ptr, uint64_t bytes)
{
	if (r != CUDA_SUCCESS || !ptr) {
		aq__frames_abort(&h->call);
		return r;
	}
	r = commit(h, ptr, bytes);
	if (r != CUDA_SUCCESS)
		(void)AQ__CALL(cuMemFree_v2, ptr);
	return r;
}

/* CHARGE. */
CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr)
		return AQ__CALL(cuMemAlloc_v2, dptr, bytes);
	r = hold(&h, bytes, false, "cuMemAlloc_v2");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAlloc_v2, dptr, bytes);
	return finish(&h, r, *dptr, bytes);
}

CUresult cuMemAlloc(CUdeviceptr_v1 *dptr, unsigned int bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr)
		return AQ__CALL(cuMemAlloc, dptr, bytes);
	r = hold(&h, bytes, false, "cuMemAlloc");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAlloc, dptr, bytes);
	return finish(&h, r, *dptr, bytes);
}

CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytes, unsigned int flags)
{
	struct hold h;
	CUresult r;

	if (!dptr)
		return AQ__CALL(cuMemAllocManaged, dptr, bytes, flags);
	r = hold(&h, bytes, true, "cuMemAllocManaged");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAllocManaged, dptr, bytes, flags);
	return finish(&h, r, *dptr, bytes);
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

/* CHARGE: pitch times height, as the driver returns it. */
CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pitch, size_t width, size_t height,
			    unsigned int elem_bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr || !pitch)
		return AQ__CALL(cuMemAllocPitch_v2, dptr, pitch, width, height, elem_bytes);
	r = hold(&h, pitched(width, height), false, "cuMemAllocPitch_v2");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAllocPitch_v2, dptr, pitch, width, height, elem_bytes);
	return finish(&h, r, *dptr, rows(*pitch, height));
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *dptr, unsigned int *pitch, unsigned int width,
			 unsigned int height, unsigned int elem_bytes)
{
	struct hold h;
	CUresult r;

	if (!dptr || !pitch)
		return AQ__CALL(cuMemAllocPitch, dptr, pitch, width, height, elem_bytes);
	r = hold(&h, pitched(width, height), false, "cuMemAllocPitch");
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAllocPitch, dptr, pitch, width, height, elem_bytes);
	return finish(&h, r, *dptr, rows(*pitch, height));
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

	return freed(AQ__CALL(cuMemFree_v2, dptr), known, &item);
}

CUresult cuMemFree(CUdeviceptr_v1 dptr)
{
	struct aq__item item;
	bool known = aq__track_take(AQ__POINTER, dptr, &item);

	return freed(AQ__CALL(cuMemFree, dptr), known, &item);
}
