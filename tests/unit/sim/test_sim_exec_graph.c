/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs: shape, parameters, launches, updates, memory nodes, user objects. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "simcu.h"

static CUcontext ctx;
static CUmodule mod;
static CUfunction mad, spin;
static CUstream s;

static int setup(void **state)
{
	ctx = simtest_context(0);
	mod = simcu_kernels();
	mad = simcu_function(mod, "aq_mad");
	spin = simcu_function(mod, "aq_spin_ns");
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	return 0;
}

static uint64_t one64 = 1;

/* Parameters of a kernel node that does x = x * m + a. */
static CUDA_KERNEL_NODE_PARAMS mad_params(void **args, CUdeviceptr *x, uint32_t *m, uint32_t *a)
{
	args[0] = x;
	args[1] = m;
	args[2] = a;
	args[3] = &one64;
	return (CUDA_KERNEL_NODE_PARAMS){
		.func = mad,
		.gridDimX = 1,
		.gridDimY = 1,
		.gridDimZ = 1,
		.blockDimX = 32,
		.blockDimY = 1,
		.blockDimZ = 1,
		.kernelParams = args,
	};
}

static CUgraphNode add_mad(CUgraph g, CUgraphNode dep, CUdeviceptr x, uint32_t m, uint32_t a)
{
	void *args[4];
	CUDA_KERNEL_NODE_PARAMS p = mad_params(args, &x, &m, &a);
	CUgraphNode n;

	ok(cuGraphAddKernelNode_v2(&n, g, dep ? &dep : NULL, dep != NULL, &p));
	return n;
}

static CUgraph graph(void)
{
	CUgraph g;

	ok(cuGraphCreate(&g, 0));
	return g;
}

static CUgraphExec instantiate(CUgraph g)
{
	CUgraphExec x;

	ok(cuGraphInstantiateWithFlags(&x, g, 0));
	return x;
}

static void launch(CUgraphExec x)
{
	ok(cuGraphLaunch(x, s));
	ok(cuStreamSynchronize(s));
}

static void count_call(void *arg)
{
	atomic_fetch_add((atomic_int *)arg, 1);
}

