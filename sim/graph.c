/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs as data: nodes, edges, copies, and what can be asked of their shape. What nodes do is in
 * graph_body.c, running them in graph_exec.c and graph_run.c.
 */
#include "graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "graph_memory.h"
#include "sim.h"

#include "base/banned.h"

CUresult sim_graph_check(CUgraph handle, struct sim_graph **ret_graph)
{
	struct sim_graph *g = (struct sim_graph *)handle;

	if ((uintptr_t)handle < 4096 || g->magic != SIM_GRAPH_MAGIC)
		return CUDA_ERROR_INVALID_VALUE;
	*ret_graph = g;
	return CUDA_SUCCESS;
}

CUresult sim_node_check(CUgraphNode handle, struct sim_node **ret_node)
{
	struct sim_node *n = (struct sim_node *)handle;

	if ((uintptr_t)handle < 4096 || n->magic != SIM_NODE_MAGIC)
		return CUDA_ERROR_INVALID_VALUE;
	*ret_node = n;
	return CUDA_SUCCESS;
}

/*
 * Edges.
 */

static int edges_add(struct sim_edges *e, struct sim_node *node, const CUgraphEdgeData *data)
{
	if (e->n == e->room) {
		size_t room = e->room ? 2 * e->room : 4;
		struct sim_edge *edge = reallocarray(e->edge, room, sizeof(*edge));

		if (!edge)
			return -ENOMEM;
		e->edge = edge;
		e->room = room;
	}
	e->edge[e->n] = (struct sim_edge){.node = node};
	if (data)
		e->edge[e->n].data = *data;
	e->n++;
	return 0;
}

static struct sim_edge *edges_find(struct sim_edges *e, const struct sim_node *node)
{
	for (size_t i = 0; i < e->n; i++)
		if (e->edge[i].node == node)
			return &e->edge[i];
	return NULL;
}

static void edges_remove(struct sim_edges *e, const struct sim_node *node)
{
	struct sim_edge *edge = edges_find(e, node);

	if (!edge)
		return;
	e->n--;
	memmove(edge, edge + 1, (size_t)(e->edge + e->n - edge) * sizeof(*edge));
}

