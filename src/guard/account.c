/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For how long the device worked for a context, out of the instants at which marks were reached,
 * and what commands take. Arithmetic only: no driver, no clock.
 *
 * A period ends with the mark behind which nothing is in flight; the next begins with a base of its
 * own, so what is between them is nobody's time, exactly. Work that is waited for in short steps is
 * not worth two events a step, and what the host sees of it is mostly its own time: there one step
 * in SAMPLE_STEPS or so is measured, at random, or a program that does this and that in turn could
 * be measured at this only; the rest counts as those did that took as long for the host. Pauses of
 * microseconds between launches that nobody waits for count as use: nobody else could have used
 * them.
 */
#include "base/number.h"
#include "base/timing.h"
#include "guard/flight_parts.h"
#include "guard/guest.h"

#define PERIOD_NS                                                                                  \
	(100 * AQ_NS_PER_MS) /* host and device clocks drift by some 50 ppm: 5 us in this */
#define FIRST_COMMAND_NS AQ_NS_PER_MS /* until the first mark is reached: a window full */
#define FIRST_GRAPH_NS AQ_NS_PER_MS   /* the same; a decoding step takes 5 to 20 ms */

/* A step that took so long is worth a base; so will be the next. */
#define LONG_STEP_NS (200 * AQ_NS_PER_US)

/* Two events cost 10 us, so of steps of 10 us, which take the host 20 us, a thirtieth is lost. */
#define SAMPLE_STEPS 16u
#define SAMPLES_KEPT 64.0 /* about; a program changes its mind within so many */

/* A call that submits takes 2 to 5 us; one that takes longer was interrupted, or began sooner. */
#define MOST_CALL_NS (20 * AQ_NS_PER_US)
#define CALLS_KEPT 64u

/* A kernel of 2 us is always done before its mark is recorded; then that has to do. */
#define MOST_FAILED 4u

/* Others may have had the device for a lease while what was foretold was still in flight. */
#define FORETOLD_NS (4 * AQ_NS_PER_MS)
#define SLACK_NS (5 * AQ_NS_PER_US) /* estimates are wrong by so much, and what is learned */

static unsigned int slot_of(const void *what)
{
	return (unsigned int)((uintptr_t)what >> 4) & (AQ__KNOWN - 1);
}

uint64_t aq__account_estimate(const struct aq__flight *f, const void *what, bool *ret_known)
{
	unsigned int slot = slot_of(what);

	if (what) {
		*ret_known = f->known[slot].what == what;
		return *ret_known ? f->known[slot].length.ns : FIRST_GRAPH_NS;
	}
	*ret_known = f->command.ns != 0;
	return *ret_known ? f->command.ns : FIRST_COMMAND_NS;
}

static uint64_t distance(uint64_t x, uint64_t y)
{
	return x > y ? x - y : y - x;
}

/* A quarter of what is new; all of it if it is as new as what came just before. */
static void learn_length(struct aq__length *l, uint64_t ns)
{
	bool again = l->last_ns && distance(ns, l->last_ns) <= ns / 8;

	if (!l->ns || (again && distance(ns, l->ns) > ns / 8))
		l->ns = ns + 1;
	else
		l->ns = (3 * l->ns + ns) / 4 + 1;
	l->last_ns = ns;
}

/* By how much most estimates are wrong: four in five, about. A single one that is far off, for
 * another had the device for a slice, must not make all after it look unforeseeable. */
static void learn_error(struct aq__flight *f, uint64_t error_ns)
{
	uint64_t old = f->error_ns, most = 2 * old + SLACK_NS;
	bool missed = old && error_ns > most;

	if (!old || (missed && f->missed))
		f->error_ns = error_ns + 1;
	else if (error_ns <= old)
		f->error_ns = old - (old - error_ns) / 6;
	else
		f->error_ns = missed ? most : error_ns;
	f->missed = missed;
}