static void test_sim_exec_graph__every_node(void **state)
{
	CUdeviceptr p = simcu_alloc(256);
	CUDA_MEMSET_NODE_PARAMS set = {
		.dst = p,
		.value = 2,
		.elementSize = 4,
		.width = 8,
		.height = 1,
	};
	CUDA_MEMCPY3D copy = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = p,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = p + 64,
		.WidthInBytes = 32,
		.Height = 1,
		.Depth = 1,
	};
	CUstreamBatchMemOpParams op = {
		.writeValue = {.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32,
			       .address = p + 128,
			       .value = 99},
	};
	CUDA_BATCH_MEM_OP_NODE_PARAMS ops = {.ctx = ctx, .count = 1, .paramArray = &op};
	atomic_int calls = 0;
	CUDA_HOST_NODE_PARAMS host = {.fn = count_call, .userData = &calls};
	CUgraphNode n_set, n_mad, n_copy, n_host, n_empty, n_ops, n_record, n_wait;
	CUgraph g = graph();
	CUevent e;
	CUgraphExec x;

	ok(cuEventCreate(&e, 0));
	ok(cuGraphAddMemsetNode(&n_set, g, NULL, 0, &set, ctx));
	n_mad = add_mad(g, n_set, p, 10, 1);
	ok(cuGraphAddMemcpyNode(&n_copy, g, &n_mad, 1, &copy, ctx));
	ok(cuGraphAddHostNode(&n_host, g, &n_copy, 1, &host));
	ok(cuGraphAddEmptyNode(&n_empty, g, &n_host, 1));
	ok(cuGraphAddBatchMemOpNode(&n_ops, g, &n_empty, 1, &ops));
	ok(cuGraphAddEventRecordNode(&n_record, g, &n_ops, 1, e));
	ok(cuGraphAddEventWaitNode(&n_wait, g, NULL, 0, e));
	x = instantiate(g);
	for (int i = 1; i <= 3; i++) {
		ok(cuMemsetD8_v2(p, 0, 256));
		ok(cuCtxSynchronize());
		launch(x);
		assert_int_equal(calls, i);
		assert_int_equal(simcu_read_u32(p + 64), 21);
		assert_int_equal(simcu_read_u32(p + 68), 2);
		assert_int_equal(simcu_read_u32(p + 128), 99);
		ok(cuEventQuery(e));
	}
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	ok(cuEventDestroy_v2(e));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_graph__shape(void **state)
{
	CUgraphNode a, b, c, d, out[4], from[4], to[4], deps[2], twin;
	CUgraph g = graph(), clone;
	CUgraphNodeType type;
	CUgraphExec x;
	size_t n = 0;

	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphCreate(NULL, 0));
	ok(cuGraphAddEmptyNode(&a, g, NULL, 0));
	ok(cuGraphAddEmptyNode(&b, g, &a, 1));
	ok(cuGraphAddEmptyNode(&c, g, &a, 1));
	deps[0] = b;
	deps[1] = c;
	ok(cuGraphAddEmptyNode(&d, g, deps, 2));
	deps[1] = b;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddEmptyNode(&twin, g, deps, 2));
	ok(cuGraphGetNodes(g, NULL, &n));
	assert_int_equal(n, 4);
	n = 2;
	ok(cuGraphGetNodes(g, out, &n));
	assert_int_equal(n, 2);
	assert_ptr_equal(out[1], b);
	n = 4;
	out[1] = a;
	ok(cuGraphGetRootNodes(g, out, &n));
	assert_int_equal(n, 1);
	assert_ptr_equal(out[0], a);
	assert_null(out[1]);
	ok(cuGraphGetEdges(g, from, to, (n = 4, &n)));
	assert_int_equal(n, 4);
	ok(cuGraphNodeGetDependencies(d, out, (n = 4, &n)));
	assert_int_equal(n, 2);
	ok(cuGraphNodeGetDependentNodes(a, NULL, &n));
	assert_int_equal(n, 2);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(g, &a, &b, 1)); /* is there */
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddDependencies(g, &a, &a, 1));
	ok(cuGraphRemoveDependencies(g, &c, &d, 1));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphRemoveDependencies(g, &c, &d, 1));
	ok(cuGraphAddDependencies(g, &c, &d, 1));

	ok(cuGraphClone(&clone, g));
	ok(cuGraphNodeFindInClone(&twin, c, clone));
	ok(cuGraphNodeGetDependencies(twin, out, (n = 4, &n)));
	assert_int_equal(n, 1);
	assert_ptr_not_equal(out[0], a);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphNodeFindInClone(&twin, twin, g));

	/* A circle is found when it is to be run. */
	ok(cuGraphAddDependencies(g, &d, &a, 1));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithFlags(&x, g, 0));
	ok(cuGraphDestroyNode(d));
	ok(cuGraphGetEdges(g, NULL, NULL, &n));
	assert_int_equal(n, 2);
	ok(cuGraphNodeGetType(a, &type));
	assert_int_equal(type, CU_GRAPH_NODE_TYPE_EMPTY);
	ok(cuGraphDestroy(g));
	ok(cuGraphDestroy(clone));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithFlags(NULL, NULL, 0));
}

