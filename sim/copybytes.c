/* SPDX-License-Identifier: Apache-2.0 */
/* Moves bytes between addresses of any kind: device memory through the page table, all else as the
 * host pointer that it is. No order, no time. */
#include "va.h"

#include <fcntl.h>
#include <string.h>

#include "base/banned.h"

/* Bytes that are moved under one hold of the page table, so that a free does not wait long. */
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

static void *bytes_at(uint64_t address, size_t *ret_run)
{
	if (sim_va_contains(address))
		return sim_va_bytes(address, ret_run);
	*ret_run = SIZE_MAX;
	return (void *)(uintptr_t)address;
}

void *sim_bytes_at(uint64_t address, size_t *ret_run)
{
	void *p;

	hold();
	p = bytes_at(address, ret_run);
	if (!p)
		let_go();
	return p;
}

void sim_bytes_done(void)
{
	let_go();
}

CUresult sim_bytes_copy(uint64_t dst, uint64_t src, size_t bytes)
{
	CUresult r = CUDA_SUCCESS;

	while (bytes && r == CUDA_SUCCESS) {
		size_t dst_run, src_run, n = bytes < STEP_BYTES ? bytes : STEP_BYTES;
		void *to, *from;

		hold();
		to = bytes_at(dst, &dst_run);
		from = bytes_at(src, &src_run);
		if (to && from) {
			n = n < dst_run ? n : dst_run;
			n = n < src_run ? n : src_run;
			memmove(to, from, n);
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

/* @pattern repeats every 4 bytes, and begins at its first byte. */
static void fill(uint8_t *p, const uint8_t *pattern, unsigned int width, size_t bytes)
{
	size_t n = bytes < 64 ? bytes : 64;

	if (width == 1) {
		memset(p, pattern[0], bytes);
		return;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = pattern[i % 4];
	for (size_t done = n; done < bytes; done += n) {
		n = done < bytes - done ? done : bytes - done;
		memcpy(p + done, p, n);
	}
}

/* A frame that becomes all zero need not exist: without this, clearing a device's memory would
 * take as much of the host's. */
static bool clear_frames(uint64_t address, const void *bytes, size_t n)
{
	CUmemAccess_flags access;
	struct sim_device *d = sim_va_device(address, &access);

	return d && fallocate(sim.machine.memory_fd[d->index],
			      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (const uint8_t *)bytes - d->bytes, (off_t)n) == 0;
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
		size_t run, n;
		uint8_t *p;

		hold();
		p = bytes_at(dst, &run);
		if (!p) {
			let_go();
			return CUDA_ERROR_ILLEGAL_ADDRESS;
		}
		n = run < bytes ? run : bytes;
		if (value == 0 && sim_va_contains(dst) && dst % SIM_FRAME_BYTES == 0 &&
		    n >= SIM_FRAME_BYTES) {
			n -= n % SIM_FRAME_BYTES;
			if (!clear_frames(dst, p, n))
				memset(p, 0, n);
		} else {
			/* Up to the next frame, so that what follows may be cleared whole. */
			if (n > STEP_BYTES - dst % STEP_BYTES)
				n = STEP_BYTES - dst % STEP_BYTES;
			fill(p, pattern, width, n);
		}
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