/* Graphs keep what they were given, but for a guess. */
static void reestimate_mark(const struct aq__flight *f, struct aq__mark *m)
{
	bool known;
	uint64_t last = aq__account_estimate(f, m->what, &known);

	if (known && (!m->what || m->guessed)) {
		m->est_ns = (m->commands - 1) * f->command.ns + last;
		m->guessed = false;
	}
}

/* What is in flight is estimated anew, by what is known now. */
static void reestimate(struct aq__flight *f)
{
	uint64_t sum = 0;

	for (uint32_t i = f->first; i != f->last; i++) {
		struct aq__mark *m = &f->marks[i % AQ__MARKS];

		if (m->commands)
			reestimate_mark(f, m);
		sum += m->est_ns;
	}
	for (uint32_t i = 0; i < AQ__LANES; i++) {
		struct aq__lane *l = &f->lanes[i];

		if (l->commands)
			l->est_ns = l->commands * f->command.ns;
		sum += l->est_ns;
	}
	f->est_ns = sum;
}

static void learn(struct aq__flight *f, const struct aq__mark *m, uint64_t ns)
{
	unsigned int slot = slot_of(m->what);
	uint64_t others = (m->commands - 1) * f->command.ns;

	if (!m->guessed)
		learn_error(f, distance(ns, m->est_ns));
	if (!m->what) {
		learn_length(&f->command, ns / m->commands);
		return;
	}
	if (f->known[slot].what != m->what)
		f->known[slot].length = (struct aq__length){0};
	f->known[slot].what = m->what;
	learn_length(&f->known[slot].length, aq_minus(ns, others));
}

/* Source: Marsaglia, "Xorshift RNGs", 2003. */
static uint32_t draw(struct aq__account *a)
{
	uint32_t x = a->random ? a->random : 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	a->random = x;
	return x;
}

/* Is the step that begins to be measured whatever it is? */
static bool sample(struct aq__account *a, uint64_t now_ns)
{
	bool due = !a->open || !a->steps_left || a->took_ns >= LONG_STEP_NS ||
		   aq_minus(now_ns, aq__instant_ns(&a->at)) > PERIOD_NS;

	if (due)
		a->steps_left = 1 + draw(a) % (2 * SAMPLE_STEPS - 1);
	a->steps_left--;
	return due;
}

bool aq__account_start(struct aq__flight *f, uint64_t now_ns)
{
	struct aq__account *a = &f->account;

	if (f->commands)
		return false;
	a->sampled = !f->dying && sample(a, now_ns); /* or there were no base */
	if (a->sampled) {
		a->open = true;
		a->done_ns = a->gap_ns = 0;
	} else if (a->idle_ns && now_ns > a->idle_ns) {
		a->gap_ns += now_ns - a->idle_ns;
	}
	a->idle_ns = a->took_ns = 0;
	a->from_ns = now_ns;
	a->commands = 0;
	a->doubt_ns = 0;
	a->exact = a->marked = a->asked = a->brief = false;
	f->since_ns = now_ns;
	return a->sampled;
}

/*
 * When the device got what a call submitted that lasted from @from_ns to @to_ns: somewhere in it,
 * so half way is least wrong. In one that was interrupted it was so before or after that.
 */
static uint64_t submitted(struct aq__account *a, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t call_ns = aq_minus(to_ns, from_ns), usual;

	if (!a->call_ns || call_ns < a->call_ns)
		a->call_ns = call_ns;
	else
		a->call_ns += (call_ns - a->call_ns) / CALLS_KEPT;
	usual = aq_min(call_ns, 2 * a->call_ns);
	a->doubt_ns = call_ns - usual;
	return from_ns + usual / 2;
}

void aq__account_began(struct aq__flight *f, bool prompt, uint64_t from_ns, uint64_t now_ns)
{
	struct aq__account *a = &f->account;
	uint64_t at = prompt ? submitted(a, from_ns, now_ns) : now_ns;

	if (prompt)
		a->gap_ns += aq_minus(at, a->from_ns);
	/* Whoever waits behind others, as at the beginning of a lease, waits longer than others. */
	a->brief = a->sampled && prompt && now_ns - from_ns < MOST_CALL_NS;
	a->from_ns = at;
}