/* Branches that do not depend on each other overlap where the device has engines for both. */
static void test_sim_exec_graph__branches_overlap(void **state)
{
	const size_t bytes = 64 << 20;
	CUdeviceptr p = simcu_alloc(bytes);
	CUDA_MEMCPY3D copy = {
		.srcMemoryType = CU_MEMORYTYPE_HOST,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = p,
		.WidthInBytes = bytes,
		.Height = 1,
		.Depth = 1,
	};
	uint64_t ns = 20000000;
	void *args[] = {&ns};
	CUDA_KERNEL_NODE_PARAMS kernel = {
		.func = spin,
		.gridDimX = 1,
		.gridDimY = 1,
		.gridDimZ = 1,
		.blockDimX = 1,
		.blockDimY = 1,
		.blockDimZ = 1,
		.kernelParams = args,
	};
	CUgraphNode a, b, c, d, ends[2];
	CUgraph g = graph();
	CUevent start, end;
	CUgraphExec x;
	void *host;
	float ms;

	ok(cuMemHostAlloc(&host, bytes, 0));
	copy.srcHost = host;
	ok(cuEventCreate(&start, 0));
	ok(cuEventCreate(&end, 0));
	ok(cuGraphAddEventRecordNode(&a, g, NULL, 0, start));
	ok(cuGraphAddKernelNode_v2(&b, g, &a, 1, &kernel));
	ok(cuGraphAddMemcpyNode(&c, g, &a, 1, &copy, ctx));
	ends[0] = b;
	ends[1] = c;
	ok(cuGraphAddEventRecordNode(&d, g, ends, 2, end));
	x = instantiate(g);
	launch(x);
	ms = simcu_elapsed_ms(start, end);
	/* 20 ms of kernel, and 1.2 ms of copy beside it. */
	if (ms < 19.99f || ms > 20.2f)
		fail_msg("took %f ms", (double)ms);
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	ok(cuEventDestroy_v2(start));
	ok(cuEventDestroy_v2(end));
	ok(cuMemFreeHost(host));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_graph__parameters(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUDA_KERNEL_NODE_PARAMS q, set;
	CUDA_KERNEL_NODE_PARAMS_v1 old;
	CUkernelNodeAttrValue value = {.priority = -3};
	uint32_t five = 5, six = 6;
	CUgraph g = graph();
	void *args[4];
	CUgraphNode n;
	CUgraphExec x;

	ok(cuMemsetD32_v2(p, 1, 1));
	n = add_mad(g, NULL, p, 3, 4);
	ok(cuGraphKernelNodeGetParams_v2(n, &q));
	assert_ptr_equal(q.func, mad);
	assert_int_equal(*(uint32_t *)q.kernelParams[1], 3);
	assert_int_equal(*(uint32_t *)q.kernelParams[2], 4);
	ok(cuGraphKernelNodeGetParams(n, &old));
	assert_int_equal(old.blockDimX, 32);
	x = instantiate(g);
	/* What is changed in the graph is not in what was made of it. */
	set = mad_params(args, &p, &five, &six);
	ok(cuGraphKernelNodeSetParams_v2(n, &set));
	launch(x);
	assert_int_equal(simcu_read_u32(p), 7);
	ok(cuGraphExecKernelNodeSetParams_v2(x, n, &set));
	launch(x);
	assert_int_equal(simcu_read_u32(p), 41);
	ok(cuGraphNodeSetEnabled(x, n, 0));
	launch(x);
	assert_int_equal(simcu_read_u32(p), 41);
	set.blockDimX = 0;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphExecKernelNodeSetParams_v2(x, n, &set));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphKernelNodeSetParams_v2(n, &set));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphKernelNodeGetParams_v2(n, NULL));
	ok(cuGraphKernelNodeSetAttribute(n, CU_KERNEL_NODE_ATTRIBUTE_PRIORITY, &value));
	value.priority = 0;
	ok(cuGraphKernelNodeGetAttribute(n, CU_KERNEL_NODE_ATTRIBUTE_PRIORITY, &value));
	assert_int_equal(value.priority, -3);
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_graph__update(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUgraphExecUpdateResultInfo info;
	CUgraphExecUpdateResult result;
	CUgraph a = graph(), b = graph(), c = graph(), d = graph();
	CUgraphNode n, error;
	CUgraphExec x;

	ok(cuMemsetD32_v2(p, 1, 1));
	n = add_mad(a, NULL, p, 2, 0);
	add_mad(a, n, p, 1, 1);
	x = instantiate(a);
	launch(x);
	assert_int_equal(simcu_read_u32(p), 3);
	n = add_mad(b, NULL, p, 10, 0);
	add_mad(b, n, p, 1, 5);
	ok(cuGraphExecUpdate_v2(x, b, &info));
	assert_int_equal(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
	launch(x);
	assert_int_equal(simcu_read_u32(p), 35);

	add_mad(c, NULL, p, 2, 0);
	FAILS(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate_v2(x, c, &info));
	assert_int_equal(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
	ok(cuGraphAddEmptyNode(&n, d, NULL, 0));
	add_mad(d, n, p, 2, 0);
	FAILS(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, cuGraphExecUpdate(x, d, &error, &result));
	assert_int_equal(result, CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED);
	assert_ptr_equal(error, n);
	launch(x); /* as it was */
	assert_int_equal(simcu_read_u32(p), 355);
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(a));
	ok(cuGraphDestroy(b));
	ok(cuGraphDestroy(c));
	ok(cuGraphDestroy(d));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_graph__children(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUgraph inner = graph(), outer = graph(), own, other = graph();
	CUgraphNode first, child, last;
	CUgraphExec x;

	ok(cuMemsetD32_v2(p, 1, 1));
	add_mad(inner, add_mad(inner, NULL, p, 2, 0), p, 3, 1);
	first = add_mad(outer, NULL, p, 1, 1);
	ok(cuGraphAddChildGraphNode(&child, outer, &first, 1, inner));
	last = add_mad(outer, child, p, 100, 0);
	assert_non_null(last);
	ok(cuGraphChildGraphNodeGetGraph(child, &own));
	assert_ptr_not_equal(own, inner);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(own));
	ok(cuGraphDestroy(inner));
	x = instantiate(outer);
	launch(x);
	assert_int_equal(simcu_read_u32(p), ((1 + 1) * 2 * 3 + 1) * 100);
	add_mad(other, add_mad(other, NULL, p, 0, 0), p, 0, 7);
	ok(cuGraphExecChildGraphNodeSetParams(x, child, other));
	launch(x);
	assert_int_equal(simcu_read_u32(p), 700);
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(outer));
	ok(cuGraphDestroy(other));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_graph__generic_nodes(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUgraphNodeParams params = {.type = CU_GRAPH_NODE_TYPE_MEMSET};
	CUgraph g = graph();
	CUgraphNode n, m;
	CUgraphExec x;

	params.memset.dst = p;
	params.memset.elementSize = 4;
	params.memset.width = 4;
	params.memset.height = 1;
	params.memset.value = 11;
	params.memset.ctx = ctx;
	ok(cuGraphAddNode_v2(&n, g, NULL, NULL, 0, &params));
	x = instantiate(g);
	launch(x);
	assert_int_equal(simcu_read_u32(p + 12), 11);
	params.memset.value = 12;
	ok(cuGraphExecNodeSetParams(x, n, &params));
	launch(x);
	assert_int_equal(simcu_read_u32(p), 12);
	params.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
	FAILS(CUDA_ERROR_NOT_SUPPORTED, cuGraphAddNode(&m, g, &n, 1, &params));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphNodeSetParams(n, &params));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddNode(NULL, g, NULL, 0, &params));
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	ok(cuMemFree_v2(p));
}

