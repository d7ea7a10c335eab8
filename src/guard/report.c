/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program is told about its memory: the fraction's, the same numbers that NVML's face
 * gives. Identity, counts and attributes of devices are never altered: NVIDIA's runtime refuses to
 * start when they are. They, and reports that tell nothing of other tenants, are hooked (the
 * catalogue says so) and passed on.
 *
 * A device that is not in the fraction keeps its true size and has nothing free, so that programs
 * that divide by the size go on and choose another.
 *
 * When we fail: without a daemon, free is what this process may still take by itself.
 */
#include "guard/guard.h"
#include "guard/guest.h"

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Make the driver's answer the fraction's. */
static void fraction_view(uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct aq__place p;
	uint64_t limit, room;

	aq__place_here(&p);
	if (p.index == AQ__ABSENT)
		*free_bytes = 0;
	if (p.index < 0)
		return;
	aq__synchronised();
	room = aq__free_bytes(p.index, &limit);
	*free_bytes = min(*free_bytes, room);
	*total_bytes = min(*total_bytes, limit);
}

/* REPORT. The driver comes first, with the program's own pointers: what is wrong with them is its
 * to say, and it writes nothing then. */
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes)
{
	CUresult r = AQ__CALL(cuMemGetInfo_v2, free_bytes, total_bytes);
	uint64_t room, total;

	if (r != CUDA_SUCCESS || !free_bytes || !total_bytes)
		return r;
	room = *free_bytes;
	total = *total_bytes;
	fraction_view(&room, &total);
	*free_bytes = room;
	*total_bytes = total;
	return r;
}

CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total_bytes)
{
	CUresult r = AQ__CALL(cuMemGetInfo, free_bytes, total_bytes);
	uint64_t room, total;

	if (r != CUDA_SUCCESS || !free_bytes || !total_bytes)
		return r;
	room = *free_bytes;
	total = *total_bytes;
	fraction_view(&room, &total);
	*free_bytes = (unsigned int)room;
	*total_bytes = (unsigned int)total;
	return r;
}

static uint64_t limit_of(CUdevice dev, uint64_t total)
{
	struct aq_page *page = aq__page_get();
	int index = aq__device_index(dev);

	if (index < 0)
		return total;
	return min(total,
		   __atomic_load_n((uint64_t *)&page->device[index].limit_bytes, __ATOMIC_ACQUIRE));
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{
	CUresult r = AQ__CALL(cuDeviceTotalMem_v2, bytes, dev);

	if (r == CUDA_SUCCESS && bytes)
		*bytes = limit_of(dev, *bytes);
	return r;
}

CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice dev)
{
	CUresult r = AQ__CALL(cuDeviceTotalMem, bytes, dev);

	if (r == CUDA_SUCCESS && bytes)
		*bytes = (unsigned int)limit_of(dev, *bytes);
	return r;
}
