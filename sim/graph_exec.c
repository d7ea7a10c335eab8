/* SPDX-License-Identifier: Apache-2.0 */
/* Instantiated graphs: made, launched, changed, destroyed. What a launch does is graph_run.c's. */
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "exec.h"
#include "graph.h"
#include "graph_memory.h"
#include "graph_run.h"

#include "base/banned.h"

/* Device memory of an instantiated graph besides that of allocation nodes. Guess: launch
 * descriptors of kernels are some hundred bytes, and buffers come in pages. */
#define EXEC_BYTES 65536u
#define EXEC_NODE_BYTES 1024u

CUresult sim_graph_exec_check(CUgraphExec handle, struct sim_graph_exec **ret_exec)
{
	struct sim_graph_exec *x = (struct sim_graph_exec *)handle;

	if ((uintptr_t)handle < 4096 || x->magic != SIM_GRAPH_EXEC_MAGIC)
		return CUDA_ERROR_INVALID_VALUE;
	*ret_exec = x;
	return CUDA_SUCCESS;
}

static void exec_free(struct sim_graph_exec *x)
{
	struct sim_exec *e, *tmp;
	struct sim_context *charged = NULL;

	sim_graph_memory_release(x);
	if (x->graph)
		x->graph->n_execs--;
	sim_exec_lock();
	sim_plan_put(x->plan);
	sim_mark_put(x->last);
	/* A context that ended gave its charges back itself. */
	AQ_LIST_FOREACH (e, tmp, &sim_executor.execs, link)
		if (e->id == x->charged_id)
			charged = e->ctx;
	sim_exec_unlock();
	if (charged)
		sim_release_module(charged, x->charged_bytes);
	x->magic = 0;
	free(x);
}

static CUresult charge(struct sim_graph_exec *x, struct sim_context *ctx)
{
	uint64_t bytes = EXEC_BYTES + x->plan->n_nodes * EXEC_NODE_BYTES;
	CUresult r = sim_charge_module(ctx, bytes);

	if (r == CUDA_SUCCESS) {
		x->charged_id = ctx->exec->id;
		x->charged_bytes = bytes;
	}
	return r;
}

