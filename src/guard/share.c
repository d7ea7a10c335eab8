/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuIpcGetMemHandle() and its counterparts for movable memory, which the driver's own know nothing
 * of. The handle names descriptors of this process, one for each chunk that the allocation lies in;
 * the other process takes copies of them (pidfd_getfd(2)), so it must be one that may do so: of the
 * same user where ptrace is not restricted, or privileged. From then on the chunks do not move.
 *
 * When we fail: CUDA_ERROR_INVALID_VALUE for memory that cannot be shared, CUDA_ERROR_MAP_FAILED
 * where the other process does not let us have it. Handles of other memory are the driver's.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guard/gate.h"
#include "guard/lock.h"
#include "guard/movable.h"
#include "guard/space.h"
#include "guard/guest.h"

#define MAGIC 0x3165726168737161ull /* "aqshare1" */
#define MAX_CHUNKS 3u		    /* what a handle has room for */
#define MAX_OPEN 1024u		    /* guess: imports of a process */
#define LOW_FDS 100		    /* as in conn.c */

struct shared {
	uint64_t magic;
	uint64_t offset; /* in the first chunk */
	uint64_t bytes;
	int32_t pid;
	uint32_t buffer; /* number of the allocation in that process */
	uint32_t chunks;
	struct {
		int32_t fd;
		uint32_t pages;
	} chunk[MAX_CHUNKS];
};

_Static_assert(sizeof(struct shared) <= CU_IPC_HANDLE_SIZE, "a handle has 64 bytes");

/* What is open here; free: refs 0. Under `lock`, which is not held across the driver. */
static struct import {
	struct shared what;
	CUdeviceptr base; /* of the addresses; 0 while it is being opened */
	uint64_t bytes;
	uint32_t refs;
} imports[MAX_OPEN];
static struct aq__lock lock;

/* ---- giving ---- */

/* A descriptor of a chunk, made once and kept while the chunk is there. Return: -1 none. */
static int descriptor(struct aq__arena *a, uint32_t chunk)
{
	struct aq__page_info *c = &a->pages.page[chunk];
	int fd = -1, high;

	if (c->shared)
		return (int)c->shared - 1;
	if (AQ__CALL(cuMemExportToShareableHandle, &fd, c->handle,
		     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0) != CUDA_SUCCESS)
		return -1;
	high = fcntl(fd, F_DUPFD_CLOEXEC, LOW_FDS);
	if (high >= 0) {
		close(fd);
		fd = high;
	}
	c->shared = (uint32_t)fd + 1;
	return fd;
}

static CUresult describe(const struct aq__item *item, struct shared *s)
{
	struct aq__arena *a = aq__arena_of(item->key);
	uint32_t page = (uint32_t)((item->key - a->base) / AQ__PAGE_BYTES), end, chunk;

	end = page + a->pages.page[a->pages.page[page].head].run;
	chunk = a->pages.page[page].chunk;
	*s = (struct shared){
		.magic = MAGIC,
		.offset = item->key - aq__arena_address(a, chunk),
		.bytes = item->bytes,
		.pid = getpid(),
		.buffer = item->refs,
	};
	for (; chunk < end; chunk += a->pages.page[chunk].chunk_pages) {
		int fd = s->chunks < MAX_CHUNKS ? descriptor(a, chunk) : -1;

		if (fd < 0)
			return CUDA_ERROR_INVALID_VALUE;
		s->chunk[s->chunks].fd = fd;
		s->chunk[s->chunks++].pages = a->pages.page[chunk].chunk_pages;
	}
	return CUDA_SUCCESS;
}

/* WATCH. */
CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr ptr)
{
	int saved = errno;
	struct aq__item item;
	struct shared s;
	CUresult r;

	if (!handle || !aq__movable_find(ptr, &item))
		return AQ__CALL(cuIpcGetMemHandle, handle, ptr);
	if (!aq__arena_of(ptr)->exportable)
		return CUDA_ERROR_INVALID_VALUE;
	aq__move_hold_resident(item.index);
	r = describe(&item, &s);
	if (r == CUDA_SUCCESS) {
		aq__movable_fix(item.key);
		memset(handle, 0, sizeof(*handle));
		memcpy(handle, &s, sizeof(s));
	}
	aq__move_go();
	errno = saved;
	return r;
}

/* ---- taking ---- */

static bool plausible(const struct shared *s)
{
	uint64_t pages = 0;

	if (!s->chunks || s->chunks > MAX_CHUNKS || s->pid <= 0)
		return false;
	for (uint32_t i = 0; i < s->chunks; i++) {
		if (!s->chunk[i].pages || s->chunk[i].fd < 0)
			return false;
		pages += s->chunk[i].pages;
	}
	return s->bytes && s->bytes <= pages * AQ__PAGE_BYTES &&
	       s->offset <= pages * AQ__PAGE_BYTES - s->bytes;
}

static int take_descriptor(int pid, int theirs)
{
	int fd = -1, process = (int)syscall(SYS_pidfd_open, pid, 0);

	if (process < 0)
		return -1;
	fd = (int)syscall(SYS_pidfd_getfd, process, theirs, 0);
	close(process);
	return fd;
}

