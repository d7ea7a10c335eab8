/* SPDX-License-Identifier: Apache-2.0 */
/* The order of taking back: each step of it by example, and what must hold of every plan. */
#include "cm.h"

#include <stdlib.h>
#include <string.h>

#include "base/timing.h"
#include "core/reclaim.h"

#define GIB (1ull << 30)
#define S AQ_NS_PER_S
#define MAX 12

/* One that uses @used of which @request is guaranteed, all of it movable. */
static struct aq_reclaim_candidate make(uint64_t used, uint64_t request, uint64_t idle_ns)
{
	return (struct aq_reclaim_candidate){
		.committed_bytes = used > request ? used : request,
		.settled_bytes = used > request ? used : request,
		.used_bytes = used,
		.request_bytes = request,
		.movable_bytes = used,
		.parkable = true,
		.asked_ns = AQ_RECLAIM_NEVER,
		.idle_ns = idle_ns,
		.resident_ns = 1000 * S,
		.move_ns = 2 * S,
		.priority = 1,
	};
}

static struct aq_reclaim_plan plan(struct aq_reclaim_need need,
				   const struct aq_reclaim_candidate *c, uint32_t count,
				   struct aq_reclaim_step *steps)
{
	return aq_reclaim_plan(&aq_reclaim_defaults, &need, c, count, steps);
}

#define BURST(bytes)                                                                               \
	(struct aq_reclaim_need)                                                                   \
	{                                                                                          \
		.short_bytes = (bytes), .priority = 1                                              \
	}
#define ENTITLED(bytes)                                                                            \
	(struct aq_reclaim_need)                                                                   \
	{                                                                                          \
		.short_bytes = (bytes), .entitled = true, .priority = 1                            \
	}

static void test_reclaim__unused_grants_then_parked_room(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(0, 8 * GIB, 50 * S), make(4 * GIB, 0, 50 * S),
					   make(4 * GIB, 0, 50 * S)};
	struct aq_reclaim_plan p;

	c[0].place = AQ_RECLAIM_AWAY;
	c[1].committed_bytes += GIB;
	p = plan(BURST(GIB), c, 3, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 1);
	assert_int_equal(s[0].kind, AQ_RECLAIM_REVOKE);
	p = plan(BURST(2 * GIB), c, 3, s);
	assert_int_equal(p.count, 2);
	assert_int_equal(s[1].kind, AQ_RECLAIM_LEND);
	assert_int_equal(s[1].candidate, 0);
	p = plan(BURST(10 * GIB), c, 3, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 3);
	assert_int_equal(s[2].kind, AQ_RECLAIM_PARK);
	assert_int_equal(plan(BURST(0), c, 3, s).answer, AQ_RECLAIM_NOTHING);
}

static void test_reclaim__longest_idle_lowest_priority_furthest_over(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, 0, 3 * S), make(4 * GIB, 0, 300 * S),
					   make(6 * GIB, 0, 310 * S), make(4 * GIB, 0, 290 * S)};
	struct aq_reclaim_plan p;

	c[3].priority = 0;
	p = plan(BURST(18 * GIB), c, 4, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 4);
	assert_int_equal(s[0].candidate, 3); /* about as long, and of low priority */
	assert_int_equal(s[1].candidate, 2);
	assert_int_equal(s[2].candidate, 1);
	assert_int_equal(s[3].candidate, 0);
}

static void test_reclaim__within_its_request_nobody_is_touched(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(8 * GIB, 8 * GIB, 5000 * S)};
	struct aq_reclaim_policy may_kill = aq_reclaim_defaults;
	struct aq_reclaim_need need = ENTITLED(GIB);
	struct aq_reclaim_plan p;

	may_kill.may_kill = true;
	p = aq_reclaim_plan(&may_kill, &need, c, 1, s);
	assert_int_equal(p.answer, AQ_RECLAIM_REFUSE);
	assert_int_equal(p.count, 0);
}

