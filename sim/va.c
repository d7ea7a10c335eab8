/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of device memory. A range of this process's address space is kept without access, so
 * that a device pointer is never a host pointer and a host that follows one faults, as on hardware.
 * The page table says for each 2 MiB of it which frame of which device is there, and, for the
 * books, which allocation or block.
 */
#include "va.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/banned.h"

/* Programs reserve several times the memory of a device (PyTorch: 9/8 of it for each of its
 * segments). Under a limit of address space (ulimit -v, valgrind) less is kept. */
#if defined(__SANITIZE_THREAD__)
#define RANGE_BYTES (1ull << 38) /* what ThreadSanitizer's layout leaves */
#else
#define RANGE_BYTES (1ull << 44)
#endif
#define RANGE_MIN_BYTES (1ull << 36)
#define PAGE SIM_FRAME_BYTES

/* Entry: bit 0 mapped, bits 2..1 CUmemAccess_flags, bits 15..8 device ordinal, bits 63..32 frame.
 */
#define PTE_MAPPED 1ull
#define PTE_ACCESS_SHIFT 1
#define PTE_DEVICE_SHIFT 8
#define PTE_FRAME_SHIFT 32

struct page {
	uint64_t entry; /* under sim.va_lock */
	uintptr_t what; /* struct sim_alloc, or struct sim_block with bit 0 set; under sim.lock */
};

struct extent {
	uint64_t base, bytes;
};

static uint64_t range_base, range_bytes; /* constant after sim_va_init() */
static struct page *pages;

/* Free addresses, sorted, no two adjacent. Under extents_lock. */
static pthread_mutex_t extents_lock = PTHREAD_MUTEX_INITIALIZER;
static struct extent *extents;
static size_t n_extents, extents_room;

