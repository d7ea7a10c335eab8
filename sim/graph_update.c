/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to instantiated graphs. Launches under way go on with what they began with: a plan that
 * they refer to is copied before it is changed.
 */
#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "graph.h"
#include "graph_memory.h"

#include "base/banned.h"

/* Make the plan of @x one that nobody else refers to. */
static CUresult own_plan(struct sim_graph_exec *x)
{
	struct sim_plan *copy;
	CUresult r = CUDA_SUCCESS;

	sim_exec_lock();
	if (x->plan->refs > 1) {
		copy = sim_plan_copy(x->plan);
		if (copy) {
			sim_plan_put(x->plan);
			x->plan = copy;
		} else {
			r = CUDA_ERROR_OUT_OF_MEMORY;
		}
	}
	sim_exec_unlock();
	return r;
}

static struct sim_plan_node *find(struct sim_graph_exec *x, CUgraphNode node)
{
	for (size_t i = 0; i < x->plan->n_nodes; i++)
		if (x->plan->nodes[i].origin == node)
			return &x->plan->nodes[i];
	return NULL;
}

/* What an update of a single node may change: not the kind of thing that it does, nor where. */
static CUresult compatible(const struct sim_body *old, const struct sim_body *b)
{
	if (old->type != b->type)
		return CUDA_ERROR_INVALID_VALUE;
	switch (b->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL:
		return old->ctx == b->ctx ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return old->ctx == b->ctx && old->task.copy.route == b->task.copy.route &&
				       !old->task.copy.src.array == !b->task.copy.src.array &&
				       !old->task.copy.dst.array == !b->task.copy.dst.array
			       ? CUDA_SUCCESS
			       : CUDA_ERROR_INVALID_VALUE;
	case CU_GRAPH_NODE_TYPE_MEMSET:
		return old->ctx == b->ctx ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
	default:
		return CUDA_SUCCESS;
	}
}

/* Replace what a node does. @b goes over. */
static CUresult set_body(CUgraphExec exec, CUgraphNode node, struct sim_body *b)
{
	struct sim_graph_exec *x;
	struct sim_plan_node *n;
	CUresult r;

	r = sim_graph_exec_check(exec, &x);
	if (r == CUDA_SUCCESS && !find(x, node))
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		r = compatible(&find(x, node)->body, b);
	if (r == CUDA_SUCCESS)
		r = own_plan(x);
	if (r != CUDA_SUCCESS) {
		sim_body_finish(b);
		return r;
	}
	n = find(x, node);
	sim_body_finish(&n->body);
	n->body = *b;
	sim_plan_refresh(x->plan);
	return CUDA_SUCCESS;
}

CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
					   const CUDA_KERNEL_NODE_PARAMS *params)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = params ? sim_body_kernel(params, &b) : CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
					const CUDA_KERNEL_NODE_PARAMS_v1 *params)
{
	CUDA_KERNEL_NODE_PARAMS v2 = {0};

	if (!params)
		return cuGraphExecKernelNodeSetParams_v2(exec, node, NULL);
	memcpy(&v2, params, sizeof(*params)); /* the newer one only has more at its end */
	return cuGraphExecKernelNodeSetParams_v2(exec, node, &v2);
}

CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node,
					const CUDA_MEMCPY3D *params, CUcontext ctx)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = params ? sim_body_memcpy(params, ctx, &b) : CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
					const CUDA_MEMSET_NODE_PARAMS *params, CUcontext ctx)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = params ? sim_body_memset(params, ctx, &b) : CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

CUresult cuGraphExecHostNodeSetParams(CUgraphExec exec, CUgraphNode node,
				      const CUDA_HOST_NODE_PARAMS *params)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = params ? sim_body_host(params, &b) : CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec exec, CUgraphNode node,
					    const CUDA_BATCH_MEM_OP_NODE_PARAMS *params)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = params ? sim_body_memops(params, &b) : CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

CUresult cuGraphExecEventRecordNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = sim_body_event(CU_GRAPH_NODE_TYPE_EVENT_RECORD, event, &b);
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

CUresult cuGraphExecEventWaitNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = sim_body_event(CU_GRAPH_NODE_TYPE_WAIT_EVENT, event, &b);
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

/* The nodes of a child graph are in the plan by themselves: pair them with those of the new one. */
static CUresult set_child(CUgraphExec exec, struct sim_graph *old, struct sim_graph *new)
{
	struct aq_list *a, *b;
	CUresult r = CUDA_SUCCESS;

	if (old->n_nodes != new->n_nodes)
		return CUDA_ERROR_INVALID_VALUE;
	for (a = old->nodes.next, b = new->nodes.next; a != &old->nodes &&r == CUDA_SUCCESS;
	     a = a->next, b = b->next) {
		struct sim_node *from = aq_container_of(a, struct sim_node, link);
		struct sim_node *to = aq_container_of(b, struct sim_node, link);
		struct sim_body body;

		if (from->body.type != to->body.type || from->deps.n != to->deps.n)
			return CUDA_ERROR_INVALID_VALUE;
		if (from->child) {
			r = set_child(exec, from->child, to->child);
			continue;
		}
		if (sim_body_dup(&to->body, &body) < 0)
			return CUDA_ERROR_OUT_OF_MEMORY;
		r = set_body(exec, (CUgraphNode)from, &body);
	}
	return r;
}

CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraph child_graph)
{
	struct sim_graph_exec *x;
	struct sim_graph *g;
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = sim_graph_exec_check(exec, &x);
	if (r == CUDA_SUCCESS)
		r = sim_node_check(node, &n);
	if (r == CUDA_SUCCESS)
		r = sim_graph_check(child_graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	if (!n->child)
		return CUDA_ERROR_INVALID_VALUE;
	return set_child(exec, n->child, g);
}

CUresult cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *params)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!params)
		return CUDA_ERROR_INVALID_VALUE;
	if (params->type == CU_GRAPH_NODE_TYPE_GRAPH)
		return cuGraphExecChildGraphNodeSetParams(exec, node, params->graph.graph);
	r = sim_body_of(params, &b);
	return r == CUDA_SUCCESS ? set_body(exec, node, &b) : r;
}

CUresult cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int is_enabled)
{
	struct sim_graph_exec *x;
	struct sim_plan_node *n;
	CUresult r;

	SIM_ENTER();
	r = sim_graph_exec_check(exec, &x);
	if (r != CUDA_SUCCESS)
		return r;
	n = find(x, node);
	if (!n || (n->body.type != CU_GRAPH_NODE_TYPE_KERNEL &&
		   n->body.type != CU_GRAPH_NODE_TYPE_MEMCPY &&
		   n->body.type != CU_GRAPH_NODE_TYPE_MEMSET))
		return CUDA_ERROR_INVALID_VALUE;
	r = own_plan(x);
	if (r != CUDA_SUCCESS)
		return r;
	find(x, node)->disabled = !is_enabled;
	sim_plan_refresh(x->plan);
	return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int *is_enabled)
{
	struct sim_graph_exec *x;
	struct sim_plan_node *n;
	CUresult r;

	SIM_ENTER();
	if (!is_enabled)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_graph_exec_check(exec, &x);
	if (r != CUDA_SUCCESS)
		return r;
	n = find(x, node);
	if (!n)
		return CUDA_ERROR_INVALID_VALUE;
	*is_enabled = !n->disabled;
	return CUDA_SUCCESS;
}

/*
 * Update from a whole graph: node by node in order of creation.
 */

/* @ret_info: the first difference that is not allowed. */
static bool same_shape(const struct sim_plan *old, const struct sim_plan *new,
		       CUgraphExecUpdateResultInfo *ret_info)
{
	if (old->n_nodes != new->n_nodes) {
		ret_info->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
		return false;
	}
	for (size_t i = 0; i < new->n_nodes; i++) {
		const struct sim_plan_node *a = &old->nodes[i], *b = &new->nodes[i];

		ret_info->errorNode = (CUgraphNode)b->node;
		ret_info->errorFromNode = (CUgraphNode)a->origin;
		if (a->body.type != b->body.type) {
			ret_info->result = CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
			return false;
		}
		if (a->n_deps != b->n_deps ||
		    memcmp(a->deps, b->deps, a->n_deps * sizeof(*a->deps))) {
			ret_info->result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
			return false;
		}
		/* Memory nodes stand for their addresses. */
		if (a->body.alloc != b->body.alloc ||
		    compatible(&a->body, &b->body) != CUDA_SUCCESS) {
			ret_info->result = CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
			return false;
		}
	}
	ret_info->errorNode = NULL;
	ret_info->errorFromNode = NULL;
	return true;
}

static CUresult update(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
	struct sim_graph_exec *x;
	struct sim_plan *plan;
	struct sim_node *error;
	struct sim_graph *g;
	CUresult r;

	*info = (CUgraphExecUpdateResultInfo){.result = CU_GRAPH_EXEC_UPDATE_ERROR};
	r = sim_graph_exec_check(exec, &x);
	if (r == CUDA_SUCCESS)
		r = sim_graph_check(graph, &g);
	if (r == CUDA_SUCCESS)
		r = sim_plan_make(g, &plan, &error);
	if (r != CUDA_SUCCESS)
		return r;
	sim_exec_lock();
	if (same_shape(x->plan, plan, info)) {
		/* Nodes go by the names that they had when it was instantiated. */
		for (size_t i = 0; i < plan->n_nodes; i++) {
			plan->nodes[i].origin = x->plan->nodes[i].origin;
			plan->nodes[i].disabled = x->plan->nodes[i].disabled;
			plan->nodes[i].slot = x->plan->nodes[i].slot;
		}
		sim_plan_refresh(plan);
		sim_plan_put(x->plan);
		x->plan = plan;
		info->result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
	} else {
		sim_plan_put(plan);
		r = CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
	}
	sim_exec_unlock();
	return r;
}

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
	SIM_ENTER();
	return info ? update(exec, graph, info) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *ret_error_node,
			   CUgraphExecUpdateResult *result)
{
	CUgraphExecUpdateResultInfo info;
	CUresult r;

	SIM_ENTER();
	if (!result)
		return CUDA_ERROR_INVALID_VALUE;
	r = update(exec, graph, &info);
	if (ret_error_node)
		*ret_error_node = info.errorNode;
	*result = info.result;
	return r;
}
