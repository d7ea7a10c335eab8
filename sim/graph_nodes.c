/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points that add nodes to graphs and get or set what they do. */
#include <assert.h>
#include <string.h>

#include "graph.h"
#include "graph_memory.h"
#include "sim.h"

#include "base/banned.h"

/* Common to all that add: the graph and where the node goes. @b goes over. */
static CUresult add(CUgraphNode *ret, CUgraph graph, const CUgraphNode *deps,
		    const CUgraphEdgeData *data, size_t n_deps, struct sim_body *b)
{
	struct sim_graph *g;
	struct sim_node *n;
	CUresult r;

	r = sim_graph_check(graph, &g);
	if (r == CUDA_SUCCESS && n_deps && !deps)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r != CUDA_SUCCESS) {
		sim_body_finish(b);
		return r;
	}
	r = sim_node_add(g, (struct sim_node *const *)deps, data, n_deps, b, &n);
	if (r == CUDA_SUCCESS)
		*ret = (CUgraphNode)n;
	return r;
}

static CUresult add_child(CUgraphNode *ret, CUgraph graph, const CUgraphNode *deps,
			  const CUgraphEdgeData *data, size_t n_deps,
			  const CUDA_CHILD_GRAPH_NODE_PARAMS *p)
{
	struct sim_body b = {.type = CU_GRAPH_NODE_TYPE_GRAPH};
	struct sim_graph *child, *own;
	CUresult r;

	r = sim_graph_check(p->graph, &child);
	if (r != CUDA_SUCCESS)
		return r;
	if (p->graph == graph)
		return CUDA_ERROR_INVALID_VALUE;
	if (p->ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE) {
		if (child->is_child || child->n_execs)
			return CUDA_ERROR_INVALID_VALUE;
		own = child;
	} else {
		if (child->has_memory)
			return CUDA_ERROR_NOT_SUPPORTED;
		r = sim_graph_clone(child, &own);
		if (r != CUDA_SUCCESS)
			return r;
	}
	r = add(ret, graph, deps, data, n_deps, &b);
	if (r != CUDA_SUCCESS) {
		if (own != child)
			sim_graph_free(own);
		return r;
	}
	own->is_child = true;
	((struct sim_node *)*ret)->child = own;
	if (own->has_memory)
		((struct sim_node *)*ret)->graph->has_memory = true;
	return CUDA_SUCCESS;
}

static CUresult add_alloc(CUgraphNode *ret, CUgraph graph, const CUgraphNode *deps,
			  const CUgraphEdgeData *data, size_t n_deps, CUDA_MEM_ALLOC_NODE_PARAMS *p)
{
	struct sim_body b = {.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
	CUresult r;

	p->dptr = 0;
	r = sim_graph_alloc_create(p, &b.alloc);
	if (r != CUDA_SUCCESS)
		return r;
	p->dptr = sim_graph_alloc_address(b.alloc);
	r = add(ret, graph, deps, data, n_deps, &b);
	if (r != CUDA_SUCCESS)
		p->dptr = 0;
	return r;
}

static CUresult add_free(CUgraphNode *ret, CUgraph graph, const CUgraphNode *deps,
			 const CUgraphEdgeData *data, size_t n_deps, CUdeviceptr address)
{
	struct sim_body b = {.type = CU_GRAPH_NODE_TYPE_MEM_FREE};
	struct sim_node *n, *tmp;
	struct sim_graph *g;
	CUresult r;

	r = sim_graph_check(graph, &g);
	if (r != CUDA_SUCCESS)
		return r;
	b.alloc = sim_graph_alloc_find(address);
	if (!b.alloc)
		return CUDA_ERROR_INVALID_VALUE;
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link) {
		if (n->body.type != CU_GRAPH_NODE_TYPE_MEM_FREE || n->body.alloc != b.alloc)
			continue;
		sim_body_finish(&b); /* twice */
		return CUDA_ERROR_INVALID_VALUE;
	}
	return add(ret, graph, deps, data, n_deps, &b);
}

CUresult cuGraphAddKernelNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				 size_t ndeps, const CUDA_KERNEL_NODE_PARAMS *params)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!node || !params)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_body_kernel(params, &b);
	return r == CUDA_SUCCESS ? add(node, graph, deps, NULL, ndeps, &b) : r;
}

