/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver and the device as a probe uses them. Entry points are looked up by name in
 * libcuda.so.1 as the loader finds it, so LD_LIBRARY_PATH decides whether the driver itself, an
 * interposer or a simulator is measured.
 */
#include "probe.h"
#include "probe_internal.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct probe_cu cu;

/* kernels.ptx, found through the assembler's include path, and a NUL. */
__asm__(".pushsection .rodata\n"
	".globl kernels_ptx\n"
	"kernels_ptx:\n"
	".incbin \"kernels.ptx\"\n"
	".byte 0\n"
	".popsection\n");

static const char *const kernel_names[K_COUNT] = {
	[K_NOOP] = "k_noop",   [K_SPIN] = "k_spin",   [K_WORK] = "k_work",
	[K_FLAG] = "k_flag",   [K_CLOCK] = "k_clock", [K_SPIN_FLAG] = "k_spin_flag",
	[K_TIMER] = "k_timer", [K_FILL] = "k_fill",   [K_CHECK] = "k_check",
	[K_TRACE] = "k_trace",
};

int probe_cuda_error(const char *call, CUresult r)
{
	const char *name = "?";
	int n = (int)strcspn(call, "(");

	if (cu.cuGetErrorName)
		cu.cuGetErrorName(r, &name);
	if (r == CUDA_ERROR_NOT_SUPPORTED)
		report_skipped(NULL, "%.*s: %s (%d)", n, call, name, (int)r);
	else
		report_failed(NULL, "%.*s: %s (%d)", n, call, name, (int)r);
	return -1;
}

