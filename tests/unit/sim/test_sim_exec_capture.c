/* SPDX-License-Identifier: Apache-2.0 */
/* Stream capture: what is captured and in which shape, what is forbidden and to whom. */
#include <pthread.h>

#include "simcu.h"

static CUcontext ctx;
static CUmodule mod;
static CUfunction mad, spin;
static CUstream s, t;

static int setup(void **state)
{
	ctx = simtest_context(0);
	mod = simcu_kernels();
	mad = simcu_function(mod, "aq_mad");
	spin = simcu_function(mod, "aq_spin_ns");
	ok(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	ok(cuStreamCreate(&t, CU_STREAM_NON_BLOCKING));
	return 0;
}

static CUstreamCaptureStatus status_of(CUstream stream)
{
	CUstreamCaptureStatus status;

	ok(cuStreamIsCapturing(stream, &status));
	return status;
}

static CUresult begin(CUstream stream)
{
	return cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
}

static size_t count_nodes(CUgraph g)
{
	size_t n = 0;

	ok(cuGraphGetNodes(g, NULL, &n));
	return n;
}

static size_t count_edges(CUgraph g)
{
	size_t n = 0;

	ok(cuGraphGetEdges(g, NULL, NULL, &n));
	return n;
}

static void run(CUgraph g)
{
	CUgraphExec exec;

	ok(cuGraphInstantiateWithFlags(&exec, g, 0));
	ok(cuGraphLaunch(exec, s));
	ok(cuStreamSynchronize(s));
	ok(cuGraphExecDestroy(exec));
}

/* Nothing is done while capturing, and all of it when the graph is launched, as often as it is. */
static void test_sim_exec_capture__work_becomes_nodes(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUgraphNodeType type;
	CUgraphNode nodes[4];
	size_t n = 4;
	CUgraph g;

	ok(cuMemsetD32_v2(p, 1, 16));
	ok(cuCtxSynchronize());
	assert_int_equal(status_of(s), CU_STREAM_CAPTURE_STATUS_NONE);
	ok(begin(s));
	assert_int_equal(status_of(s), CU_STREAM_CAPTURE_STATUS_ACTIVE);
	FAILS(CUDA_ERROR_ILLEGAL_STATE, begin(s));
	ok(simcu_mad(mad, s, p, 3, 1, 1));
	ok(cuMemcpyDtoDAsync_v2(p + 4, p, 4, s));
	ok(simcu_mad(mad, s, p + 4, 10, 0, 1));
	ok(cuStreamEndCapture(s, &g));
	assert_int_equal(status_of(s), CU_STREAM_CAPTURE_STATUS_NONE);
	assert_int_equal(simcu_read_u32(p), 1);
	assert_int_equal(count_nodes(g), 3);
	assert_int_equal(count_edges(g), 2);
	ok(cuGraphGetRootNodes(g, nodes, &n));
	assert_int_equal(n, 1);
	ok(cuGraphNodeGetType(nodes[0], &type));
	assert_int_equal(type, CU_GRAPH_NODE_TYPE_KERNEL);
	run(g);
	assert_int_equal(simcu_read_u32(p), 4);
	assert_int_equal(simcu_read_u32(p + 4), 40);
	run(g);
	assert_int_equal(simcu_read_u32(p), 13);
	ok(cuGraphDestroy(g));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_capture__fork_and_join(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUgraphNode from[8], to[8];
	CUevent fork, join;
	size_t n = 8;
	CUgraph g;

	ok(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
	ok(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
	ok(cuMemsetD32_v2(p, 0, 16));
	ok(begin(s));
	ok(simcu_mad(mad, s, p, 0, 5, 1));
	ok(cuEventRecord(fork, s));
	ok(cuStreamWaitEvent(t, fork, 0));
	assert_int_equal(status_of(t), CU_STREAM_CAPTURE_STATUS_ACTIVE);
	ok(cuMemcpyDtoDAsync_v2(p + 4, p, 4, t));
	ok(cuMemcpyDtoDAsync_v2(p + 8, p, 4, s));
	ok(cuEventRecord(join, t));
	ok(cuStreamWaitEvent(s, join, 0));
	ok(simcu_mad(mad, s, p, 100, 1, 3));
	FAILS(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(join));
	FAILS(CUDA_ERROR_CAPTURED_EVENT, cuEventSynchronize(join));
	ok(cuStreamEndCapture(s, &g));
	assert_int_equal(status_of(t), CU_STREAM_CAPTURE_STATUS_NONE);
	assert_int_equal(count_nodes(g), 4);
	ok(cuGraphGetEdges(g, from, to, &n));
	assert_int_equal(n, 4); /* a diamond */
	run(g);
	for (int i = 0; i < 3; i++)
		assert_int_equal(simcu_read_u32(p + 4 * (CUdeviceptr)i), 501);
	FAILS(CUDA_ERROR_CAPTURED_EVENT, cuStreamWaitEvent(t, fork, 0));
	ok(cuEventRecord(fork, s)); /* outside: an event as any other again */
	ok(cuEventSynchronize(fork));
	ok(cuGraphDestroy(g));
	ok(cuEventDestroy_v2(fork));
	ok(cuEventDestroy_v2(join));
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_capture__unjoined_work_is_refused(void **state)
{
	CUgraph g = (CUgraph)1;
	CUevent fork;

	ok(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
	ok(begin(s));
	ok(simcu_spin(spin, s, 1000));
	ok(cuEventRecord(fork, s));
	ok(cuStreamWaitEvent(t, fork, 0));
	ok(simcu_spin(spin, t, 1000));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(s, &g));
	assert_null(g);
	assert_int_equal(status_of(t), CU_STREAM_CAPTURE_STATUS_NONE);

	/* Ending it in another stream than it began does not end it. */
	ok(begin(s));
	ok(simcu_spin(spin, s, 1000));
	ok(cuEventRecord(fork, s));
	ok(cuStreamWaitEvent(t, fork, 0));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, cuStreamEndCapture(t, &g));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));
	FAILS(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(s, &g));
	ok(cuEventDestroy_v2(fork));
}

static void test_sim_exec_capture__illegal_calls_invalidate(void **state)
{
	CUevent outside;
	CUgraph g;

	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, begin(NULL));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamBeginCapture_v2(s, 3));

	ok(begin(s));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamSynchronize(s));
	assert_int_equal(status_of(s), CU_STREAM_CAPTURE_STATUS_INVALIDATED);
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, simcu_spin(spin, s, 1000));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));

	ok(begin(s));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamQuery(s));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));

	ok(begin(s));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuCtxSynchronize());
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));

	/* What was recorded outside cannot be waited for inside. */
	ok(cuEventCreate(&outside, 0));
	ok(cuEventRecord(outside, t));
	ok(begin(s));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, cuStreamWaitEvent(s, outside, 0));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));
	ok(cuEventDestroy_v2(outside));
}

