/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lends movable memory to other processes: cuIpcGetMemHandle(), and the thread that does what other
 * processes' cuIpcOpenMemHandle() asks for. An exported allocation goes on moving; from when a
 * piece of it is lent until the last borrower has given it back, its chunk stays where it is.
 *
 * When we fail: CUDA_ERROR_INVALID_VALUE for memory that cannot be shared, CUDA_ERROR_MAP_FAILED
 * without a daemon, CUDA_ERROR_OUT_OF_MEMORY where too much is exported, CUDA_ERROR_NOT_SUPPORTED
 * where this process can have no thread. Whoever is to borrow what cannot be lent is told so.
 * Handles of memory that does not move are the driver's.
 */
#include "guard/share.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/timing.h"
#include "guard/conn.h"
#include "guard/lock.h"
#include "guard/movable.h"
#include "guard/worker.h"
#include "guard/guest.h"

#define MAX_EXPORTS 4096u		/* as the daemon's */
#define MAX_LOANS 16384u		/* guess: those of all borrowers together */
#define LOW_FDS 100			/* as in conn.c */

/* What has a token; free: address 0. Under `lock`. */
static struct export
{
	uint64_t address;
	uint32_t buffer; /* number of the allocation: another one there is not this one */
	uint32_t told;	 /* connection on which the daemon was told; 0 none */
	uint8_t token[AQ_TOKEN_BYTES];
}
exports[MAX_EXPORTS];
static uint32_t n_exports; /* atomic: none at or above it; only grows */
static struct aq__lock lock;

/* What others have: the lending thread's alone. */
static struct loan {
	uint64_t id;	  /* the daemon's */
	uint64_t address; /* of the chunk */
	uint32_t number;  /* aq__page_info.lent of it */
} loans[MAX_LOANS];
static uint32_t n_loans;
static uint32_t last_number;

static struct aq__worker worker;

/* ---- exports ---- */

static uint32_t exports_top(void)
{
	return __atomic_load_n(&n_exports, __ATOMIC_ACQUIRE);
}

/* Lock held. */
static struct export *find_address(uint64_t address)
{
	for (uint32_t i = 0; i < n_exports; i++) {
		if (exports[i].address == address)
			return &exports[i];
	}
	return NULL;
}

/* Lock held. */
static struct export *find_token(const uint8_t *token)
{
	for (uint32_t i = 0; i < n_exports; i++) {
		if (exports[i].address && !memcmp(exports[i].token, token, AQ_TOKEN_BYTES))
			return &exports[i];
	}
	return NULL;
}

/* Lock held. The allocation's entry, perhaps a new one. Return: NULL: too many. */
static struct export *enter(const struct aq__item *item, const uint8_t *fresh)
{
	struct export *e = find_address(item->key);

	if (e && e->buffer == item->refs)
		return e;
	if (!e)
		e = find_address(0);
	if (!e && n_exports < MAX_EXPORTS) {
		e = &exports[n_exports];
		__atomic_store_n(&n_exports, n_exports + 1, __ATOMIC_RELEASE);
	}
	if (e) {
		*e = (struct export){.address = item->key, .buffer = item->refs};
		memcpy(e->token, fresh, sizeof(e->token));
	}
	return e;
}

bool aq__share_is_own(const uint8_t *token)
{
	bool own;

	if (!exports_top())
		return false;
	aq__lock(&lock);
	own = find_token(token) != NULL;
	aq__unlock(&lock);
	return own;
}

void aq__share_freed(uint64_t address)
{
	struct export *e, gone = {.address = 0};
	union aq_msg msg;

	if (!exports_top())
		return;
	aq__lock(&lock);
	e = find_address(address);
	if (e) {
		gone = *e;
		e->address = 0;
	}
	aq__unlock(&lock);
	if (!gone.address)
		return;
	/* If this is lost, whoever asks for it hears from us that it is gone. */
	aq_msg_init(&msg, AQ_MSG_WITHDRAW, 0);
	memcpy(msg.export.token, gone.token, sizeof(gone.token));
	aq__conn_tell(&msg);
}

/* Make the daemon know it. Return: 0; negative errno. */
static int announce(const struct export *e)
{
	uint32_t epoch = aq__conn_epoch();
	struct export *now;
	union aq_msg msg;
	int r;

	if (e->told == epoch && aq__conn_up())
		return 0;
	aq_msg_init(&msg, AQ_MSG_EXPORT, 0);
	memcpy(msg.export.token, e->token, sizeof(e->token));
	r = aq__conn_call(&msg, AQ_MSG_SHARE_REPLY, true);
	if (r == 0)
		r = msg.share_reply.result;
	if (r < 0)
		return r;
	aq__lock(&lock);
	now = find_token(e->token);
	if (now)
		now->told = epoch; /* of before: if there is a newer one, it is told again */
	aq__unlock(&lock);
	return 0;
}