static CUresult upload(struct sim_graph_exec *x, CUstream stream, bool per_thread)
{
	struct sim_stream *s;
	CUresult r = sim_stream_resolve(stream, per_thread, &s);

	if (r == CUDA_SUCCESS && sim_stream_capturing(s)) {
		sim_capture_invalidate(s);
		r = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	return r == CUDA_SUCCESS ? sim_graph_memory_map(x) : r;
}

/* @ret_result: why not, for those who ask so exactly. */
static CUresult instantiate(CUgraphExec *ret, CUgraph graph, unsigned long long flags,
			    CUgraphNode *ret_error, CUgraphInstantiateResult *ret_result)
{
	const unsigned long long all = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
				       CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
				       CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH |
				       CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
	struct sim_node *error = NULL;
	struct sim_graph_exec *x;
	struct sim_context *ctx;
	struct sim_graph *g;
	CUresult r;

	*ret_error = NULL;
	*ret_result = CUDA_GRAPH_INSTANTIATE_ERROR;
	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_check(graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	if (flags & ~all)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) {
		*ret_result = CUDA_GRAPH_INSTANTIATE_NODE_OPERATION_NOT_SUPPORTED;
		return CUDA_ERROR_NOT_SUPPORTED;
	}
	r = sim_current_live(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	/* Memory nodes have one address each: two graphs cannot use it. */
	if (g->has_memory && g->n_execs)
		return CUDA_ERROR_NOT_SUPPORTED;

	x = calloc(1, sizeof(*x));
	if (!x)
		return CUDA_ERROR_OUT_OF_MEMORY;
	x->magic = SIM_GRAPH_EXEC_MAGIC;
	x->flags = flags;
	r = sim_plan_make(g, &x->plan, &error);
	if (r != CUDA_SUCCESS) {
		free(x);
		*ret_error = (CUgraphNode)error;
		if (error)
			*ret_result = CUDA_GRAPH_INSTANTIATE_INVALID_STRUCTURE;
		return r;
	}
	if (g->has_memory) {
		x->graph = g;
		g->n_execs++;
	}
	r = sim_graph_memory_instantiate(x);
	if (r == CUDA_SUCCESS)
		r = charge(x, ctx);
	if (r != CUDA_SUCCESS) {
		exec_free(x);
		return r;
	}
	*ret_result = CUDA_GRAPH_INSTANTIATE_SUCCESS;
	*ret = (CUgraphExec)x;
	return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
	CUgraphInstantiateResult result;
	CUgraphNode error;

	SIM_ENTER();
	return instantiate(exec, graph, flags, &error, &result);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *error_node,
			       char *log_buffer, size_t buffer_size)
{
	CUgraphInstantiateResult result;
	CUgraphNode error;
	CUresult r;

	SIM_ENTER();
	r = instantiate(exec, graph, 0, &error, &result);
	if (error_node)
		*error_node = error;
	if (log_buffer && buffer_size)
		log_buffer[0] = '\0';
	return r;
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, CUgraphNode *error_node,
			    char *log_buffer, size_t buffer_size)
{
	return cuGraphInstantiate_v2(exec, graph, error_node, log_buffer, buffer_size);
}

static CUresult with_params(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *p,
			    bool per_thread)
{
	CUresult r;

	if (!p)
		return CUDA_ERROR_INVALID_VALUE;
	r = instantiate(exec, graph, p->flags, &p->hErrNode_out, &p->result_out);
	if (r == CUDA_SUCCESS && p->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) {
		r = upload((struct sim_graph_exec *)*exec, p->hUploadStream, per_thread);
		if (r != CUDA_SUCCESS) {
			exec_free((struct sim_graph_exec *)*exec);
			p->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
		}
	}
	return r;
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph,
				      CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	SIM_ENTER();
	return with_params(exec, graph, params, false);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph,
					   CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	SIM_ENTER();
	return with_params(exec, graph, params, true);
}

CUresult cuGraphExecGetFlags(CUgraphExec exec, cuuint64_t *flags)
{
	struct sim_graph_exec *x;
	CUresult r;

	SIM_ENTER();
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_exec_check(exec, &x);
	if (r == CUDA_SUCCESS)
		*flags = x->flags;
	return r;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	struct sim_graph_exec *x;
	CUresult r;

	SIM_ENTER();
	r = sim_graph_exec_check(exec, &x);
	if (r != CUDA_SUCCESS)
		return r;
	/* Launches hold what they need, but for memory, which must not go under them. */
	if (x->plan->has_memory && x->last) {
		sim_exec_lock();
		sim_wait_mark(NULL, x->last);
		sim_exec_unlock();
	}
	exec_free(x);
	return CUDA_SUCCESS;
}

/*
 * Launching.
 */

/* A launch into a capture becomes a child graph, remade from the plan. */
static CUresult capture_launch(struct sim_stream *s, struct sim_graph_exec *x)
{
	struct sim_graph *g = sim_graph_create();
	struct sim_plan *p = x->plan;
	struct sim_node **nodes, **deps;
	CUresult r = CUDA_SUCCESS;

	if (p->has_memory) {
		sim_graph_free(g);
		sim_capture_invalidate(s);
		return CUDA_ERROR_NOT_SUPPORTED;
	}
	nodes = calloc(p->n_nodes + 1, sizeof(struct sim_node *));
	deps = calloc(p->n_nodes + 1, sizeof(struct sim_node *));
	if (!g || !nodes || !deps)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	for (size_t i = 0; i < p->n_nodes && r == CUDA_SUCCESS; i++) {
		struct sim_body b = {.type = CU_GRAPH_NODE_TYPE_EMPTY};

		if (!p->nodes[i].disabled && sim_body_dup(&p->nodes[i].body, &b) < 0) {
			r = CUDA_ERROR_OUT_OF_MEMORY;
			break;
		}
		for (size_t k = 0; k < p->nodes[i].n_deps; k++)
			deps[k] = nodes[p->nodes[i].deps[k]];
		r = sim_node_add(g, deps, NULL, p->nodes[i].n_deps, &b, &nodes[i]);
	}
	free(nodes);
	free(deps);
	if (r != CUDA_SUCCESS) {
		sim_graph_free(g);
		return r;
	}
	return sim_capture_child(s, g);
}

static CUresult launch(CUgraphExec exec, CUstream stream, bool per_thread)
{
	struct sim_task t = {.kind = SIM_TASK_GRAPH};
	struct sim_graph_exec *x;
	struct sim_stream *s;
	struct sim_mark *end, *before;
	CUresult r;

	r = sim_graph_exec_check(exec, &x);
	if (r == CUDA_SUCCESS)
		r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (sim_stream_capturing(s))
		return capture_launch(s, x);
	r = sim_capture_check(s);
	if (r == CUDA_SUCCESS)
		r = sim_graph_memory_map(x);
	if (r != CUDA_SUCCESS)
		return r;
	sim_exec_lock();
	end = sim_mark_create();
	t.graph = end ? sim_graph_run_create(x->plan, x->last, end) : NULL;
	if (!t.graph) {
		sim_mark_put(end);
		sim_exec_unlock();
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	before = x->last;
	x->last = end;
	sim_exec_unlock();
	r = sim_graph_memory_launch(x);
	if (r == CUDA_SUCCESS)
		r = sim_submit(s, &t, false);
	sim_exec_lock();
	sim_graph_run_free(t.graph); /* ours again when all of it was issued at once */
	if (r != CUDA_SUCCESS) {
		x->last = before;
		before = end;
	}
	sim_mark_put(before);
	sim_exec_unlock();
	return r;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return launch(exec, stream, false);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return launch(exec, stream, true);
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
	struct sim_graph_exec *x;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_graph_exec_check(exec, &x);
	return r == CUDA_SUCCESS ? upload(x, stream, false) : r;
}

CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream)
{
	struct sim_graph_exec *x;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_graph_exec_check(exec, &x);
	return r == CUDA_SUCCESS ? upload(x, stream, true) : r;
}