static void test_reclaim__asked_to_shrink_before_a_busy_one_moves(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, GIB, 0), make(4 * GIB, GIB, 0)};
	struct aq_reclaim_plan p;

	c[1].hears = true;
	p = plan(BURST(2 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.again_ns, aq_reclaim_defaults.shrink_ns);
	assert_int_equal(p.count, 1);
	assert_int_equal(s[0].kind, AQ_RECLAIM_SHRINK);
	assert_int_equal(s[0].candidate, 1);
	assert_int_equal(s[0].bytes, 2 * GIB);
	c[1].asked_ns = S; /* has its time */
	p = plan(BURST(2 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.count, 0);
	c[1].asked_ns = 3 * S; /* did not */
	p = plan(BURST(2 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(s[0].kind, AQ_RECLAIM_PARK);
	assert_true(s[0].busy);
}

static void test_reclaim__residence_holds_against_bursts_not_against_requests(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, 0, 0), make(4 * GIB, 0, 0)};
	struct aq_reclaim_plan p;

	c[0].resident_ns = 5 * S; /* of 8: four times what it takes to move it */
	c[1].resident_ns = 2 * S;
	p = plan(BURST(GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.count, 0);
	assert_int_equal(p.again_ns, 3 * S);
	c[0].idle_ns = 4 * S; /* without work it keeps nobody waiting */
	assert_int_equal(plan(BURST(GIB), c, 2, s).answer, AQ_RECLAIM_DO);
	c[0].idle_ns = 0;
	c[0].resident_ns = 8 * S;
	assert_int_equal(plan(BURST(GIB), c, 2, s).answer, AQ_RECLAIM_DO);
	/* The other cannot go yet: nor does this one, in vain. */
	p = plan(BURST(5 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
	assert_int_equal(p.count, 0);
	p = plan(ENTITLED(5 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 2);
	/* Nobody's burst sends a busy one of a higher priority away. */
	c[0] = make(4 * GIB, 0, 0);
	c[0].priority = 2;
	assert_int_equal(plan(BURST(GIB), c, 1, s).answer, AQ_RECLAIM_REFUSE);
	c[0].idle_ns = 2 * S;
	assert_int_equal(plan(BURST(GIB), c, 1, s).answer, AQ_RECLAIM_DO);
}

static void test_reclaim__what_is_under_way_is_waited_for(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(4 * GIB, 0, 9 * S), make(4 * GIB, 0, 9 * S)};
	struct aq_reclaim_plan p;

	c[0].place = AQ_RECLAIM_LEAVING;
	p = plan(BURST(3 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_DO);
	assert_int_equal(p.count, 0);
	c[1].place = AQ_RECLAIM_COMING;
	p = plan(BURST(5 * GIB), c, 2, s);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT); /* until it is there, and has had its turn */
	assert_int_equal(p.count, 0);
	assert_int_equal(plan(ENTITLED(5 * GIB), c, 2, s).answer, AQ_RECLAIM_WAIT);
	assert_int_equal(plan(BURST(9 * GIB), c, 2, s).answer, AQ_RECLAIM_REFUSE);
}

static void test_reclaim__a_kill_is_the_last_resort_of_a_guarantee(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(2 * GIB, GIB, 0), make(4 * GIB, GIB, 0)};
	struct aq_reclaim_policy may = aq_reclaim_defaults;
	struct aq_reclaim_need burst = BURST(GIB), entitled = ENTITLED(GIB);
	struct aq_reclaim_plan p;

	c[0].movable_bytes = c[1].movable_bytes = 0;
	assert_int_equal(plan(entitled, c, 2, s).answer, AQ_RECLAIM_REFUSE);
	assert_int_equal(plan(entitled, c, 2, s).count, 0);
	may.may_kill = true;
	assert_int_equal(aq_reclaim_plan(&may, &burst, c, 2, s).count, 0);
	p = aq_reclaim_plan(&may, &entitled, c, 2, s);
	assert_int_equal(p.count, 1);
	assert_int_equal(s[0].kind, AQ_RECLAIM_KILL);
	assert_int_equal(s[0].candidate, 1);
	/* As long as anything else may help, nobody is ended. */
	c[0].hears = true;
	p = aq_reclaim_plan(&may, &entitled, c, 2, s);
	assert_int_equal(s[0].kind, AQ_RECLAIM_SHRINK);
	assert_int_equal(p.answer, AQ_RECLAIM_WAIT);
}

static void test_reclaim__what_is_lent_is_for_what_can_leave(void **state)
{
	struct aq_reclaim_step s[2 * MAX];
	struct aq_reclaim_candidate c[] = {make(0, 8 * GIB, 50 * S), make(6 * GIB, 4 * GIB, 50 * S)};
	struct aq_reclaim_need fixed = BURST(2 * GIB);

	c[0].place = AQ_RECLAIM_AWAY;
	assert_int_equal(plan(fixed, c, 2, s).answer, AQ_RECLAIM_DO);
	assert_int_equal(s[0].kind, AQ_RECLAIM_LEND);
	fixed.fixed = true;
	assert_int_equal(plan(fixed, c, 2, s).answer, AQ_RECLAIM_DO);
	assert_int_equal(s[0].kind, AQ_RECLAIM_PARK);
	assert_int_equal(s[0].bytes, 2 * GIB); /* the rest of it is requested */
	fixed.short_bytes++;
	assert_int_equal(plan(fixed, c, 2, s).answer, AQ_RECLAIM_REFUSE);
	assert_int_equal(aq_reclaim_possible(&aq_reclaim_defaults, &fixed, c, 2), 2 * GIB);
}

static uint64_t seed = 20261122;

static uint64_t below(uint64_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % n;
}

static struct aq_reclaim_candidate random_candidate(void)
{
	struct aq_reclaim_candidate c =
		make(below(16) * GIB, below(2) * below(16) * GIB, below(3) ? below(40) * S : 0);

	c.place = below(3) ? AQ_RECLAIM_HERE : (enum aq_reclaim_place)below(4);
	c.movable_bytes = below(3) ? c.used_bytes : c.used_bytes / (1 + below(4));
	c.committed_bytes += below(4) ? 0 : GIB;
	c.parkable = below(6) != 0;
	c.hears = below(5) == 0;
	c.asked_ns = below(2) ? AQ_RECLAIM_NEVER : below(4) * S;
	c.resident_ns = below(30) * S;
	c.move_ns = below(4) * S;
	c.priority = (uint32_t)below(3);
	return c;
}

/* What must hold of any plan. */
static void check(const struct aq_reclaim_policy *policy, const struct aq_reclaim_need *need,
		  const struct aq_reclaim_candidate *c, uint32_t count,
		  const struct aq_reclaim_plan *p, const struct aq_reclaim_step *s)
{
	uint64_t room = 0;
	uint32_t last = AQ_RECLAIM_REVOKE, parks = 0;
	bool busy = false;

	assert_true(p->count <= 2 * count);
	for (uint32_t i = 0; i < p->count; i++) {
		const struct aq_reclaim_candidate *v = &c[s[i].candidate];

		assert_true(s[i].candidate < count && s[i].bytes > 0);
		if (s[i].kind == AQ_RECLAIM_PARK) {
			assert_true(v->used_bytes > v->request_bytes);
			assert_true(v->place == AQ_RECLAIM_HERE && v->parkable);
			assert_true(need->entitled || !s[i].busy ||
				    v->resident_ns >= policy->residence_factor * v->move_ns);
			assert_true(need->entitled || !s[i].busy || v->priority <= need->priority);
			assert_true(!busy || s[i].busy); /* idle ones first */
			busy = busy || s[i].busy;
			parks++;
		} else {
			assert_true(s[i].kind >= last);
			assert_true(s[i].kind != AQ_RECLAIM_LEND || !need->fixed);
			last = s[i].kind;
		}
		if (s[i].kind == AQ_RECLAIM_SHRINK)
			assert_true(v->hears && v->used_bytes - v->request_bytes >= s[i].bytes);
		if (s[i].kind == AQ_RECLAIM_KILL)
			assert_true(need->entitled && policy->may_kill && !parks &&
				    v->used_bytes > v->request_bytes);
		for (uint32_t j = 0; j < i; j++)
			assert_true(s[j].candidate != s[i].candidate || s[j].kind != s[i].kind);
		if (s[i].kind != AQ_RECLAIM_SHRINK && s[i].kind != AQ_RECLAIM_KILL)
			room += s[i].bytes;
	}
	for (uint32_t i = 0; i < count; i++)
		if (c[i].place == AQ_RECLAIM_LEAVING) {
			uint64_t stays = c[i].used_bytes - c[i].movable_bytes;

			if (need->fixed && stays < c[i].request_bytes)
				stays = c[i].request_bytes;
			room += c[i].settled_bytes - stays;
		}
	if (p->answer == AQ_RECLAIM_DO)
		assert_true(room >= need->short_bytes);
	if (p->answer == AQ_RECLAIM_REFUSE) {
		assert_int_equal(parks, 0);
		assert_true(aq_reclaim_possible(policy, need, c, count) < need->short_bytes);
	}
	if (parks && p->answer == AQ_RECLAIM_DO) /* nobody too many */
		assert_true(room - s[p->count - 1].bytes < need->short_bytes);
}

static void test_reclaim__whatever_the_device_holds(void **state)
{
	struct aq_reclaim_candidate c[MAX];
	struct aq_reclaim_step s[2 * MAX];
	uint32_t answers[AQ_RECLAIM_REFUSE + 1] = {0};

	for (int run = 0; run < 200000; run++) {
		struct aq_reclaim_policy policy = aq_reclaim_defaults;
		struct aq_reclaim_need need = {.short_bytes = below(60) * GIB,
					       .entitled = below(2),
					       .fixed = below(3) == 0,
					       .priority = (uint32_t)below(3)};
		uint32_t count = (uint32_t)below(MAX + 1);
		struct aq_reclaim_plan p;

		policy.may_kill = below(2);
		for (uint32_t i = 0; i < count; i++)
			c[i] = random_candidate();
		p = aq_reclaim_plan(&policy, &need, c, count, s);
		check(&policy, &need, c, count, &p, s);
		answers[p.answer]++;
	}
	for (uint32_t i = 0; i <= AQ_RECLAIM_REFUSE; i++)
		assert_true(answers[i] > 1000); /* each kind was met */
}

/* Any number of fractions that always want the same memory: how much of the time is moving? */
static void test_reclaim__two_never_thrash(void **state)
{
	for (uint64_t move_ns = AQ_NS_PER_MS; move_ns <= 10 * S; move_ns *= 7) {
		uint64_t now = 0, moving = 0, moves = 0, came = 0;
		struct aq_reclaim_step s[2];

		while (now < 1000 * move_ns) {
			struct aq_reclaim_candidate here = make(10 * GIB, 0, 0);
			struct aq_reclaim_plan p;

			here.move_ns = move_ns;
			here.resident_ns = now - came;
			p = plan(BURST(10 * GIB), &here, 1, s);
			if (p.answer == AQ_RECLAIM_WAIT) {
				now += p.again_ns;
				continue;
			}
			assert_int_equal(p.answer, AQ_RECLAIM_DO);
			now += move_ns; /* one out and the other in */
			moving += move_ns;
			came = now;
			moves++;
		}
		assert_true(moves > 100); /* and everybody has turns */
		assert_true(moving * (1 + aq_reclaim_defaults.residence_factor) <= now + move_ns);
	}
}

/* ---- a device in virtual time, with more demand than memory ---- */

#define CROWD 10

struct tenant {
	uint64_t bytes;
	enum aq_reclaim_place place;
	uint64_t here_since_ns, arrives_ns, asked_ns;
	uint64_t last_move_ns; /* out and in: what the residence is made of */
	bool busy;
	uint64_t changes_ns; /* its work begins, or ends */
	/* Account, while it has work. */
	uint64_t moving_ns, staying_ns, turns, longest_wait_ns;
};

struct crowd {
	struct tenant t[CROWD];
	uint32_t count;
	uint64_t now, total_bytes, bytes_per_ms;
	bool always; /* everybody has work all the time */
};

/* No two moves take the same time: drains and a busy host come on top. */
static uint64_t move_takes(const struct crowd *w, const struct tenant *t)
{
	uint64_t ns = t->bytes / w->bytes_per_ms * AQ_NS_PER_MS;

	return ns + below(ns / 2 + AQ_NS_PER_MS);
}

static uint64_t taken(const struct crowd *w)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < w->count; i++)
		sum += w->t[i].place == AQ_RECLAIM_AWAY ? 0 : w->t[i].bytes;
	return sum;
}

static uint32_t look_at_others(const struct crowd *w, const struct tenant *but,
			       struct aq_reclaim_candidate *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->count; i++) {
		const struct tenant *t = &w->t[i];

		if (t == but || t->place == AQ_RECLAIM_AWAY)
			continue;
		c[n] = make(t->bytes, 0, t->busy ? 0 : 5 * S);
		c[n].owner = (void *)(uintptr_t)t;
		c[n].place = t->place;
		c[n].resident_ns = w->now - t->here_since_ns;
		c[n++].move_ns = t->last_move_ns;
	}
	return n;
}