static void test_sim_exec_capture__two_captures_do_not_merge(void **state)
{
	CUevent e;
	CUgraph g;

	ok(cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
	ok(begin(s));
	ok(begin(t));
	ok(cuEventRecord(e, s));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_MERGE, cuStreamWaitEvent(t, e, 0));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(t, &g));
	ok(cuEventDestroy_v2(e));
}

/* A blocking stream that captures cannot be waited for by the legacy stream. */
static void test_sim_exec_capture__legacy_stream(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUstream blocking;
	CUgraph g;

	ok(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
	ok(begin(blocking));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, simcu_spin(spin, NULL, 1000));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(blocking, &g));
	ok(begin(blocking));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, cuMemcpyHtoD_v2(p, "x", 1));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(blocking, &g));

	ok(begin(s)); /* but this one is not waited for */
	ok(simcu_spin(spin, NULL, 1000));
	ok(cuStreamEndCapture(s, &g));
	assert_int_equal(count_nodes(g), 0);
	ok(cuGraphDestroy(g));
	ok(cuStreamDestroy_v2(blocking));
	ok(cuMemFree_v2(p));
}

struct attempt {
	CUstreamCaptureMode mode;
	CUresult result;
};

static void *try_alloc(void *arg)
{
	struct attempt *a = arg;
	CUstreamCaptureMode mode = a->mode;
	CUdeviceptr p;

	cuCtxSetCurrent(ctx);
	cuThreadExchangeStreamCaptureMode(&mode);
	a->result = cuMemAlloc_v2(&p, 4096);
	if (a->result == CUDA_SUCCESS)
		cuMemFree_v2(p);
	return NULL;
}

static CUresult alloc_elsewhere(CUstreamCaptureMode mode)
{
	struct attempt a = {.mode = mode, .result = CUDA_ERROR_UNKNOWN};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, try_alloc, &a), 0);
	pthread_join(thread, NULL);
	return a.result;
}

