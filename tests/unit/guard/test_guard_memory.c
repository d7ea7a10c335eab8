/* SPDX-License-Identifier: Apache-2.0 */
/* Charges of the guard against the fake driver's books: never less, never left over. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "guarded.h"

#define ROOM (FAKE_LIMIT - FAKE_CONTEXT_BYTES) /* what is left beside the primary context */
#define MANY 4096
#define BLOCK FAKE_BLOCK_BYTES

static CUcontext primary;
static CUdeviceptr ptrs[MANY];

static int setup(void **state)
{
	fake_daemon.contexts = fake->contexts;
	fake_daemon_prepare();
	fake_daemon_start();
	assert_int_equal(g.cuInit(0), CUDA_SUCCESS);
	assert_int_equal(g.cuDevicePrimaryCtxRetain(&primary, 0), CUDA_SUCCESS);
	assert_int_equal(g.cuCtxSetCurrent(primary), CUDA_SUCCESS);
	return 0;
}

static int teardown(void **state)
{
	fake_daemon_stop();
	fake_daemon_clean();
	return 0;
}

/* Before and after each test: nothing is held, nothing is charged. */
static int nothing_left(void **state)
{
	g.cuCtxSynchronize();
	g.cuMemPoolTrimTo((CUmemoryPool)256, 0);
	assert_int_equal(fake->used[0], 0);
	assert_int_equal(fake_daemon_used(0), 0);
	fake->peak[0] = 0;
	return 0;
}

/* Allocate @bytes until refused. Return: how many there are in ptrs. */
static unsigned int fill(size_t bytes)
{
	unsigned int n = 0;
	CUresult r;

	while ((r = g.cuMemAlloc_v2(&ptrs[n], bytes)) == CUDA_SUCCESS)
		n++;
	assert_int_equal(r, CUDA_ERROR_OUT_OF_MEMORY);
	return n;
}

static void test_linear__the_limit_is_exact(void **state)
{
	unsigned int n = fill(MIB);
	CUdeviceptr p;

	assert_int_equal(n, ROOM / BLOCK);
	assert_int_equal(g.cuMemAlloc_v2(&p, 1), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(fake->peak[0], ROOM);
	assert_int_equal(g.cuMemFree_v2(ptrs[--n]), CUDA_SUCCESS);
	assert_int_equal(g.cuMemAlloc_v2(&ptrs[n], MIB), CUDA_SUCCESS);
	for (n++; n; n--)
		assert_int_equal(g.cuMemFree_v2(ptrs[n - 1]), CUDA_SUCCESS);
}

static void test_linear__charges_are_whole_blocks(void **state)
{
	CUdeviceptr p, q;

	assert_int_equal(g.cuMemAlloc_v2(&p, 1), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), BLOCK);
	assert_int_equal(g.cuMemAllocManaged(&q, BLOCK + 1, 1), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 3 * BLOCK);
	g.cuMemFree_v2(p);
	g.cuMemFree_v2(q);
}

static void test_linear__wrong_arguments_get_the_drivers_answer(void **state)
{
	CUdeviceptr p;
	size_t pitch;

	assert_int_equal(g.cuMemAlloc_v2(NULL, 512), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemAlloc_v2(&p, 0), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemAllocPitch_v2(&p, NULL, 1, 1, 4), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemAllocPitch_v2(NULL, &pitch, 1, 1, 4), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemCreate(NULL, 512, NULL, 0), CUDA_ERROR_INVALID_VALUE);
}

