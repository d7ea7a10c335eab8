/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's thread and the two queues to it and from it. The scheduler and the device are the
 * thread's alone; what `lock` guards is said at each field.
 */
#include "bench/llm/engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "base/name.h"
#include "base/timing.h"
#include "base/banned.h"

struct llm_engine {
	struct llm_engine_options o;
	struct llm_engine_facts facts;
	pthread_t thread;
	bool joined; /* the creator's */
	pthread_mutex_t lock;
	pthread_cond_t changed;

	/* Under lock. */
	struct aq_list inbox; /* submitted, not yet seen by the thread */
	struct llm_event *events;
	size_t n_events, max_events;
	struct llm_metrics metrics;
	uint64_t n_open;
	int started; /* 1: serving; negative errno: it never will */
	bool stop, failed;
	bool cancels; /* some sequence has been cancelled since the last look */

	/* The thread's. */
	struct llm_device device;
	struct llm_sched sched;
	struct aq_list coming; /* seen, in order of arrival; ready_ns is not reached */
	uint64_t step_end_ns;
	uint64_t next_step_ns;
};

static const struct llm_host hosts[] = {
#define LLM_HOST(id, request, step, seq) {id, request, step, seq},
#include "bench/llm/host.def"
#undef LLM_HOST
};

const struct llm_host *llm_host_find(const char *id)
{
	for (size_t i = 0; i < AQ_ARRAY_SIZE(hosts); i++)
		if (!strcmp(hosts[i].id, id))
			return &hosts[i];
	return NULL;
}

/* With the lock. */
static void post(struct llm_engine *e, struct llm_seq *q, enum llm_event_kind kind)
{
	if (e->n_events == e->max_events) {
		size_t max = e->max_events ? 2 * e->max_events : 1024;
		struct llm_event *more = reallocarray(e->events, max, sizeof(*more));

		if (!more) { /* nothing sensible can follow: say so in the only way left */
			aq_error("out of memory");
			exit(1);
		}
		e->events = more;
		e->max_events = max;
	}
	e->events[e->n_events++] = (struct llm_event){
		.kind = kind,
		.seq = q,
		.generated = q->generated,
		.preemptions = q->preemptions,
	};
	if (kind != LLM_EVENT_TOKEN)
		e->n_open--;
}

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : 0;
}

static void observe_token(struct llm_metrics *m, const struct llm_seq *q, uint64_t now)
{
	m->generation_tokens++;
	if (q->generated == 1) {
		LLM_OBSERVE(m, ttft, seconds(q->arrived_ns, now));
		return;
	}
	LLM_OBSERVE(m, itl, seconds(q->last_ns, now));
	LLM_OBSERVE(m, tpot, seconds(q->last_ns, now));
}

static void observe_last(struct llm_metrics *m, const struct llm_seq *q, uint64_t now)
{
	uint64_t first = q->first_ns ? q->first_ns : now;

	LLM_OBSERVE(m, request_prompt, q->prompt);
	LLM_OBSERVE(m, request_generation, q->generated);
	LLM_OBSERVE(m, e2e, seconds(q->arrived_ns, now));
	LLM_OBSERVE(m, queue, seconds(q->arrived_ns, q->admitted_ns));
	LLM_OBSERVE(m, inference, seconds(q->admitted_ns, now));
	LLM_OBSERVE(m, prefill, seconds(q->admitted_ns, first));
	LLM_OBSERVE(m, decode, seconds(first, now));
	if (q->generated > 1)
		LLM_OBSERVE(m, request_tpot, seconds(first, now) / (q->generated - 1));
	if (q->stops_early)
		m->success_stop++;
	else
		m->success_length++;
}

/* One item of a finished step gave a token; with the lock. */
static void on_progress(void *arg, struct llm_seq *q)
{
	struct llm_engine *e = arg;
	bool last = q->state == LLM_SEQ_DONE;

	if (q->wanted)
		observe_token(&e->metrics, q, e->step_end_ns);
	if (!q->first_ns)
		q->first_ns = e->step_end_ns;
	q->last_ns = e->step_end_ns;
	if (last)
		observe_last(&e->metrics, q, e->step_end_ns);
	post(e, q, last ? LLM_EVENT_LAST : LLM_EVENT_TOKEN);
}

static void update_gauges(struct llm_engine *e, uint32_t n_coming)
{
	struct llm_sched *s = &e->sched;

	e->metrics.running = s->n_running;
	e->metrics.waiting = s->n_waiting + n_coming;
	e->metrics.kv_usage =
		s->blocks.total ? (double)(s->blocks.total - s->blocks.n_free) / s->blocks.total
				: 0;
}

/* Let go of a sequence that the thread holds; with the lock. */
static void drop(struct llm_engine *e, struct llm_seq *q, enum llm_event_kind kind)
{
	if (q->state == LLM_SEQ_NEW) {
		aq_list_remove(&q->link);
		q->state = LLM_SEQ_DONE;
	} else {
		llm_sched_remove(&e->sched, q);
	}
	if (kind == LLM_EVENT_ABORTED)
		e->metrics.success_abort++;
	post(e, q, kind);
}

