/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launches of instantiated graphs: nodes are issued as soon as what they wait for is, whatever
 * branch they are on. Compute work that follows upon each other is handed to the engine in one
 * piece, whose end stands for the ends of all of it.
 */
#include "graph_run.h"

#include <stdlib.h>

#include "exec.h"
#include "graph.h"

#include "base/banned.h"
#include "base/timing.h"

enum run_state {
	RUN_OPEN,
	RUN_GATHERED, /* its bytes are done, its cost is in sim_graph_run.gathered_ns */
	RUN_HOST,     /* on the thread of host functions */
	RUN_DONE,
};

struct run_node {
	enum run_state state;
	unsigned int polls;
	unsigned int memops_next;
	struct sim_when end;
	struct sim_mark *mark; /* to be recorded, or waited for */
};

struct sim_graph_run {
	struct sim_plan *plan;
	struct run_node *nodes;
	size_t first_open;	/* all before it are done */
	size_t n_host;		/* on the host's thread */
	bool orphan;		/* freed while n_host was not 0: the last of them frees it */
	struct sim_mark *after; /* end of the launch before, NULL once that is merged */
	struct sim_when start;	/* of those without dependencies; valid when started */
	bool started;
	struct sim_mark *end;
	/* Compute work that has not been handed over. */
	struct sim_exec *gathered_on; /* NULL: none */
	struct sim_when gathered_from;
	uint64_t gathered_ns;
	size_t gathered_first;
};

struct host_arg {
	struct sim_graph_run *run;
	size_t index;
};

struct sim_graph_run *sim_graph_run_create(struct sim_plan *plan, struct sim_mark *after,
					   struct sim_mark *end)
{
	struct sim_graph_run *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->nodes = calloc(plan->n_nodes + 1, sizeof(*run->nodes));
	if (!run->nodes) {
		free(run);
		return NULL;
	}
	plan->refs++;
	run->plan = plan;
	run->after = after ? sim_mark_get(after) : NULL;
	run->end = sim_mark_get(end);
	for (size_t i = 0; i < plan->n_nodes; i++) {
		struct sim_event *e = plan->nodes[i].body.event;

		if (!e || plan->nodes[i].disabled)
			continue;
		if (plan->nodes[i].body.type == CU_GRAPH_NODE_TYPE_WAIT_EVENT) {
			run->nodes[i].mark = e->mark ? sim_mark_get(e->mark) : NULL;
			continue;
		}
		run->nodes[i].mark = sim_mark_create();
		if (!run->nodes[i].mark) {
			sim_graph_run_free(run);
			return NULL;
		}
		sim_event_set_mark(e, run->nodes[i].mark);
	}
	return run;
}

void sim_graph_run_free(struct sim_graph_run *run)
{
	const struct sim_when now = {.floor_ns = aq_now_ns()};

	if (!run)
		return;
	if (run->n_host) {
		run->orphan = true;
		return;
	}
	/* A launch that was never handed over is over: nobody shall wait for it. */
	if (run->end->state == SIM_MARK_QUEUED)
		sim_mark_issue(run->end, &now);
	for (size_t i = 0; i < run->plan->n_nodes; i++) {
		struct sim_mark *m = run->nodes[i].mark;

		if (m && m->state == SIM_MARK_QUEUED &&
		    run->plan->nodes[i].body.type == CU_GRAPH_NODE_TYPE_EVENT_RECORD)
			sim_mark_issue(m, &now);
		sim_mark_put(m);
	}
	sim_mark_put(run->after);
	sim_mark_put(run->end);
	sim_plan_put(run->plan);
	free(run->nodes);
	free(run);
}

bool sim_graph_run_is_light(const struct sim_graph_run *run)
{
	return run->plan->is_light;
}

static void note_wake(uint64_t *wake_ns, uint64_t at)
{
	if (at < *wake_ns)
		*wake_ns = at;
}

/* Hand over what was gathered. */
static bool flush(struct sim_graph_run *run, uint64_t *wake_ns)
{
	struct sim_when end = run->gathered_from;
	uint64_t wake = SIM_NEVER;

	if (!run->gathered_on)
		return true;
	if (sim_issue_cost(run->gathered_on, &end, run->gathered_ns, &wake) != SIM_ISSUED) {
		note_wake(wake_ns, wake);
		return false;
	}
	for (size_t i = run->gathered_first; i < run->plan->n_nodes; i++) {
		if (run->nodes[i].state != RUN_GATHERED)
			continue;
		run->nodes[i].state = RUN_DONE;
		run->nodes[i].end = end;
	}
	run->gathered_on = NULL;
	return true;
}

