/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes do: made of parameters, checked as the calls that do the same thing at once. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exec.h"
#include "graph.h"
#include "graph_memory.h"
#include "launch.h"
#include "memops.h"
#include "plan.h"

#include "base/banned.h"

CUresult sim_body_task(struct sim_task *t, struct sim_context *ctx, struct sim_body *b)
{
	static const CUgraphNodeType types[] = {
		[SIM_TASK_EMPTY] = CU_GRAPH_NODE_TYPE_EMPTY,
		[SIM_TASK_KERNEL] = CU_GRAPH_NODE_TYPE_KERNEL,
		[SIM_TASK_COPY] = CU_GRAPH_NODE_TYPE_MEMCPY,
		[SIM_TASK_SET] = CU_GRAPH_NODE_TYPE_MEMSET,
		[SIM_TASK_HOST] = CU_GRAPH_NODE_TYPE_HOST,
		[SIM_TASK_MEMOPS] = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
	};
	struct sim_task copy;

	if (sim_task_dup(&copy, t) < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*b = (struct sim_body){.type = types[t->kind], .ctx = ctx, .task = copy};
	if (t->kind == SIM_TASK_COPY)
		sim_plan_describe(&t->copy, &b->copy);
	return CUDA_SUCCESS;
}

static CUresult set_attr(struct sim_body *b, CUlaunchAttributeID id,
			 const CUlaunchAttributeValue *value)
{
	CUlaunchAttribute *attrs;

	for (unsigned int i = 0; i < b->n_attrs; i++) {
		if (b->attrs[i].id != id)
			continue;
		b->attrs[i].value = *value;
		return CUDA_SUCCESS;
	}
	attrs = reallocarray(b->attrs, b->n_attrs + 1u, sizeof(*attrs));
	if (!attrs)
		return CUDA_ERROR_OUT_OF_MEMORY;
	b->attrs = attrs;
	attrs[b->n_attrs++] = (CUlaunchAttribute){.id = id, .value = *value};
	return CUDA_SUCCESS;
}

CUresult sim_body_kernel(const CUDA_KERNEL_NODE_PARAMS *p, struct sim_body *b)
{
	uint8_t local[SIM_LAUNCH_LOCAL_BYTES] __attribute__((aligned(16)));
	const CUlaunchConfig config = {
		.gridDimX = p->gridDimX,
		.gridDimY = p->gridDimY,
		.gridDimZ = p->gridDimZ,
		.blockDimX = p->blockDimX,
		.blockDimY = p->blockDimY,
		.blockDimZ = p->blockDimZ,
		.sharedMemBytes = p->sharedMemBytes,
	};
	struct sim_context *ctx;
	struct sim_function *f;
	struct sim_task t;
	CUresult r;

	if (!p->func == !p->kern)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_context_check(p->ctx, &ctx);
	if (r == CUDA_SUCCESS)
		r = sim_function_check(p->func ? p->func : (CUfunction)p->kern, ctx, &f);
	if (r == CUDA_SUCCESS)
		r = sim_launch_prepare(f, &config, p->kernelParams, p->extra, local, &t);
	return r == CUDA_SUCCESS ? sim_body_task(&t, f->ctx, b) : r;
}

CUresult sim_body_memcpy(const CUDA_MEMCPY3D *p, CUcontext handle, struct sim_body *b)
{
	CUDA_MEMCPY3D_PEER wide;
	struct sim_context *ctx;
	struct sim_task t;
	CUresult r;

	r = sim_context_check(handle, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	sim_plan_from_3d(p, &wide);
	r = sim_plan_box(&wide, &t);
	if (r == CUDA_SUCCESS && sim_plan_is_empty(&t))
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		r = sim_body_task(&t, ctx, b);
	if (r == CUDA_SUCCESS)
		b->copy = *p;
	return r;
}

CUresult sim_body_memset(const CUDA_MEMSET_NODE_PARAMS *p, CUcontext handle, struct sim_body *b)
{
	struct sim_context *ctx;
	struct sim_task t;
	CUresult r;

	r = sim_context_check(handle, &ctx);
	if (r == CUDA_SUCCESS)
		r = sim_plan_set(p->dst, p->pitch, p->value, p->elementSize, p->width, p->height,
				 &t);
	if (r == CUDA_SUCCESS && sim_plan_is_empty(&t))
		r = CUDA_ERROR_INVALID_VALUE;
	return r == CUDA_SUCCESS ? sim_body_task(&t, ctx, b) : r;
}

CUresult sim_body_host(const CUDA_HOST_NODE_PARAMS *p, struct sim_body *b)
{
	struct sim_task t = {
		.kind = SIM_TASK_HOST,
		.host = {.fn = p->fn, .data = p->userData},
	};

	return p->fn ? sim_body_task(&t, NULL, b) : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_body_memops(const CUDA_BATCH_MEM_OP_NODE_PARAMS *p, struct sim_body *b)
{
	struct sim_task t = {
		.kind = SIM_TASK_MEMOPS,
		.memops = {.count = p->count, .ops = p->paramArray},
	};
	struct sim_context *ctx;
	CUresult r;

	r = sim_context_check(p->ctx, &ctx);
	if (r == CUDA_SUCCESS)
		r = sim_memops_check(p->count, p->paramArray, p->flags);
	return r == CUDA_SUCCESS ? sim_body_task(&t, ctx, b) : r;
}

CUresult sim_body_event(CUgraphNodeType type, CUevent handle, struct sim_body *b)
{
	struct sim_event *e;
	CUresult r = sim_event_check(handle, &e);

	if (r != CUDA_SUCCESS)
		return r;
	/* Of two processes: the other could not know that it has to wait for a launch. */
	if (e->shared)
		return CUDA_ERROR_NOT_SUPPORTED;
	*b = (struct sim_body){.type = type, .ctx = e->exec->ctx, .event = e};
	return CUDA_SUCCESS;
}

CUresult sim_body_of(const CUgraphNodeParams *p, struct sim_body *b)
{
	switch (p->type) {
	case CU_GRAPH_NODE_TYPE_KERNEL: {
		CUDA_KERNEL_NODE_PARAMS v2;

		static_assert(sizeof(v2) == sizeof(p->kernel), "v2 and v3 are alike");
		memcpy(&v2, &p->kernel, sizeof(v2));
		return sim_body_kernel(&v2, b);
	}
	case CU_GRAPH_NODE_TYPE_MEMCPY:
		return sim_body_memcpy(&p->memcpy.copyParams, p->memcpy.copyCtx, b);
	case CU_GRAPH_NODE_TYPE_MEMSET: {
		const CUDA_MEMSET_NODE_PARAMS v1 = {
			.dst = p->memset.dst,
			.pitch = p->memset.pitch,
			.value = p->memset.value,
			.elementSize = p->memset.elementSize,
			.width = p->memset.width,
			.height = p->memset.height,
		};

		return sim_body_memset(&v1, p->memset.ctx, b);
	}
	case CU_GRAPH_NODE_TYPE_HOST: {
		const CUDA_HOST_NODE_PARAMS v1 = {.fn = p->host.fn, .userData = p->host.userData};

		return sim_body_host(&v1, b);
	}
	case CU_GRAPH_NODE_TYPE_EMPTY:
		*b = (struct sim_body){.type = CU_GRAPH_NODE_TYPE_EMPTY};
		return CUDA_SUCCESS;
	case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
		return sim_body_event(p->type, p->eventWait.event, b);
	case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
		return sim_body_event(p->type, p->eventRecord.event, b);
	case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP: {
		const CUDA_BATCH_MEM_OP_NODE_PARAMS v1 = {
			.ctx = p->memOp.ctx,
			.count = p->memOp.count,
			.paramArray = p->memOp.paramArray,
			.flags = p->memOp.flags,
		};

		return sim_body_memops(&v1, b);
	}
	case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
	case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
	case CU_GRAPH_NODE_TYPE_CONDITIONAL:
		return CUDA_ERROR_NOT_SUPPORTED;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
}

int sim_body_dup(const struct sim_body *from, struct sim_body *to)
{
	struct sim_task task;
	CUlaunchAttribute *attrs = NULL;

	if (from->n_attrs) {
		attrs = reallocarray(NULL, from->n_attrs, sizeof(*attrs));
		if (!attrs)
			return -ENOMEM;
		memcpy(attrs, from->attrs, from->n_attrs * sizeof(*attrs));
	}
	/* Only operations of streams have something that is moved. */
	if (sim_task_dup(&task, (struct sim_task *)&from->task) < 0) {
		free(attrs);
		return -ENOMEM;
	}
	*to = *from;
	to->task = task;
	to->attrs = attrs;
	if (to->alloc)
		sim_graph_alloc_get(to->alloc);
	return 0;
}

void sim_body_finish(struct sim_body *b)
{
	sim_task_finish(&b->task);
	if (b->alloc)
		sim_graph_alloc_put(b->alloc);
	free(b->attrs);
	*b = (struct sim_body){.type = CU_GRAPH_NODE_TYPE_EMPTY};
}

/*
 * Attributes of kernel nodes.
 */

static CUresult kernel_node(CUgraphNode handle, struct sim_node **ret_node)
{
	CUresult r = sim_node_check(handle, ret_node);

	if (r == CUDA_SUCCESS && (*ret_node)->body.type != CU_GRAPH_NODE_TYPE_KERNEL)
		r = CUDA_ERROR_INVALID_VALUE;
	return r;
}

CUresult cuGraphKernelNodeSetAttribute(CUgraphNode node, CUkernelNodeAttrID attr,
				       const CUkernelNodeAttrValue *value)
{
	struct sim_kernel_task *k;
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	r = kernel_node(node, &n);
	if (r != CUDA_SUCCESS)
		return r;
	k = &n->body.task.kernel;
	switch ((int)attr) {
	case CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE:
		k->cooperative = value->cooperative != 0;
		break;
	case CU_KERNEL_NODE_ATTRIBUTE_PRIORITY:
		k->priority = value->priority;
		break;
	case CU_KERNEL_NODE_ATTRIBUTE_CLUSTER_DIMENSION:
		k->cluster[0] = value->clusterDim.x;
		k->cluster[1] = value->clusterDim.y;
		k->cluster[2] = value->clusterDim.z;
		break;
	case CU_KERNEL_NODE_ATTRIBUTE_ACCESS_POLICY_WINDOW:
	case CU_KERNEL_NODE_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
	case CU_KERNEL_NODE_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
	case CU_KERNEL_NODE_ATTRIBUTE_MEM_SYNC_DOMAIN:
	case CU_KERNEL_NODE_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
	case CU_KERNEL_NODE_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		break;
	case CU_KERNEL_NODE_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
		return CUDA_ERROR_NOT_SUPPORTED;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return set_attr(&n->body, attr, value);
}

CUresult cuGraphKernelNodeGetAttribute(CUgraphNode node, CUkernelNodeAttrID attr,
				       CUkernelNodeAttrValue *value)
{
	const struct sim_kernel_task *k;
	struct sim_node *n;
	CUresult r;

	SIM_ENTER();
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	r = kernel_node(node, &n);
	if (r != CUDA_SUCCESS)
		return r;
	if ((int)attr <= CU_LAUNCH_ATTRIBUTE_IGNORE ||
	    (int)attr > CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING)
		return CUDA_ERROR_INVALID_VALUE;
	memset(value, 0, sizeof(*value));
	for (unsigned int i = 0; i < n->body.n_attrs; i++)
		if (n->body.attrs[i].id == attr)
			*value = n->body.attrs[i].value;
	/* These may also have come with a captured launch. */
	k = &n->body.task.kernel;
	if (attr == CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE) {
		value->cooperative = k->cooperative;
	} else if (attr == CU_KERNEL_NODE_ATTRIBUTE_PRIORITY) {
		value->priority = k->priority;
	} else if (attr == CU_KERNEL_NODE_ATTRIBUTE_CLUSTER_DIMENSION) {
		value->clusterDim.x = k->cluster[0];
		value->clusterDim.y = k->cluster[1];
		value->clusterDim.z = k->cluster[2];
	}
	return CUDA_SUCCESS;
}

CUresult cuGraphKernelNodeCopyAttributes(CUgraphNode dst, CUgraphNode src)
{
	struct sim_node *to, *from;
	CUresult r;

	SIM_ENTER();
	r = kernel_node(dst, &to);
	if (r == CUDA_SUCCESS)
		r = kernel_node(src, &from);
	for (unsigned int i = 0; r == CUDA_SUCCESS && i < from->body.n_attrs; i++)
		r = set_attr(&to->body, from->body.attrs[i].id, &from->body.attrs[i].value);
	if (r != CUDA_SUCCESS)
		return r;
	to->body.task.kernel.cooperative = from->body.task.kernel.cooperative;
	to->body.task.kernel.priority = from->body.task.kernel.priority;
	memcpy(to->body.task.kernel.cluster, from->body.task.kernel.cluster,
	       sizeof(to->body.task.kernel.cluster));
	return CUDA_SUCCESS;
}
