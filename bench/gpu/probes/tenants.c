/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that use the device side by side on command. What their measurements mean is for the
 * probes to say.
 */
#include "tenants.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define GAP_NS (20 * USEC) /* readings further apart mean that the context was switched out */
#define IN_FLIGHT 2	   /* windows */

enum { COMMAND_TRACE = 1, COMMAND_WORK, COMMAND_CALIBRATE, COMMAND_QUIT };

struct self { /* a tenant's own, not shared */
	int index;
	struct tenant *t;
	struct gpu g;
	const struct tenant_hooks *hooks;
	CUdeviceptr trace, live;
	_Atomic uint32_t *stop;
	unsigned shared_bytes; /* of a heavy block */
	CUevent events[IN_FLIGHT];
};

static unsigned work_blocks(const struct gpu *g)
{
	return (unsigned)g->sms * 2;
}

#define WORK_THREADS 256

static int prepare_device(struct self *s)
{
	int bytes = 0;

	TRY(cu.cuMemAlloc_v2(&s->trace, sizeof(uint64_t) * (4 + 2 * TRACE_CAP)));
	TRY(cu.cuMemAlloc_v2(&s->live, sizeof(uint32_t)));
	s->stop = gpu_pinned(4096);
	if (!s->stop)
		return -1;
	TRY(cu.cuDeviceGetAttribute(&bytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
				    s->g.dev));
	if (!cu.cuFuncSetAttribute(s->g.k[K_TRACE], CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
				   bytes))
		s->shared_bytes = (unsigned)bytes;
	for (int i = 0; i < IN_FLIGHT; i++)
		TRY(cu.cuEventCreate(&s->events[i], CU_EVENT_DISABLE_TIMING));
	return 0;
}

static int do_trace(struct self *s)
{
	struct tenant *t = s->t;
	bool heavy = t->load == LOAD_HEAVY;
	uint64_t head[4] = {0}, gap_ns = GAP_NS;
	uint32_t cap = TRACE_CAP;
	void *stop = s->stop;
	void *params[] = {&s->trace, &cap, &t->trace_ns, &gap_ns, &stop, &s->live};

	atomic_store(s->stop, 0);
	TRY(cu.cuMemsetD32_v2(s->live, 0, 1));
	TRY(cu.cuMemcpyHtoD_v2(s->trace, head, sizeof(head)));
	TRY(cu.cuLaunchKernel(s->g.k[K_TRACE], (unsigned)s->g.sms, 1, 1, heavy ? 1024 : 32, 1, 1,
			      heavy ? s->shared_bytes : 0, s->g.stream, params, NULL));
	TRY(cu.cuStreamSynchronize(s->g.stream));
	TRY(cu.cuMemcpyDtoH_v2(head, s->trace, sizeof(head)));
	t->trace.n = head[0] <= TRACE_CAP ? (uint32_t)head[0] : TRACE_CAP;
	t->trace.turns = head[1];
	if (t->trace.n)
		TRY(cu.cuMemcpyDtoH_v2(t->trace.runs, s->trace + sizeof(head),
				       t->trace.n * sizeof(t->trace.runs[0])));
	return 0;
}

static int submit_window(struct self *s, CUgraphExec graph, unsigned slot)
{
	struct work_order *w = &s->t->work;
	CUdeviceptr none = 0;

	for (unsigned i = 0; i < w->window; i++) {
		if (graph)
			TRY(cu.cuGraphLaunch(graph, s->g.stream));
		else
			TRY(gpu_run(&s->g, K_WORK, work_blocks(&s->g), WORK_THREADS, s->g.stream,
				    &w->iters, &none, &none));
	}
	TRY(cu.cuEventRecord(s->events[slot], s->g.stream));
	return 0;
}

static int finish_window(struct self *s, unsigned slot, uint64_t began)
{
	struct ticks *ticks = &s->t->ticks;
	uint64_t now;

	TRY(cu.cuEventSynchronize(s->events[slot]));
	now = now_ns();
	if (ticks->n < TICKS_CAP) {
		ticks->took[ticks->n] = now - began;
		ticks->at[ticks->n++] = now;
	}
	return 0;
}