static void leave(struct crowd *w, struct tenant *t)
{
	uint64_t ns = move_takes(w, t);

	if (t->busy) {
		t->staying_ns += w->now - t->here_since_ns;
		t->moving_ns += t->last_move_ns / 2 + ns; /* how it came, and how it goes */
	}
	t->place = AQ_RECLAIM_LEAVING;
	t->arrives_ns = w->now + ns;
	t->last_move_ns = ns;
}

static void come(struct crowd *w, struct tenant *t)
{
	uint64_t ns = move_takes(w, t), waited = w->now - t->asked_ns;

	t->place = AQ_RECLAIM_COMING;
	t->arrives_ns = w->now + ns;
	t->last_move_ns += ns;
	t->turns++;
	t->longest_wait_ns = waited > t->longest_wait_ns ? waited : t->longest_wait_ns;
}

/* The one that has waited longest; the others stay behind it, as in the daemon. */
static void serve_first(struct crowd *w)
{
	struct aq_reclaim_candidate c[CROWD];
	struct aq_reclaim_step s[2 * CROWD];
	struct aq_reclaim_plan p;
	struct tenant *first = NULL;
	uint64_t lacks;

	for (uint32_t i = 0; i < w->count; i++)
		if (w->t[i].place == AQ_RECLAIM_AWAY && w->t[i].busy &&
		    (!first || w->t[i].asked_ns < first->asked_ns))
			first = &w->t[i];
	if (!first)
		return;
	lacks = taken(w) + first->bytes > w->total_bytes
			? taken(w) + first->bytes - w->total_bytes
			: 0;
	if (!lacks) {
		come(w, first);
		return;
	}
	p = plan(BURST(lacks), c, look_at_others(w, first, c), s);
	assert_int_not_equal(p.answer, AQ_RECLAIM_REFUSE);
	for (uint32_t i = 0; i < p.count; i++)
		if (s[i].kind == AQ_RECLAIM_PARK)
			leave(w, c[s[i].candidate].owner);
}

