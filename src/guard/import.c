/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens movable memory of other processes: cuIpcOpenMemHandle() and cuIpcCloseMemHandle(). What is
 * lent is physical memory, piece by piece; it is mapped here one behind the other. Nothing is
 * charged: the exporter pays.
 *
 * When we fail: CUDA_ERROR_INVALID_VALUE for a token that nobody exports, or not to us;
 * CUDA_ERROR_MAP_FAILED where the exporter or the daemon does not answer in time, or the driver
 * does not want what they send; CUDA_ERROR_OUT_OF_MEMORY where too much is open. Handles of other
 * memory are the driver's.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/timing.h"
#include "guard/conn.h"
#include "guard/lock.h"
#include "guard/movable.h"
#include "guard/share.h"
#include "guard/track.h"
#include "guard/guest.h"

#define MAX_OPEN 1024u /* guess: imports of a process */

#define PATIENCE_NS (10 * AQ_NS_PER_S) /* guess: of an exporter whose memory is on the device */
#define DAEMON_NS (2 * AQ_NS_PER_S)    /* a new daemon is there, and knows its clients, by then */
#define NAP_FIRST_NS (100 * AQ_NS_PER_US)
#define NAP_LAST_NS (5 * AQ_NS_PER_MS)

/* What is open here; free: refs 0. Under `lock`, which is not held across the driver. */
static struct import {
	uint8_t token[AQ_TOKEN_BYTES];
	uint64_t number;  /* of this opening */
	CUdeviceptr base; /* of the addresses; 0 while it is being opened or closed */
	uint64_t span, offset, bytes;
	CUcontext ctx;
	uint32_t owner; /* number of the context */
	uint32_t refs;
} imports[MAX_OPEN];
static uint32_t n_imports;   /* atomic: none at or above it; only grows */
static uint64_t last_number; /* atomic */
static struct aq__lock lock;

/* ---- asking for it ---- */

static CUresult result_of(int r)
{
	return r == -ENOENT   ? CUDA_ERROR_INVALID_VALUE
	       : r == -EMFILE ? CUDA_ERROR_OUT_OF_MEMORY
			      : CUDA_ERROR_MAP_FAILED;
}

/*
 * One piece. Asked for again and again, since its exporter may use the same daemon for borrowing
 * from us at this moment: nothing is held meanwhile. Memory that is away may come back late, so
 * time does not count then.
 */
static CUresult fetch(const struct import *m, uint64_t at, struct aq_msg_piece *ret_piece,
		      int *ret_fd)
{
	uint64_t now = aq_now_ns(), until = now + PATIENCE_NS, down = now + DAEMON_NS;
	uint64_t nap = NAP_FIRST_NS;
	union aq_msg msg;

	for (;;) {
		int r;

		aq_msg_init(&msg, AQ_MSG_IMPORT, 0);
		memcpy(msg.import.token, m->token, sizeof(m->token));
		msg.import.number = m->number;
		msg.import.at = at;
		r = aq__conn_pass(&msg, -1, AQ_MSG_IMPORT_REPLY, ret_fd);
		if (r == 0 && msg.piece.result != -EAGAIN)
			break;
		now = aq_now_ns();
		if (r == 0)
			down = now + DAEMON_NS;
		if (r == 0 && msg.piece.away)
			until = now + PATIENCE_NS;
		if (now >= until || now >= down)
			return CUDA_ERROR_MAP_FAILED;
		aq_sleep_until_ns(now + nap);
		nap = nap * 2 < NAP_LAST_NS ? nap * 2 : NAP_LAST_NS;
	}
	*ret_piece = msg.piece;
	if (msg.piece.result == 0 && *ret_fd < 0)
		return CUDA_ERROR_MAP_FAILED;
	return msg.piece.result == 0 ? CUDA_SUCCESS : result_of(msg.piece.result);
}

