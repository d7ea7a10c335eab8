/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends the requests of a run when they are due and writes down what came of them.
 * Percentiles and reports are made later, by others.
 */
#include "serve/load.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "serve/prompt.h"
#include "base/banned.h"

#define TICK_NS (50 * AQ_NS_PER_MS)      /* between two looks at limits and clocks */
#define PROGRESS_NS (AQ_NS_PER_S / 2)
#define BACKOFF_FIRST_NS (100 * AQ_NS_PER_MS)
#define BACKOFF_MOST_NS (2 * AQ_NS_PER_S) /* a dead server must not cost a core */
#define IN_FLIGHT_MOST 10000u             /* open loop; beyond, requests are not sent, and counted */

struct load;

/* What one of the users, or one of the places for arrivals, is doing. */
struct user {
	struct aq_exchange x;
	struct event timer;     /* begins the next request */
	struct load *load;
	struct lane *lane;
	uint32_t number;
	bool busy, waits;       /* a request is out; the timer runs */
	uint64_t backoff_ns;    /* after a failure; 0 the last one was good */
	uint64_t begun_ns;      /* of the request, on the monotonic clock; when it was due */
	struct aq_record record;
};

/* A target and its users. */
struct lane {
	struct load *load;
	const struct aq_target *target;
	struct aq_target_result *result;
	struct aq_prompt prompt;
	struct user **users;
	size_t user_count, user_room;
	uint64_t issued;
	struct event arrival;   /* open loop */
	struct aq_random gaps;
	uint64_t due_ns;
};

struct load {
	const struct aq_load_config *config;
	struct aq_load_result *result;
	struct aq_wire wire;
	struct event_base *base;
	struct event tick, interrupt, terminate;
	struct lane *lanes;
	size_t record_room;
	uint64_t begin_ns, window_begin_ns, window_end_ns; /* monotonic; UINT64_MAX not known yet */
	uint64_t drain_end_ns, next_progress_ns;
	uint64_t issued, issued_in_window, finished, failed, tokens;
	uint32_t in_flight;
	struct aq_hist *ttft;
	bool stopping;          /* nothing more is sent */
	int error;
};

static bool in_window(const struct load *l, uint64_t ns)
{
	return ns >= l->window_begin_ns && ns < l->window_end_ns;
}

/* Send nothing more; what is in flight may take until @drain_end_ns. */
static void stop(struct load *l, uint64_t drain_end_ns)
{
	if (l->stopping)
		return;
	l->stopping = true;
	l->drain_end_ns = drain_end_ns;
	if (!l->in_flight)
		event_base_loopbreak(l->base);
}

static int keep_record(struct load *l, const struct aq_record *record)
{
	struct aq_load_result *r = l->result;

	if (r->count == l->record_room) {
		size_t room = l->record_room ? l->record_room * 2 : 1024;
		void *more = reallocarray(r->records, room, sizeof(*r->records));

		if (!more)
			return -ENOMEM;
		r->records = more;
		l->record_room = room;
	}
	r->records[r->count++] = *record;
	return 0;
}

/* All that were asked for are out? Opens the window when the warm-up's requests are. */
static bool all_issued(struct load *l, uint64_t due_ns)
{
	const struct aq_load_config *c = l->config;

	if (l->window_begin_ns == UINT64_MAX && l->issued >= c->warmup_requests) {
		l->window_begin_ns = due_ns;
		if (c->duration_ns)
			l->window_end_ns = due_ns + c->duration_ns;
	}
	return c->requests && l->issued_in_window >= c->requests;
}