static void step_time(struct crowd *w)
{
	w->now += AQ_NS_PER_MS * 5;
	for (uint32_t i = 0; i < w->count; i++) {
		struct tenant *t = &w->t[i];

		if (t->place == AQ_RECLAIM_LEAVING && w->now >= t->arrives_ns) {
			t->place = AQ_RECLAIM_AWAY;
			t->asked_ns = w->now;
		} else if (t->place == AQ_RECLAIM_COMING && w->now >= t->arrives_ns) {
			t->place = AQ_RECLAIM_HERE;
			t->here_since_ns = w->now;
		}
		if (w->always || w->now < t->changes_ns)
			continue;
		t->changes_ns = w->now + below(20000) * AQ_NS_PER_MS;
		t->busy = !t->busy;
		t->asked_ns = w->now;
	}
	serve_first(w);
}

static void fill(struct crowd *w, uint64_t bytes_per_ms, bool always)
{
	*w = (struct crowd){
		.count = 2 + (uint32_t)below(CROWD - 1),
		.total_bytes = 16 * GIB,
		.bytes_per_ms = bytes_per_ms,
		.always = always,
		.now = 1,
	};
	for (uint32_t i = 0; i < w->count; i++)
		w->t[i] = (struct tenant){
			.bytes = 9 * GIB + below(7 * GIB), /* no two of them fit */
			.place = AQ_RECLAIM_AWAY,
			.busy = true,
		};
	for (uint32_t i = 0; i < w->count && below(2); i++)
		w->t[i].bytes /= 3; /* or some do, beside one another */
	for (uint32_t i = 0; i < w->count; i++)
		w->t[i].last_move_ns = move_takes(w, &w->t[i]);
}