/* Those that were cancelled (or all) leave; with the lock. */
static void drop_from(struct llm_engine *e, struct aq_list *from, bool all,
		      enum llm_event_kind kind)
{
	struct llm_seq *q, *next;

	AQ_LIST_FOREACH (q, next, from, link)
		if (all || atomic_load_explicit(&q->cancelled, memory_order_relaxed))
			drop(e, q, kind);
}

static void drop_everywhere(struct llm_engine *e, bool all, enum llm_event_kind kind)
{
	drop_from(e, &e->inbox, all, kind);
	drop_from(e, &e->coming, all, kind);
	drop_from(e, &e->sched.waiting, all, kind);
	drop_from(e, &e->sched.running, all, kind);
}

static uint32_t take_inbox(struct llm_engine *e)
{
	struct llm_seq *q, *next;
	uint64_t now = aq_now_ns();
	uint32_t n = 0;

	AQ_LIST_FOREACH (q, next, &e->inbox, link) {
		aq_list_remove(&q->link);
		aq_list_append(&e->coming, &q->link);
	}
	AQ_LIST_FOREACH (q, next, &e->coming, link) {
		if (q->ready_ns > now) {
			n++;
			continue;
		}
		aq_list_remove(&q->link);
		if (llm_sched_add(&e->sched, q) < 0) { /* the caller did not keep to max_tokens */
			q->state = LLM_SEQ_DONE;
			post(e, q, LLM_EVENT_FAILED);
		}
	}
	return n;
}

static bool has_work(const struct llm_engine *e)
{
	return e->sched.n_waiting || e->sched.n_running;
}

/* Sleep until @until_ns (0: for as long as nothing happens) or until something changes. */
static void sleep_locked(struct llm_engine *e, uint64_t until_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(until_ns / AQ_NS_PER_S),
		.tv_nsec = (long)(until_ns % AQ_NS_PER_S),
	};

	if (until_ns)
		pthread_cond_clockwait(&e->changed, &e->lock, CLOCK_MONOTONIC, &ts);
	else
		pthread_cond_wait(&e->changed, &e->lock);
}

/* What has to happen before a step can be chosen. Return: false: end. With the lock. */
static bool wait_for_work(struct llm_engine *e)
{
	for (;;) {
		size_t before = e->n_events;
		uint32_t n_coming;
		uint64_t until = 0;

		if (e->stop)
			return false;
		if (e->cancels) {
			e->cancels = false;
			drop_everywhere(e, false, LLM_EVENT_ABORTED);
		}
		n_coming = take_inbox(e);
		update_gauges(e, n_coming);
		if (!before && e->n_events)
			e->o.wake(e->o.arg);
		if (has_work(e) && aq_now_ns() >= e->next_step_ns)
			return true;
		if (has_work(e))
			until = e->next_step_ns;
		else if (n_coming)
			until = aq_container_of(e->coming.next, struct llm_seq, link)->ready_ns;
		sleep_locked(e, until);
	}
}

static void note_admissions(struct llm_engine *e, uint64_t now)
{
	for (uint32_t i = 0; i < e->sched.step.n; i++) {
		struct llm_seq *q = e->sched.step.items[i].seq;

		if (!q->admitted_ns)
			q->admitted_ns = now;
	}
}

/* One step on the device. Return: 0 or negative errno: the device is lost. Without the lock. */
static int run_step(struct llm_engine *e)
{
	int r = llm_device_submit(&e->device, &e->sched.step);

	if (r == 0)
		r = llm_device_wait(&e->device);
	e->step_end_ns = aq_now_ns();
	return r;
}

/* Account for the step, tell, and keep the device idle for as long as an engine's host would. */
static void finish_step(struct llm_engine *e)
{
	const struct llm_step *step = &e->sched.step;
	uint64_t host_us = e->o.host.step_us + (uint64_t)e->o.host.seq_us * step->n;
	bool quiet = !e->n_events;

	e->metrics.preemptions += step->n_preempted;
	for (uint32_t i = 0; i < step->n; i++)
		if (step->items[i].seq->computed + step->items[i].n_new <=
		    step->items[i].seq->prompt)
			e->metrics.prompt_tokens += step->items[i].n_new;
	LLM_OBSERVE(&e->metrics, iteration_tokens, step->n_tokens);
	llm_sched_complete(&e->sched, on_progress, e);
	e->next_step_ns = e->step_end_ns + host_us * AQ_NS_PER_US;
	if (quiet && e->n_events)
		e->o.wake(e->o.arg);
}

static void serve(struct llm_engine *e)
{
	int r = 0;

	while (r == 0 && wait_for_work(e)) {
		if (!llm_sched_next(&e->sched)) {
			/* The only one that runs was preempted; the next look admits it. */
			continue;
		}
		pthread_mutex_unlock(&e->lock);
		note_admissions(e, aq_now_ns());
		r = run_step(e);
		pthread_mutex_lock(&e->lock);
		if (r == 0)
			finish_step(e);
	}
	if (r < 0)
		aq_error("the device failed: nothing can be served any more");
	e->failed = r < 0;
}