static void init_rwlock(void)
{
	pthread_rwlockattr_t attr;

	/* Copies take it for reading all the time; frees must get through. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&sim.va_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

int sim_va_init(void)
{
	uint64_t bytes = RANGE_BYTES;
	void *range = MAP_FAILED, *table;

	if (pages)
		return 0; /* an earlier cuInit() failed after this */
	for (; bytes >= RANGE_MIN_BYTES && range == MAP_FAILED; bytes >>= 1) {
		range = mmap(NULL, bytes + PAGE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (range != MAP_FAILED)
			break;
	}
	if (range == MAP_FAILED)
		return -ENOMEM;
	table = mmap(NULL, bytes / PAGE * sizeof(*pages), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	extents = calloc(16, sizeof(*extents));
	if (table == MAP_FAILED || !extents)
		return -ENOMEM;
	madvise(range, bytes + PAGE, MADV_DONTDUMP);
	extents_room = 16;
	init_rwlock();
	range_base = ((uint64_t)(uintptr_t)range + PAGE - 1) & ~(PAGE - 1);
	range_bytes = bytes;
	extents[0] = (struct extent){range_base, range_bytes};
	n_extents = 1;
	pages = table;
	return 0;
}

bool sim_va_contains(uint64_t address)
{
	return address - range_base < range_bytes;
}

static struct page *page_of(uint64_t address)
{
	return &pages[(address - range_base) / PAGE];
}

/* Take [base, base + bytes) out of extent @i, which contains it. */
static bool carve(size_t i, uint64_t base, uint64_t bytes)
{
	struct extent *e = &extents[i];
	uint64_t end = e->base + e->bytes;

	if (base > e->base && base + bytes < end) {
		if (n_extents == extents_room) {
			struct extent *more =
				reallocarray(extents, extents_room * 2, sizeof(*extents));

			if (!more)
				return false;
			extents = more;
			extents_room *= 2;
			e = &extents[i];
		}
		memmove(e + 1, e, (n_extents - i) * sizeof(*e));
		n_extents++;
		e[1] = (struct extent){base + bytes, end - (base + bytes)};
		e->bytes = base - e->base;
	} else if (base > e->base) {
		e->bytes = base - e->base;
	} else if (base + bytes < end) {
		*e = (struct extent){base + bytes, end - (base + bytes)};
	} else {
		memmove(e, e + 1, (n_extents - i - 1) * sizeof(*e));
		n_extents--;
	}
	return true;
}

uint64_t sim_va_reserve(uint64_t bytes, uint64_t align, uint64_t wish)
{
	uint64_t found = 0;

	if (bytes == 0 || bytes > range_bytes)
		return 0;
	bytes = (bytes + PAGE - 1) & ~(PAGE - 1);
	if (align < PAGE)
		align = PAGE;
	pthread_mutex_lock(&extents_lock);
	for (size_t i = 0; wish && !found && i < n_extents; i++) {
		const struct extent *e = &extents[i];

		if (wish % align == 0 && wish >= e->base && wish - e->base < e->bytes &&
		    e->bytes - (wish - e->base) >= bytes && carve(i, wish, bytes))
			found = wish;
	}
	for (size_t i = 0; !found && i < n_extents; i++) {
		const struct extent *e = &extents[i];
		uint64_t base = (e->base + align - 1) & ~(align - 1);

		if (base - e->base < e->bytes && e->bytes - (base - e->base) >= bytes &&
		    carve(i, base, bytes))
			found = base;
	}
	pthread_mutex_unlock(&extents_lock);
	return found;
}

void sim_va_free(uint64_t address, uint64_t bytes)
{
	size_t i = 0;

	bytes = (bytes + PAGE - 1) & ~(PAGE - 1);
	pthread_mutex_lock(&extents_lock);
	while (i < n_extents && extents[i].base < address)
		i++;
	if (i > 0 && extents[i - 1].base + extents[i - 1].bytes == address) {
		extents[--i].bytes += bytes;
	} else {
		struct extent *more = extents;

		if (n_extents == extents_room) {
			more = reallocarray(extents, extents_room * 2, sizeof(*extents));
			if (more) {
				extents = more;
				extents_room *= 2;
			}
		}
		if (!more) { /* these addresses are lost; there are plenty */
			pthread_mutex_unlock(&extents_lock);
			return;
		}
		memmove(&extents[i + 1], &extents[i], (n_extents - i) * sizeof(*extents));
		extents[i] = (struct extent){address, bytes};
		n_extents++;
	}
	if (i + 1 < n_extents && extents[i].base + extents[i].bytes == extents[i + 1].base) {
		extents[i].bytes += extents[i + 1].bytes;
		memmove(&extents[i + 1], &extents[i + 2], (n_extents - i - 2) * sizeof(*extents));
		n_extents--;
	}
	pthread_mutex_unlock(&extents_lock);
}

void sim_va_map(uint64_t address, struct sim_phys *phys, uint32_t frame, uint32_t n_frames)
{
	struct page *p = page_of(address);
	uint64_t entry = PTE_MAPPED |
			 (uint64_t)CU_MEM_ACCESS_FLAGS_PROT_READWRITE << PTE_ACCESS_SHIFT |
			 (uint64_t)phys->device->ordinal << PTE_DEVICE_SHIFT;

	pthread_rwlock_wrlock(&sim.va_lock);
	for (uint32_t i = 0; i < n_frames; i++)
		p[i].entry = entry | (uint64_t)phys->frames[frame + i] << PTE_FRAME_SHIFT;
	pthread_rwlock_unlock(&sim.va_lock);
}

void sim_va_unmap(uint64_t address, uint64_t bytes)
{
	struct page *p = page_of(address);

	pthread_rwlock_wrlock(&sim.va_lock);
	for (uint64_t i = 0; i < (bytes + PAGE - 1) / PAGE; i++)
		p[i].entry = 0;
	pthread_rwlock_unlock(&sim.va_lock);
}

void sim_va_protect(uint64_t address, uint64_t bytes, CUmemAccess_flags access)
{
	struct page *p = page_of(address);

	pthread_rwlock_wrlock(&sim.va_lock);
	for (uint64_t i = 0; i < (bytes + PAGE - 1) / PAGE; i++)
		p[i].entry = (p[i].entry & ~(3ull << PTE_ACCESS_SHIFT)) |
			     (uint64_t)access << PTE_ACCESS_SHIFT;
	pthread_rwlock_unlock(&sim.va_lock);
}

bool sim_va_mapped(uint64_t address, uint64_t bytes, CUmemAccess_flags access)
{
	bool mapped = true;

	if (!sim_va_contains(address) || bytes > range_bytes - (address - range_base))
		return false;
	pthread_rwlock_rdlock(&sim.va_lock);
	for (uint64_t a = address & ~(PAGE - 1); mapped && a < address + (bytes ? bytes : 1);
	     a += PAGE) {
		uint64_t entry = page_of(a)->entry;

		mapped = (entry & PTE_MAPPED) && (entry >> PTE_ACCESS_SHIFT & access) == access;
	}
	pthread_rwlock_unlock(&sim.va_lock);
	return mapped;
}

struct sim_device *sim_va_device(uint64_t address, CUmemAccess_flags *ret_access)
{
	uint64_t entry;

	if (!sim_va_contains(address))
		return NULL;
	pthread_rwlock_rdlock(&sim.va_lock);
	entry = page_of(address)->entry;
	pthread_rwlock_unlock(&sim.va_lock);
	if (!(entry & PTE_MAPPED))
		return NULL;
	*ret_access = (CUmemAccess_flags)(entry >> PTE_ACCESS_SHIFT & 3);
	return &sim.devices[entry >> PTE_DEVICE_SHIFT & 0xff];
}

bool sim_va_spot(uint64_t address, struct sim_spot *ret_spot)
{
	uint64_t entry, offset;

	if (!sim_va_contains(address))
		return false;
	entry = page_of(address)->entry;
	if (!(entry & PTE_MAPPED) || !(entry >> PTE_ACCESS_SHIFT & 3))
		return false;
	offset = (address - range_base) % PAGE;
	ret_spot->device = &sim.devices[entry >> PTE_DEVICE_SHIFT & 0xff];
	ret_spot->frame = (uint32_t)(entry >> PTE_FRAME_SHIFT);
	ret_spot->bytes = ret_spot->device->bytes + ret_spot->frame * PAGE + offset;
	ret_spot->run = PAGE - offset;
	return true;
}

void sim_va_lookup(uint64_t address, struct sim_alloc **ret_alloc, struct sim_block **ret_block)
{
	uintptr_t what = sim_va_contains(address) ? page_of(address)->what : 0;

	*ret_alloc = what & 1 ? NULL : (struct sim_alloc *)what;
	*ret_block = what & 1 ? (struct sim_block *)(what & ~(uintptr_t)1) : NULL;
}

static void set_what(uint64_t base, uint64_t bytes, uintptr_t what)
{
	struct page *p = page_of(base);

	for (uint64_t i = 0; i < (bytes + PAGE - 1) / PAGE; i++)
		p[i].what = what;
}

void sim_va_set_alloc(uint64_t base, uint64_t bytes, struct sim_alloc *alloc)
{
	set_what(base, bytes, (uintptr_t)alloc);
}

void sim_va_set_block(struct sim_block *block, bool present)
{
	set_what(block->base, block->bytes, present ? (uintptr_t)block | 1 : 0);
}