static CUDA_KERNEL_NODE_PARAMS kernel_from_v1(const CUDA_KERNEL_NODE_PARAMS_v1 *v1)
{
	CUDA_KERNEL_NODE_PARAMS v2 = {.func = v1->func};

	memcpy(&v2, v1, sizeof(*v1)); /* the newer one only has more at its end */
	return v2;
}

CUresult cuGraphAddKernelNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			      size_t ndeps, const CUDA_KERNEL_NODE_PARAMS_v1 *params)
{
	CUDA_KERNEL_NODE_PARAMS v2;

	if (!params)
		return cuGraphAddKernelNode_v2(node, graph, deps, ndeps, NULL);
	v2 = kernel_from_v1(params);
	return cuGraphAddKernelNode_v2(node, graph, deps, ndeps, &v2);
}

CUresult cuGraphAddMemcpyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			      size_t ndeps, const CUDA_MEMCPY3D *params, CUcontext ctx)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!node || !params)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_body_memcpy(params, ctx, &b);
	return r == CUDA_SUCCESS ? add(node, graph, deps, NULL, ndeps, &b) : r;
}

CUresult cuGraphAddMemsetNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			      size_t ndeps, const CUDA_MEMSET_NODE_PARAMS *params, CUcontext ctx)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!node || !params)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_body_memset(params, ctx, &b);
	return r == CUDA_SUCCESS ? add(node, graph, deps, NULL, ndeps, &b) : r;
}

CUresult cuGraphAddHostNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps, size_t ndeps,
			    const CUDA_HOST_NODE_PARAMS *params)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!node || !params)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_body_host(params, &b);
	return r == CUDA_SUCCESS ? add(node, graph, deps, NULL, ndeps, &b) : r;
}

CUresult cuGraphAddEmptyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			     size_t ndeps)
{
	struct sim_body b = {.type = CU_GRAPH_NODE_TYPE_EMPTY};

	SIM_ENTER();
	return node ? add(node, graph, deps, NULL, ndeps, &b) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				  size_t ndeps, CUgraph child_graph)
{
	const CUDA_CHILD_GRAPH_NODE_PARAMS p = {.graph = child_graph};

	SIM_ENTER();
	return node ? add_child(node, graph, deps, NULL, ndeps, &p) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphAddEventRecordNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				   size_t ndeps, CUevent event)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!node)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_body_event(CU_GRAPH_NODE_TYPE_EVENT_RECORD, event, &b);
	return r == CUDA_SUCCESS ? add(node, graph, deps, NULL, ndeps, &b) : r;
}

CUresult cuGraphAddEventWaitNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				 size_t ndeps, CUevent event)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!node)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_body_event(CU_GRAPH_NODE_TYPE_WAIT_EVENT, event, &b);
	return r == CUDA_SUCCESS ? add(node, graph, deps, NULL, ndeps, &b) : r;
}

CUresult cuGraphAddBatchMemOpNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				  size_t ndeps, const CUDA_BATCH_MEM_OP_NODE_PARAMS *params)
{
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	if (!node || !params)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_body_memops(params, &b);
	return r == CUDA_SUCCESS ? add(node, graph, deps, NULL, ndeps, &b) : r;
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				size_t ndeps, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	SIM_ENTER();
	if (!node || !params)
		return CUDA_ERROR_INVALID_VALUE;
	return add_alloc(node, graph, deps, NULL, ndeps, params);
}

CUresult cuGraphAddMemFreeNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			       size_t ndeps, CUdeviceptr dptr)
{
	SIM_ENTER();
	return node ? add_free(node, graph, deps, NULL, ndeps, dptr) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult add_any(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			const CUgraphEdgeData *data, size_t ndeps, CUgraphNodeParams *p)
{
	CUDA_MEM_ALLOC_NODE_PARAMS alloc;
	struct sim_body b;
	CUresult r;

	static_assert(sizeof(alloc) == sizeof(p->alloc), "v1 and v2 are alike");
	if (!node || !p)
		return CUDA_ERROR_INVALID_VALUE;
	switch (p->type) {
	case CU_GRAPH_NODE_TYPE_GRAPH:
		return add_child(node, graph, deps, data, ndeps, &p->graph);
	case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
		memcpy(&alloc, &p->alloc, sizeof(alloc));
		r = add_alloc(node, graph, deps, data, ndeps, &alloc);
		p->alloc.dptr = alloc.dptr;
		return r;
	case CU_GRAPH_NODE_TYPE_MEM_FREE:
		return add_free(node, graph, deps, data, ndeps, p->free.dptr);
	default:
		r = sim_body_of(p, &b);
		return r == CUDA_SUCCESS ? add(node, graph, deps, data, ndeps, &b) : r;
	}
}

CUresult cuGraphAddNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps, size_t ndeps,
			CUgraphNodeParams *params)
{
	SIM_ENTER();
	return add_any(node, graph, deps, NULL, ndeps, params);
}

CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
			   const CUgraphEdgeData *dep_data, size_t ndeps, CUgraphNodeParams *params)
{
	SIM_ENTER();
	return add_any(node, graph, deps, dep_data, ndeps, params);
}

/*
 * Asking and setting.
 */

static CUresult node_of(CUgraphNode handle, CUgraphNodeType type, const void *params,
			struct sim_node **ret_node)
{
	CUresult r = sim_node_check(handle, ret_node);

	if (r == CUDA_SUCCESS && ((*ret_node)->body.type != type || !params))
		r = CUDA_ERROR_INVALID_VALUE;
	return r;
}

CUresult cuGraphKernelNodeGetParams_v2(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS *params)
{
	const struct sim_kernel_task *k;
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_KERNEL, params, &n);
	if (r != CUDA_SUCCESS)
		return r;
	k = &n->body.task.kernel;
	*params = (CUDA_KERNEL_NODE_PARAMS){
		.func = (CUfunction)k->function,
		.gridDimX = k->grid[0],
		.gridDimY = k->grid[1],
		.gridDimZ = k->grid[2],
		.blockDimX = k->block[0],
		.blockDimY = k->block[1],
		.blockDimZ = k->block[2],
		.sharedMemBytes = k->shared_bytes,
		.kernelParams = sim_kernel_task_n_params(k) ? n->params : NULL,
		.ctx = sim_context_handle(n->body.ctx),
	};
	return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1 *params)
{
	CUDA_KERNEL_NODE_PARAMS v2;
	CUresult r;

	r = cuGraphKernelNodeGetParams_v2(node, params ? &v2 : NULL);
	if (r == CUDA_SUCCESS)
		memcpy(params, &v2, sizeof(*params));
	return r;
}

CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *params)
{
	struct sim_node *n;
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_KERNEL, params, &n);
	if (r == CUDA_SUCCESS)
		r = sim_body_kernel(params, &b);
	return r == CUDA_SUCCESS ? sim_node_set(n, &b) : r;
}

CUresult cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *params)
{
	CUDA_KERNEL_NODE_PARAMS v2;

	if (!params)
		return cuGraphKernelNodeSetParams_v2(node, NULL);
	v2 = kernel_from_v1(params);
	return cuGraphKernelNodeSetParams_v2(node, &v2);
}

CUresult cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D *params)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_MEMCPY, params, &n);
	if (r == CUDA_SUCCESS)
		*params = n->body.copy;
	return r;
}

CUresult cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D *params)
{
	struct sim_node *n;
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_MEMCPY, params, &n);
	if (r == CUDA_SUCCESS)
		r = sim_body_memcpy(params, sim_context_handle(n->body.ctx), &b);
	return r == CUDA_SUCCESS ? sim_node_set(n, &b) : r;
}

CUresult cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS *params)
{
	const struct sim_set_task *s;
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_MEMSET, params, &n);
	if (r != CUDA_SUCCESS)
		return r;
	s = &n->body.task.set;
	*params = (CUDA_MEMSET_NODE_PARAMS){
		.dst = s->dst,
		.pitch = s->pitch,
		.value = s->value,
		.elementSize = s->elem_bytes,
		.width = s->width,
		.height = s->height,
	};
	return CUDA_SUCCESS;
}