static cuuint64_t graph_mem(CUgraphMem_attribute attr)
{
	cuuint64_t n = 0;

	ok(cuDeviceGetGraphMemAttribute(0, attr, &n));
	return n;
}

static void test_sim_exec_graph__memory_that_outlives_the_launch(void **state)
{
	CUDA_MEM_ALLOC_NODE_PARAMS p = {
		.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}},
		.bytesize = 10 * MIB,
	};
	uint64_t before = simtest_used(0), small = 64 * 1024 + 64 * 1024;
	CUgraphNode n;
	CUgraph g = graph();
	CUgraphExec x, twice;

	ok(cuGraphAddMemAllocNode(&n, g, NULL, 0, &p));
	assert_true(p.dptr != 0);
	add_mad(g, n, p.dptr, 0, 3);
	x = instantiate(g);
	FAILS(CUDA_ERROR_NOT_SUPPORTED, cuGraphInstantiateWithFlags(&twice, g, 0));
	FAILS(CUDA_ERROR_NOT_SUPPORTED, cuGraphClone(&g, g));
	FAILS(CUDA_ERROR_NOT_SUPPORTED, cuGraphDestroyNode(n));
	assert_true(simtest_used(0) < before + small);
	launch(x);
	assert_int_equal(simcu_read_u32(p.dptr), 3);
	assert_true(simtest_used(0) >= before + 10 * MIB);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == 10 * MIB);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 10 * MIB);
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphLaunch(x, s)); /* still allocated */
	ok(cuMemFreeAsync(p.dptr, s));
	ok(cuGraphLaunch(x, s));
	ok(cuStreamSynchronize(s));
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	/* What it left allocated is still there. */
	assert_int_equal(simcu_read_u32(p.dptr), 3);
	ok(cuDeviceGraphMemTrim(0));
	assert_int_equal(simcu_read_u32(p.dptr), 3);
	ok(cuMemFree_v2(p.dptr));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(p.dptr));
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == 0);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 10 * MIB);
	ok(cuDeviceGraphMemTrim(0));
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 0);
	assert_true(simtest_used(0) == before);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_USED_MEM_HIGH) >= 10 * MIB);
	ok(cuDeviceSetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_HIGH, &(cuuint64_t){0}));
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_USED_MEM_HIGH) == 0);
}

