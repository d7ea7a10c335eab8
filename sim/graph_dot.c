/* SPDX-License-Identifier: Apache-2.0 */
/* Draws graphs as text for graphviz. The layout of the text is this project's own. */
#include <stdio.h>

#include "graph.h"
#include "graph_memory.h"
#include "module.h"
#include "sim.h"

#include "base/banned.h"

static const char *const type_names[] = {
	[CU_GRAPH_NODE_TYPE_KERNEL] = "KERNEL",
	[CU_GRAPH_NODE_TYPE_MEMCPY] = "MEMCPY",
	[CU_GRAPH_NODE_TYPE_MEMSET] = "MEMSET",
	[CU_GRAPH_NODE_TYPE_HOST] = "HOST",
	[CU_GRAPH_NODE_TYPE_GRAPH] = "GRAPH",
	[CU_GRAPH_NODE_TYPE_EMPTY] = "EMPTY",
	[CU_GRAPH_NODE_TYPE_WAIT_EVENT] = "WAIT_EVENT",
	[CU_GRAPH_NODE_TYPE_EVENT_RECORD] = "EVENT_RECORD",
	[CU_GRAPH_NODE_TYPE_MEM_ALLOC] = "MEM_ALLOC",
	[CU_GRAPH_NODE_TYPE_MEM_FREE] = "MEM_FREE",
	[CU_GRAPH_NODE_TYPE_BATCH_MEM_OP] = "BATCH_MEM_OP",
};

static void draw_label(FILE *f, const struct sim_node *n, unsigned int flags)
{
	const struct sim_body *b = &n->body;

	fprintf(f, "%s", type_names[b->type]);
	if (flags & CU_GRAPH_DEBUG_DOT_FLAGS_HANDLES)
		fprintf(f, "\\n%p", (const void *)n);
	switch (b->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		fprintf(f, "\\n%s", b->task.kernel.function->entry->name);
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE |
			     CU_GRAPH_DEBUG_DOT_FLAGS_KERNEL_NODE_PARAMS))
			fprintf(f, "\\n(%u,%u,%u) x (%u,%u,%u), %u bytes", b->task.kernel.grid[0],
				b->task.kernel.grid[1], b->task.kernel.grid[2],
				b->task.kernel.block[0], b->task.kernel.block[1],
				b->task.kernel.block[2], b->task.kernel.shared_bytes);
		break;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE |
			     CU_GRAPH_DEBUG_DOT_FLAGS_MEMCPY_NODE_PARAMS))
			fprintf(f, "\\n%zu x %zu x %zu bytes", b->task.copy.width_bytes,
				b->task.copy.height, b->task.copy.depth);
		break;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE |
			     CU_GRAPH_DEBUG_DOT_FLAGS_MEMSET_NODE_PARAMS))
			fprintf(f, "\\n0x%llx = 0x%x, %zu x %zu of %u bytes", b->task.set.dst,
				b->task.set.value, b->task.set.width, b->task.set.height,
				b->task.set.elem_bytes);
		break;
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		if (flags & (CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE |
			     CU_GRAPH_DEBUG_DOT_FLAGS_MEM_ALLOC_NODE_PARAMS |
			     CU_GRAPH_DEBUG_DOT_FLAGS_MEM_FREE_NODE_PARAMS))
			fprintf(f, "\\n0x%llx", sim_graph_alloc_address(b->alloc));
		break;
	default:
		break;
	}
}

/* @prefix: makes the names of child graphs' nodes their own. */
static void draw(FILE *f, struct sim_graph *g, const char *prefix, unsigned int flags, int depth)
{
	struct sim_node *n, *tmp;
	size_t i = 0;

	AQ_LIST_FOREACH (n, tmp, &g->nodes, link) {
		n->index = i++;
		fprintf(f, "\"%s%zu\" [shape=\"box\" label=\"", prefix, n->index);
		draw_label(f, n, flags);
		fprintf(f, "\"];\n");
	}
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link)
		for (i = 0; i < n->deps.n; i++)
			fprintf(f, "\"%s%zu\" -> \"%s%zu\";\n", prefix, n->deps.edge[i].node->index,
				prefix, n->index);
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link) {
		char inner[256]; /* 8 times a number and a sign */

		if (!n->child || depth >= 8 ||
		    snprintf(inner, sizeof(inner), "%s%zu_", prefix, n->index) >= (int)sizeof(inner))
			continue;
		fprintf(f, "subgraph \"cluster_%s\" {\n", inner);
		draw(f, n->child, inner, flags, depth + 1);
		fprintf(f, "}\n");
	}
}

CUresult cuGraphDebugDotPrint(CUgraph graph, const char *path, unsigned int flags)
{
	struct sim_graph *g;
	CUresult r;
	FILE *f;

	SIM_ENTER();
	if (!path)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_check(graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	f = fopen(path, "we");
	if (!f)
		return CUDA_ERROR_OPERATING_SYSTEM;
	fprintf(f, "digraph dot {\nsubgraph \"cluster_graph\" {\n");
	draw(f, g, "graph_", flags, 0);
	fprintf(f, "}\n}\n");
	return fclose(f) == 0 ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}
