/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The accounts of spaces. See space.h.
 *
 * When we fail: a space whose reserved size the driver does not tell is charged what was asked for
 * and released when it ends.
 */
#include "guard/space.h"

#include <sched.h>
#include <string.h>

#include "abi/grant.h"
#include "guard/blocks.h"
#include "guard/guard.h"
#include "guard/lock.h"
#include "guard/guest.h"

#define MAX_SPACES 1024u /* guess: programs have a handful of pools */
#define SETTLE_TRIES 8

/* What a pool grows by before anything was observed. Source: 32 MiB steps seen on driver 525 to
 * 550 in nvidia-smi by several projects; to be measured by bench/. The smaller is a page. */
#define FIRST_STEP_BYTES (32ull << 20)
#define LEAST_STEP_BYTES (2ull << 20)

enum space_state { UNUSED, LIVE, LEAVING, LEFT };

struct space {
	struct aq__lock lock; /* of everything below */
	enum space_state state;
	int index;
	CUdevice dev;
	CUmemoryPool pool;   /* NULL: graph memory of dev */
	uint32_t charged;    /* grains; what the driver has reserved, as last seen */
	uint32_t pending;    /* grains reserved by calls between begin and settle */
	uint32_t calls;	     /* such calls */
	uint32_t changes;    /* of calls begun and of charges lowered, counted for ever */
	uint64_t asked;	     /* bytes that they ask for */
	uint32_t unreserved; /* those that reserved nothing, for there seemed to be room */
	uint32_t spare;	     /* grains that calls left over while there were such */
	uint32_t lookers;    /* threads that use `pool` outside the lock */
	uint32_t pointers;   /* that the program has, as far as we saw */
	uint64_t sizes;	     /* all reserved sizes seen, or-ed: the lowest bit is the step's */
	uint64_t growth;     /* smallest growth seen, bytes; 0 none yet */
};

static struct space spaces[MAX_SPACES + 1]; /* [0] is none */
static struct aq__lock spaces_lock;	    /* for making new ones */
static uint32_t spaces_end = 1;		    /* atomic; those from here on were never used */

uint32_t aq__pools_dirty;
uint32_t aq__graph_trims = 1;

aq__space_id aq__space_create(CUmemoryPool pool, CUdevice dev, int index)
{
	aq__space_id id = 0;

	aq__lock(&spaces_lock);
	for (uint32_t i = 1; i <= MAX_SPACES && !id; i++) {
		struct space *s = &spaces[i];

		aq__lock(&s->lock);
		if (s->state == UNUSED) {
			struct aq__lock held = s->lock;

			*s = (struct space){
				.state = LIVE, .index = index, .dev = dev, .pool = pool};
			s->lock = held;
			id = i;
		}
		aq__unlock(&s->lock);
	}
	if (id >= spaces_end)
		__atomic_store_n(&spaces_end, id + 1, __ATOMIC_RELEASE);
	aq__unlock(&spaces_lock);
	return id;
}

/* What the driver has reserved. @s is looked at by us, or its dev and pool are a copy. */
static bool read_reserved(const struct space *s, uint64_t *ret_bytes)
{
	cuuint64_t bytes = 0;
	CUresult r = s->pool ? AQ__CALL(cuMemPoolGetAttribute, s->pool,
					CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &bytes)
			     : AQ__CALL(cuDeviceGetGraphMemAttribute, s->dev,
					CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &bytes);

	*ret_bytes = bytes;
	return r == CUDA_SUCCESS;
}

/* Bytes that the driver could give out of what it has reserved. */
static uint64_t read_room(const struct space *s)
{
	cuuint64_t used = 0, reserved;
	CUresult r;

	if (!read_reserved(s, &reserved))
		return 0;
	r = s->pool ? AQ__CALL(cuMemPoolGetAttribute, s->pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
			       &used)
		    : AQ__CALL(cuDeviceGetGraphMemAttribute, s->dev,
			       CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used);
	return r == CUDA_SUCCESS && used < reserved ? reserved - used : 0;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
	uint64_t sum;

	return __builtin_add_overflow(n, to - 1, &sum) ? UINT64_MAX : sum / to * to;
}

static uint32_t grains_of(uint64_t bytes)
{
	uint32_t grains;

	return aq_grains(bytes, &grains) ? grains : UINT32_MAX;
}

/* Lock held. */
static void begin(struct space *s, const struct aq__space_call *c)
{
	s->calls++;
	s->changes++;
	s->asked += c->bytes;
	s->pending += c->grains;
	s->unreserved += !c->grains;
}

/*
 * Begin without a reservation, if the space has room for this call and all that are under way: any
 * of them may take it. Calls that begin later reserve, and leave what they do not need as `spare`.
 */
static bool begin_in_room(struct space *s, const struct aq__space_call *c)
{
	uint32_t changes;
	uint64_t room, asked;
	bool fits;

	aq__lock(&s->lock);
	changes = s->changes;
	asked = s->asked;
	aq__unlock(&s->lock);
	room = read_room(s);
	if (__builtin_add_overflow(asked, c->bytes, &asked) || room < asked)
		return false;
	aq__lock(&s->lock);
	fits = s->changes == changes;
	if (fits)
		begin(s, c);
	aq__unlock(&s->lock);
	return fits;
}