/* Lives that follow each other share memory; those beside each other do not. */
static void test_sim_exec_graph__memory_is_shared_in_time(void **state)
{
	CUDA_MEM_ALLOC_NODE_PARAMS p = {
		.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}},
		.bytesize = 20 * MIB,
	};
	CUgraphNode n, dep = NULL;
	CUgraph g = graph();
	CUgraphExec x;

	for (int i = 0; i < 4; i++) {
		ok(cuGraphAddMemAllocNode(&n, g, dep ? &dep : NULL, dep != NULL, &p));
		n = add_mad(g, n, p.dptr, 0, 1);
		ok(cuGraphAddMemFreeNode(&dep, g, &n, 1, p.dptr));
		FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddMemFreeNode(&n, g, &dep, 1, p.dptr));
	}
	x = instantiate(g);
	launch(x);
	launch(x);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 20 * MIB);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == 0);
	ok(cuDeviceGraphMemTrim(0)); /* idle: goes, and comes back with the next launch */
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 0);
	launch(x);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 20 * MIB);
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	ok(cuDeviceGraphMemTrim(0));
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) == 0);
}

static void test_sim_exec_graph__memory_runs_out(void **state)
{
	CUDA_MEM_ALLOC_NODE_PARAMS p = {
		.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}},
	};
	uint64_t before = simtest_used(0);
	size_t left, total;
	CUgraph g = graph();
	CUgraphNode n;
	CUgraphExec x;

	ok(cuMemGetInfo_v2(&left, &total));
	p.bytesize = left + 64 * MIB;
	ok(cuGraphAddMemAllocNode(&n, g, NULL, 0, &p));
	x = instantiate(g);
	FAILS(CUDA_ERROR_OUT_OF_MEMORY, cuGraphLaunch(x, s));
	ok(cuStreamSynchronize(s));
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	assert_true(simtest_used(0) == before);
	g = graph();
	p.bytesize = 0;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddMemAllocNode(&n, g, NULL, 0, &p));
	p.bytesize = MIB;
	p.poolProps.location.id = 7;
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddMemAllocNode(&n, g, NULL, 0, &p));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphAddMemFreeNode(&n, g, NULL, 0, 0x5000));
	ok(cuGraphDestroy(g));
}

static void test_sim_exec_graph__auto_free(void **state)
{
	CUDA_MEM_ALLOC_NODE_PARAMS p = {
		.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}},
		.bytesize = 4 * MIB,
	};
	CUgraph g = graph();
	cuuint64_t flags;
	CUgraphNode n;
	CUgraphExec x;

	ok(cuGraphAddMemAllocNode(&n, g, NULL, 0, &p));
	ok(cuGraphInstantiateWithFlags(&x, g, CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH));
	ok(cuGraphExecGetFlags(x, &flags));
	assert_true(flags == CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
	launch(x);
	launch(x);
	assert_true(graph_mem(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) == 4 * MIB);
	ok(cuMemFree_v2(p.dptr));
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	ok(cuDeviceGraphMemTrim(0));
	g = graph();
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphInstantiateWithFlags(&x, g, 64));
	ok(cuGraphDestroy(g));
}

