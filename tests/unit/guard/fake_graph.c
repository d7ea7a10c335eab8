/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs of the fake driver: nodes that allocate and graphs as nodes, no work. Launching one takes
 * its memory out of the device's graph memory, which keeps what it has until it is trimmed.
 */
#include <pthread.h>
#include <string.h>

#include "cuda/cuda_abi.h"
#include "fake_driver.h"
#include "fake_parts.h"

#define MAX_GRAPHS 32
#define MAX_NODES 16
#define STEP (2ull << 20)

static struct {
	int nodes;
	uint64_t bytes[MAX_NODES]; /* of an allocation; 0: a graph */
	int child[MAX_NODES];
} graphs[MAX_GRAPHS];

static uint64_t exec_bytes[MAX_GRAPHS];
static int n_graphs, n_execs;
static uint64_t reserved, used;

CUresult cuGraphCreate(CUgraph *graph, unsigned int flags)
{
	if (n_graphs == MAX_GRAPHS)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*graph = (CUgraph)(uintptr_t)(++n_graphs);
	return CUDA_SUCCESS;
}

static CUgraphNode node_new(CUgraph graph, uint64_t bytes, int child)
{
	int g = (int)(uintptr_t)graph - 1, n = graphs[g].nodes++;

	graphs[g].bytes[n] = bytes;
	graphs[g].child[n] = child;
	return (CUgraphNode)(uintptr_t)(g * MAX_NODES + n + 1);
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps, size_t n,
				CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	params->dptr = 1ull << 50;
	*node = node_new(graph, params->bytesize, 0);
	return CUDA_SUCCESS;
}

CUresult cuGraphAddChildGraphNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *deps,
				  size_t n, CUgraph child)
{
	*node = node_new(graph, 0, (int)(uintptr_t)child);
	return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
	int g = (int)(uintptr_t)graph - 1;

	for (int i = 0; nodes && i < graphs[g].nodes; i++)
		nodes[i] = (CUgraphNode)(uintptr_t)(g * MAX_NODES + i + 1);
	*count = (size_t)graphs[g].nodes;
	return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
	int i = (int)(uintptr_t)node - 1;

	*type = graphs[i / MAX_NODES].bytes[i % MAX_NODES] ? CU_GRAPH_NODE_TYPE_MEM_ALLOC
							   : CU_GRAPH_NODE_TYPE_GRAPH;
	return CUDA_SUCCESS;
}

CUresult cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	int i = (int)(uintptr_t)node - 1;

	memset(params, 0, sizeof(*params));
	params->poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	params->bytesize = graphs[i / MAX_NODES].bytes[i % MAX_NODES];
	return CUDA_SUCCESS;
}

CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *graph)
{
	int i = (int)(uintptr_t)node - 1;

	*graph = (CUgraph)(uintptr_t)graphs[i / MAX_NODES].child[i % MAX_NODES];
	return CUDA_SUCCESS;
}

static uint64_t total_of(int g)
{
	uint64_t sum = 0;

	for (int i = 0; i < graphs[g].nodes; i++)
		sum += graphs[g].bytes[i] ? graphs[g].bytes[i] : total_of(graphs[g].child[i] - 1);
	return sum;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
	exec_bytes[n_execs] = total_of((int)(uintptr_t)graph - 1);
	*exec = (CUgraphExec)(uintptr_t)(0x100 + 16 * n_execs++);
	return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
	used = 0;
	return CUDA_SUCCESS;
}

/* One runs at a time, so what one has freed by its end is the next one's. */
CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
	uint64_t bytes = exec_bytes[((uintptr_t)exec - 0x100) / 16];
	uint64_t need = (bytes + STEP - 1) / STEP * STEP;
	CUresult r = CUDA_SUCCESS;

	pthread_mutex_lock(&fake_lock);
	if (need > reserved) {
		if (fake_hold(0, need - reserved))
			reserved = need;
		else
			r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	if (r == CUDA_SUCCESS)
		used = bytes;
	pthread_mutex_unlock(&fake_lock);
	return r;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice dev, CUgraphMem_attribute attr, void *value)
{
	pthread_mutex_lock(&fake_lock);
	*(uint64_t *)value = attr == CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT ? reserved : used;
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGraphMemTrim(CUdevice dev)
{
	pthread_mutex_lock(&fake_lock);
	fake_drop(0, reserved);
	reserved = used = 0;
	pthread_mutex_unlock(&fake_lock);
	return CUDA_SUCCESS;
}
