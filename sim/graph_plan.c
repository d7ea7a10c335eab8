/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans: the nodes of a graph in an order in which they can be issued, with child graphs in place
 * of the nodes that hold them.
 */
#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "graph.h"

#include "base/banned.h"

#define NONE SIZE_MAX

/* Graphs inside graphs deeper than this are refused. Guess: nobody nests so far on purpose. */
#define MAX_DEPTH 32

/* A plan in the making. */
struct maker {
	struct sim_plan *plan;
	size_t room;
	struct sim_node *error;
};

static void plan_free(struct sim_plan *p)
{
	for (size_t i = 0; i < p->n_nodes; i++) {
		sim_body_finish(&p->nodes[i].body);
		free(p->nodes[i].deps);
	}
	free(p->nodes);
	sim_user_refs_free(p->user_refs);
	free(p);
}

void sim_plan_put(struct sim_plan *p)
{
	if (p && --p->refs == 0)
		plan_free(p);
}

/* One more node, with room for @n_deps. NULL: no memory. */
static struct sim_plan_node *append(struct maker *m, size_t n_deps)
{
	struct sim_plan *p = m->plan;
	struct sim_plan_node *n;

	if (p->n_nodes == m->room) {
		size_t room = m->room ? 2 * m->room : 16;

		n = reallocarray(p->nodes, room, sizeof(*n));
		if (!n)
			return NULL;
		p->nodes = n;
		m->room = room;
	}
	n = &p->nodes[p->n_nodes];
	*n = (struct sim_plan_node){.body = {.type = CU_GRAPH_NODE_TYPE_EMPTY}, .slot = NONE};
	n->deps = calloc(n_deps ? n_deps : 1, sizeof(*n->deps));
	if (!n->deps)
		return NULL;
	p->n_nodes++;
	return n;
}

static CUresult layout(struct maker *m, struct sim_graph *g, size_t entry, int depth,
		       size_t *ret_end);

/* Put @n into the plan; @ends has where the nodes of its graph lie. @entry: what the graph as a
 * whole waits for. */
static CUresult emit(struct maker *m, struct sim_node *n, size_t entry, size_t *ends, int depth)
{
	struct sim_plan_node *p = append(m, n->deps.n + 1);
	size_t begin;

	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	begin = m->plan->n_nodes - 1;
	for (size_t i = 0; i < n->deps.n; i++)
		p->deps[p->n_deps++] = ends[n->deps.edge[i].node->index];
	if (!p->n_deps && entry != NONE)
		p->deps[p->n_deps++] = entry;
	ends[n->index] = begin;
	if (n->child)
		return layout(m, n->child, begin, depth + 1, &ends[n->index]);
	p->origin = n;
	p->node = n;
	if (sim_body_dup(&n->body, &p->body) < 0) {
		p->body = (struct sim_body){.type = CU_GRAPH_NODE_TYPE_EMPTY};
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return CUDA_SUCCESS;
}

/* Emit a node behind those that it waits for. @path is a stack of as many as there are nodes. */
static CUresult emit_behind(struct maker *m, struct sim_node *n, size_t entry, size_t *ends,
			    uint8_t *state, struct sim_node **path, int depth)
{
	enum { UNSEEN, OPEN, DONE };
	size_t top = 0;
	CUresult r;

	if (state[n->index] == DONE)
		return CUDA_SUCCESS;
	path[top++] = n;
	state[n->index] = OPEN;
	while (top) {
		struct sim_node *next = NULL;

		n = path[top - 1];
		for (size_t i = 0; i < n->deps.n && !next; i++)
			if (state[n->deps.edge[i].node->index] != DONE)
				next = n->deps.edge[i].node;
		if (next) {
			if (state[next->index] == OPEN) {
				m->error = next; /* it waits for itself */
				return CUDA_ERROR_INVALID_VALUE;
			}
			state[next->index] = OPEN;
			path[top++] = next;
			continue;
		}
		r = emit(m, n, entry, ends, depth);
		if (r != CUDA_SUCCESS)
			return r;
		state[n->index] = DONE;
		top--;
	}
	return CUDA_SUCCESS;
}

/* Lay out @g. @ret_end: index of a node that ends when all of @g has; NULL: not needed. */
static CUresult layout(struct maker *m, struct sim_graph *g, size_t entry, int depth,
		       size_t *ret_end)
{
	AQ_CLEANUP(free) size_t *ends = calloc(g->n_nodes + 1, sizeof(*ends));
	AQ_CLEANUP(free) uint8_t *state = calloc(g->n_nodes + 1, 1);
	AQ_CLEANUP(free)
	struct sim_node **path = calloc(g->n_nodes + 1, sizeof(struct sim_node *));
	struct sim_plan_node *end;
	struct sim_node *n, *tmp;
	size_t i = 0;
	CUresult r = CUDA_SUCCESS;

	if (!ends || !state || !path)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (depth > MAX_DEPTH)
		return CUDA_ERROR_INVALID_VALUE;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link)
		n->index = i++;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link)
		if (r == CUDA_SUCCESS)
			r = emit_behind(m, n, entry, ends, state, path, depth);
	if (r != CUDA_SUCCESS || !ret_end)
		return r;
	end = append(m, g->n_nodes + 1);
	if (!end)
		return CUDA_ERROR_OUT_OF_MEMORY;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link)
		if (!n->dependents.n)
			end->deps[end->n_deps++] = ends[n->index];
	if (!end->n_deps)
		end->deps[end->n_deps++] = entry;
	*ret_end = m->plan->n_nodes - 1;
	return CUDA_SUCCESS;
}