static void draw_lengths(const struct lane *lane, uint64_t number, struct aq_record *record,
			 uint64_t *ret_seed)
{
	const struct aq_load_config *c = lane->load->config;
	struct aq_random random;

	aq_random_seed(&random, c->seed, (uint64_t)(lane - lane->load->lanes) << 40 | number);
	if (c->lengths) {
		const uint32_t *pair = c->lengths->pair[aq_random_next(&random) % c->lengths->count];

		record->isl_asked = pair[0];
		record->osl_asked = pair[1];
	} else {
		record->isl_asked = aq_dist_draw(&lane->target->isl, &random);
		record->osl_asked = aq_dist_draw(&lane->target->osl, &random);
	}
	if (lane->target->api == AQ_SERVE_EMBEDDINGS)
		record->osl_asked = 1;
	if (c->stagger && lane->target->rate <= 0 && number < lane->target->plan[0].users)
		record->osl_asked = 1 + (uint32_t)(aq_random_unit(&random) *
						   (record->osl_asked - 1));
	*ret_seed = aq_random_next(&random);
}

/* Send the lane's next request; it was due at @due_ns. */
static void begin(struct user *u, uint64_t due_ns)
{
	struct lane *lane = u->lane;
	struct load *l = u->load;
	uint64_t now = aq_now_ns(), seed;
	size_t size = 0;
	char *text = NULL;

	if (all_issued(l, due_ns))
		stop(l, UINT64_MAX); /* each of them ends by its own limits */
	if (l->stopping)
		return;
	u->record = (struct aq_record){
		.start_ns = due_ns > l->begin_ns ? due_ns - l->begin_ns : 0,
		.number = (uint32_t)lane->issued,
		.target = (uint16_t)(lane - l->lanes),
		.user = u->number,
		.counted = in_window(l, due_ns),
	};
	draw_lengths(lane, lane->issued++, &u->record, &seed);
	l->issued++;
	l->issued_in_window += u->record.counted;
	if (aq_prompt_make(&lane->prompt, u->record.isl_asked, u->record.osl_asked, seed, &text,
			   &size) < 0) {
		l->error = -ENOMEM;
		event_base_loopbreak(l->base);
		return;
	}
	u->busy = true;
	u->begun_ns = due_ns;
	l->in_flight++;
	aq_exchange_start(&u->x, text, size, u->record.osl_asked, now);
}

static void wait_until(struct user *u, uint64_t when_ns, uint64_t now_ns)
{
	uint64_t left = when_ns > now_ns ? when_ns - now_ns : 0;
	struct timeval tv = {(time_t)(left / AQ_NS_PER_S),
			     (suseconds_t)(left % AQ_NS_PER_S / AQ_NS_PER_US)};

	u->waits = true;
	event_add(&u->timer, &tv);
}

static void on_user_timer(evutil_socket_t fd, short events, void *arg)
{
	struct user *u = arg;

	u->waits = false;
	begin(u, aq_now_ns());
}

/* A user of a closed loop is through with one request: the next? */
static void go_on(struct user *u, uint64_t now_ns)
{
	struct load *l = u->load;
	uint64_t pause = u->backoff_ns ? u->backoff_ns : l->config->think_ns;

	if (l->stopping || u->lane->target->rate > 0)
		return;
	if (u->number >= aq_target_users(u->lane->target, now_ns - l->begin_ns))
		return; /* rests until the plan wants more users: see tend_plan() */
	if (pause)
		wait_until(u, now_ns + pause, now_ns);
	else
		begin(u, now_ns);
}

static void on_answer(struct aq_exchange *x, const struct aq_answer *a, uint64_t arrival_ns)
{
	struct user *u = x->arg;
	struct load *l = u->load;
	struct aq_record *r = &u->record;
	uint64_t since = arrival_ns > l->begin_ns ? arrival_ns - l->begin_ns : 0;

	if (a->isl)
		r->isl = a->isl;
	if (a->osl)
		r->osl = a->osl;
	if (!a->has_text)
		return;
	if (!r->first_ns) {
		r->first_ns = since;
		if (r->counted)
			aq_hist_add(l->ttft, since - r->start_ns);
	} else {
		uint64_t gap = since - r->last_ns;

		if (gap > r->worst_gap_ns)
			r->worst_gap_ns = gap;
		if (in_window(l, arrival_ns))
			aq_hist_add(u->lane->result->itl, gap);
	}
	r->last_ns = since;
	if (in_window(l, arrival_ns) && u->lane->target->api != AQ_SERVE_EMBEDDINGS) {
		u->lane->result->tokens_out++;
		l->tokens++;
	}
	if (l->config->stamps && a->stamp_ns && in_window(l, arrival_ns)) {
		l->result->early += arrival_ns < a->stamp_ns;
		aq_hist_add(l->result->error,
			    arrival_ns > a->stamp_ns ? arrival_ns - a->stamp_ns : 0);
	}
}

