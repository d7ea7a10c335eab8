/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the calls of a program's hot path cost its own thread: launches of every form, queries,
 * small allocations. Run it three times, with the driver itself, a forwarding library and the guard
 * found first, and compare: --mode says which run this was. It does not measure what the device
 * does.
 */
#include "probe.h"

#define BATCH 64 /* launches between two readings of the clock; below every queue's depth */

static unsigned batches = 1500;

static int empty_launch(struct gpu *g, void *arg)
{
	(void)arg;
	return (int)cu.cuLaunchKernel(g->k[K_NOOP], 1, 1, 1, 32, 1, 1, 0, g->stream, NULL, NULL);
}

static int default_stream_launch(struct gpu *g, void *arg)
{
	(void)arg;
	return (int)cu.cuLaunchKernel(g->k[K_NOOP], 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL);
}

static int launch_ex(struct gpu *g, void *arg)
{
	CUlaunchConfig c = {
		.gridDimX = 1,
		.gridDimY = 1,
		.gridDimZ = 1,
		.blockDimX = 32,
		.blockDimY = 1,
		.blockDimZ = 1,
		.hStream = g->stream,
	};

	(void)arg;
	return (int)cu.cuLaunchKernelEx(&c, g->k[K_NOOP], NULL, NULL);
}

static int graph_launch(struct gpu *g, void *arg)
{
	return (int)cu.cuGraphLaunch(arg, g->stream);
}

static int small_memset(struct gpu *g, void *arg)
{
	return (int)cu.cuMemsetD8Async(*(CUdeviceptr *)arg, 0, 256, g->stream);
}

static int stream_query(struct gpu *g, void *arg)
{
	CUresult r = cu.cuStreamQuery(g->stream);

	(void)arg;
	return r == CUDA_ERROR_NOT_READY ? 0 : (int)r;
}

static int memory_info(struct gpu *g, void *arg)
{
	size_t a, b;

	(void)g;
	(void)arg;
	return (int)cu.cuMemGetInfo_v2(&a, &b);
}

static int alloc_and_free(struct gpu *g, void *arg)
{
	CUdeviceptr p;
	CUresult r = cu.cuMemAlloc_v2(&p, *(size_t *)arg);

	(void)g;
	return (int)(r ? r : cu.cuMemFree_v2(p));
}

static int alloc_and_free_async(struct gpu *g, void *arg)
{
	CUdeviceptr p;
	CUresult r = cu.cuMemAllocAsync(&p, *(size_t *)arg, g->stream);

	return (int)(r ? r : cu.cuMemFreeAsync(p, g->stream));
}

/* Mean time of a call in each of `rounds` batches; the device drains between batches, uncounted. */
static int time_calls(struct gpu *g, const char *what, unsigned rounds, unsigned batch,
		      int (*call)(struct gpu *, void *), void *arg, const char *note)
{
	struct samples s = {0};

	probe_step(what);
	for (unsigned i = 0; i < rounds + rounds / 10 && probe_left_s() > 2; i++) {
		uint64_t t0 = now_ns(), t1;
		CUresult r = CUDA_SUCCESS;

		for (unsigned j = 0; j < batch && !r; j++)
			r = (CUresult)call(g, arg);
		t1 = now_ns();
		if (r)
			return probe_cuda_error(what, r);
		TRY(cu.cuCtxSynchronize());
		if (i >= rounds / 10) /* the first tenth warms up */
			samples_add(&s, (double)(t1 - t0) / batch);
	}
	report(what, "ns", &s, "%s; each sample the mean of %u calls", note, batch);
	return 0;
}

static int round_trip(struct gpu *g)
{
	struct samples s = {0};
	unsigned rounds = batches;

	probe_step("launch_and_wait");
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t t0 = now_ns();

		if (empty_launch(g, NULL))
			return -1;
		TRY(cu.cuStreamSynchronize(g->stream));
		samples_add(&s, (double)(now_ns() - t0));
	}
	report("launch_and_wait", "ns", &s, "one empty kernel and cuStreamSynchronize, spinning");
	return 0;
}

static int single_calls(struct gpu *g)
{
	struct samples s = {0};

	probe_step("kernel_single");
	for (unsigned i = 0; i < batches * 8; i++) {
		uint64_t t0 = now_ns();

		if (empty_launch(g, NULL))
			return -1;
		samples_add(&s, (double)(now_ns() - t0));
		if (i % BATCH == BATCH - 1)
			TRY(cu.cuStreamSynchronize(g->stream));
	}
	report("kernel_single", "ns", &s,
	       "each call timed by itself, the clock's own %llu ns included",
	       (unsigned long long)probe_clock_cost_ns());
	return 0;
}

static int graphs(struct gpu *g)
{
	static const struct {
		const char *what;
		unsigned nodes, batch;
	} kinds[] = {
		{"graph_1_node", 1, 16}, {"graph_8_nodes", 8, 16}, {"graph_100_nodes", 100, 4}};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		CUgraphExec exec;

		probe_step(kinds[i].what);
		exec = gpu_work_graph(g, kinds[i].nodes, 1, 32, 1);
		if (!exec || time_calls(g, kinds[i].what, batches / 5, kinds[i].batch, graph_launch,
					exec, "cuGraphLaunch of a chain of near-empty kernels"))
			return -1;
		TRY(cu.cuGraphExecDestroy(exec));
	}
	return 0;
}

static int allocations(struct gpu *g)
{
	size_t small = 4096, large = 32 * MIB;

	if (time_calls(g, "alloc_free_4k", batches / 3, 16, alloc_and_free, &small,
		       "cuMemAlloc and cuMemFree of 4 KiB") ||
	    time_calls(g, "alloc_free_32m", batches / 30, 4, alloc_and_free, &large,
		       "cuMemAlloc and cuMemFree of 32 MiB"))
		return -1;
	if (cu.cuMemAllocAsync && cu.cuMemFreeAsync)
		time_calls(g, "alloc_free_async_4k", batches / 3, 16, alloc_and_free_async, &small,
			   "cuMemAllocAsync and cuMemFreeAsync of 4 KiB");
	return time_calls(g, "memory_info", batches / 10, 8, memory_info, NULL, "cuMemGetInfo");
}

static int launches(struct gpu *g)
{
	CUdeviceptr scratch;

	if (time_calls(g, "kernel", batches, BATCH, empty_launch, NULL,
		       "cuLaunchKernel of an empty kernel, no parameters, own stream") ||
	    time_calls(g, "kernel_default_stream", batches / 2, BATCH, default_stream_launch, NULL,
		       "the same on the legacy default stream"))
		return -1;
	if (cu.cuLaunchKernelEx)
		time_calls(g, "kernel_ex", batches / 2, BATCH, launch_ex, NULL, "cuLaunchKernelEx");
	TRY(cu.cuMemAlloc_v2(&scratch, 4096));
	time_calls(g, "memset_256", batches / 3, BATCH, small_memset, &scratch,
		   "cuMemsetD8Async of 256 bytes");
	TRY(cu.cuMemFree_v2(scratch));
	time_calls(g, "stream_query", batches, BATCH, stream_query, NULL, "cuStreamQuery");
	return 0;
}

int main(int argc, char **argv)
{
	struct gpu g;

	probe_begin(argc, argv, "launch", 60, NULL);
	if (probe_quick())
		batches = 60;
	probe_step("open");
	if (gpu_open(&g) == 0 && launches(&g) == 0 && single_calls(&g) == 0 &&
	    round_trip(&g) == 0 && graphs(&g) == 0 && allocations(&g) == 0)
		gpu_close(&g);
	return probe_end();
}
