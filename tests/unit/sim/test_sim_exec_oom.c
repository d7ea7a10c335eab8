/* SPDX-License-Identifier: Apache-2.0 */
/* The host runs out of memory at the n-th allocation, for every n, while things are executed: calls
 * answer 2 (or what a capture that failed answers), nothing breaks, hangs or stays charged. */
#include "../oom.h"
#include "simcu.h"

/* A call that may be refused for want of memory, and for nothing else. */
static bool went(CUresult r)
{
	if (r != CUDA_SUCCESS && r != CUDA_ERROR_OUT_OF_MEMORY &&
	    r != CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)
		fail_msg("answered %d", (int)r);
	return r == CUDA_SUCCESS;
}

static const char text[] = ".version 8.0\n.target sm_80\n.address_size 64\n"
			   ".global .b8 table[4] = {1, 2, 3, 4};\n"
			   ".entry aq_spin_ns(.param .u64 ns) { ret; }\n";

static void call(void *arg)
{
}

static void use_code(CUstream s)
{
	CUfunction f;
	CUlibrary lib;
	CUkernel k;
	CUmodule m;

	if (went(cuModuleLoadData(&m, text))) {
		ok(cuModuleGetFunction(&f, m, "aq_spin_ns"));
		went(simcu_spin(f, s, 200000));
		went(simcu_spin(f, s, 1000));
		ok(cuModuleUnload(m));
	}
	if (went(cuLibraryLoadData(&lib, text, NULL, NULL, 0, NULL, NULL, 0))) {
		ok(cuLibraryGetKernel(&k, lib, "aq_spin_ns"));
		went(simcu_spin((CUfunction)k, s, 1000));
		ok(cuLibraryUnload(lib));
	}
}

static void use_streams(CUstream s, CUdeviceptr p)
{
	static uint8_t host[100000];
	CUevent e;

	if (went(cuEventCreate(&e, 0))) {
		if (went(cuEventRecord(e, s)))
			went(cuStreamWaitEvent(CU_STREAM_PER_THREAD, e, 0));
		ok(cuEventSynchronize(e));
		ok(cuEventDestroy_v2(e));
	}
	went(cuMemcpyHtoDAsync_v2(p, host, 100, s));
	went(cuMemcpyHtoDAsync_v2(p, host, sizeof(host), s));
	went(cuMemcpyDtoHAsync_v2(host, p, sizeof(host), s));
	went(cuLaunchHostFunc(s, call, NULL));
	went(cuStreamWriteValue32(s, p, 1, 0));
	went(cuMemsetD8Async(p, 1, 100000, s));
	ok(cuStreamSynchronize(s));
}

static void use_graph(CUstream s, CUdeviceptr p)
{
	CUDA_MEM_ALLOC_NODE_PARAMS alloc = {
		.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
			      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}},
		.bytesize = FRAME,
	};
	CUgraph g, child;
	CUgraphNode n;
	CUgraphExec x;

	if (!went(cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_RELAXED)))
		return;
	went(cuMemsetD8Async(p, 1, 100, s));
	went(cuLaunchHostFunc(s, call, NULL));
	if (!went(cuStreamEndCapture(s, &g)))
		return;
	if (went(cuGraphClone(&child, g))) {
		went(cuGraphAddChildGraphNode(&n, g, NULL, 0, child));
		ok(cuGraphDestroy(child));
	}
	if (went(cuGraphAddMemAllocNode(&n, g, NULL, 0, &alloc)))
		if (!went(cuGraphAddMemFreeNode(&n, g, &n, 1, alloc.dptr)))
			alloc.bytesize = 0;
	if (alloc.bytesize && went(cuGraphInstantiateWithFlags(&x, g, 0))) {
		if (went(cuGraphLaunch(x, s)))
			went(cuGraphLaunch(x, s));
		ok(cuStreamSynchronize(s));
		ok(cuGraphExecDestroy(x));
	}
	ok(cuGraphDestroy(g));
	ok(cuDeviceGraphMemTrim(0));
}

static void everything(CUcontext ctx)
{
	CUdeviceptr p;
	CUstream s;

	if (!went(cuMemAlloc_v2(&p, 100000)))
		return;
	if (went(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING))) {
		use_code(s);
		use_streams(s, p);
		use_graph(s, p);
		ok(cuStreamDestroy_v2(s));
	}
	ok(cuMemFree_v2(p));
}

static void test_sim_exec_oom__every_allocation_may_fail(void **state)
{
	CUcontext ctx = simtest_context(0);
	uint64_t before;
	long n = 0;
	bool failed;

	everything(ctx); /* what is made once */
	before = simtest_used(0);
	do {
		oom_begin(n++);
		everything(ctx);
		failed = oom_end();
		assert_int_equal(simtest_used(0), before);
	} while (failed);
	assert_true(n > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sim_exec_oom__every_allocation_may_fail),
	};

	simtest_begin("h100");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