static void say_closed(uint64_t number)
{
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_CLOSE, 0);
	msg.import.number = number;
	/* A daemon that comes later knows nothing of it. */
	(void)aq__conn_call(&msg, AQ_MSG_SHARE_REPLY, false);
}

/* ---- mapping ---- */

/* Does a piece fit what was said before of the allocation, and the pages of all arenas? */
static bool plausible(const struct import *m, const struct aq_msg_piece *p, uint64_t at)
{
	return p->at == at && p->bytes && p->piece_bytes && p->piece_bytes % AQ__PAGE_BYTES == 0 &&
	       p->span_bytes % AQ__PAGE_BYTES == 0 &&
	       (!at ||
		(p->span_bytes == m->span && p->offset == m->offset && p->bytes == m->bytes));
}

/* Map what @fd names. The handle is not needed once it is mapped.
 * @home: device that the memory is on, where the driver says so */
static CUresult map_piece(CUdeviceptr at, uint64_t bytes, int fd, CUdevice *home)
{
	CUmemAllocationProp prop = {.location.id = *home};
	struct aq__item old, item = {.key = at, .class = AQ__PIECE, .bytes = bytes};
	CUmemGenericAllocationHandle handle;
	CUresult r = AQ__CALL(cuMemImportFromShareableHandle, &handle, (void *)(intptr_t)fd,
			      CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);

	if (r != CUDA_SUCCESS)
		return CUDA_ERROR_MAP_FAILED;
	if (aq__track_put(&item, &old))
		r = AQ__CALL(cuMemMap, at, bytes, 0, handle, 0);
	else
		r = CUDA_ERROR_OUT_OF_MEMORY;
	if (AQ__CALL(cuMemGetAllocationPropertiesFromHandle, &prop, handle) == CUDA_SUCCESS)
		*home = prop.location.id;
	(void)AQ__CALL(cuMemRelease, handle);
	if (r != CUDA_SUCCESS)
		(void)aq__track_take(AQ__PIECE, at, &item);
	return r;
}

static void unmap(CUdeviceptr base, uint64_t span)
{
	struct aq__item item;

	for (CUdeviceptr at = base; at < base + span && aq__track_take(AQ__PIECE, at, &item);
	     at += item.bytes)
		(void)AQ__CALL(cuMemUnmap, at, item.bytes);
	(void)AQ__CALL(cuMemAddressFree, base, span);
}

/* One piece at @at; with the first one it becomes known how many there are. */
static CUresult open_piece(struct import *m, CUdeviceptr *base, uint64_t at, CUdevice *home,
			   uint64_t *ret_bytes)
{
	struct aq_msg_piece p;
	int fd = -1;
	CUresult r = fetch(m, at, &p, &fd);

	if (r == CUDA_SUCCESS && !plausible(m, &p, at))
		r = CUDA_ERROR_MAP_FAILED;
	if (r == CUDA_SUCCESS && !at) {
		m->span = p.span_bytes;
		m->offset = p.offset;
		m->bytes = p.bytes;
		r = AQ__CALL(cuMemAddressReserve, base, m->span, 0, 0, 0);
	}
	if (r == CUDA_SUCCESS)
		r = map_piece(*base + at, p.piece_bytes, fd, home);
	if (r == CUDA_SUCCESS)
		*ret_bytes = p.piece_bytes;
	if (fd >= 0)
		close(fd);
	return r;
}

/* What is opened may be used on the device that it is on and on that of the context. */
static CUresult let_use(CUdeviceptr base, uint64_t bytes, CUdevice dev, CUdevice home)
{
	CUmemAccessDesc desc[2];

	for (int i = 0; i < 2; i++)
		desc[i] = (CUmemAccessDesc){
			.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = i ? home : dev},
			.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
		};
	return AQ__CALL(cuMemSetAccess, base, bytes, desc, home == dev ? 1 : 2);
}