static uint64_t worst_growth(struct space *s, uint64_t bytes, bool *ret_guess)
{
	uint64_t worst;

	aq__lock(&s->lock);
	worst = round_up(bytes, s->sizes ? s->sizes & -s->sizes : FIRST_STEP_BYTES);
	if (worst < s->growth)
		worst = s->growth;
	*ret_guess = !s->growth;
	aq__unlock(&s->lock);
	return worst;
}

CUresult aq__space_begin(aq__space_id id, uint64_t bytes, const char *api, struct aq__space_call *c)
{
	struct space *s = &spaces[id];
	uint64_t worst, least = round_up(bytes, LEAST_STEP_BYTES), limit;
	CUresult r;
	bool guess;

	*c = (struct aq__space_call){.bytes = bytes};
	if (!id || s->index == AQ__UNBOUND)
		return CUDA_SUCCESS;
	if (s->index == AQ__ABSENT)
		return CUDA_ERROR_OUT_OF_MEMORY;

	/* Cheapest first: what is granted; what the space has; more, kindly guessed if need be. */
	worst = worst_growth(s, bytes, &guess);
	if (worst <= AQ_GRANT_MAX_BYTES && aq__reserve_now(s->index, grains_of(worst))) {
		c->grains = grains_of(worst);
	} else if (begin_in_room(s, c)) {
		return CUDA_SUCCESS;
	} else {
		if (guess && aq__free_bytes(s->index, &limit) < worst)
			worst = least;
		r = aq__reserve_for(s->index, worst, bytes, api, &c->grains);
		if (r != CUDA_SUCCESS && guess && worst > least) /* others were faster */
			r = aq__reserve_for(s->index, least, bytes, api, &c->grains);
		if (r != CUDA_SUCCESS)
			return r;
	}
	aq__lock(&s->lock);
	begin(s, c);
	aq__unlock(&s->lock);
	return CUDA_SUCCESS;
}

/* Lock held, left: one call less, @grains of its reservation left over. */
static void end(struct space *s, const struct aq__space_call *c, uint32_t grains)
{
	s->calls--;
	s->asked -= c->bytes;
	s->pending -= grains;
	s->unreserved -= !c->grains;
	if (s->unreserved) {
		s->spare += grains;
		grains = 0;
	} else {
		grains += s->spare;
		s->spare = 0;
	}
	aq__unlock(&s->lock);
	aq__release(s->index, grains);
}

void aq__space_abort(aq__space_id id, const struct aq__space_call *c)
{
	struct space *s = &spaces[id];

	if (!id || s->index < 0)
		return;
	aq__lock(&s->lock);
	end(s, c, c->grains);
}

/* Lock held: what the steps of this space are like. */
static void learn(struct space *s, uint64_t reserved)
{
	uint64_t charged = aq_grain_bytes(s->charged);
	uint64_t growth = reserved > charged ? reserved - charged : 0;

	s->sizes |= reserved;
	if (s->calls == 1 && growth && (!s->growth || growth < s->growth))
		s->growth = growth;
}

/*
 * Lock held. Charge up to @now out of *left and the spare. Return: grains that are lacking even
 * when all other calls under way give theirs.
 */
static uint32_t charge(struct space *s, uint32_t now, uint32_t *left)
{
	uint32_t need = now > s->charged ? now - s->charged : 0;
	uint32_t mine = need < *left ? need : *left, others;

	s->charged += mine;
	s->pending -= mine;
	*left -= mine;
	need -= mine;
	mine = need < s->spare ? need : s->spare;
	s->charged += mine;
	s->spare -= mine;
	need -= mine;
	others = s->pending - *left;
	return need > others ? need - others : 0;
}