/* The server's counts come last; what it counts and we did not see as events is added. */
static void settle_tokens(struct user *u, enum aq_end end, uint64_t now_ns)
{
	struct aq_record *r = &u->record;
	struct load *l = u->load;
	uint32_t chunks = u->x.chunks;

	if (!r->isl)
		r->isl = r->isl_asked;
	if (r->osl > chunks && end == AQ_END_OK && in_window(l, now_ns)) {
		u->lane->result->tokens_out += r->osl - chunks;
		l->tokens += r->osl - chunks;
	}
	if (!r->osl)
		r->osl = chunks;
	if (u->lane->target->api == AQ_SERVE_EMBEDDINGS)
		r->osl = 0;
	if (r->first_ns && in_window(l, l->begin_ns + r->first_ns))
		u->lane->result->tokens_in += r->isl;
}

static void count_end(struct user *u, enum aq_end end, const char *why)
{
	struct aq_target_result *t = u->lane->result;
	struct load *l = u->load;

	if (!u->record.counted)
		return;
	if (!t->ends[end]++ && why[0])
		snprintf(t->why[end], sizeof(t->why[end]), "%s", why);
	if (end == AQ_END_OK)
		l->finished++;
	else if (end != AQ_END_CUT)
		l->failed++;
}

static void on_end(struct aq_exchange *x, enum aq_end end, uint64_t now_ns, const char *why)
{
	struct user *u = x->arg;
	struct load *l = u->load;

	u->busy = false;
	l->in_flight--;
	u->record.end = (uint8_t)end;
	u->record.end_ns = now_ns > l->begin_ns ? now_ns - l->begin_ns : 0;
	settle_tokens(u, end, now_ns);
	count_end(u, end, why);
	if (keep_record(l, &u->record) < 0) {
		l->error = -ENOMEM;
		event_base_loopbreak(l->base);
		return;
	}
	if (end == AQ_END_OK)
		u->backoff_ns = 0;
	else
		u->backoff_ns = !u->backoff_ns ? BACKOFF_FIRST_NS
				: u->backoff_ns * 2 > BACKOFF_MOST_NS ? BACKOFF_MOST_NS
								      : u->backoff_ns * 2;
	if (l->stopping && !l->in_flight)
		event_base_loopbreak(l->base);
	else
		go_on(u, aq_now_ns());
}

static const struct aq_exchange_ops exchange_ops = {.answer = on_answer, .end = on_end};

static struct user *add_user(struct lane *lane)
{
	struct user *u;

	if (lane->user_count == lane->user_room) {
		size_t room = lane->user_room ? lane->user_room * 2 : 64;
		void *more = reallocarray(lane->users, room, sizeof(struct user *));

		if (!more)
			return NULL;
		lane->users = more;
		lane->user_room = room;
	}
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->load = lane->load;
	u->lane = lane;
	u->number = (uint32_t)lane->user_count;
	aq_exchange_init(&u->x, &lane->load->wire, lane->target, &exchange_ops, u);
	event_assign(&u->timer, lane->load->base, -1, 0, on_user_timer, u);
	lane->users[lane->user_count++] = u;
	return u;
}