int probe_cuda(void)
{
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	CUresult r;

	if (!lib) {
		probe_state.no_device = true;
		report_skipped(NULL, "%s", dlerror());
		return -1;
	}
#define FIND(name) *(void **)&cu.name = dlsym(lib, #name);
	PROBE_NEEDED(FIND)
	PROBE_WANTED(FIND)
#undef FIND
#define MISSING(name)                                                                              \
	if (!cu.name) {                                                                            \
		report_failed(NULL, "the driver has no " #name);                                   \
		return -1;                                                                         \
	}
	PROBE_NEEDED(MISSING)
#undef MISSING
	r = cu.cuInit(0);
	if (r == CUDA_ERROR_NO_DEVICE || r == CUDA_ERROR_STUB_LIBRARY) {
		probe_state.no_device = true;
		report_skipped(NULL, "cuInit says %d: no device", (int)r);
		return -1;
	}
	return r ? probe_cuda_error("cuInit", r) : 0;
}

/* Everything that kernels measure depends on their stores being seen. */
int gpu_try_kernel(struct gpu *g)
{
	uint32_t seed = 7, words[4] = {0};
	uint64_t n = ARRAY_LEN(words);
	CUdeviceptr p;

	TRY(cu.cuMemAlloc_v2(&p, sizeof(words)));
	TRY(cu.cuMemcpyHtoD_v2(p, words, sizeof(words)));
	TRY(gpu_run(g, K_FILL, 1, 32, g->stream, &p, &n, &seed));
	TRY(cu.cuStreamSynchronize(g->stream));
	TRY(cu.cuMemcpyDtoH_v2(words, p, sizeof(words)));
	TRY(cu.cuMemFree_v2(p));
	g->computes = words[0] == seed && words[3] == 3 * 2654435761u + seed;
	return 0;
}

int gpu_open_context(struct gpu *g)
{
	memset(g, 0, sizeof(*g));
	if (!cu.cuInit && probe_cuda() < 0)
		return -1;
	TRY(cu.cuDeviceGet(&g->dev, probe_device()));
	TRY(cu.cuDevicePrimaryCtxRetain(&g->ctx, g->dev));
	TRY(cu.cuCtxSetCurrent(g->ctx));
	TRY(cu.cuDeviceGetAttribute(&g->sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, g->dev));
	TRY(cu.cuModuleLoadData(&g->mod, kernels_ptx));
	for (int i = 0; i < K_COUNT; i++)
		TRY(cu.cuModuleGetFunction(&g->k[i], g->mod, kernel_names[i]));
	TRY(cu.cuStreamCreate(&g->stream, CU_STREAM_NON_BLOCKING));
	return 0;
}

int gpu_open(struct gpu *g)
{
	return gpu_open_context(g) ? -1 : gpu_try_kernel(g);
}

void gpu_close(struct gpu *g)
{
	if (g->stream)
		cu.cuStreamDestroy_v2(g->stream);
	if (g->mod)
		cu.cuModuleUnload(g->mod);
	if (g->ctx)
		cu.cuDevicePrimaryCtxRelease_v2(g->dev);
	memset(g, 0, sizeof(*g));
}

static int open_once(int index, void *arg)
{
	bool *computes = arg;
	struct gpu g;

	(void)index;
	if (gpu_open(&g) < 0)
		return probe_state.no_device ? 77 : 1;
	*computes = g.computes;
	gpu_close(&g);
	return 0;
}

bool device_there(bool *ret_computes)
{
	bool *computes = shared_alloc(sizeof(*computes)), good;
	pid_t pid;

	probe_step("open");
	pid = spawn(open_once, 0, computes);
	good = join_one(pid, 60) == 0;
	if (!good)
		probe_state.no_device = true;
	*ret_computes = *computes;
	munmap(computes, sizeof(*computes));
	return good;
}

void *gpu_pinned(size_t bytes)
{
	void *p;

	if (cu.cuMemHostAlloc(&p, bytes, CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE))
		return NULL;
	memset(p, 0, bytes);
	return p;
}

static int time_work(struct gpu *g, unsigned blocks, unsigned threads, CUevent start, CUevent end,
		     uint64_t iters, float *ret_ms)
{
	CUdeviceptr none = 0;

	TRY(cu.cuEventRecord(start, g->stream));
	TRY(gpu_run(g, K_WORK, blocks, threads, g->stream, &iters, &none, &none));
	TRY(cu.cuEventRecord(end, g->stream));
	TRY(cu.cuEventSynchronize(end));
	TRY(cu.cuEventElapsedTime(ret_ms, start, end));
	return 0;
}

static int calibrate(struct gpu *g, unsigned blocks, unsigned threads, uint64_t ns,
		     uint64_t *ret_iters)
{
	uint64_t iters = 4000000; /* about 10 ms on the devices of 2020 to 2025 */
	CUevent start, end;
	float ms = 0;

	TRY(cu.cuEventCreate(&start, CU_EVENT_DEFAULT));
	TRY(cu.cuEventCreate(&end, CU_EVENT_DEFAULT));
	for (int i = 0; i < 4; i++) /* the first ones raise the clocks */
		if (time_work(g, blocks, threads, start, end, iters, &ms) < 0)
			return -1;
	TRY(cu.cuEventDestroy_v2(start));
	TRY(cu.cuEventDestroy_v2(end));
	/* A simulated device that takes the same time for every kernel gets the same iters. */
	*ret_iters = g->computes && ms > 0
			     ? (uint64_t)llround((double)iters * (double)ns / (ms * 1e6))
			     : iters;
	if (!*ret_iters)
		*ret_iters = 1;
	return 0;
}

uint64_t gpu_calibrate(struct gpu *g, unsigned blocks, unsigned threads, uint64_t ns)
{
	uint64_t iters = 0;

	return calibrate(g, blocks, threads, ns, &iters) < 0 ? 0 : iters;
}

struct clock_page {
	_Atomic uint32_t ask, done;
	_Atomic uint64_t answer;
};

static void ask_rounds(struct clock_page *page, uint32_t rounds, int64_t *offset, uint64_t *error)
{
	uint64_t give_up = now_ns() + 2 * SEC;

	for (uint32_t i = 1; i <= rounds; i++) {
		uint64_t t0 = now_ns(), t1;

		atomic_store(&page->ask, i);
		while (atomic_load(&page->done) != i)
			if (now_ns() > give_up)
				return;
		t1 = now_ns();
		if ((t1 - t0) / 2 < *error) {
			*error = (t1 - t0) / 2;
			*offset =
				(int64_t)atomic_load(&page->answer) - (int64_t)(t0 + (t1 - t0) / 2);
		}
	}
}

int gpu_clock(struct gpu *g, int64_t *ret_offset_ns, uint64_t *ret_error_ns)
{
	struct clock_page *page;
	uint32_t rounds = 64;
	uint64_t max_ns = 3 * SEC, error = UINT64_MAX;
	int64_t offset = 0;
	void *ask, *answer, *done;

	if (!g->computes)
		return -1;
	page = gpu_pinned(4096);
	if (!page)
		return -1;
	ask = &page->ask;
	answer = &page->answer;
	done = &page->done;
	TRY(gpu_run(g, K_CLOCK, 1, 1, g->stream, &ask, &answer, &done, &rounds, &max_ns));
	ask_rounds(page, rounds, &offset, &error);
	TRY(cu.cuStreamSynchronize(g->stream));
	cu.cuMemFreeHost(page);
	if (error == UINT64_MAX)
		return -1;
	*ret_offset_ns = offset;
	*ret_error_ns = error;
	return 0;
}

static int work_graph(struct gpu *g, unsigned nodes, unsigned blocks, unsigned threads,
		      uint64_t iters, CUgraphExec *ret_exec)
{
	CUdeviceptr none = 0;
	void *params[] = {&iters, &none, &none};
	CUDA_KERNEL_NODE_PARAMS p = {
		.func = g->k[K_WORK],
		.gridDimX = blocks,
		.gridDimY = 1,
		.gridDimZ = 1,
		.blockDimX = threads,
		.blockDimY = 1,
		.blockDimZ = 1,
		.kernelParams = params,
	};
	CUgraphNode last = NULL;
	CUgraph graph;

	if (WANT(cuGraphCreate) || WANT(cuGraphAddKernelNode_v2) ||
	    WANT(cuGraphInstantiateWithFlags) || WANT(cuGraphLaunch))
		return -1;
	TRY(cu.cuGraphCreate(&graph, 0));
	for (unsigned i = 0; i < nodes; i++) {
		CUgraphNode node;

		TRY(cu.cuGraphAddKernelNode_v2(&node, graph, last ? &last : NULL, last ? 1 : 0,
					       &p));
		last = node;
	}
	TRY(cu.cuGraphInstantiateWithFlags(ret_exec, graph, 0));
	TRY(cu.cuGraphDestroy(graph));
	return 0;
}

CUgraphExec gpu_work_graph(struct gpu *g, unsigned nodes, unsigned blocks, unsigned threads,
			   uint64_t iters)
{
	CUgraphExec exec;

	return work_graph(g, nodes, blocks, threads, iters, &exec) < 0 ? NULL : exec;
}