static void test_sim_exec_capture__modes(void **state)
{
	CUstreamCaptureMode mode;
	CUdeviceptr p;
	CUgraph g;

	/* Global: no thread may make unsafe calls, unless it says that it knows better. */
	ok(cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	ok(alloc_elsewhere(CU_STREAM_CAPTURE_MODE_RELAXED));
	ok(alloc_elsewhere(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	assert_int_equal(status_of(s), CU_STREAM_CAPTURE_STATUS_ACTIVE);
	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
	      alloc_elsewhere(CU_STREAM_CAPTURE_MODE_GLOBAL));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));

	/* Thread-local: only this thread may not. */
	ok(cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	ok(alloc_elsewhere(CU_STREAM_CAPTURE_MODE_GLOBAL));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc_v2(&p, 4096));
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));

	/* Relaxed: everybody may. */
	ok(cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED));
	ok(alloc_elsewhere(CU_STREAM_CAPTURE_MODE_GLOBAL));
	ok(cuMemAlloc_v2(&p, 4096));
	ok(cuMemFree_v2(p));
	ok(cuStreamEndCapture(s, &g));
	ok(cuGraphDestroy(g));

	mode = CU_STREAM_CAPTURE_MODE_RELAXED;
	ok(cuThreadExchangeStreamCaptureMode(&mode));
	assert_int_equal(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
	ok(cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_GLOBAL));
	ok(cuMemAlloc_v2(&p, 4096));
	ok(cuMemFree_v2(p));
	ok(cuThreadExchangeStreamCaptureMode(&mode));
	ok(cuStreamEndCapture(s, &g));
	ok(cuGraphDestroy(g));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuThreadExchangeStreamCaptureMode(NULL));
}

static void *end_elsewhere(void *arg)
{
	CUgraph g;

	cuCtxSetCurrent(ctx);
	*(CUresult *)arg = cuStreamEndCapture(s, &g);
	return NULL;
}

static void test_sim_exec_capture__wrong_thread(void **state)
{
	CUresult result = CUDA_SUCCESS;
	pthread_t thread;
	CUgraph g;

	ok(cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
	assert_int_equal(pthread_create(&thread, NULL, end_elsewhere, &result), 0);
	pthread_join(thread, NULL);
	assert_int_equal(result, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
	FAILS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(s, &g));
}

static void test_sim_exec_capture__info_and_dependencies(void **state)
{
	CUstreamCaptureStatus status;
	const CUgraphNode *deps;
	CUgraphNode empty;
	cuuint64_t id = 0;
	CUgraph g, same;
	size_t n;

	ok(cuStreamGetCaptureInfo_v2(s, &status, &id, NULL, NULL, NULL));
	assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_NONE);
	ok(begin(s));
	ok(simcu_spin(spin, s, 1000));
	ok(cuStreamGetCaptureInfo_v2(s, &status, &id, &g, &deps, &n));
	assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
	assert_true(id != 0);
	assert_int_equal(n, 1);
	ok(cuGraphAddEmptyNode(&empty, g, deps, n));
	ok(cuStreamUpdateCaptureDependencies(s, &empty, 1, CU_STREAM_SET_CAPTURE_DEPENDENCIES));
	ok(simcu_spin(spin, s, 1000));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuStreamUpdateCaptureDependencies(s, &empty, 1, 2));
	FAILS(CUDA_ERROR_INVALID_VALUE, cuGraphDestroy(g));
	ok(cuStreamEndCapture(s, &same));
	assert_ptr_equal(g, same);
	assert_int_equal(count_nodes(g), 3);
	assert_int_equal(count_edges(g), 2);
	FAILS(CUDA_ERROR_ILLEGAL_STATE, cuStreamUpdateCaptureDependencies(s, NULL, 0, 0));

	/* On into a graph that is there already. */
	n = 1;
	ok(cuStreamBeginCaptureToGraph(t, g, &empty, NULL, 1, CU_STREAM_CAPTURE_MODE_RELAXED));
	ok(simcu_spin(spin, t, 1000));
	ok(cuStreamEndCapture(t, &same));
	assert_ptr_equal(g, same);
	assert_int_equal(count_nodes(g), 4);
	ok(cuGraphDestroy(g));
}