/* Users that the plan wants now and that rest. At the beginning they come spread over the ramp. */
static int tend_plan(struct lane *lane, uint64_t now_ns)
{
	struct load *l = lane->load;
	uint64_t since = now_ns - l->begin_ns;
	uint32_t want = aq_target_users(lane->target, since);
	uint32_t ramped = lane->target->plan[0].users;

	for (uint32_t i = 0; i < want && !l->stopping; i++) {
		struct user *u = i < lane->user_count ? lane->users[i] : add_user(lane);
		uint64_t when = now_ns;

		if (!u)
			return -ENOMEM;
		if (u->busy || u->waits)
			continue;
		if (!lane->issued && i < ramped)
			when = l->begin_ns + l->config->ramp_ns * i / ramped;
		wait_until(u, when, now_ns);
	}
	return 0;
}

static void schedule_arrival(struct lane *lane, uint64_t now_ns)
{
	double gap_s = aq_random_gamma(&lane->gaps, lane->load->config->burstiness) /
		       lane->target->rate;
	uint64_t left;
	struct timeval tv;

	lane->due_ns += (uint64_t)(gap_s * (double)AQ_NS_PER_S);
	left = lane->due_ns > now_ns ? lane->due_ns - now_ns : 0;
	tv = (struct timeval){(time_t)(left / AQ_NS_PER_S),
			      (suseconds_t)(left % AQ_NS_PER_S / AQ_NS_PER_US)};
	event_add(&lane->arrival, &tv);
}

static struct user *free_place(struct lane *lane)
{
	/* Low places are used over and over, so that their connections stay warm. */
	for (size_t i = 0; i < lane->user_count; i++)
		if (!lane->users[i]->busy)
			return lane->users[i];
	return lane->user_count < IN_FLIGHT_MOST ? add_user(lane) : NULL;
}

/* No place: counted as a failure of ours, for leaving it out would flatter the server. */
static void refuse_arrival(struct lane *lane)
{
	struct load *l = lane->load;
	struct aq_record r = {.start_ns = lane->due_ns - l->begin_ns,
			      .end_ns = lane->due_ns - l->begin_ns,
			      .number = (uint32_t)lane->issued++,
			      .target = (uint16_t)(lane - l->lanes),
			      .end = AQ_END_LOCAL,
			      .counted = in_window(l, lane->due_ns)};

	l->issued++;
	l->issued_in_window += r.counted;
	if (r.counted) {
		lane->result->ends[AQ_END_LOCAL]++;
		l->failed++;
	}
	if (keep_record(l, &r) < 0)
		l->error = -ENOMEM;
}

static void on_arrival(evutil_socket_t fd, short events, void *arg)
{
	struct lane *lane = arg;
	struct load *l = lane->load;
	uint64_t now = aq_now_ns();
	struct user *u;

	if (l->stopping)
		return;
	if (in_window(l, now))
		aq_hist_add(l->result->late, now > lane->due_ns ? now - lane->due_ns : 0);
	u = free_place(lane);
	if (u)
		begin(u, lane->due_ns < now ? lane->due_ns : now);
	else
		refuse_arrival(lane);
	if (!l->stopping)
		schedule_arrival(lane, aq_now_ns());
}

static void show_progress(struct load *l, uint64_t now_ns)
{
	const struct aq_load_config *c = l->config;
	bool warm = now_ns >= l->window_begin_ns;
	struct aq_load_progress p = {
		.since_ns = now_ns - l->begin_ns,
		.whole_ns = c->duration_ns ? c->warmup_ns + c->duration_ns : 0,
		.warm = warm,
		.in_flight = l->in_flight,
		.finished = l->finished,
		.failed = l->failed,
		.tokens = l->tokens,
		.window_ns = warm ? now_ns - l->window_begin_ns : 0,
		.ttft = l->ttft,
	};

	if (!c->progress || now_ns < l->next_progress_ns)
		return;
	l->next_progress_ns = now_ns + PROGRESS_NS;
	c->progress(c->progress_arg, &p);
}

