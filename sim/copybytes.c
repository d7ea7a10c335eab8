/* SPDX-License-Identifier: Apache-2.0 */
/* Moves bytes between addresses of any kind: device memory through the page table, all else as the
 * host pointer that it is. Which of them take memory of the host is sparse.c's business. No order, no
 * time. */
#include "sparse.h"

#include <string.h>

#include "base/banned.h"

/* Bytes of host memory that are moved under one hold of the page table, so that a free does not
 * wait long. */
#define STEP_BYTES SIM_FRAME_BYTES

static __thread unsigned int holds; /* of this thread's holds */

static void hold(void)
{
	if (holds++ == 0)
		pthread_rwlock_rdlock(&sim.va_lock);
}

static void let_go(void)
{
	if (--holds == 0)
		pthread_rwlock_unlock(&sim.va_lock);
}

/* Return: false: no memory there. */
static bool spot_at(uint64_t address, struct sim_spot *ret_spot)
{
	if (sim_va_contains(address))
		return sim_va_spot(address, ret_spot);
	*ret_spot = (struct sim_spot){.bytes = (uint8_t *)(uintptr_t)address, .run = SIZE_MAX};
	return true;
}

void *sim_bytes_at(uint64_t address, size_t *ret_run)
{
	struct sim_spot spot;

	hold();
	if (!spot_at(address, &spot)) {
		let_go();
		return NULL;
	}
	sim_sparse_open(&spot);
	*ret_run = spot.run;
	return spot.bytes;
}

void sim_bytes_done(void)
{
	let_go();
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

CUresult sim_bytes_copy(uint64_t dst, uint64_t src, size_t bytes)
{
	CUresult r = CUDA_SUCCESS;

	while (bytes && r == CUDA_SUCCESS) {
		struct sim_spot to, from;
		size_t n = min_size(bytes, STEP_BYTES);

		hold();
		if (spot_at(dst, &to) && spot_at(src, &from)) {
			n = min_size(n, min_size(to.run, from.run));
			sim_sparse_copy(&to, &from, n);
		} else {
			r = CUDA_ERROR_ILLEGAL_ADDRESS;
		}
		let_go();
		dst += n;
		src += n;
		bytes -= n;
	}
	return r;
}

CUresult sim_bytes_read(void *dst, uint64_t src, size_t bytes)
{
	return sim_bytes_copy((uint64_t)(uintptr_t)dst, src, bytes);
}

CUresult sim_bytes_write(uint64_t dst, const void *src, size_t bytes)
{
	return sim_bytes_copy(dst, (uint64_t)(uintptr_t)src, bytes);
}

CUresult sim_bytes_fill(uint64_t dst, uint32_t value, unsigned int width, size_t count)
{
	size_t bytes = count * width;
	uint8_t pattern[4];

	if (width == 1)
		value = (value & 0xff) * 0x01010101u;
	else if (width == 2)
		value = (value & 0xffff) * 0x00010001u;
	memcpy(pattern, &value, sizeof(pattern));
	while (bytes) {
		struct sim_spot to;
		size_t n;

		hold();
		if (!spot_at(dst, &to)) {
			let_go();
			return CUDA_ERROR_ILLEGAL_ADDRESS;
		}
		n = min_size(min_size(bytes, STEP_BYTES), to.run);
		if (value == 0)
			sim_sparse_clear(&to, n);
		else
			sim_sparse_fill(&to, pattern, width, n);
		let_go();
		dst += n;
		bytes -= n;
	}
	return CUDA_SUCCESS;
}

CUresult sim_bytes_fill2d(uint64_t dst, size_t pitch, uint32_t value, unsigned int elem,
			  size_t width, size_t height)
{
	CUresult r = CUDA_SUCCESS;

	if (pitch == width * elem)
		return sim_bytes_fill(dst, value, elem, width * height);
	for (size_t y = 0; y < height && r == CUDA_SUCCESS; y++)
		r = sim_bytes_fill(dst + y * pitch, value, elem, width);
	return r;
}

/* Address of a row of a box, counted from the box's origin. */
static uint64_t row_address(const struct sim_box *box, size_t y, size_t z)
{
	const struct sim_array *a = (const struct sim_array *)box->array;

	if (a)
		return a->base +
		       (((box->z + z) * a->height + box->y + y) * a->width) * a->elem_bytes +
		       box->x_bytes;
	return box->address + (box->z + z) * box->slice + (box->y + y) * box->pitch + box->x_bytes;
}

CUresult sim_box_check(const struct sim_box *box, size_t width_bytes, size_t height, size_t depth)
{
	struct sim_array *a;
	size_t row;
	CUresult r;

	if (!box->array)
		return CUDA_SUCCESS;
	r = sim_array_check(box->array, &a);
	if (r != CUDA_SUCCESS)
		return r;
	row = a->width * a->elem_bytes;
	if (box->x_bytes > row || width_bytes > row - box->x_bytes || box->y > a->height ||
	    height > a->height - box->y || box->z > a->depth || depth > a->depth - box->z)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

CUresult sim_bytes_copy3d(const struct sim_box *dst, const struct sim_box *src, size_t width_bytes,
			  size_t height, size_t depth)
{
	CUresult r = sim_box_check(dst, width_bytes, height, depth);

	if (r == CUDA_SUCCESS)
		r = sim_box_check(src, width_bytes, height, depth);
	for (size_t z = 0; z < depth && r == CUDA_SUCCESS; z++) {
		for (size_t y = 0; y < height && r == CUDA_SUCCESS; y++)
			r = sim_bytes_copy(row_address(dst, y, z), row_address(src, y, z),
					   width_bytes);
	}
	return r;
}