/* Map one chunk. The handle is not needed once it is mapped. */
static CUresult map_chunk(const struct shared *s, uint32_t i, CUdeviceptr at)
{
	CUmemGenericAllocationHandle handle;
	int fd = take_descriptor(s->pid, s->chunk[i].fd);
	CUresult r;

	if (fd < 0)
		return CUDA_ERROR_MAP_FAILED;
	r = AQ__CALL(cuMemImportFromShareableHandle, &handle, (void *)(intptr_t)fd,
		     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
	close(fd);
	if (r != CUDA_SUCCESS)
		return CUDA_ERROR_MAP_FAILED;
	r = AQ__CALL(cuMemMap, at, s->chunk[i].pages * AQ__PAGE_BYTES, 0, handle, 0);
	(void)AQ__CALL(cuMemRelease, handle);
	return r;
}

static void unmap(const struct shared *s, CUdeviceptr base, uint32_t chunks)
{
	CUdeviceptr at = base;
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < s->chunks; i++) {
		if (i < chunks)
			(void)AQ__CALL(cuMemUnmap, at, s->chunk[i].pages * AQ__PAGE_BYTES);
		at += s->chunk[i].pages * AQ__PAGE_BYTES;
	}
	bytes = at - base;
	(void)AQ__CALL(cuMemAddressFree, base, bytes);
}

static CUresult map_all(const struct shared *s, CUdeviceptr *ret_base)
{
	CUmemAccessDesc desc = {.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	uint64_t bytes = 0;
	CUdeviceptr base, at;
	uint32_t done = 0;
	CUdevice dev;
	CUresult r;

	for (uint32_t i = 0; i < s->chunks; i++)
		bytes += s->chunk[i].pages * AQ__PAGE_BYTES;
	r = AQ__CALL(cuCtxGetDevice, &dev);
	if (r != CUDA_SUCCESS)
		return r;
	r = AQ__CALL(cuMemAddressReserve, &base, bytes, 0, 0, 0);
	if (r != CUDA_SUCCESS)
		return r;
	for (at = base; r == CUDA_SUCCESS && done < s->chunks;) {
		r = map_chunk(s, done, at);
		if (r == CUDA_SUCCESS)
			at += s->chunk[done++].pages * AQ__PAGE_BYTES;
	}
	desc.location = (CUmemLocation){.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = dev};
	if (r == CUDA_SUCCESS)
		r = AQ__CALL(cuMemSetAccess, base, bytes, &desc, 1);
	if (r == CUDA_SUCCESS)
		*ret_base = base;
	else
		unmap(s, base, done);
	return r;
}

/* Once more what is open already, or a place for it. Return: the place, or NULL. */
static struct import *find_place(const struct shared *s, bool *ret_open)
{
	struct import *place = NULL;

	for (uint32_t i = 0; i < MAX_OPEN; i++) {
		if (!imports[i].refs) {
			place = place ? place : &imports[i];
		} else if (imports[i].base && !memcmp(&imports[i].what, s, sizeof(*s))) {
			imports[i].refs++;
			*ret_open = true;
			return &imports[i];
		}
	}
	*ret_open = false;
	if (place)
		*place = (struct import){.what = *s, .refs = 1};
	return place;
}

/* @handle is one of ours: open it. */
static CUresult open_shared(const struct shared *s, CUdeviceptr *ptr, unsigned int flags)
{
	struct import *place;
	CUdeviceptr base;
	int saved = errno;
	CUresult r;
	bool open;

	if (!ptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS || !plausible(s))
		return CUDA_ERROR_INVALID_VALUE;
	if (s->pid == getpid())
		return CUDA_ERROR_INVALID_CONTEXT; /* a process does not open its own memory */
	aq__lock(&lock);
	place = find_place(s, &open);
	if (place && open)
		*ptr = place->base + s->offset;
	aq__unlock(&lock);
	if (!place)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (open)
		return CUDA_SUCCESS;
	r = map_all(s, &base);
	aq__lock(&lock);
	if (r == CUDA_SUCCESS) {
		place->base = base;
		*ptr = base + s->offset;
	} else {
		place->refs = 0;
	}
	aq__unlock(&lock);
	errno = saved;
	return r;
}

/* CHARGE, to the exporter. */
#define HOOK_OPEN(sym)                                                                             \
	CUresult sym(CUdeviceptr *ptr, CUipcMemHandle handle, unsigned int flags)                  \
	{                                                                                          \
		struct shared s;                                                                   \
                                                                                                   \
		memcpy(&s, &handle, sizeof(s));                                                    \
		return s.magic == MAGIC ? open_shared(&s, ptr, flags)                              \
					: AQ__CALL(sym, ptr, handle, flags);                       \
	}

HOOK_OPEN(cuIpcOpenMemHandle)
HOOK_OPEN(cuIpcOpenMemHandle_v2)

/* RELEASE. As the driver, it waits for work that may use the memory. */
CUresult cuIpcCloseMemHandle(CUdeviceptr ptr)
{
	struct import gone = {.refs = 0};
	bool known = false;

	aq__lock(&lock);
	for (uint32_t i = 0; ptr && i < MAX_OPEN && !known; i++) {
		struct import *m = &imports[i];

		known = m->refs && m->base && m->base + m->what.offset == ptr;
		if (known && !--m->refs) {
			gone = *m;
			gone.refs = 1;
			m->refs = 1; /* until it is unmapped */
			m->base = 0;
		}
	}
	aq__unlock(&lock);
	if (!known)
		return AQ__CALL(cuIpcCloseMemHandle, ptr);
	if (!gone.refs)
		return CUDA_SUCCESS;
	(void)AQ__CALL(cuCtxSynchronize);
	unmap(&gone.what, gone.base, gone.what.chunks);
	aq__lock(&lock);
	for (uint32_t i = 0; i < MAX_OPEN; i++) {
		if (imports[i].refs == 1 && !imports[i].base &&
		    !memcmp(&imports[i].what, &gone.what, sizeof(gone.what))) {
			imports[i].refs = 0;
			break;
		}
	}
	aq__unlock(&lock);
	return CUDA_SUCCESS;
}

void aq__share_forked(void)
{
	aq__lock_reset(&lock);
	memset(imports, 0, sizeof(imports));
}