CUresult sim_plan_make(struct sim_graph *g, struct sim_plan **ret_plan, struct sim_node **ret_error)
{
	struct maker m = {.plan = calloc(1, sizeof(*m.plan))};
	CUresult r;

	*ret_error = NULL;
	if (!m.plan)
		return CUDA_ERROR_OUT_OF_MEMORY;
	m.plan->refs = 1;
	r = layout(&m, g, NONE, 0, NULL);
	if (r == CUDA_SUCCESS && sim_user_refs_copy(g->user_refs, &m.plan->user_refs) < 0)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	if (r != CUDA_SUCCESS) {
		*ret_error = m.error;
		plan_free(m.plan);
		return r;
	}
	sim_plan_refresh(m.plan);
	*ret_plan = m.plan;
	return CUDA_SUCCESS;
}

struct sim_plan *sim_plan_copy(const struct sim_plan *from)
{
	struct maker m = {.plan = calloc(1, sizeof(*m.plan))};

	if (!m.plan)
		return NULL;
	m.plan->refs = 1;
	for (size_t i = 0; i < from->n_nodes; i++) {
		const struct sim_plan_node *n = &from->nodes[i];
		struct sim_plan_node *copy = append(&m, n->n_deps);

		if (!copy || sim_body_dup(&n->body, &copy->body) < 0) {
			if (copy)
				copy->body = (struct sim_body){.type = CU_GRAPH_NODE_TYPE_EMPTY};
			plan_free(m.plan);
			return NULL;
		}
		memcpy(copy->deps, n->deps, n->n_deps * sizeof(*n->deps));
		copy->n_deps = n->n_deps;
		copy->origin = n->origin;
		copy->disabled = n->disabled;
		copy->slot = n->slot;
	}
	if (sim_user_refs_copy(from->user_refs, &m.plan->user_refs) < 0) {
		plan_free(m.plan);
		return NULL;
	}
	sim_plan_refresh(m.plan);
	return m.plan;
}

void sim_plan_refresh(struct sim_plan *p)
{
	p->host_bytes = 0;
	p->has_memory = false;
	p->is_light = true;
	for (size_t i = 0; i < p->n_nodes; i++) {
		const struct sim_plan_node *n = &p->nodes[i];

		if (n->body.alloc)
			p->has_memory = true;
		if (n->body.task.kind == SIM_TASK_HOST || n->body.task.kind == SIM_TASK_MEMOPS)
			p->is_light = false;
		if (!n->disabled)
			p->host_bytes += sim_task_host_bytes(&n->body.task);
	}
	if (p->host_bytes > SIM_TASK_LIGHT_BYTES)
		p->is_light = false;
}