static CUresult map_all(struct import *m, CUdevice dev, CUdeviceptr *ret_base)
{
	CUdevice home = dev;
	CUdeviceptr base = 0;
	CUresult r = CUDA_SUCCESS;
	uint64_t bytes = 0;

	for (uint64_t at = 0; r == CUDA_SUCCESS && (!at || at < m->span); at += bytes)
		r = open_piece(m, &base, at, &home, &bytes);
	if (r == CUDA_SUCCESS)
		r = let_use(base, m->span, dev, home);
	if (r == CUDA_SUCCESS) {
		*ret_base = base;
		return r;
	}
	if (base)
		unmap(base, m->span);
	say_closed(m->number);
	return r;
}

/* ---- open and close ---- */

static uint32_t imports_top(void)
{
	return __atomic_load_n(&n_imports, __ATOMIC_ACQUIRE);
}

/* Lock held. What has this token in this context, or is about to, or no longer; NULL: nothing. */
static struct import *find_import(const uint8_t *token, CUcontext ctx)
{
	for (uint32_t i = 0; i < n_imports; i++) {
		struct import *m = &imports[i];

		if (m->refs && m->ctx == ctx && !memcmp(m->token, token, AQ_TOKEN_BYTES))
			return m;
	}
	return NULL;
}

/* Lock held. A place for one, or NULL. */
static struct import *free_place(void)
{
	for (uint32_t i = 0; i < n_imports; i++) {
		if (!imports[i].refs)
			return &imports[i];
	}
	if (n_imports == MAX_OPEN)
		return NULL;
	__atomic_store_n(&n_imports, n_imports + 1, __ATOMIC_RELEASE);
	return &imports[n_imports - 1];
}

/*
 * Once more what is open already, *ptr, or a place to open it in, *ret_place. Waits for a thread
 * that is about to open or close it: it has one address in a context. Return: whether there is
 * either.
 */
static bool find_or_begin(const uint8_t *token, CUcontext ctx, uint32_t owner, CUdeviceptr *ptr,
			  struct import **ret_place)
{
	struct import *m;

	*ret_place = NULL;
	aq__lock(&lock);
	while ((m = find_import(token, ctx)) != NULL && !m->base) {
		aq__unlock(&lock);
		aq_sleep_until_ns(aq_now_ns() + NAP_FIRST_NS);
		aq__lock(&lock);
	}
	if (m) {
		m->refs++;
		*ptr = m->base + m->offset;
	} else {
		m = *ret_place = free_place();
		if (m) {
			*m = (struct import){.ctx = ctx, .owner = owner, .refs = 1};
			m->number = __atomic_add_fetch(&last_number, 1, __ATOMIC_RELAXED);
			memcpy(m->token, token, sizeof(m->token));
		}
	}
	aq__unlock(&lock);
	return m != NULL;
}

static CUresult open_fresh(struct import *place, CUdevice dev, CUdeviceptr *ptr)
{
	struct import m = *place; /* nobody else writes there while its base is 0 */
	CUdeviceptr base = 0;
	CUresult r = map_all(&m, dev, &base);

	aq__lock(&lock);
	m.base = base;
	m.refs = r == CUDA_SUCCESS;
	*place = m;
	aq__unlock(&lock);
	if (r == CUDA_SUCCESS)
		*ptr = base + m.offset;
	return r;
}