/*
 * What node @i begins after. Return: false: something before it has not been issued. Gathered work
 * of
 * @x counts as issued when @gather, since its queue keeps the order.
 */
static bool node_base(struct sim_graph_run *run, size_t i, const struct sim_exec *x, bool gather,
		      struct sim_when *base, uint64_t *wake_ns)
{
	const struct sim_plan_node *p = &run->plan->nodes[i];

	*base = run->start;
	for (size_t k = 0; k < p->n_deps; k++) {
		struct run_node *dep = &run->nodes[p->deps[k]];
		uint64_t at;

		if (dep->state == RUN_GATHERED) {
			if (gather && run->gathered_on == x)
				continue;
			if (!flush(run, wake_ns))
				return false;
		}
		if (dep->state != RUN_DONE)
			return false;
		if (sim_when_merge(base, &dep->end))
			continue;
		/* Of two devices: one of them has to be decided. */
		if (!sim_when_decided(base, &at) && !sim_when_decided(&dep->end, &at)) {
			note_wake(wake_ns, at);
			return false;
		}
		sim_when_merge(base, &dep->end);
	}
	return true;
}

static bool is_compute(const struct sim_task *t)
{
	return t->kind == SIM_TASK_KERNEL || t->kind == SIM_TASK_SET ||
	       (t->kind == SIM_TASK_COPY && t->copy.route == SIM_ROUTE_DEVICE);
}

/* Take a compute node into what is gathered. */
static bool gather(struct sim_stream *s, struct sim_graph_run *run, size_t i, struct sim_exec *x,
		   struct sim_when *base, bool light, uint64_t *wake_ns)
{
	struct sim_task *t = &run->plan->nodes[i].body.task;
	uint64_t wake = SIM_NEVER;

	if (sim_issue_ready(x, base, &wake) != SIM_ISSUED) {
		note_wake(wake_ns, wake);
		return false;
	}
	if (run->gathered_on && run->gathered_on != x && !flush(run, wake_ns))
		return false;
	if (!run->gathered_on) {
		run->gathered_on = x;
		run->gathered_from = *base;
		run->gathered_ns = 0;
		run->gathered_first = i;
	} else {
		sim_when_merge(&run->gathered_from, base);
		if (i < run->gathered_first)
			run->gathered_first = i;
	}
	run->gathered_ns += sim_task_cost_ns(x->ctx->device, t);
	run->nodes[i].state = RUN_GATHERED;
	sim_perform(s, x, t, light);
	return true;
}

static void host_done(void *arg)
{
	struct host_arg *h = arg;
	struct sim_graph_run *run = h->run;
	struct run_node *n = &run->nodes[h->index];

	n->state = RUN_DONE;
	n->end = (struct sim_when){.floor_ns = aq_now_ns()};
	free(h);
	run->n_host--;
	if (run->orphan)
		sim_graph_run_free(run);
	else
		sim_exec_kick();
	sim_exec_progress();
}

static bool start_host(struct sim_graph_run *run, size_t i, struct sim_when *base,
		       uint64_t *wake_ns)
{
	uint64_t now = aq_now_ns(), at;
	struct host_arg *h;

	if (!sim_when_past(base, now)) {
		sim_when_decided(base, &at);
		note_wake(wake_ns, at);
		return false;
	}
	h = malloc(sizeof(*h));
	if (h)
		*h = (struct host_arg){.run = run, .index = i};
	if (!h ||
	    sim_host_run(&run->plan->nodes[i].body.task.host, CUDA_SUCCESS, host_done, h) < 0) {
		free(h);
		note_wake(wake_ns, now + AQ_NS_PER_MS);
		return false;
	}
	run->nodes[i].state = RUN_HOST;
	run->n_host++;
	return true;
}

/* Node that is neither compute nor host work. */
static bool issue_other(struct sim_stream *s, struct sim_graph_run *run, size_t i,
			struct sim_exec *x, struct sim_when *base, bool light, uint64_t *wake_ns,
			bool *blocked)
{
	const struct sim_body *b = &run->plan->nodes[i].body;
	struct run_node *n = &run->nodes[i];
	struct sim_task t = b->task; /* plans are shared: progress is kept here */
	uint64_t wake = SIM_NEVER;
	enum sim_issue r;

	if (n->mark) {
		t.kind = b->type == CU_GRAPH_NODE_TYPE_EVENT_RECORD ? SIM_TASK_RECORD
								    : SIM_TASK_WAIT;
		t.mark = n->mark;
	} else if (t.kind == SIM_TASK_MEMOPS) {
		t.memops.next = n->memops_next;
	}
	r = sim_issue_task(s, x, &t, base, &n->polls, light, &wake);
	if (t.kind == SIM_TASK_MEMOPS)
		n->memops_next = t.memops.next;
	if (r != SIM_ISSUED) {
		*blocked |= r == SIM_BLOCKED;
		note_wake(wake_ns, wake);
		return false;
	}
	n->state = RUN_DONE;
	n->end = *base;
	return true;
}