static void test_linear__sizes_that_no_number_holds_are_out_of_memory(void **state)
{
	CUDA_ARRAY3D_DESCRIPTOR d = {.Width = SIZE_MAX / 2,
				     .Height = SIZE_MAX / 2,
				     .NumChannels = 4,
				     .Format = CU_AD_FORMAT_FLOAT};
	CUdeviceptr p;
	CUarray array;
	size_t pitch;

	assert_int_equal(g.cuMemAlloc_v2(&p, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuMemAlloc_v2(&p, SIZE_MAX - 511), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuMemAlloc_v2(&p, 1ull << 41), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuMemAllocPitch_v2(&p, &pitch, SIZE_MAX, SIZE_MAX, 4),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuArray3DCreate_v2(&array, &d), CUDA_ERROR_OUT_OF_MEMORY);
}

static void test_linear__an_unknown_address_is_freed_by_the_driver(void **state)
{
	uint32_t before = fake->frees;

	assert_int_equal(g.cuMemFree_v2(0), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFree_v2(0xdead0000), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(fake->frees, before + 2);
}

static void test_linear__a_failed_free_keeps_the_charge(void **state)
{
	CUdeviceptr p;

	assert_int_equal(g.cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	fake->fail_free = CUDA_ERROR_ILLEGAL_ADDRESS;
	assert_int_equal(g.cuMemFree_v2(p), CUDA_ERROR_ILLEGAL_ADDRESS);
	fake->fail_free = 0;
	assert_int_equal(fake_daemon_used(0), BLOCK);
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFree_v2(p), CUDA_ERROR_INVALID_VALUE);
}

static void test_linear__pitch_is_charged_as_returned(void **state)
{
	CUdeviceptr p;
	size_t pitch;

	fake->pitch_align = 2048;
	assert_int_equal(g.cuMemAllocPitch_v2(&p, &pitch, 100, 3 * 1024, 4), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 3 * BLOCK); /* three times 2048 * 1024 */
	assert_int_equal(fake->used[0], 3 * BLOCK);
	g.cuMemFree_v2(p);
	/* Rows of 512 fit, rows of 2048 as the driver makes them do not: undone. */
	assert_int_equal(g.cuMemAllocPitch_v2(&p, &pitch, 100, ROOM / 1024, 4),
			 CUDA_ERROR_OUT_OF_MEMORY);
	fake->pitch_align = 512;
}

static void test_linear__errno_is_left_alone(void **state)
{
	CUdeviceptr p;

	errno = 4711;
	assert_int_equal(g.cuMemAlloc_v2(&p, ROOM), CUDA_SUCCESS);
	g.cuMemFree_v2(p);
	assert_int_equal(g.cuMemAlloc_v2(&p, ROOM + 1), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(errno, 4711);
	assert_null(dlerror());
}

static void test_array__charged_and_released(void **state)
{
	CUDA_ARRAY3D_DESCRIPTOR d = {
		.Width = 1024, .Height = 1024, .NumChannels = 1, .Format = CU_AD_FORMAT_FLOAT};
	CUarray a, sparse;

	assert_int_equal(g.cuArray3DCreate_v2(&a, &d), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 4 * MIB);
	d.Flags = CUDA_ARRAY3D_SPARSE;
	assert_int_equal(g.cuArray3DCreate_v2(&sparse, &d), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 4 * MIB);
	d = (CUDA_ARRAY3D_DESCRIPTOR){
		.Width = 8192, .Height = 8192, .NumChannels = 4, .Format = CU_AD_FORMAT_FLOAT};
	assert_int_equal(g.cuArray3DCreate_v2(&sparse, &d), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuArrayDestroy(a), CUDA_SUCCESS);
	assert_int_equal(g.cuArrayDestroy((CUarray)((uint64_t)a + (1ull << 40))), CUDA_SUCCESS);
}

static void test_context__its_memory_goes_with_it_and_no_other(void **state)
{
	CUcontext first, second;
	CUdeviceptr p, q;

	for (int round = 0; round < 3; round++) {
		assert_int_equal(g.cuMemAlloc_v2(&q, MIB), CUDA_SUCCESS);
		assert_int_equal(g.cuCtxCreate_v2(&first, 0, 0), CUDA_SUCCESS);
		assert_int_equal(g.cuMemAlloc_v2(&p, 8 * MIB), CUDA_SUCCESS);
		assert_int_equal(g.cuCtxDestroy_v2(first), CUDA_SUCCESS);
		assert_int_equal(fake_daemon_used(0), BLOCK);
		/* The handle comes back, the memory does not. */
		assert_int_equal(g.cuCtxCreate_v2(&second, 0, 0), CUDA_SUCCESS);
		assert_ptr_equal(first, second);
		assert_int_equal(g.cuMemAlloc_v2(&p, 2 * MIB), CUDA_SUCCESS);
		assert_int_equal(fake_daemon_used(0), 2 * BLOCK);
		assert_int_equal(g.cuCtxDestroy_v2(second), CUDA_SUCCESS);
		assert_int_equal(fake_daemon_used(0), BLOCK);
		g.cuCtxSetCurrent(primary);
		assert_int_equal(g.cuMemFree_v2(q), CUDA_SUCCESS);
	}
}

static void test_context__one_that_does_not_fit_is_not_made(void **state)
{
	unsigned int n = fill(MIB);
	CUcontext ctx;

	assert_int_equal(g.cuCtxCreate_v2(&ctx, 0, 0), CUDA_ERROR_OUT_OF_MEMORY);
	while (n)
		g.cuMemFree_v2(ptrs[--n]);
	/* One that turns out too large is unmade. */
	assert_int_equal(fake->contexts[0], 1);
	fake_daemon.refuse_measured = true;
	assert_int_equal(g.cuCtxCreate_v2(&ctx, 0, 0), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(fake->contexts[0], 1);
	assert_int_equal(g.cuDevicePrimaryCtxReset_v2(0), CUDA_SUCCESS);
	assert_int_equal(g.cuDevicePrimaryCtxRetain(&ctx, 0), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(fake->contexts[0], 0);
	assert_int_equal(fake_daemon.overhead[0], 0);
	fake_daemon.refuse_measured = false;
	assert_int_equal(g.cuDevicePrimaryCtxRetain(&primary, 0), CUDA_SUCCESS);
}

static void test_context__another_device_is_not_ours(void **state)
{
	size_t bytes;
	CUcontext ctx;
	CUmemGenericAllocationHandle h;
	CUmemAllocationProp prop = {.location = {CU_MEM_LOCATION_TYPE_DEVICE, 1}};

	assert_int_equal(g.cuDevicePrimaryCtxRetain(&ctx, 1), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuCtxCreate_v2(&ctx, 0, 1), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuMemCreate(&h, 2 * MIB, &prop, 0), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuDeviceTotalMem_v2(&bytes, 1), CUDA_SUCCESS);
	assert_int_equal(bytes, fake->total[1]);
	/* One that the driver does not know either is its to refuse. */
	assert_int_equal(g.cuDevicePrimaryCtxRetain(&ctx, 7), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(fake->used[1], 0);
}

static void test_report__one_truth(void **state)
{
	size_t room, total, bytes;
	CUdeviceptr p;

	assert_int_equal(g.cuDeviceTotalMem_v2(&bytes, 0), CUDA_SUCCESS);
	assert_int_equal(bytes, FAKE_LIMIT);
	assert_int_equal(g.cuMemGetInfo_v2(&room, &total), CUDA_SUCCESS);
	assert_int_equal(total, FAKE_LIMIT);
	assert_int_equal(room, ROOM);
	assert_int_equal(g.cuMemAlloc_v2(&p, 10 * MIB), CUDA_SUCCESS);
	g.cuMemGetInfo_v2(&room, &total);
	assert_int_equal(room, ROOM - 10 * MIB);
	g.cuMemFree_v2(p);
	assert_int_equal(g.cuMemGetInfo_v2(NULL, &total), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemGetInfo_v2(&room, NULL), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuDeviceTotalMem_v2(NULL, 0), CUDA_ERROR_INVALID_VALUE);
}

/* ---- physical memory ---- */

static const CUmemAllocationProp on_device = {.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};

static void test_vmm__create_map_release_never_passes_the_limit(void **state)
{
	CUmemGenericAllocationHandle h;
	unsigned int n = 0;
	CUresult r;

	while ((r = g.cuMemCreate(&h, 2 * MIB, &on_device, 0)) == CUDA_SUCCESS) {
		assert_int_equal(g.cuMemMap(0x10000000 + n * 2 * MIB, 2 * MIB, 0, h, 0),
				 CUDA_SUCCESS);
		assert_int_equal(g.cuMemRelease(h), CUDA_SUCCESS);
		n++;
	}
	assert_int_equal(r, CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(n, ROOM / (2 * MIB));
	assert_true(fake->peak[0] <= ROOM);
	/* Two ranges at once, then the rest. */
	assert_int_equal(g.cuMemUnmap(0x10000000, 4 * MIB), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), (n - 2) * 2 * MIB);
	assert_int_equal(g.cuMemUnmap(0x10000000 + 4 * MIB, (n - 2) * 2 * MIB), CUDA_SUCCESS);
}

static void test_vmm__the_last_handle_or_mapping_ends_it(void **state)
{
	CUmemGenericAllocationHandle h, again, other;

	assert_int_equal(g.cuMemCreate(&h, 2 * MIB, &on_device, 0), CUDA_SUCCESS);
	assert_int_equal(g.cuMemMap(0x10000000, 2 * MIB, 0, h, 0), CUDA_SUCCESS);
	assert_int_equal(g.cuMemMap(0x20000000, 2 * MIB, 0, h, 0), CUDA_SUCCESS);
	assert_int_equal(g.cuMemRelease(h), CUDA_SUCCESS);
	/* The number of the handle is free for another one. */
	assert_int_equal(g.cuMemCreate(&other, 4 * MIB, &on_device, 0), CUDA_SUCCESS);
	assert_int_equal(other, h);
	assert_int_equal(g.cuMemRetainAllocationHandle(&again, (void *)0x20000100), CUDA_SUCCESS);
	assert_int_equal(g.cuMemUnmap(0x10000000, 2 * MIB), CUDA_SUCCESS);
	assert_int_equal(g.cuMemUnmap(0x20000000, 2 * MIB), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 6 * MIB);
	assert_int_equal(g.cuMemRelease(again), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 4 * MIB);
	assert_int_equal(g.cuMemRelease(other), CUDA_SUCCESS);
	assert_int_equal(g.cuMemRelease(other), CUDA_ERROR_INVALID_VALUE);
	assert_int_equal(g.cuMemUnmap(0x20000000, 2 * MIB), CUDA_ERROR_INVALID_VALUE);
}

static void test_vmm__host_memory_is_free_of_charge(void **state)
{
	CUmemAllocationProp host = {.location = {CU_MEM_LOCATION_TYPE_HOST, 0}};
	CUmemGenericAllocationHandle h;

	assert_int_equal(g.cuMemCreate(&h, 2 * MIB, &host, 0), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 0);
	assert_int_equal(g.cuMemMap(0x10000000, 2 * MIB, 0, h, 0), CUDA_SUCCESS);
	assert_int_equal(g.cuMemRelease(h), CUDA_SUCCESS);
	__atomic_add_fetch(&fake->used[0], 2 * MIB, __ATOMIC_SEQ_CST); /* it knows no host memory */
	assert_int_equal(g.cuMemUnmap(0x10000000, 2 * MIB), CUDA_SUCCESS);
}

/* ---- pools ---- */

static void test_pool__over_the_limit_is_2_and_nothing_stays(void **state)
{
	unsigned int n = 0;
	CUresult r;

	while ((r = g.cuMemAllocAsync(&ptrs[n], 3 * MIB, NULL)) == CUDA_SUCCESS)
		n++;
	assert_int_equal(r, CUDA_ERROR_OUT_OF_MEMORY);
	assert_true(n >=
		    (ROOM - 4 * MIB) / (3 * MIB)); /* 4: in steps of 2, the worst for one more */
	assert_true(fake->peak[0] <= ROOM);
	assert_true(fake_daemon_used(0) >= fake->used[0]);
	while (n)
		assert_int_equal(g.cuMemFreeAsync(ptrs[--n], NULL), CUDA_SUCCESS);
}

static void test_pool__what_it_keeps_stays_charged_until_it_gives_it_back(void **state)
{
	CUdeviceptr p, q;

	assert_int_equal(g.cuMemAllocAsync(&p, 10 * MIB, NULL), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFreeAsync(p, NULL), CUDA_SUCCESS);
	assert_int_equal(fake->used[0], 10 * MIB);
	assert_int_equal(fake_daemon_used(0), 10 * MIB);
	/* From what the pool has: nothing more. */
	assert_int_equal(g.cuMemAllocAsync(&q, 8 * MIB, NULL), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 10 * MIB);
	assert_int_equal(g.cuCtxSynchronize(), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 8 * MIB);
	/* The other free, of memory that is a pool's. */
	assert_int_equal(g.cuMemFree_v2(q), CUDA_SUCCESS);
}

static void test_pool__is_emptied_before_linear_memory_is_refused(void **state)
{
	CUdeviceptr p;

	assert_int_equal(g.cuMemAllocAsync(&p, 40 * MIB, NULL), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFreeAsync(p, NULL), CUDA_SUCCESS);
	assert_int_equal(g.cuMemAlloc_v2(&p, 50 * MIB), CUDA_SUCCESS);
	assert_true(fake->peak[0] <= ROOM);
	g.cuMemFree_v2(p);
}

/* What pools could give back does not do: they are emptied first, and the daemon refuses once. */
static void test_pool__a_refusal_is_told_once(void **state)
{
	uint32_t refusals;
	CUdeviceptr p;

	assert_int_equal(g.cuMemAllocAsync(&p, 10 * MIB, NULL), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFreeAsync(p, NULL), CUDA_SUCCESS);
	refusals = fake_daemon.refusals;
	assert_int_equal(g.cuMemAlloc_v2(&p, 2 * FAKE_LIMIT), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(fake_daemon.refusals, refusals + 1);
	assert_int_equal(fake->used[0], 0);
	assert_int_equal(g.cuMemAllocAsync(&p, 2 * FAKE_LIMIT, NULL), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(fake_daemon.refusals, refusals + 2);
}

static void test_pool__a_destroyed_one_counts_until_its_last_pointer(void **state)
{
	CUmemPoolProps props = {.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
	CUmemoryPool pool;
	CUdeviceptr p, q;

	assert_int_equal(g.cuMemPoolCreate(&pool, &props), CUDA_SUCCESS);
	assert_int_equal(g.cuMemAllocFromPoolAsync(&p, 4 * MIB, pool, NULL), CUDA_SUCCESS);
	assert_int_equal(g.cuMemAllocFromPoolAsync(&q, 4 * MIB, pool, NULL), CUDA_SUCCESS);
	assert_int_equal(g.cuMemPoolDestroy(pool), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFreeAsync(p, NULL), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 8 * MIB);
	assert_int_equal(g.cuMemFreeAsync(q, NULL), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 0);
}

static void test_pool__a_captured_allocation_takes_nothing(void **state)
{
	CUdeviceptr p;

	fake->capturing = 1;
	assert_int_equal(g.cuMemAllocAsync(&p, 1ull << 40, NULL), CUDA_SUCCESS);
	fake->capturing = 0;
	assert_int_equal(fake_daemon_used(0), 0);
}

/* ---- graphs ---- */

static CUgraphExec exec_of(CUgraph graph)
{
	CUgraphExec exec;

	assert_int_equal(g.cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_SUCCESS);
	return exec;
}

static CUgraph graph_of(size_t bytes)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params = {.bytesize = bytes};
	CUgraphNode node;
	CUgraph graph;

	assert_int_equal(g.cuGraphCreate(&graph, 0), CUDA_SUCCESS);
	assert_int_equal(g.cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params), CUDA_SUCCESS);
	return graph;
}

static void test_graph__memory_is_charged_from_launch_to_trim(void **state)
{
	CUgraph graph = graph_of(10 * MIB);
	CUgraphExec exec = exec_of(graph);

	assert_int_equal(fake_daemon_used(0), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(g.cuGraphLaunch(exec, NULL), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 10 * MIB);
	assert_int_equal(g.cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 0);
	/* Trimmed, it takes it anew. */
	assert_int_equal(g.cuGraphLaunch(exec, NULL), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 10 * MIB);
	assert_int_equal(g.cuGraphExecDestroy(exec), CUDA_SUCCESS);
	assert_int_equal(fake_daemon_used(0), 10 * MIB);
	assert_int_equal(g.cuDeviceGraphMemTrim(0), CUDA_SUCCESS);
}

static void test_graph__one_that_does_not_fit_is_not_launched(void **state)
{
	CUgraph parent, small = graph_of(ROOM / 2);
	CUgraphNode node;
	CUgraphExec large;
	CUdeviceptr p;

	/* Two halves of the room, in graphs in a graph, fit; a little more does not. */
	assert_int_equal(g.cuGraphCreate(&parent, 0), CUDA_SUCCESS);
	g.cuGraphAddChildGraphNode(&node, parent, NULL, 0, small);
	g.cuGraphAddChildGraphNode(&node, parent, NULL, 0, small);
	large = exec_of(parent);
	assert_int_equal(g.cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(g.cuGraphLaunch(large, NULL), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(fake->used[0], BLOCK);
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
	assert_int_equal(g.cuGraphLaunch(large, NULL), CUDA_SUCCESS);
	assert_int_equal(fake->used[0], ROOM);
	assert_int_equal(fake->peak[0], ROOM);
	/* What no graph uses any more is taken back when other memory is asked for. */
	assert_int_equal(g.cuGraphExecDestroy(large), CUDA_SUCCESS);
	assert_int_equal(g.cuMemAlloc_v2(&p, MIB), CUDA_SUCCESS);
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
}

/* ---- modules ---- */

static void test_module__a_large_one_is_refused_before_it_is_loaded(void **state)
{
	static const char text[] = ".version 7.0\n.target sm_70\n.address_size 64\n"
				   ".visible .global .align 16 .b8 small[1024];\n"
				   ".global .align 4 .v4 .f32 big[1024][4096];\n"
				   ".visible .entry k() { ld.global.u32 %r1, [%rd1]; ret; }\n";
	uint32_t loads = fake->module_loads;
	CUdeviceptr p;
	CUmodule mod;

	fake->module_bytes = 64 * MIB;
	assert_int_equal(g.cuModuleLoadData(&mod, text), CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(fake->module_loads, loads);
	/* Half of that text's size fits. */
	fake->module_bytes = 0;
	assert_int_equal(g.cuMemAlloc_v2(&p, ROOM / 2), CUDA_SUCCESS);
	assert_int_equal(g.cuModuleLoadData(&mod, ".global .b32 a[0x100000];"), CUDA_SUCCESS);
	assert_int_equal(g.cuModuleUnload(mod), CUDA_SUCCESS);
	assert_int_equal(g.cuModuleLoadData(&mod, ".global .b32 a[0x1000000];"),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(g.cuMemFree_v2(p), CUDA_SUCCESS);
}

static void test_module__one_that_the_device_feels_is_measured(void **state)
{
	static const char cubin_of_unknown_kind[] = "\x50\xed\x55\xba and so on";
	uint32_t costs = fake_daemon.costs;
	uint64_t unmeasured = fake_daemon.page->device[0].unmeasured;
	CUmodule mod;

	fake->module_bytes = 4096;
	assert_int_equal(g.cuModuleLoadData(&mod, cubin_of_unknown_kind), CUDA_SUCCESS);
	assert_int_equal(fake_daemon.costs, costs);
	assert_int_equal(fake_daemon.page->device[0].unmeasured, unmeasured + 1);
	g.cuModuleUnload(mod);
	fake->module_bytes = 8 * MIB;
	assert_int_equal(g.cuModuleLoadData(&mod, cubin_of_unknown_kind), CUDA_SUCCESS);
	assert_int_equal(fake_daemon.costs, costs + 1);
	g.cuModuleUnload(mod);
	fake_daemon.refuse_measured = true;
	assert_int_equal(g.cuModuleLoadData(&mod, cubin_of_unknown_kind), CUDA_ERROR_OUT_OF_MEMORY);
	fake_daemon.refuse_measured = false;
	fake->module_bytes = 0;
}

/* ---- threads ---- */

static void *storm(void *arg)
{
	uint64_t seed = (uintptr_t)arg * 2654435761u + 1;
	CUdeviceptr held[16] = {0};

	g.cuCtxSetCurrent(primary);
	for (int i = 0; i < 3000; i++) {
		CUdeviceptr *p;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		p = &held[seed >> 60];
		if (*p) {
			g.cuMemFree_v2(*p);
			*p = 0;
		} else if (seed >> 59 & 1) {
			if (g.cuMemAllocAsync(p, (seed >> 40) % (2 * MIB) + 1, NULL))
				*p = 0;
		} else if (g.cuMemAlloc_v2(p, (seed >> 40) % (4 * MIB) + 1)) {
			*p = 0;
		}
		if (!(i % 64))
			g.cuCtxSynchronize();
	}
	for (int i = 0; i < 16; i++) {
		if (held[i])
			g.cuMemFree_v2(held[i]);
	}
	return NULL;
}

static void test_storm__never_over_the_limit_and_nothing_left(void **state)
{
	pthread_t t[6];

	for (uintptr_t i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&t[i], NULL, storm, (void *)i), 0);
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	g.cuCtxSynchronize();
	assert_true(fake->peak[0] <= ROOM);
	assert_true(fake->peak[0] > ROOM / 2); /* it was a storm */
}

#define T(name) cmocka_unit_test_setup_teardown(name, nothing_left, nothing_left)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_linear__the_limit_is_exact),
		T(test_linear__charges_are_whole_blocks),
		T(test_linear__wrong_arguments_get_the_drivers_answer),
		T(test_linear__sizes_that_no_number_holds_are_out_of_memory),
		T(test_linear__an_unknown_address_is_freed_by_the_driver),
		T(test_linear__a_failed_free_keeps_the_charge),
		T(test_linear__pitch_is_charged_as_returned),
		T(test_linear__errno_is_left_alone),
		T(test_array__charged_and_released),
		T(test_context__its_memory_goes_with_it_and_no_other),
		T(test_context__another_device_is_not_ours),
		T(test_report__one_truth),
		T(test_vmm__create_map_release_never_passes_the_limit),
		T(test_vmm__the_last_handle_or_mapping_ends_it),
		T(test_vmm__host_memory_is_free_of_charge),
		T(test_pool__over_the_limit_is_2_and_nothing_stays),
		T(test_pool__what_it_keeps_stays_charged_until_it_gives_it_back),
		T(test_pool__is_emptied_before_linear_memory_is_refused),
		T(test_pool__a_refusal_is_told_once),
		T(test_pool__a_destroyed_one_counts_until_its_last_pointer),
		T(test_pool__a_captured_allocation_takes_nothing),
		T(test_graph__memory_is_charged_from_launch_to_trim),
		T(test_graph__one_that_does_not_fit_is_not_launched),
		T(test_module__a_large_one_is_refused_before_it_is_loaded),
		T(test_module__one_that_the_device_feels_is_measured),
		T(test_storm__never_over_the_limit_and_nothing_left),
		T(test_context__one_that_does_not_fit_is_not_made),
	};

	if (argc != 2)
		return 2;
	guarded_load(argv[1]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