/*
 * However many want it, however large they are, whatever the link makes of it, and whether they
 * pause or not: of the time from arriving to having left, those that are sent away from their work
 * lose no more than one part in 1 + residence_factor to moving, give or take how much one move
 * differs from the one before; and everybody has turns.
 */
static void test_reclaim__any_demand_moves_a_bounded_part_of_the_time(void **state)
{
	const uint64_t factor = aq_reclaim_defaults.residence_factor;
	uint64_t evictions = 0, worst_permille = 0;

	for (int run = 0; run < 30; run++) {
		struct crowd w;

		fill(&w, (1 + below(50)) << 20, run % 2);
		while (w.now < 1000 * S)
			step_time(&w);
		for (uint32_t i = 0; i < w.count; i++) {
			struct tenant *t = &w.t[i];
			uint64_t all = t->moving_ns + t->staying_ns;

			assert_true(t->turns > 0);
			if (!all)
				continue;
			evictions++;
			if (t->moving_ns * 1000 / all > worst_permille)
				worst_permille = t->moving_ns * 1000 / all;
		}
	}
	assert_true(evictions > 60);
	/* Half as much again, as move_takes() may differ; far below a third. */
	assert_in_range(worst_permille, 1000 / (1 + factor) / 2, 1000 * 3 / 2 / (1 + factor));
}