static CUresult open_shared(const struct aq__handle *h, CUdeviceptr *ptr, unsigned int flags)
{
	struct aq__place here;
	struct import *place;
	CUcontext ctx = NULL;
	CUdevice dev;
	CUresult r;

	if (!ptr || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
		return CUDA_ERROR_INVALID_VALUE;
	r = AQ__CALL(cuCtxGetDevice, &dev);
	if (r != CUDA_SUCCESS)
		return r;
	if (aq__share_is_own(h->token))
		return CUDA_ERROR_INVALID_CONTEXT; /* a process does not open its own memory */
	(void)AQ__CALL(cuCtxGetCurrent, &ctx);
	aq__place_here(&here);
	if (!find_or_begin(h->token, ctx, here.owner, ptr, &place))
		return CUDA_ERROR_OUT_OF_MEMORY;
	return place ? open_fresh(place, dev, ptr) : CUDA_SUCCESS;
}

/* CHARGE, to the exporter. */
#define HOOK_OPEN(sym)                                                                             \
	CUresult sym(CUdeviceptr *ptr, CUipcMemHandle handle, unsigned int flags)                  \
	{                                                                                          \
		int saved = errno;                                                                 \
		struct aq__handle h;                                                               \
		CUresult r;                                                                        \
                                                                                                   \
		memcpy(&h, &handle, sizeof(h));                                                    \
		if (h.magic != AQ__HANDLE_MAGIC || !aq__page_get())                                \
			return AQ__CALL(sym, ptr, handle, flags);                                  \
		r = open_shared(&h, ptr, flags);                                                   \
		errno = saved;                                                                     \
		return r;                                                                          \
	}

HOOK_OPEN(cuIpcOpenMemHandle)
HOOK_OPEN(cuIpcOpenMemHandle_v2)

/* Take it apart; @place is ours as long as its base is 0 and its refs are 1. */
static void close_import(struct import *place, const struct import *m)
{
	unmap(m->base, m->span);
	say_closed(m->number);
	aq__lock(&lock);
	place->refs = 0;
	aq__unlock(&lock);
}

/* RELEASE. As the driver, it waits for work that may use the memory. */
CUresult cuIpcCloseMemHandle(CUdeviceptr ptr)
{
	struct import gone = {.refs = 0}, *place = NULL;
	bool known = false;

	aq__lock(&lock);
	for (uint32_t i = 0; ptr && i < n_imports && !known; i++) {
		struct import *m = &imports[i];

		known = m->refs && m->base && m->base + m->offset == ptr;
		if (known && m->refs > 1) {
			m->refs--;
		} else if (known) {
			gone = *m;
			place = m;
			m->base = 0; /* nobody else finds it */
		}
	}
	aq__unlock(&lock);
	if (!known)
		return AQ__CALL(cuIpcCloseMemHandle, ptr);
	if (place) {
		(void)AQ__CALL(cuCtxSynchronize);
		close_import(place, &gone);
	}
	return CUDA_SUCCESS;
}

void aq__import_context_gone(uint32_t owner)
{
	for (uint32_t i = 0; owner && i < imports_top(); i++) {
		struct import gone = {.refs = 0};

		aq__lock(&lock);
		if (imports[i].refs && imports[i].base && imports[i].owner == owner) {
			gone = imports[i];
			imports[i].base = 0;
			imports[i].refs = 1;
		}
		aq__unlock(&lock);
		if (gone.base)
			close_import(&imports[i], &gone);
	}
}

/* ---- asking what is there ---- */

bool aq__import_find(CUdeviceptr ptr, struct aq__imported *ret)
{
	bool found = false;

	if (!imports_top())
		return false;
	aq__lock(&lock);
	for (uint32_t i = 0; i < n_imports && !found; i++) {
		const struct import *m = &imports[i];

		found = m->refs && m->base && ptr - m->base - m->offset < m->bytes;
		if (found)
			*ret = (struct aq__imported){.start = m->base + m->offset,
						     .bytes = m->bytes,
						     .ctx = m->ctx,
						     .number = m->number};
	}
	aq__unlock(&lock);
	return found;
}

bool aq__import_at(CUdeviceptr ptr)
{
	bool found = false;

	if (!imports_top())
		return false;
	aq__lock(&lock);
	for (uint32_t i = 0; i < n_imports && !found; i++)
		found = imports[i].refs && imports[i].base &&
			ptr - imports[i].base < imports[i].span;
	aq__unlock(&lock);
	return found;
}

void aq__import_forked(void)
{
	aq__lock_reset(&lock);
	memset(imports, 0, sizeof(imports[0]) * n_imports);
	n_imports = 0;
}