/* To a daemon that does not know them. */
static void announce_all(void)
{
	for (uint32_t i = 0; i < exports_top(); i++) {
		struct export e;

		aq__lock(&lock);
		e = exports[i];
		aq__unlock(&lock);
		if (e.address && announce(&e) == -ENOTCONN)
			break; /* the next one wakes us */
	}
}

/* ---- chunks that are lent ---- */

/* What a chunk was like when it was lent. */
struct piece {
	struct aq__arena *arena;
	uint64_t address, bytes;
	uint64_t handle;
	uint32_t number;
};

/*
 * The arena's lock is held. The chunk that begins @at bytes after the first one that the allocation
 * lies in stays from now on. Return: false: there is none.
 */
static bool fix(struct aq__arena *a, const struct aq__item *item, uint64_t at,
		struct aq_msg_piece *m, struct piece *p)
{
	struct aq__page_info *pages = a->pages.page;
	uint32_t head = (uint32_t)((item->key - a->base) / AQ__PAGE_BYTES), end, first, chunk;
	struct aq__page_info *c = NULL;

	if (pages[head].state != AQ__PAGE_USED || pages[head].head != head)
		return false;
	end = head + pages[head].run;
	first = pages[head].chunk;
	for (chunk = first; chunk < end; chunk += pages[chunk].chunk_pages) {
		if ((chunk - first) * AQ__PAGE_BYTES != at)
			continue;
		c = &pages[chunk];
		*p = (struct piece){.arena = a, .address = aq__arena_address(a, chunk)};
	}
	if (!c || c->parked)
		return false;
	m->offset = item->key - aq__arena_address(a, first);
	m->bytes = item->bytes;
	m->span_bytes = (chunk - first) * AQ__PAGE_BYTES;
	m->piece_bytes = c->chunk_pages * AQ__PAGE_BYTES;
	if (!c->fixed) {
		a->pages.fixed_pages += c->chunk_pages;
		c->fixed = true;
		last_number = last_number + 1 == AQ__LENT_FOREVER ? 1 : last_number + 1;
		c->lent = last_number;
	}
	p->bytes = m->piece_bytes;
	p->handle = c->handle;
	p->number = c->lent;
	return true;
}

/* Nobody else has the chunk any more: it may move, if it still is that one. */
static void unfix(uint64_t address, uint32_t number)
{
	struct aq__arena *a = aq__arena_of(address);
	struct aq__page_info *c;

	if (!a || number == AQ__LENT_FOREVER)
		return;
	aq__move_hold();
	aq__lock(&a->lock);
	c = &a->pages.page[(address - a->base) / AQ__PAGE_BYTES];
	if ((c->state == AQ__PAGE_USED || c->state == AQ__PAGE_HOLE) && c->chunk_pages &&
	    c->fixed && c->lent == number) {
		a->pages.fixed_pages -= c->chunk_pages;
		c->fixed = false;
		c->lent = 0;
	}
	aq__unlock(&a->lock);
	aq__movable_tell(a);
	aq__move_go();
}

static void loan_made(uint64_t id, const struct piece *p)
{
	loans[n_loans++] = (struct loan){.id = id, .address = p->address, .number = p->number};
}

static void loan_back(uint64_t id)
{
	struct loan l = {.id = 0};
	bool more = false;

	for (uint32_t i = 0; i < n_loans && !l.id; i++) {
		if (loans[i].id == id) {
			l = loans[i];
			loans[i] = loans[--n_loans];
		}
	}
	for (uint32_t i = 0; i < n_loans; i++)
		more = more || loans[i].number == l.number;
	if (l.id && !more)
		unfix(l.address, l.number);
}

/* ---- lending ---- */

/* Under a number that programs do not count on. */
static int raised(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, LOW_FDS);

	if (high < 0)
		return fd;
	close(fd);
	return high;
}

static int descriptor(const struct piece *p, int *ret_fd)
{
	int fd = -1, r = -ECANCELED;

	if (aq__worker_enter(&worker))
		r = AQ__CALL(cuMemExportToShareableHandle, &fd, p->handle,
			     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0) == CUDA_SUCCESS
			    ? 0
			    : -EIO;
	aq__worker_leave(&worker);
	if (r == 0)
		*ret_fd = raised(fd);
	return r;
}