static CUresult connect(struct sim_node *from, struct sim_node *to, const CUgraphEdgeData *data)
{
	if (edges_add(&to->deps, from, data) < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (edges_add(&from->dependents, to, data) < 0) {
		to->deps.n--;
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return CUDA_SUCCESS;
}

static void disconnect(struct sim_node *from, struct sim_node *to)
{
	edges_remove(&to->deps, from);
	edges_remove(&from->dependents, to);
}

/*
 * Nodes.
 */

static void node_free(struct sim_node *n)
{
	for (size_t i = 0; i < n->deps.n; i++)
		edges_remove(&n->deps.edge[i].node->dependents, n);
	for (size_t i = 0; i < n->dependents.n; i++)
		edges_remove(&n->dependents.edge[i].node->deps, n);
	n->magic = 0;
	n->graph->n_nodes--;
	aq_list_remove(&n->link);
	sim_body_finish(&n->body);
	sim_graph_free(n->child);
	free(n->deps.edge);
	free(n->dependents.edge);
	free(n->params);
	free(n);
}

static int set_params(struct sim_node *n)
{
	const struct sim_kernel_task *k = &n->body.task.kernel;
	uint32_t count;

	free(n->params);
	n->params = NULL;
	if (n->body.type != CU_GRAPH_NODE_TYPE_KERNEL)
		return 0;
	count = sim_kernel_task_n_params(k);
	n->params = calloc(count + 1u, sizeof(void *));
	if (!n->params)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		n->params[i] = k->params + sim_kernel_task_offset(k, i);
	return 0;
}

CUresult sim_node_add(struct sim_graph *g, struct sim_node *const *deps,
		      const CUgraphEdgeData *data, size_t n_deps, struct sim_body *b,
		      struct sim_node **ret_node)
{
	struct sim_node *n = calloc(1, sizeof(*n));
	CUresult r = CUDA_SUCCESS;

	if (!n) {
		sim_body_finish(b);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	n->magic = SIM_NODE_MAGIC;
	n->graph = g;
	n->body = *b;
	*b = (struct sim_body){.type = CU_GRAPH_NODE_TYPE_EMPTY};
	aq_list_append(&g->nodes, &n->link);
	g->n_nodes++;
	if (set_params(n) < 0)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; i < n_deps && r == CUDA_SUCCESS; i++) {
		if (!deps[i] || (uintptr_t)deps[i] < 4096 || deps[i]->magic != SIM_NODE_MAGIC ||
		    deps[i]->graph != g || edges_find(&n->deps, deps[i]))
			r = CUDA_ERROR_INVALID_VALUE;
		else
			r = connect(deps[i], n, data ? &data[i] : NULL);
	}
	if (r != CUDA_SUCCESS) {
		node_free(n);
		return r;
	}
	if (n->body.alloc)
		g->has_memory = true;
	*ret_node = n;
	return CUDA_SUCCESS;
}

CUresult sim_node_set(struct sim_node *n, struct sim_body *b)
{
	struct sim_body old = n->body;

	n->body = *b;
	if (set_params(n) < 0) {
		n->body = old;
		sim_body_finish(b);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	sim_body_finish(&old);
	return CUDA_SUCCESS;
}

/*
 * Graphs.
 */

struct sim_graph *sim_graph_create(void)
{
	struct sim_graph *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->magic = SIM_GRAPH_MAGIC;
	aq_list_init(&g->nodes);
	return g;
}

void sim_graph_free(struct sim_graph *g)
{
	if (!g)
		return;
	while (!aq_list_empty(&g->nodes))
		node_free(aq_container_of(g->nodes.prev, struct sim_node, link));
	sim_user_refs_free(g->user_refs);
	g->magic = 0;
	free(g);
}

static CUresult clone_node(const struct sim_node *n, struct sim_graph *to,
			   struct sim_node *const *copies)
{
	struct sim_body body;
	struct sim_node *copy;
	CUresult r;

	if (sim_body_dup(&n->body, &body) < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	/* Without edges yet: a node may depend on one that was made later. */
	r = sim_node_add(to, copies, NULL, 0, &body, &copy);
	if (r != CUDA_SUCCESS)
		return r;
	copy->original = n;
	if (n->child) {
		r = sim_graph_clone(n->child, &copy->child);
		if (r != CUDA_SUCCESS)
			return r;
		copy->child->is_child = true;
	}
	return CUDA_SUCCESS;
}

CUresult sim_graph_clone(struct sim_graph *g, struct sim_graph **ret_graph)
{
	struct sim_graph *to = sim_graph_create();
	struct aq_list *a, *b;
	struct sim_node **copies;
	struct sim_node *n, *tmp;
	CUresult r = CUDA_SUCCESS;
	size_t i = 0;

	copies = calloc(g->n_nodes + 1, sizeof(struct sim_node *));
	if (!to || !copies)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	if (r == CUDA_SUCCESS && sim_user_refs_copy(g->user_refs, &to->user_refs) < 0)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link) {
		if (r != CUDA_SUCCESS)
			break;
		n->index = i;
		r = clone_node(n, to, copies);
		if (r == CUDA_SUCCESS)
			copies[i++] = aq_container_of(to->nodes.prev, struct sim_node, link);
	}
	if (r == CUDA_SUCCESS) {
		for (a = g->nodes.next, b = to->nodes.next; a != &g->nodes && r == CUDA_SUCCESS;
		     a = a->next, b = b->next) {
			struct sim_edges *deps = &aq_container_of(a, struct sim_node, link)->deps;
			struct sim_node *copy = aq_container_of(b, struct sim_node, link);

			for (i = 0; i < deps->n && r == CUDA_SUCCESS; i++)
				r = connect(copies[deps->edge[i].node->index], copy,
					    &deps->edge[i].data);
		}
	}
	free(copies);
	if (r != CUDA_SUCCESS) {
		sim_graph_free(to);
		return r;
	}
	to->has_memory = g->has_memory;
	*ret_graph = to;
	return CUDA_SUCCESS;
}

/*
 * Entry points.
 */

CUresult cuGraphCreate(CUgraph *graph, unsigned int flags)
{
	struct sim_graph *g;

	SIM_ENTER();
	if (!graph || flags)
		return CUDA_ERROR_INVALID_VALUE;
	g = sim_graph_create();
	if (!g)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*graph = (CUgraph)g;
	return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph)
{
	struct sim_graph *g;
	CUresult r;

	SIM_ENTER();
	r = sim_graph_check(graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	if (g->is_child || g->captures)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graph_memory_detach(g);
	sim_graph_free(g);
	return CUDA_SUCCESS;
}

CUresult cuGraphClone(CUgraph *clone, CUgraph original)
{
	struct sim_graph *g, *to;
	CUresult r;

	SIM_ENTER();
	if (!clone)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_check(original, &g);
	if (r != CUDA_SUCCESS)
		return r;
	if (g->has_memory)
		return CUDA_ERROR_NOT_SUPPORTED;
	r = sim_graph_clone(g, &to);
	if (r == CUDA_SUCCESS)
		*clone = (CUgraph)to;
	return r;
}

CUresult cuGraphNodeFindInClone(CUgraphNode *node, CUgraphNode original_node, CUgraph cloned_graph)
{
	struct sim_node *n, *tmp;
	struct sim_graph *g;
	CUresult r;

	SIM_ENTER();
	if (!node || !original_node)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_check(cloned_graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link) {
		if (n->original != original_node)
			continue;
		*node = (CUgraphNode)n;
		return CUDA_SUCCESS;
	}
	return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	if (!type)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_node_check(node, &n);
	if (r == CUDA_SUCCESS)
		*type = n->body.type;
	return r;
}

CUresult cuGraphDestroyNode(CUgraphNode node)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = sim_node_check(node, &n);
	if (r != CUDA_SUCCESS)
		return r;
	if (n->graph->has_memory)
		return CUDA_ERROR_NOT_SUPPORTED;
	node_free(n);
	return CUDA_SUCCESS;
}

/* An array that the caller may leave out to learn the length. */
struct output {
	CUgraphNode *nodes;
	size_t room, n;
};

static void put_node(struct output *out, struct sim_node *n)
{
	if (out->nodes && out->n < out->room)
		out->nodes[out->n] = (CUgraphNode)n;
	out->n++;
}

/* What was not filled is NULL; the count is how many there are, or were written. */
static void finish_output(struct output *out, size_t *count)
{
	if (!out->nodes) {
		*count = out->n;
		return;
	}
	for (size_t i = out->n; i < out->room; i++)
		out->nodes[i] = NULL;
	*count = out->n < out->room ? out->n : out->room;
}

static CUresult get_nodes(CUgraph graph, CUgraphNode *nodes, size_t *count, bool roots_only)
{
	struct output out = {.nodes = nodes};
	struct sim_node *n, *tmp;
	struct sim_graph *g;
	CUresult r;

	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_check(graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	out.room = *count;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link)
		if (!roots_only || !n->deps.n)
			put_node(&out, n);
	finish_output(&out, count);
	return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *nnodes)
{
	SIM_ENTER();
	return get_nodes(graph, nodes, nnodes, false);
}

CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode *roots, size_t *nroots)
{
	SIM_ENTER();
	return get_nodes(graph, roots, nroots, true);
}

static bool is_plain(const CUgraphEdgeData *data)
{
	static const CUgraphEdgeData plain;

	return !memcmp(data, &plain, sizeof(plain));
}

static CUresult get_edges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *data,
			  size_t *count, bool lossy)
{
	struct sim_node *n, *tmp;
	struct sim_graph *g;
	size_t room, found = 0;
	CUresult r;

	if (!count || !from != !to)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_check(graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	room = from ? *count : 0;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link) {
		for (size_t i = 0; i < n->deps.n; i++, found++) {
			const struct sim_edge *e = &n->deps.edge[i];

			if (lossy && from && !is_plain(&e->data))
				return CUDA_ERROR_LOSSY_QUERY;
			if (found >= room)
				continue;
			from[found] = (CUgraphNode)e->node;
			to[found] = (CUgraphNode)n;
			if (data)
				data[found] = e->data;
		}
	}
	for (size_t i = found; i < room; i++) {
		from[i] = NULL;
		to[i] = NULL;
	}
	*count = from && found > room ? room : found;
	return CUDA_SUCCESS;
}

CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *nedges)
{
	SIM_ENTER();
	return get_edges(graph, from, to, NULL, nedges, true);
}

CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode *from, CUgraphNode *to,
			    CUgraphEdgeData *edges, size_t *nedges)
{
	SIM_ENTER();
	return get_edges(graph, from, to, edges, nedges, !edges);
}

/* @dependents: the other direction. */
static CUresult get_neighbours(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *data,
			       size_t *count, bool dependents)
{
	struct output out = {.nodes = nodes};
	const struct sim_edges *edges;
	struct sim_node *n;
	CUresult r;

	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_node_check(node, &n);
	if (r != CUDA_SUCCESS)
		return r;
	edges = dependents ? &n->dependents : &n->deps;
	out.room = *count;
	for (size_t i = 0; i < edges->n; i++) {
		if (nodes && !data && !is_plain(&edges->edge[i].data))
			return CUDA_ERROR_LOSSY_QUERY;
		if (nodes && data && i < out.room)
			data[i] = edges->edge[i].data;
		put_node(&out, edges->edge[i].node);
	}
	finish_output(&out, count);
	return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode *deps, size_t *ndeps)
{
	SIM_ENTER();
	return get_neighbours(node, deps, NULL, ndeps, false);
}

CUresult cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode *deps, CUgraphEdgeData *edges,
				       size_t *ndeps)
{
	SIM_ENTER();
	return get_neighbours(node, deps, edges, ndeps, false);
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode *nodes, size_t *count)
{
	SIM_ENTER();
	return get_neighbours(node, nodes, NULL, count, true);
}

CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode *nodes,
					 CUgraphEdgeData *edges, size_t *count)
{
	SIM_ENTER();
	return get_neighbours(node, nodes, edges, count, true);
}

/* Check both ends of edges before any is changed. */
static CUresult check_pairs(struct sim_graph *g, const CUgraphNode *from, const CUgraphNode *to,
			    size_t n, bool present)
{
	struct sim_node *a, *b;
	CUresult r;

	if (n && (!from || !to))
		return CUDA_ERROR_INVALID_VALUE;
	for (size_t i = 0; i < n; i++) {
		r = sim_node_check(from[i], &a);
		if (r == CUDA_SUCCESS)
			r = sim_node_check(to[i], &b);
		if (r != CUDA_SUCCESS)
			return r;
		if (a->graph != g || b->graph != g || a == b ||
		    (edges_find(&b->deps, a) != NULL) != present)
			return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

static CUresult add_dependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				 const CUgraphEdgeData *data, size_t n)
{
	struct sim_graph *g;
	CUresult r;

	r = sim_graph_check(graph, &g);
	if (r == CUDA_SUCCESS)
		r = check_pairs(g, from, to, n, false);
	for (size_t i = 0; i < n && r == CUDA_SUCCESS; i++) {
		struct sim_node *a = (struct sim_node *)from[i], *b = (struct sim_node *)to[i];

		/* Twice in one call. */
		if (edges_find(&b->deps, a))
			return CUDA_ERROR_INVALID_VALUE;
		r = connect(a, b, data ? &data[i] : NULL);
	}
	return r;
}

static CUresult remove_dependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				    size_t n)
{
	struct sim_graph *g;
	CUresult r;

	r = sim_graph_check(graph, &g);
	if (r == CUDA_SUCCESS && g->has_memory)
		r = CUDA_ERROR_NOT_SUPPORTED;
	if (r == CUDA_SUCCESS)
		r = check_pairs(g, from, to, n, true);
	for (size_t i = 0; i < n && r == CUDA_SUCCESS; i++)
		disconnect((struct sim_node *)from[i], (struct sim_node *)to[i]);
	return r;
}

CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				size_t ndeps)
{
	SIM_ENTER();
	return add_dependencies(graph, from, to, NULL, ndeps);
}

CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				   const CUgraphEdgeData *edges, size_t ndeps)
{
	SIM_ENTER();
	return add_dependencies(graph, from, to, edges, ndeps);
}

CUresult cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				   size_t ndeps)
{
	SIM_ENTER();
	return remove_dependencies(graph, from, to, ndeps);
}

CUresult cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
				      const CUgraphEdgeData *edges, size_t ndeps)
{
	SIM_ENTER();
	return remove_dependencies(graph, from, to, ndeps);
}