static void cut_all(struct load *l, uint64_t now_ns)
{
	for (size_t i = 0; i < l->config->target_count; i++)
		for (size_t k = 0; k < l->lanes[i].user_count; k++)
			aq_exchange_cut(&l->lanes[i].users[k]->x, now_ns);
}

static void on_tick(evutil_socket_t fd, short events, void *arg)
{
	struct load *l = arg;
	uint64_t now = aq_now_ns();

	aq_wire_tick(&l->wire);
	for (size_t i = 0; i < l->config->target_count; i++) {
		struct lane *lane = &l->lanes[i];

		for (size_t k = 0; k < lane->user_count; k++)
			aq_exchange_sweep(&lane->users[k]->x, now);
		if (lane->target->rate <= 0 && lane->target->steps > 1 &&
		    tend_plan(lane, now) < 0)
			l->error = -ENOMEM;
	}
	if (now >= l->window_end_ns)
		stop(l, l->window_end_ns + l->config->drain_ns);
	if (l->stopping && now >= l->drain_end_ns)
		cut_all(l, now);
	if (l->error)
		event_base_loopbreak(l->base);
	show_progress(l, now);
}

static void on_signal(evutil_socket_t signal_number, short events, void *arg)
{
	struct load *l = arg;

	l->result->signal = (int)signal_number;
	l->stopping = true;
	event_base_loopbreak(l->base);
}

static int init_lane(struct load *l, size_t i)
{
	struct lane *lane = &l->lanes[i];

	lane->load = l;
	lane->target = &l->config->targets[i];
	lane->result = &l->result->targets[i];
	lane->due_ns = l->begin_ns;
	lane->result->itl = calloc(1, sizeof(*lane->result->itl));
	aq_random_seed(&lane->gaps, l->config->seed, 1ull << 63 | i);
	event_assign(&lane->arrival, l->base, -1, 0, on_arrival, lane);
	if (!lane->result->itl)
		return -ENOMEM;
	return aq_prompt_init(&lane->prompt, lane->target, l->config->headers, l->config->plain);
}

static int init_result(struct load *l)
{
	struct aq_load_result *r = l->result;

	r->target_count = l->config->target_count;
	r->targets = calloc(r->target_count, sizeof(*r->targets));
	r->lag = calloc(1, sizeof(*r->lag));
	r->late = calloc(1, sizeof(*r->late));
	r->error = calloc(1, sizeof(*r->error));
	l->ttft = calloc(1, sizeof(*l->ttft));
	l->lanes = calloc(r->target_count, sizeof(*l->lanes));
	return r->targets && r->lag && r->late && r->error && l->ttft && l->lanes ? 0 : -ENOMEM;
}

/* Timers by timerfd: epoll's own know whole milliseconds only. */
static struct event_base *make_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config && !event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER))
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	return base;
}

static int init(struct load *l)
{
	const struct aq_load_config *c = l->config;
	struct timeval tick = {0, TICK_NS / AQ_NS_PER_US};
	int r = init_result(l);

	l->base = make_base();
	if (r < 0 || !l->base || aq_wire_init(&l->wire, l->base, &c->limits) < 0)
		return -ENOMEM;
	event_assign(&l->tick, l->base, -1, EV_PERSIST, on_tick, l);
	evsignal_assign(&l->interrupt, l->base, SIGINT, on_signal, l);
	evsignal_assign(&l->terminate, l->base, SIGTERM, on_signal, l);
	if (event_add(&l->tick, &tick) < 0 || evsignal_add(&l->interrupt, NULL) < 0 ||
	    evsignal_add(&l->terminate, NULL) < 0)
		return -ENOMEM;
	l->begin_ns = aq_now_ns();
	l->window_begin_ns = c->warmup_requests ? UINT64_MAX : l->begin_ns + c->warmup_ns;
	l->window_end_ns = c->duration_ns && !c->warmup_requests
				   ? l->window_begin_ns + c->duration_ns
				   : UINT64_MAX;
	for (size_t i = 0; !r && i < c->target_count; i++)
		r = init_lane(l, i);
	return r;
}