static void test_reclaim__thrash_is_told_once_an_episode(void **state)
{
	struct aq_reclaim_episode e = {0};
	uint64_t now = 12345 * S;

	/* Turns of half a minute, for an hour: one episode. */
	assert_true(aq_reclaim_thrashes(&e, now, 30 * S));
	for (int turn = 0; turn < 120; turn++)
		assert_false(aq_reclaim_thrashes(&e, now += 30 * S, 30 * S));
	/* Turns so long that a minute passes between any two. */
	for (int turn = 0; turn < 20; turn++)
		assert_false(aq_reclaim_thrashes(&e, now += turn ? 300 * S : 60 * S, 300 * S));
	/* Calm, and then again. */
	now += 661 * S;
	assert_true(aq_reclaim_thrashes(&e, now, S));
	assert_false(aq_reclaim_thrashes(&e, now + S, S));
	assert_true(aq_reclaim_thrashes(&e, now + 64 * S, S));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim__unused_grants_then_parked_room),
		cmocka_unit_test(test_reclaim__longest_idle_lowest_priority_furthest_over),
		cmocka_unit_test(test_reclaim__within_its_request_nobody_is_touched),
		cmocka_unit_test(test_reclaim__asked_to_shrink_before_a_busy_one_moves),
		cmocka_unit_test(test_reclaim__residence_holds_against_bursts_not_against_requests),
		cmocka_unit_test(test_reclaim__what_is_under_way_is_waited_for),
		cmocka_unit_test(test_reclaim__a_kill_is_the_last_resort_of_a_guarantee),
		cmocka_unit_test(test_reclaim__what_is_lent_is_for_what_can_leave),
		cmocka_unit_test(test_reclaim__whatever_the_device_holds),
		cmocka_unit_test(test_reclaim__two_never_thrash),
		cmocka_unit_test(test_reclaim__any_demand_moves_a_bounded_part_of_the_time),
		cmocka_unit_test(test_reclaim__thrash_is_told_once_an_episode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