/* Launches of one instantiated graph follow each other, whatever their streams. */
static void test_sim_exec_graph__launches_follow_each_other(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUgraph g = graph();
	CUgraphNode n = NULL;
	uint32_t want = 1;
	CUstream other;
	CUgraphExec x;

	ok(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
	ok(cuMemsetD32_v2(p, 1, 1));
	ok(cuCtxSynchronize());
	for (uint32_t i = 0; i < 50; i++)
		n = add_mad(g, n, p, 3, i);
	x = instantiate(g);
	for (int i = 0; i < 20; i++) {
		ok(cuGraphLaunch(x, i % 2 ? s : other));
		for (uint32_t k = 0; k < 50; k++)
			want = want * 3 + k;
	}
	ok(cuStreamSynchronize(s));
	ok(cuStreamSynchronize(other));
	assert_int_equal(simcu_read_u32(p), want);
	ok(cuGraphExecDestroy(x));
	ok(cuGraphDestroy(g));
	ok(cuStreamDestroy_v2(other));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_graph__user_objects(void **state)
{
	atomic_int destroyed = 0;
	CUgraph g = graph();
	CUuserObject o;
	CUgraphExec x;

	FAILS(CUDA_ERROR_INVALID_VALUE, cuUserObjectCreate(&o, &destroyed, count_call, 1, 0));
	ok(cuUserObjectCreate(&o, &destroyed, count_call, 2, CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
	ok(cuGraphRetainUserObject(g, o, 1, CU_GRAPH_USER_OBJECT_MOVE));
	ok(cuUserObjectRelease(o, 1));
	x = instantiate(g);
	ok(cuGraphDestroy(g));
	usleep(2000);
	assert_int_equal(destroyed, 0); /* what was made of the graph has it too */
	ok(cuGraphExecDestroy(x));
	for (int i = 0; i < 1000 && !destroyed; i++)
		usleep(1000);
	assert_int_equal(destroyed, 1);
}

static void test_sim_exec_graph__drawing(void **state)
{
	char path[] = "/tmp/aliquot-test-dot-XXXXXX", text[4096] = "";
	CUgraph g = graph(), inner = graph();
	CUgraphNode n;
	FILE *f;
	int fd;

	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	add_mad(inner, NULL, simcu_alloc(64), 1, 1);
	ok(cuGraphAddChildGraphNode(&n, g, NULL, 0, inner));
	ok(cuGraphDebugDotPrint(g, path, CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE));
	f = fopen(path, "r");
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	unlink(path);
	assert_non_null(strstr(text, "digraph"));
	assert_non_null(strstr(text, "aq_mad"));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphDebugDotPrint(g, NULL, 0));
	FAILS(CUDA_ERROR_OPERATING_SYSTEM, cuGraphDebugDotPrint(g, "/dev/null/x", 0));
	ok(cuGraphDestroy(g));
	ok(cuGraphDestroy(inner));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec_graph__every_node),
		cmocka_unit_test(test_sim_exec_graph__shape),
		cmocka_unit_test(test_sim_exec_graph__branches_overlap),
		cmocka_unit_test(test_sim_exec_graph__parameters),
		cmocka_unit_test(test_sim_exec_graph__update),
		cmocka_unit_test(test_sim_exec_graph__children),
		cmocka_unit_test(test_sim_exec_graph__generic_nodes),
		cmocka_unit_test(test_sim_exec_graph__memory_that_outlives_the_launch),
		cmocka_unit_test(test_sim_exec_graph__memory_is_shared_in_time),
		cmocka_unit_test(test_sim_exec_graph__memory_runs_out),
		cmocka_unit_test(test_sim_exec_graph__auto_free),
		cmocka_unit_test(test_sim_exec_graph__launches_follow_each_other),
		cmocka_unit_test(test_sim_exec_graph__user_objects),
		cmocka_unit_test(test_sim_exec_graph__drawing),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, setup, NULL);
}