void aq__account_sampled(struct aq__flight *f, bool done)
{
	struct aq__account *a = &f->account;

	a->failed = done ? a->failed + 1 : 0;
	if (done && a->failed < MOST_FAILED) {
		a->brief = false;
		a->steps_left = 0;
	}
}

void aq__account_record(struct aq__flight *f, uint64_t now_ns)
{
	struct aq__account *a = &f->account;

	a->at_known = a->base_before && !a->late;
	a->at_before = a->at;
	a->late = false; /* nobody asks for it meanwhile */
	aq__instant_begin(&a->at, now_ns);
}

void aq__account_recorded(struct aq__flight *f, bool recorded, uint64_t from_ns, uint64_t to_ns)
{
	struct aq__account *a = &f->account;

	a->from_ns = from_ns + (to_ns - from_ns) / 2;
	a->recorded_ns = to_ns;
	a->late = recorded;
	if (!recorded)
		aq__instant_not_after(&a->at, to_ns);
	f->since_ns = aq__instant_ns(&a->at);
}

void aq__account_base_late(struct aq__flight *f, uint64_t now_ns)
{
	aq__instant_not_before(&f->account.at, now_ns);
	f->since_ns = now_ns;
}

/* The device worked off what had been submitted with the gate open, until the base was reached. */
static void base_is_reached(struct aq__account *a)
{
	a->late = false;
	if (!a->followed)
		a->busy_ns += aq_minus(aq__instant_ns(&a->at), a->recorded_ns);
	a->followed = true;
}

void aq__account_base(struct aq__flight *f, int64_t after_ns, uint64_t now_ns)
{
	struct aq__account *a = &f->account;

	aq__instant_not_after(&a->at, now_ns);
	if (a->at_known && after_ns >= 0)
		aq__instant_follows(&a->at, &a->at_before, (uint64_t)after_ns);
	base_is_reached(a);
	f->since_ns = aq__instant_ns(&a->at);
}

/* What a mark in doubt tells beyond the estimate, as far as the doubt goes, is not use. */
static uint64_t believable(const struct aq__flight *f, const struct aq__mark *m, uint64_t took_ns)
{
	uint64_t doubt = m->doubt_ns + f->account.doubt_ns, least = aq_minus(took_ns, doubt);

	if (!doubt || took_ns <= m->est_ns + 2 * f->error_ns + SLACK_NS)
		return took_ns;
	return least > m->est_ns ? least : m->est_ns;
}

void aq__account_reached(struct aq__flight *f, int64_t at_ns, uint64_t now_ns)
{
	const struct aq__mark *m = &f->marks[f->first % AQ__MARKS];
	struct aq__account *a = &f->account;
	uint64_t at = at_ns > 0 ? (uint64_t)at_ns : 0, took = 0, own;

	if (at)
		aq__instant_seen_after(&a->at, at, m->from_ns, now_ns);
	if (a->late && at)
		base_is_reached(a);
	f->commands -= m->commands < f->commands ? m->commands : f->commands;
	f->first++;
	if (at > a->done_ns) {
		took = at - a->done_ns;
		took -= m->gap_ns < took ? m->gap_ns : took;
		took = believable(f, m, took);
		a->doubt_ns = 0;
		a->done_ns = at;
		a->busy_ns += took;
		a->took_ns += took;
	}
	/* What else seemed to be in flight need not have been: it did not begin before it was
	 * there. */
	own = aq_minus(at + aq__instant_ns(&a->at), m->first_ns);
	if (took && own && m->commands)
		learn(f, m, aq_min(took, own));
	reestimate(f);
	f->since_ns = aq__instant_ns(&a->at) + a->done_ns;
	if (!f->commands) {
		a->idle_ns = f->since_ns;
		a->exact = true;
	}
}

/* What ran behind the last mark is counted up to here, by the host's clock. */
static void count_tail(struct aq__account *a, uint64_t host_ns)
{
	uint64_t at = aq_minus(host_ns, aq__instant_ns(&a->at));

	if (at <= a->done_ns)
		return;
	if (at - a->done_ns > a->gap_ns)
		a->busy_ns += at - a->done_ns - a->gap_ns;
	a->done_ns = at;
	a->gap_ns = 0;
}