static int start(struct load *l)
{
	uint64_t now = aq_now_ns();
	int r = 0;

	for (size_t i = 0; !r && i < l->config->target_count; i++) {
		if (l->lanes[i].target->rate > 0)
			schedule_arrival(&l->lanes[i], now);
		else
			r = tend_plan(&l->lanes[i], now);
	}
	return r;
}

/* What is still out is unfinished; the window ends where the run did. */
static void conclude(struct load *l)
{
	struct aq_load_result *r = l->result;
	uint64_t now = aq_now_ns();

	l->stopping = true;
	cut_all(l, now);
	r->run_ns = now - l->begin_ns;
	if (now < l->window_end_ns)
		l->window_end_ns = now;
	if (l->window_begin_ns < l->window_end_ns) {
		r->window_begin_ns = l->window_begin_ns - l->begin_ns;
		r->window_end_ns = l->window_end_ns - l->begin_ns;
	}
	aq_hist_merge(r->lag, l->wire.lag);
	r->unstamped = l->wire.unstamped;
	r->reconnects = l->wire.reconnects;
}

static void finish_lane(struct lane *lane)
{
	for (size_t i = 0; i < lane->user_count; i++) {
		event_del(&lane->users[i]->timer);
		aq_exchange_finish(&lane->users[i]->x);
		free(lane->users[i]);
	}
	if (lane->load)
		event_del(&lane->arrival);
	free(lane->users);
	aq_prompt_finish(&lane->prompt);
}

static void finish(struct load *l)
{
	for (size_t i = 0; l->lanes && i < l->config->target_count; i++)
		finish_lane(&l->lanes[i]);
	if (l->base && event_initialized(&l->terminate)) {
		event_del(&l->tick);
		event_del(&l->interrupt);
		event_del(&l->terminate);
	}
	aq_wire_finish(&l->wire);
	if (l->base)
		event_base_free(l->base);
	free(l->lanes);
	free(l->ttft);
}

static bool sensible(const struct aq_load_config *c)
{
	const struct aq_limits *m = &c->limits;

	if (!c->target_count || c->target_count > AQ_TARGETS_MAX ||
	    (!c->duration_ns && !c->requests) || (c->warmup_ns && c->warmup_requests) ||
	    !(c->burstiness > 0) || !m->connect_ns || !m->first_ns || !m->stall_ns ||
	    !m->request_ns)
		return false;
	for (size_t i = 0; i < c->target_count; i++)
		if (!c->targets[i].address_size || !c->targets[i].model[0] ||
		    (c->targets[i].rate <= 0 && !c->targets[i].steps))
			return false;
	return true;
}

static void allow_descriptors(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit); /* refused: failures of kind `local` tell */
	}
}

int aq_load_run(const struct aq_load_config *config, struct aq_load_result *ret_result)
{
	struct aq_load_result result = {.records = NULL};
	struct load l = {.config = config, .result = &result};
	int r;

	if (!sensible(config))
		return -EINVAL;
	allow_descriptors();
	r = init(&l);
	if (!r)
		r = start(&l);
	if (!r && event_base_dispatch(l.base) < 0)
		r = -EIO;
	if (!r)
		conclude(&l);
	if (!r)
		r = l.error;
	finish(&l);
	if (r) {
		aq_load_result_finish(&result);
		return r;
	}
	*ret_result = result;
	return 0;
}

void aq_load_result_finish(struct aq_load_result *r)
{
	for (size_t i = 0; r->targets && i < r->target_count; i++)
		free(r->targets[i].itl);
	free(r->targets);
	free(r->records);
	free(r->lag);
	free(r->late);
	free(r->error);
	*r = (struct aq_load_result){.records = NULL};
}