static void note_facts(struct llm_engine *e)
{
	const struct llm_device *d = &e->device;

	aq_copy_padded(e->facts.device, sizeof(e->facts.device), d->name);
	e->facts.model = d->o.model;
	e->facts.total_bytes = d->total_bytes;
	e->facts.weight_bytes = d->weight_bytes;
	e->facts.cache_bytes = d->cache_bytes;
	e->facts.workspace_bytes = d->workspace_bytes;
	e->facts.n_blocks = d->n_blocks;
	e->facts.max_tokens = d->o.max_tokens;
	e->facts.max_seqs = d->o.max_seqs;
	e->facts.budget = d->o.budget;
	e->facts.n_graphs = d->n_graphs;
}

static void *engine_main(void *arg)
{
	struct llm_engine *e = arg;
	int r = llm_device_init(&e->device, &e->o.device);

	if (r == 0)
		r = llm_sched_init(&e->sched, e->device.n_blocks, e->device.o.max_seqs,
				   e->device.o.budget);
	pthread_mutex_lock(&e->lock);
	if (r == 0)
		note_facts(e);
	e->started = r < 0 ? r : 1;
	pthread_cond_broadcast(&e->changed);
	if (r == 0)
		serve(e);
	drop_everywhere(e, true, e->failed ? LLM_EVENT_FAILED : LLM_EVENT_ABORTED);
	e->o.wake(e->o.arg);
	pthread_mutex_unlock(&e->lock);
	llm_device_finish(&e->device);
	llm_sched_finish(&e->sched);
	return NULL;
}

int llm_engine_create(const struct llm_engine_options *o, struct llm_engine **ret_engine)
{
	struct llm_engine *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->o = *o;
	aq_list_init(&e->inbox);
	aq_list_init(&e->coming);
	aq_list_init(&e->sched.waiting);
	aq_list_init(&e->sched.running);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	r = -pthread_create(&e->thread, NULL, engine_main, e);
	if (r < 0) {
		free(e);
		return r;
	}
	pthread_mutex_lock(&e->lock);
	while (!e->started)
		pthread_cond_wait(&e->changed, &e->lock);
	r = e->started;
	pthread_mutex_unlock(&e->lock);
	if (r < 0) {
		llm_engine_free(e);
		return r;
	}
	*ret_engine = e;
	return 0;
}

void llm_engine_stop(struct llm_engine *e)
{
	if (e->joined)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	pthread_join(e->thread, NULL);
	e->joined = true;
}

void llm_engine_free(struct llm_engine *e)
{
	if (!e)
		return;
	llm_engine_stop(e);
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	free(e->events);
	free(e);
}

const struct llm_engine_facts *llm_engine_facts(const struct llm_engine *e)
{
	return &e->facts;
}

void llm_engine_submit(struct llm_engine *e, struct llm_seq *q)
{
	q->arrived_ns = aq_now_ns();
	q->ready_ns = q->arrived_ns + e->o.host.request_us * AQ_NS_PER_US;
	pthread_mutex_lock(&e->lock);
	e->n_open++;
	if (e->failed || e->stop) {
		q->state = LLM_SEQ_DONE;
		post(e, q, LLM_EVENT_FAILED);
		e->o.wake(e->o.arg);
	} else {
		aq_list_append(&e->inbox, &q->link);
		pthread_cond_signal(&e->changed);
	}
	pthread_mutex_unlock(&e->lock);
}

void llm_engine_cancel(struct llm_engine *e, struct llm_seq *q)
{
	atomic_store_explicit(&q->cancelled, true, memory_order_relaxed);
	pthread_mutex_lock(&e->lock);
	e->cancels = true;
	pthread_cond_signal(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

struct llm_event *llm_engine_events(struct llm_engine *e, size_t *ret_n)
{
	struct llm_event *events = NULL;

	pthread_mutex_lock(&e->lock);
	*ret_n = e->n_events;
	if (e->n_events) {
		events = AQ_STEAL(e->events);
		e->n_events = e->max_events = 0;
	}
	pthread_mutex_unlock(&e->lock);
	return events;
}

bool llm_engine_healthy(struct llm_engine *e)
{
	bool healthy;

	pthread_mutex_lock(&e->lock);
	healthy = !e->failed;
	pthread_mutex_unlock(&e->lock);
	return healthy;
}

uint64_t llm_engine_open(struct llm_engine *e)
{
	uint64_t n;

	pthread_mutex_lock(&e->lock);
	n = e->n_open;
	pthread_mutex_unlock(&e->lock);
	return n;
}

void llm_engine_metrics(struct llm_engine *e, struct llm_metrics *ret)
{
	pthread_mutex_lock(&e->lock);
	*ret = e->metrics;
	pthread_mutex_unlock(&e->lock);
}