void aq__account_idle(struct aq__flight *f, uint64_t host_ns)
{
	f->commands = 0;
	f->est_ns = 0;
	if (f->account.open && !f->account.idle_ns)
		f->account.idle_ns = host_ns;
}

static unsigned int span_of(uint64_t span_ns)
{
	unsigned int i = 0;

	while (i < AQ__SPANS - 1 && span_ns >> i >= 16 * AQ_NS_PER_US)
		i++;
	return i;
}

/* What a step took that the host saw for so long: as others of its like did, or where there are
 * none the next shorter ones, for it is rather the host that is late than the device. */
static uint64_t took_of(const struct aq__account *a, uint64_t span_ns)
{
	unsigned int i = span_of(span_ns);
	double ns;

	while (i && a->samples[i].n <= 0)
		i--;
	ns = a->samples[i].n > 0 ? a->samples[i].took_ns / a->samples[i].n : (double)span_ns;
	return ns < (double)span_ns ? (uint64_t)ns : span_ns;
}

void aq__account_told(struct aq__flight *f, uint64_t now_ns)
{
	struct aq__account *a = &f->account;
	struct aq__samples *s;

	if (f->commands || !a->exact || !a->brief || now_ns <= a->from_ns)
		return;
	a->brief = false; /* taken */
	s = &a->samples[span_of(now_ns - a->from_ns)];
	s->took_ns += (double)a->took_ns - s->took_ns / SAMPLES_KEPT;
	s->n += 1 - s->n / SAMPLES_KEPT;
}

void aq__account_waited(struct aq__flight *f, uint64_t host_ns)
{
	struct aq__account *a = &f->account;
	uint64_t span = host_ns > a->from_ns ? host_ns - a->from_ns : 0;

	aq__account_idle(f, host_ns);
	if (!a->open || a->marked || !a->from_ns)
		return;
	a->busy_ns += took_of(a, span);
	a->gap_ns += span;
	a->from_ns = 0; /* counted */
}

bool aq__account_regular(const struct aq__flight *f, uint64_t error_ns, uint64_t now_ns)
{
	uint64_t worked = now_ns > f->since_ns ? now_ns - f->since_ns : 0;

	if (!f->commands)
		return true;
	if (f->first == f->last || !f->error_ns || f->error_ns >= error_ns)
		return false;
	for (uint32_t i = f->first; i != f->last; i++) {
		if (f->marks[i % AQ__MARKS].guessed)
			return false;
	}
	return worked < f->marks[f->first % AQ__MARKS].est_ns + error_ns;
}

uint64_t aq__account_left(const struct aq__flight *f, uint64_t now_ns)
{
	uint64_t worked = now_ns > f->since_ns ? now_ns - f->since_ns : 0, first = f->est_ns;

	if (!f->commands)
		return 0;
	if (f->first != f->last)
		first = f->marks[f->first % AQ__MARKS].est_ns;
	if (worked > first)
		worked = first;
	return f->est_ns > worked ? f->est_ns - worked : 1;
}

uint64_t aq__account_harvest(struct aq__flight *f, bool foretell)
{
	struct aq__account *a = &f->account;
	uint64_t busy, told;

	if (a->open && a->idle_ns)
		count_tail(a, a->idle_ns);
	a->steps_left = 0; /* others may have the device next: when it turns to us, a base tells */
	for (uint32_t i = f->first; foretell && i != f->last; i++)
		f->marks[i % AQ__MARKS].doubt_ns = FORETOLD_NS;
	busy = a->busy_ns + (foretell && f->commands ? f->est_ns : 0);
	told = busy > a->foretold_ns ? busy - a->foretold_ns : 0;
	/* What was told beyond what is measured is owed. */
	a->foretold_ns = told + a->foretold_ns - a->busy_ns;
	a->busy_ns = 0;
	return told;
}