/* Find the piece that is asked for, on the device, and keep it there. Return: 0; negative errno. */
static int take(const struct aq_msg_ask_reply *asked, struct aq_msg_piece *m, struct piece *p,
		int *ret_fd)
{
	struct aq__arena *a;
	struct aq__item item;
	struct export *e, copy = {.address = 0};
	int r = -ENOENT;

	aq__lock(&lock);
	e = find_token(asked->token);
	if (e)
		copy = *e;
	aq__unlock(&lock);
	a = copy.address ? aq__arena_of(copy.address) : NULL;
	if (!a)
		return r;
	aq__move_hold_resident(a->index);
	if (aq__movable_find(copy.address, &item) && item.refs == copy.buffer) {
		aq__lock(&a->lock);
		r = n_loans == MAX_LOANS ? -EMFILE : fix(a, &item, asked->at, m, p) ? 0 : -EINVAL;
		aq__unlock(&a->lock);
	}
	if (r == 0) {
		r = descriptor(p, ret_fd);
		loan_made(asked->loan, p);
		aq__movable_tell(a);
	}
	aq__move_go();
	return r;
}

static void lend(const struct aq_msg_ask_reply *asked)
{
	struct piece p;
	union aq_msg msg;
	int fd = -1, r;

	aq_msg_init(&msg, AQ_MSG_LEND, 0);
	msg.piece.result = take(asked, &msg.piece, &p, &fd);
	msg.piece.loan = asked->loan;
	msg.piece.at = asked->at;
	r = aq__conn_pass(&msg, fd, AQ_MSG_SHARE_REPLY, NULL);
	if (fd >= 0)
		close(fd);
	/* -EIO: somebody may have got it, so it is lent. */
	if (fd < 0 || r == -ENOTCONN || (r == 0 && msg.share_reply.result < 0))
		loan_back(asked->loan);
}

/* Return: whether there was something to do. */
static bool serve(void)
{
	struct aq_msg_ask_reply asked;
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_ASK, 0);
	if (aq__conn_call(&msg, AQ_MSG_ASK_REPLY, false) < 0)
		return false;
	asked = msg.ask_reply;
	if (asked.what == AQ_ASK_WANTED)
		lend(&asked);
	else if (asked.what == AQ_ASK_CLOSED)
		loan_back(asked.loan);
	return asked.what != AQ_ASK_NOTHING;
}

static void *run(void *arg)
{
	struct aq_page *page = aq__page_get(); /* never goes, but in a child */

	(void)arg;
	(void)aq__relax_begin(); /* for good: it is no thread that captures */
	while (!aq__worker_ends(&worker)) {
		uint32_t seen = __atomic_load_n((uint32_t *)&page->shares, __ATOMIC_SEQ_CST);

		announce_all();
		while (serve())
			;
		syscall(SYS_futex, &page->shares, FUTEX_WAIT, seen, NULL, NULL, 0);
	}
	return NULL;
}

/* ---- the call ---- */

/* The token of an allocation, known to the daemon. */
static CUresult export(const struct aq__item *item, uint8_t *ret_token)
{
	uint8_t fresh[AQ_TOKEN_BYTES];
	struct export *e, copy = {.address = 0};
	int r;

	if (getrandom(fresh, sizeof(fresh), 0) != (ssize_t)sizeof(fresh))
		return CUDA_ERROR_OPERATING_SYSTEM;
	aq__lock(&lock);
	e = enter(item, fresh);
	if (e)
		copy = *e;
	aq__unlock(&lock);
	if (!e)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = announce(&copy);
	if (r < 0 && !copy.told)
		aq__share_freed(item->key); /* it was never given to anybody */
	memcpy(ret_token, copy.token, AQ_TOKEN_BYTES);
	return r == 0	      ? CUDA_SUCCESS
	       : r == -EMFILE ? CUDA_ERROR_OUT_OF_MEMORY
			      : CUDA_ERROR_MAP_FAILED;
}

/* WATCH. */
CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr ptr)
{
	struct aq__handle h = {.magic = AQ__HANDLE_MAGIC};
	int saved = errno;
	struct aq__item item;
	CUresult r;

	if (aq__import_at(ptr))
		return CUDA_ERROR_INVALID_VALUE; /* it is another's to export */
	if (!handle || !aq__movable_find(ptr, &item))
		return AQ__CALL(cuIpcGetMemHandle, handle, ptr);
	if (!aq__arena_of(ptr)->exportable)
		return CUDA_ERROR_INVALID_VALUE;
	r = aq__worker_start(&worker, run, "aliquot-ipc") ? export(&item, h.token) : CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		memcpy(handle, &h, sizeof(h));
	errno = saved;
	return r;
}

void aq__share_forked(void)
{
	aq__lock_reset(&lock);
	memset(exports, 0, sizeof(exports[0]) * n_exports);
	n_exports = n_loans = 0;
	aq__worker_forked(&worker);
	aq__import_forked();
}