CUresult aq__space_settle(aq__space_id id, const struct aq__space_call *c, const char *api)
{
	struct space *s = &spaces[id];
	uint32_t left = c->grains;
	bool refused = false;

	if (!id || s->index < 0)
		return CUDA_SUCCESS;
	for (int tries = 0; tries < SETTLE_TRIES; tries++) {
		uint32_t lacking, extra;
		uint64_t reserved;
		bool told = read_reserved(s, &reserved);

		aq__lock(&s->lock);
		if (told)
			learn(s, reserved);
		lacking = charge(s, told ? grains_of(reserved) : s->charged + left, &left);
		if (!lacking) {
			end(s, c, left);
			return CUDA_SUCCESS;
		}
		aq__unlock(&s->lock);

		if (refused)
			break;
		if (aq__reserve(s->index, aq_grain_bytes(lacking), api, &extra) != CUDA_SUCCESS) {
			refused = true; /* but that trimmed the pools: look once more */
			continue;
		}
		aq__lock(&s->lock);
		s->pending += extra;
		aq__unlock(&s->lock);
		left += extra;
	}
	aq__lock(&s->lock);
	end(s, c, left);
	aq__pools_mark_dirty();
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/* ---- looking again ---- */

bool aq__pools_any(void)
{
	return __atomic_load_n(&spaces_end, __ATOMIC_RELAXED) > 1;
}

void aq__pools_mark_dirty(void)
{
	if (aq__pools_any())
		__atomic_store_n(&aq__pools_dirty, 1, __ATOMIC_RELEASE);
}

/* Look at a live space from outside the lock; pair with look_end(). */
static bool look_begin(struct space *s)
{
	bool live;

	aq__lock(&s->lock);
	live = s->state == LIVE && s->index >= 0;
	if (live)
		s->lookers++;
	aq__unlock(&s->lock);
	return live;
}

static void look_end(struct space *s)
{
	aq__lock(&s->lock);
	s->lookers--;
	aq__unlock(&s->lock);
}

/* Charge what the driver has reserved now, as far as there is room. Return: grains released. */
static uint32_t look_again(struct space *s)
{
	uint32_t changes, now, surplus = 0;
	uint64_t reserved;

	aq__lock(&s->lock);
	changes = s->changes;
	aq__unlock(&s->lock);
	if (!read_reserved(s, &reserved))
		return 0;
	now = grains_of(reserved);

	aq__lock(&s->lock);
	/* A call that ran meanwhile may have made it grow after we read. */
	if (!s->calls && s->changes == changes) {
		if (now < s->charged) {
			surplus = s->charged - now;
			s->charged = now;
			s->changes++;
		} else if (now > s->charged && aq__reserve_now(s->index, now - s->charged)) {
			s->charged = now;
		} else if (now > s->charged) {
			aq__pools_mark_dirty();
		}
	}
	aq__unlock(&s->lock);
	aq__release(s->index, surplus);
	return surplus;
}

void aq__pools_refresh(void)
{
	uint32_t end_id = __atomic_load_n(&spaces_end, __ATOMIC_ACQUIRE);

	__atomic_store_n(&aq__pools_dirty, 0, __ATOMIC_RELEASE);
	for (uint32_t i = 1; i < end_id; i++) {
		struct space *s = &spaces[i];

		if (look_begin(s)) {
			look_again(s);
			look_end(s);
		}
	}
}

bool aq__pools_squeeze(void)
{
	uint32_t end_id = __atomic_load_n(&spaces_end, __ATOMIC_ACQUIRE);
	uint64_t released = 0;

	for (uint32_t i = 1; i < end_id; i++) {
		struct space *s = &spaces[i];
		CUstreamCaptureMode mode;

		if (!look_begin(s))
			continue;
		mode = aq__relax_begin();
		if (s->pool) {
			(void)AQ__CALL(cuMemPoolTrimTo, s->pool, 0);
		} else {
			(void)AQ__CALL(cuDeviceGraphMemTrim, s->dev);
			__atomic_fetch_add(&aq__graph_trims, 1, __ATOMIC_RELAXED);
		}
		aq__relax_end(mode);
		released += look_again(s);
		look_end(s);
	}
	return released != 0;
}

/* ---- pointers, and the end ---- */

/* Lock held, left: with its last pointer a destroyed pool's memory is gone. */
static void unlock_or_end(struct space *s)
{
	uint32_t grains = 0;
	int index = s->index;

	if (s->state == LEFT && !s->pointers) {
		grains = s->charged;
		s->charged = 0;
		s->state = UNUSED;
	}
	aq__unlock(&s->lock);
	aq__release(index, grains);
}

void aq__space_pointer(aq__space_id id, int change)
{
	struct space *s = &spaces[id];

	if (!id)
		return;
	aq__lock(&s->lock);
	s->pointers += (uint32_t)change;
	unlock_or_end(s);
	if (change < 0)
		aq__pools_mark_dirty();
}

void aq__pointer_lost(const struct aq__item *item)
{
	if (item->kind == AQ__STREAM_ORDERED)
		aq__space_pointer((aq__space_id)item->link, -1);
	else
		aq__release(item->index,
			    item->grains +
				    (item->bytes ? aq__blocks_leave(item->key, item->bytes) : 0));
}

void aq__space_leave(aq__space_id id)
{
	struct space *s = &spaces[id];
	uint32_t lookers;

	if (!id)
		return;
	do {
		aq__lock(&s->lock);
		s->state = LEAVING;
		lookers = s->lookers;
		aq__unlock(&s->lock);
		if (lookers)
			sched_yield(); /* they ask for an attribute, or trim: they come back */
	} while (lookers);
}

void aq__space_left(aq__space_id id, bool gone)
{
	struct space *s = &spaces[id];

	if (!id)
		return;
	aq__lock(&s->lock);
	s->state = gone ? LEFT : LIVE;
	unlock_or_end(s);
}

void aq__pools_forked(void)
{
	memset(spaces, 0, sizeof(spaces[0]) * spaces_end);
	aq__lock_reset(&spaces_lock);
	spaces_end = 1;
	aq__pools_dirty = 0;
}