static int run_windows(struct self *s, CUgraphExec graph)
{
	struct work_order *w = &s->t->work;
	unsigned sent = 0, seen = 0;

	while (now_ns() < w->start)
		;
	while (now_ns() < w->end) {
		uint64_t began = now_ns();

		if (submit_window(s, graph, sent++ % IN_FLIGHT))
			return -1;
		if (w->pause_ns) {
			if (finish_window(s, seen++ % IN_FLIGHT, began))
				return -1;
			sleep_ns(w->pause_ns);
		} else if (sent - seen == IN_FLIGHT &&
			   finish_window(s, seen++ % IN_FLIGHT, began)) {
			return -1;
		}
	}
	TRY(cu.cuStreamSynchronize(s->g.stream)); /* what is left is not counted */
	return 0;
}

static int do_work(struct self *s)
{
	struct work_order *w = &s->t->work;
	CUgraphExec graph = NULL;
	int r;

	s->t->ticks.n = 0;
	if (w->nodes) {
		graph = gpu_work_graph(&s->g, w->nodes, work_blocks(&s->g), WORK_THREADS, w->iters);
		if (!graph)
			return -1;
	}
	r = run_windows(s, graph);
	if (graph)
		TRY(cu.cuGraphExecDestroy(graph));
	return r;
}

static void *obey_control(void *arg)
{
	struct self *s = arg;

	for (uint32_t i = 0;; i++) {
		futex_wait(&s->t->c_order, i, 1e6);
		if (atomic_exchange(&s->t->c_stop, 0))
			atomic_store(s->stop, 1);
		else if (s->hooks && s->hooks->control)
			s->t->c_result = s->hooks->control(s->index, s->t);
		futex_set(&s->t->c_done, i + 1);
	}
	return NULL;
}

static int open_self(struct self *s)
{
	pthread_t thread;

	if (s->hooks && s->hooks->prepare && s->hooks->prepare(s->index))
		return -1;
	if (gpu_open_context(&s->g))
		return -1;
	if (s->hooks && s->hooks->opened && s->hooks->opened(s->index, s->t))
		return -1;
	if (gpu_try_kernel(&s->g) || prepare_device(s))
		return -1;
	s->t->computes = s->g.computes;
	return pthread_create(&thread, NULL, obey_control, s) ? -1 : 0;
}

static int tenant_main(int index, void *arg)
{
	struct self s = {.index = index, .t = arg};

	s.hooks = s.t->hooks;
	probe_step("tenant");
	s.t->result = open_self(&s);
	futex_set(&s.t->done, 1);
	if (s.t->result)
		return 1;
	for (uint32_t i = 1;; i++) {
		if (!futex_wait(&s.t->order, i, 1e6))
			return 1;
		switch (s.t->command) {
		case COMMAND_TRACE:
			s.t->result = do_trace(&s);
			break;
		case COMMAND_WORK:
			s.t->result = do_work(&s);
			break;
		case COMMAND_CALIBRATE:
			s.t->iters_per_ms =
				gpu_calibrate(&s.g, work_blocks(&s.g), WORK_THREADS, MSEC);
			s.t->result = s.t->iters_per_ms ? 0 : -1;
			if (!s.t->result && s.g.computes)
				gpu_clock(&s.g, &s.t->clock_offset_ns, &s.t->clock_error_ns);
			break;
		default:
			return 0;
		}
		futex_set(&s.t->done, i + 1);
	}
}

bool tenants_start(struct tenants *ts, int n, const struct tenant_hooks *hooks)
{
	bool good = true;

	memset(ts, 0, sizeof(*ts));
	ts->n = n;
	ts->t = shared_alloc((size_t)n * sizeof(*ts->t));
	for (int i = 0; i < n; i++) {
		ts->t[i].hooks = hooks;
		atomic_store(&ts->t[i].order, 1);
		ts->pids[i] = spawn(tenant_main, i, &ts->t[i]);
		ts->t[i].pid = ts->pids[i];
	}
	for (int i = 0; i < n; i++)
		good = tenant_wait(ts, i, 30) == 0 && good;
	if (!good)
		tenants_stop(ts);
	return good;
}

static void command(struct tenants *ts, int i, int what)
{
	ts->t[i].command = what;
	atomic_fetch_add(&ts->t[i].order, 1);
	futex_wake(&ts->t[i].order);
}