static void test_sim_exec_capture__events_as_nodes(void **state)
{
	CUevent a, b;
	CUgraphExec exec;
	CUgraph g;

	ok(cuEventCreate(&a, 0));
	ok(cuEventCreate(&b, 0));
	FAILS(CUDA_ERROR_ILLEGAL_STATE, cuEventRecordWithFlags(a, s, CU_EVENT_RECORD_EXTERNAL));
	ok(begin(s));
	ok(cuEventRecordWithFlags(a, s, CU_EVENT_RECORD_EXTERNAL));
	ok(simcu_spin(spin, s, 3000000));
	ok(cuEventRecordWithFlags(b, s, CU_EVENT_RECORD_EXTERNAL));
	ok(cuStreamEndCapture(s, &g));
	ok(cuGraphInstantiateWithFlags(&exec, g, 0));
	ok(cuGraphLaunch(exec, s));
	FAILS(CUDA_ERROR_NOT_READY, cuEventQuery(b));
	ok(cuEventSynchronize(b));
	assert_in_range((uint64_t)(simcu_elapsed_ms(a, b) * 1000 + 0.5f), 3000, 3000);
	ok(cuGraphExecDestroy(exec));
	ok(cuGraphDestroy(g));
	ok(cuEventDestroy_v2(a));
	ok(cuEventDestroy_v2(b));
}

static void test_sim_exec_capture__stream_ordered_memory(void **state)
{
	CUdeviceptr p, out = simcu_alloc(64);
	CUgraphExec exec;
	cuuint64_t used;
	CUgraph g;

	ok(begin(s));
	ok(cuMemAllocAsync(&p, 1 << 20, s));
	ok(cuMemsetD32Async(p, 6, 1000, s));
	ok(simcu_mad(mad, s, p, 7, 0, 1000));
	ok(cuMemcpyDtoDAsync_v2(out, p + 396, 4, s));
	ok(cuMemFreeAsync(p, s));
	ok(cuStreamEndCapture(s, &g));
	assert_int_equal(count_nodes(g), 5);
	ok(cuGraphInstantiateWithFlags(&exec, g, 0));
	for (int i = 0; i < 3; i++) {
		ok(cuMemsetD32_v2(out, 0, 1));
		ok(cuGraphLaunch(exec, s));
		ok(cuStreamSynchronize(s));
		assert_int_equal(simcu_read_u32(out), 42);
	}
	ok(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used));
	assert_true(used == 0);
	ok(cuGraphExecDestroy(exec));
	ok(cuGraphDestroy(g));
	ok(cuDeviceGraphMemTrim(0));
	ok(cuMemFree_v2(out));
}

/* A launch into a capture becomes a child graph. */
static void test_sim_exec_capture__graph_launch(void **state)
{
	CUdeviceptr p = simcu_alloc(64);
	CUgraphNodeType type;
	CUgraphExec exec;
	CUgraphNode node;
	CUgraph inner, outer;
	size_t n = 1;

	ok(cuMemsetD32_v2(p, 1, 1));
	ok(begin(s));
	ok(simcu_mad(mad, s, p, 2, 1, 1));
	ok(simcu_mad(mad, s, p, 2, 1, 1));
	ok(cuStreamEndCapture(s, &inner));
	ok(cuGraphInstantiateWithFlags(&exec, inner, 0));
	ok(begin(s));
	ok(cuGraphLaunch(exec, s));
	ok(cuGraphLaunch(exec, s));
	ok(cuStreamEndCapture(s, &outer));
	ok(cuGraphExecDestroy(exec));
	ok(cuGraphDestroy(inner));
	assert_int_equal(count_nodes(outer), 2);
	ok(cuGraphGetRootNodes(outer, &node, &n));
	ok(cuGraphNodeGetType(node, &type));
	assert_int_equal(type, CU_GRAPH_NODE_TYPE_GRAPH);
	run(outer);
	assert_int_equal(simcu_read_u32(p), 31);
	ok(cuGraphDestroy(outer));
	ok(cuMemFree_v2(p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec_capture__work_becomes_nodes),
		cmocka_unit_test(test_sim_exec_capture__fork_and_join),
		cmocka_unit_test(test_sim_exec_capture__unjoined_work_is_refused),
		cmocka_unit_test(test_sim_exec_capture__illegal_calls_invalidate),
		cmocka_unit_test(test_sim_exec_capture__two_captures_do_not_merge),
		cmocka_unit_test(test_sim_exec_capture__legacy_stream),
		cmocka_unit_test(test_sim_exec_capture__modes),
		cmocka_unit_test(test_sim_exec_capture__wrong_thread),
		cmocka_unit_test(test_sim_exec_capture__info_and_dependencies),
		cmocka_unit_test(test_sim_exec_capture__events_as_nodes),
		cmocka_unit_test(test_sim_exec_capture__stream_ordered_memory),
		cmocka_unit_test(test_sim_exec_capture__graph_launch),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, setup, NULL);
}