CUresult cuGraphMemsetNodeSetParams(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *params)
{
	struct sim_node *n;
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_MEMSET, params, &n);
	if (r == CUDA_SUCCESS)
		r = sim_body_memset(params, sim_context_handle(n->body.ctx), &b);
	return r == CUDA_SUCCESS ? sim_node_set(n, &b) : r;
}

CUresult cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS *params)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_HOST, params, &n);
	if (r == CUDA_SUCCESS)
		*params = (CUDA_HOST_NODE_PARAMS){
			.fn = n->body.task.host.fn,
			.userData = n->body.task.host.data,
		};
	return r;
}

CUresult cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS *params)
{
	struct sim_node *n;
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_HOST, params, &n);
	if (r == CUDA_SUCCESS)
		r = sim_body_host(params, &b);
	return r == CUDA_SUCCESS ? sim_node_set(n, &b) : r;
}

CUresult cuGraphBatchMemOpNodeGetParams(CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS *params)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, params, &n);
	if (r == CUDA_SUCCESS)
		*params = (CUDA_BATCH_MEM_OP_NODE_PARAMS){
			.ctx = sim_context_handle(n->body.ctx),
			.count = n->body.task.memops.count,
			.paramArray = n->body.task.memops.ops,
		};
	return r;
}

CUresult cuGraphBatchMemOpNodeSetParams(CUgraphNode node,
					const CUDA_BATCH_MEM_OP_NODE_PARAMS *params)
{
	struct sim_node *n;
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, params, &n);
	if (r == CUDA_SUCCESS)
		r = sim_body_memops(params, &b);
	return r == CUDA_SUCCESS ? sim_node_set(n, &b) : r;
}

static CUresult get_event(CUgraphNode node, CUgraphNodeType type, CUevent *event)
{
	struct sim_node *n;
	CUresult r = node_of(node, type, event, &n);

	if (r == CUDA_SUCCESS)
		*event = (CUevent)n->body.event;
	return r;
}

static CUresult set_event(CUgraphNode node, CUgraphNodeType type, CUevent event)
{
	struct sim_node *n;
	struct sim_body b;
	CUresult r;

	r = node_of(node, type, event, &n);
	if (r == CUDA_SUCCESS)
		r = sim_body_event(type, event, &b);
	return r == CUDA_SUCCESS ? sim_node_set(n, &b) : r;
}

CUresult cuGraphEventRecordNodeGetEvent(CUgraphNode node, CUevent *event)
{
	SIM_ENTER();
	return get_event(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

CUresult cuGraphEventRecordNodeSetEvent(CUgraphNode node, CUevent event)
{
	SIM_ENTER();
	return set_event(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

CUresult cuGraphEventWaitNodeGetEvent(CUgraphNode node, CUevent *event)
{
	SIM_ENTER();
	return get_event(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}

CUresult cuGraphEventWaitNodeSetEvent(CUgraphNode node, CUevent event)
{
	SIM_ENTER();
	return set_event(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *graph)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_GRAPH, graph, &n);
	if (r == CUDA_SUCCESS)
		*graph = (CUgraph)n->child;
	return r;
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_MEM_ALLOC, params, &n);
	if (r == CUDA_SUCCESS)
		sim_graph_alloc_params(n->body.alloc, params);
	return r;
}

CUresult cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr *dptr)
{
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	r = node_of(node, CU_GRAPH_NODE_TYPE_MEM_FREE, dptr, &n);
	if (r == CUDA_SUCCESS)
		*dptr = sim_graph_alloc_address(n->body.alloc);
	return r;
}

CUresult cuGraphNodeSetParams(CUgraphNode node, CUgraphNodeParams *params)
{
	struct sim_node *n;
	struct sim_body b;
	CUresult r;

	SIM_ENTER();
	r = sim_node_check(node, &n);
	if (r != CUDA_SUCCESS)
		return r;
	if (!params || params->type != n->body.type)
		return CUDA_ERROR_INVALID_VALUE;
	if (n->body.alloc || n->child) /* what these are is fixed */
		return CUDA_ERROR_NOT_SUPPORTED;
	r = sim_body_of(params, &b);
	return r == CUDA_SUCCESS ? sim_node_set(n, &b) : r;
}