static bool issue_node(struct sim_stream *s, struct sim_graph_run *run, size_t i, bool light,
		       uint64_t *wake_ns, bool *blocked)
{
	const struct sim_plan_node *p = &run->plan->nodes[i];
	struct sim_exec *x = p->body.ctx ? p->body.ctx->exec : s->exec;
	bool compute = is_compute(&p->body.task) && !p->disabled;
	struct sim_when base;

	if (!node_base(run, i, x, compute, &base, wake_ns))
		return false;
	if (compute)
		return gather(s, run, i, x, &base, light, wake_ns);
	if (p->disabled) {
		run->nodes[i].state = RUN_DONE;
		run->nodes[i].end = base;
		return true;
	}
	if (p->body.task.kind == SIM_TASK_HOST)
		return start_host(run, i, &base, wake_ns);
	return issue_other(s, run, i, x, &base, light, wake_ns, blocked);
}

/* The launch begins after what is before it in the stream, and after the one before it. */
static enum sim_issue start(struct sim_graph_run *run, const struct sim_when *base,
			    uint64_t *wake_ns)
{
	uint64_t at;

	run->start = *base;
	if (run->after) {
		if (run->after->state == SIM_MARK_QUEUED)
			return SIM_BLOCKED;
		if (run->after->state != SIM_MARK_ISSUED ||
		    !sim_when_merge(&run->start, &run->after->when)) {
			struct sim_when when = {0};

			if (!sim_mark_decided(run->after, &at)) {
				*wake_ns = at;
				return SIM_LATER;
			}
			when.floor_ns = at;
			sim_when_merge(&run->start, &when);
		}
		sim_mark_put(run->after);
		run->after = NULL;
	}
	run->started = true;
	return SIM_ISSUED;
}

/* The latest of all ends. */
static bool finish(struct sim_graph_run *run, struct sim_when *base, uint64_t *wake_ns)
{
	uint64_t at;

	*base = run->start;
	for (size_t i = 0; i < run->plan->n_nodes; i++) {
		struct sim_when *end = &run->nodes[i].end;

		if (sim_when_merge(base, end))
			continue;
		if (!sim_when_decided(base, &at) && !sim_when_decided(end, &at)) {
			*wake_ns = at;
			return false;
		}
		sim_when_merge(base, end);
	}
	return true;
}

enum sim_issue sim_graph_run_issue(struct sim_stream *s, struct sim_graph_run *run,
				   struct sim_when *base, bool light, uint64_t *wake_ns)
{
	bool blocked = false, again = true;
	enum sim_issue r;
	uint64_t at;

	*wake_ns = SIM_NEVER;
	if (!run->started) {
		r = start(run, base, wake_ns);
		if (r != SIM_ISSUED)
			return r;
	}
	while (again) {
		again = false;
		*wake_ns = SIM_NEVER;
		blocked = false;
		while (run->first_open < run->plan->n_nodes &&
		       run->nodes[run->first_open].state == RUN_DONE)
			run->first_open++;
		for (size_t i = run->first_open; i < run->plan->n_nodes; i++)
			if (run->nodes[i].state == RUN_OPEN)
				again |= issue_node(s, run, i, light, wake_ns, &blocked);
	}
	if (!flush(run, wake_ns))
		return SIM_LATER;
	for (size_t i = run->first_open; i < run->plan->n_nodes; i++)
		if (run->nodes[i].state != RUN_DONE)
			return blocked && *wake_ns == SIM_NEVER ? SIM_BLOCKED : SIM_LATER;
	if (!finish(run, base, wake_ns))
		return SIM_LATER;
	/* All of it waits for the host's clock as well: a graph has one end. */
	if (base->on && base->on != s->exec && !sim_when_decided(base, &at)) {
		*wake_ns = at;
		return SIM_LATER;
	}
	sim_mark_issue(run->end, base);
	return SIM_ISSUED;
}