void tenants_stop(struct tenants *ts)
{
	for (int i = 0; i < ts->n; i++)
		command(ts, i, COMMAND_QUIT);
	join(ts->pids, ts->n, 10);
}

void tenant_trace_begin(struct tenants *ts, int i, uint64_t total_ns, enum load load)
{
	ts->t[i].trace_ns = total_ns;
	ts->t[i].load = load;
	command(ts, i, COMMAND_TRACE);
}

void tenant_work_begin(struct tenants *ts, int i, const struct work_order *order)
{
	ts->t[i].work = *order;
	command(ts, i, COMMAND_WORK);
}

int tenant_wait(struct tenants *ts, int i, double seconds)
{
	struct tenant *t = &ts->t[i];
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
	uint32_t done;

	while ((done = atomic_load(&t->done)) != atomic_load(&t->order))
		if (now_ns() > end || !futex_wait(&t->done, done, 0.5)) {
			if (now_ns() < end && !child_is_gone(ts->pids[i]))
				continue;
			report_failed(NULL, "tenant %d did not answer", i);
			return -1;
		}
	return t->result;
}

int tenant_calibrate(struct tenants *ts, int i)
{
	command(ts, i, COMMAND_CALIBRATE);
	return tenant_wait(ts, i, 20);
}

void tenant_trace_stop(struct tenants *ts, int i)
{
	atomic_store(&ts->t[i].c_stop, 1);
	tenant_control(ts, i, 5);
}

int tenant_control(struct tenants *ts, int i, double seconds)
{
	struct tenant *t = &ts->t[i];
	uint32_t before = atomic_load(&t->c_done);

	atomic_fetch_add(&t->c_order, 1);
	futex_wake(&t->c_order);
	return futex_wait(&t->c_done, before, seconds) ? t->c_result : -1;
}

void trace_lengths(const struct trace *t, struct samples *runs)
{
	for (uint32_t i = 1; i + 1 < t->n; i++)
		samples_add(runs, (double)(t->runs[i][1] - t->runs[i][0]));
}

void trace_gaps(const struct trace *t, struct samples *gaps)
{
	for (uint32_t i = 1; i + 1 < t->n; i++)
		samples_add(gaps, (double)(t->runs[i][0] - t->runs[i - 1][1]));
}

struct stay {
	uint64_t first, last;
	int who;
};

static int by_start(const void *a, const void *b)
{
	const struct stay *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

void trace_switches(struct tenants *ts, uint64_t slack_ns, struct samples *switches,
		    unsigned *ret_overlaps)
{
	uint64_t from = 0, to = UINT64_MAX;
	struct stay *all;
	size_t n = 0;

	*ret_overlaps = 0;
	for (int i = 0; i < ts->n; i++) {
		struct trace *t = &ts->t[i].trace;

		if (!t->n)
			return;
		if (t->runs[0][0] > from)
			from = t->runs[0][0];
		if (t->runs[t->n - 1][1] < to)
			to = t->runs[t->n - 1][1];
		n += t->n;
	}
	all = calloc(n, sizeof(*all));
	if (!all)
		return;
	n = 0;
	for (int i = 0; i < ts->n; i++)
		for (uint32_t j = 0; j < ts->t[i].trace.n; j++) {
			uint64_t *run = ts->t[i].trace.runs[j];

			if (run[0] >= from && run[1] <= to)
				all[n++] = (struct stay){run[0], run[1], i};
		}
	qsort(all, n, sizeof(*all), by_start);
	for (size_t i = 1; i < n; i++) {
		if (all[i].who == all[i - 1].who)
			continue;
		if (all[i].first >= all[i - 1].last)
			samples_add(switches, (double)(all[i].first - all[i - 1].last));
		else if (all[i - 1].last - all[i].first > slack_ns)
			++*ret_overlaps;
	}
	free(all);
}

double ticks_rate(const struct ticks *t, uint64_t from, uint64_t to)
{
	uint64_t first = 0, last = 0;
	uint32_t n = 0;

	for (uint32_t i = 0; i < t->n; i++) {
		if (t->at[i] < from || t->at[i] > to)
			continue;
		if (!n++)
			first = t->at[i];
		last = t->at[i];
	}
	return n < 2 || last == first ? 0 : (double)(n - 1) * 1e9 / (double)(last - first);
}
