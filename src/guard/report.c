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
#include "base/number.h"
#include "guard/guard.h"
#include "guard/movable.h"
#include "guard/guest.h"

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
	*free_bytes = aq_min(*free_bytes, room);
	*total_bytes = aq_min(*total_bytes, limit);
}

/* What we keep for the next allocation is free, and everybody is to be told the same. */
static void give_back_unused(void)
{
	struct aq__place p;

	if (!aq__movable_on())
		return;
	aq__place_here(&p);
	(void)aq__movable_trim(p.index, 0);
}

/*
 * REPORT. The driver comes first, with the program's own pointers: what is wrong with them is its
 * to say, and it writes nothing then.
 */
#define HOOK_INFO(sym, type)                                                                       \
	CUresult sym(type *free_bytes, type *total_bytes)                                          \
	{                                                                                          \
		uint64_t room, total;                                                              \
		CUresult r;                                                                        \
                                                                                                   \
		give_back_unused();                                                                \
		r = AQ__CALL(sym, free_bytes, total_bytes);                                        \
		if (r != CUDA_SUCCESS)                                                             \
			return r;                                                                  \
		room = free_bytes ? *free_bytes : 0;                                               \
		total = total_bytes ? *total_bytes : 0;                                            \
		fraction_view(&room, &total);                                                      \
		if (free_bytes)                                                                    \
			*free_bytes = (type)room;                                                  \
		if (total_bytes)                                                                   \
			*total_bytes = (type)total;                                                \
		return r;                                                                          \
	}

HOOK_INFO(cuMemGetInfo, unsigned int)
HOOK_INFO(cuMemGetInfo_v2, size_t)

static uint64_t limit_of(CUdevice dev, uint64_t total)
{
	struct aq_page *page = aq__page_get();
	int index = aq__device_index(dev);

	if (index < 0)
		return total;
	return aq_min(total, __atomic_load_n((uint64_t *)&page->device[index].limit_bytes,
					     __ATOMIC_ACQUIRE));
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
