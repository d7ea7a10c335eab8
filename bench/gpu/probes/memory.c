/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What device memory things really take: contexts, modules, launches, graphs, by NVML from outside,
 * step by step; and allocations by size, by what cuMemGetInfo says is left. These are the numbers
 * that a ledger of bytes has to agree with.
 */
#include "probe.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

/*
 * Steps: a child makes one call at a time, the parent looks at the device before and after.
 */
struct walker {
	_Atomic uint32_t go, done;
	_Atomic uint32_t failed;
	uint64_t ns; /* that the step took */
};

struct walk_state {
	struct gpu g;
	CUcontext second;
	CUdeviceptr p[8];
	CUgraphExec graph;
	CUmodule mods[16];
};

static int step_init(struct walk_state *w)
{
	(void)w;
	return probe_cuda();
}

static int step_context(struct walk_state *w)
{
	TRY(cu.cuDeviceGet(&w->g.dev, probe_device()));
	TRY(cu.cuDevicePrimaryCtxRetain(&w->g.ctx, w->g.dev));
	TRY(cu.cuCtxSetCurrent(w->g.ctx));
	return 0;
}

static int step_module(struct walk_state *w)
{
	return gpu_open_context(&w->g); /* retains the primary context once more */
}

static int step_launch(struct walk_state *w)
{
	return gpu_try_kernel(&w->g);
}

static int step_modules(struct walk_state *w)
{
	for (size_t i = 0; i < ARRAY_LEN(w->mods); i++)
		TRY(cu.cuModuleLoadData(&w->mods[i], kernels_ptx));
	return 0;
}

static int step_streams(struct walk_state *w)
{
	CUstream s;

	for (int i = 0; i < 32; i++) {
		TRY(cu.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
		TRY(cu.cuLaunchKernel(w->g.k[K_NOOP], 1, 1, 1, 1, 1, 1, 0, s, NULL, NULL));
	}
	TRY(cu.cuCtxSynchronize());
	return 0;
}

static int step_events(struct walk_state *w)
{
	CUevent e;

	for (int i = 0; i < 1000; i++) {
		TRY(cu.cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
		TRY(cu.cuEventRecord(e, w->g.stream));
	}
	TRY(cu.cuCtxSynchronize());
	return 0;
}

static int step_one_byte(struct walk_state *w)
{
	TRY(cu.cuMemAlloc_v2(&w->p[0], 1));
	return 0;
}

static int step_graph(struct walk_state *w)
{
	w->graph = gpu_work_graph(&w->g, 1000, 1, 32, 1);
	if (!w->graph)
		return -1;
	if (cu.cuGraphUpload)
		TRY(cu.cuGraphUpload(w->graph, w->g.stream));
	TRY(cu.cuGraphLaunch(w->graph, w->g.stream));
	TRY(cu.cuStreamSynchronize(w->g.stream));
	return 0;
}

static int step_stack(struct walk_state *w)
{
	CUdeviceptr none = 0;
	uint64_t ns = 1000;

	if (WANT(cuCtxSetLimit))
		return -1;
	TRY(cu.cuCtxSetLimit(CU_LIMIT_STACK_SIZE, 16 * KIB));
	TRY(gpu_run(&w->g, K_SPIN, 1, 32, w->g.stream, &ns, &none));
	TRY(cu.cuStreamSynchronize(w->g.stream));
	return 0;
}

static int step_pinned(struct walk_state *w)
{
	(void)w;
	return gpu_pinned(64 * MIB) ? 0 : -1;
}

static int step_second_context(struct walk_state *w)
{
	TRY(cu.cuCtxCreate_v2(&w->second, 0, w->g.dev));
	return 0;
}

static int step_end_second(struct walk_state *w)
{
	TRY(cu.cuCtxDestroy_v2(w->second));
	TRY(cu.cuCtxSetCurrent(w->g.ctx));
	return 0;
}

static int step_allocations(struct walk_state *w)
{
	for (int i = 1; i < 5; i++)
		TRY(cu.cuMemAlloc_v2(&w->p[i], 256 * MIB));
	return 0;
}

static int step_free(struct walk_state *w)
{
	for (int i = 1; i < 5; i++)
		TRY(cu.cuMemFree_v2(w->p[i]));
	return 0;
}

static const struct {
	const char *name, *note;
	int (*fn)(struct walk_state *);
} steps[] = {
	{"init", "cuInit", step_init},
	{"primary_context", "the first context of the process", step_context},
	{"module", "the probes' kernels, PTX compiled by the driver, and a stream", step_module},
	{"first_launch", "first kernel, first allocation", step_launch},
	{"16_more_modules", "the same PTX 16 times", step_modules},
	{"32_streams", "with a launch on each", step_streams},
	{"1000_events", "recorded", step_events},
	{"one_byte", "cuMemAlloc of 1 byte", step_one_byte},
	{"graph_1000_nodes", "instantiated, uploaded, launched", step_graph},
	{"stack_16k", "CU_LIMIT_STACK_SIZE to 16 KiB, and a launch", step_stack},
	{"pinned_64m", "64 MiB of pinned host memory", step_pinned},
	{"second_context", "cuCtxCreate beside the primary one", step_second_context},
	{"end_second_context", "cuCtxDestroy", step_end_second},
	{"allocate_1g", "4 x 256 MiB by cuMemAlloc", step_allocations},
	{"free_1g", "and freed", step_free},
};

static int walk(int index, void *arg)
{
	struct walker *k = arg;
	struct walk_state w;

	(void)index;
	memset(&w, 0, sizeof(w));
	for (uint32_t i = 0; i < ARRAY_LEN(steps); i++) {
		uint64_t t0;

		if (!futex_wait(&k->go, i, 10))
			return 1;
		probe_step(steps[i].name);
		t0 = now_ns();
		if (steps[i].fn(&w))
			atomic_store(&k->failed, 1);
		k->ns = now_ns() - t0;
		futex_set(&k->done, i + 1);
		if (atomic_load(&k->failed) && i < 4)
			return 1;
		atomic_store(&k->failed, 0);
	}
	return futex_wait(&k->go, ARRAY_LEN(steps), 10) ? 0 : 1;
}

static void show_step(uint32_t i, int64_t device, int64_t process, uint64_t ns)
{
	char what[64];

	snprintf(what, sizeof(what), "cost.%s.time", steps[i].name);
	report_one(what, "ns", (double)ns, "%s", steps[i].note);
	snprintf(what, sizeof(what), "cost.%s.device", steps[i].name);
	report_one(what, "bytes", (double)device, "memory in use on the device, by NVML");
	snprintf(what, sizeof(what), "cost.%s.process", steps[i].name);
	if (process >= 0)
		report_one(what, "bytes", (double)process,
			   "NVML's figure for the process after the step, not the difference");
	else
		report_skipped(what, "NVML does not list the process");
}

static void walk_steps(void)
{
	struct walker *k = shared_alloc(sizeof(*k));
	int64_t before = nvml_device_used(), start = before;
	pid_t pid;

	if (before < 0) {
		report_skipped("cost", "NVML does not tell the memory in use");
		return;
	}
	pid = spawn(walk, 0, k);
	for (uint32_t i = 0; i < ARRAY_LEN(steps); i++) {
		int64_t after;

		futex_set(&k->go, i + 1);
		if (!futex_wait(&k->done, i, 10) || child_is_gone(pid)) {
			report_skipped("cost", "stopped at %s (see its own record)", steps[i].name);
			break;
		}
		sleep_ns(20 * MSEC); /* NVML may lag */
		after = nvml_device_used();
		show_step(i, after - before, nvml_process_used(pid), k->ns);
		before = after;
	}
	report_one("cost.sum", "bytes", (double)(before - start),
		   "memory in use on the device, all steps together");
	futex_set(&k->go, ARRAY_LEN(steps) + 1);
	join_one(pid, 10);
}

/*
 * Sizes: what one allocation takes.
 */
static int64_t free_now(void)
{
	size_t left = 0, total;

	return cu.cuMemGetInfo_v2(&left, &total) ? -1 : (int64_t)left;
}

static int one_size(size_t bytes)
{
	unsigned n = bytes < MIB ? 4096 : (unsigned)(256 * MIB / bytes);
	CUdeviceptr *p = calloc(n, sizeof(*p)), low = ~0ull;
	int64_t before = free_now(), after, first = 0;
	char what[64];

	if (!p)
		return -1;
	if (probe_quick())
		n = n > 64 ? 64 : n;
	snprintf(what, sizeof(what), "alloc_%zu", bytes);
	probe_step(what);
	for (unsigned i = 0; i < n; i++) {
		TRY(cu.cuMemAlloc_v2(&p[i], bytes));
		if (!i)
			first = before - free_now();
		else if (p[i] > p[i - 1] && p[i] - p[i - 1] < low)
			low = p[i] - p[i - 1];
	}
	after = free_now();
	report_one(what, "bytes", (double)(before - after) / n,
		   "taken for each of %u allocations of %zu bytes, by cuMemGetInfo; the first took "
		   "%lld; least distance of neighbours %llu",
		   n, bytes, (long long)first, low == ~0ull ? 0 : (unsigned long long)low);
	for (unsigned i = 0; i < n; i++)
		TRY(cu.cuMemFree_v2(p[i]));
	snprintf(what, sizeof(what), "alloc_%zu.kept_after_free", bytes);
	report_one(what, "bytes", (double)(before - free_now()), "not given back by cuMemFree");
	free(p);
	return 0;
}

static int pool_growth(struct gpu *g)
{
	static const size_t sizes[] = {1, MIB, 2 * MIB + 1, 30 * MIB, 33 * MIB, 100 * MIB};
	int64_t before = free_now();
	CUmemoryPool pool;
	CUdeviceptr p[ARRAY_LEN(sizes)];

	probe_step("pool");
	if (WANT(cuDeviceGetDefaultMemPool) || WANT(cuMemAllocAsync) || WANT(cuMemPoolGetAttribute))
		return 0;
	TRY(cu.cuDeviceGetDefaultMemPool(&pool, g->dev));
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t reserved = 0, used = 0;
		char what[64];

		TRY(cu.cuMemAllocAsync(&p[i], sizes[i], g->stream));
		TRY(cu.cuStreamSynchronize(g->stream));
		TRY(cu.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
					     &reserved));
		TRY(cu.cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
		snprintf(what, sizeof(what), "pool.after_%zu", sizes[i]);
		report_one(what, "bytes", (double)(before - free_now()),
			   "taken in all by cuMemGetInfo; the pool says reserved %llu used %llu",
			   (unsigned long long)reserved, (unsigned long long)used);
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		TRY(cu.cuMemFreeAsync(p[i], g->stream));
	TRY(cu.cuStreamSynchronize(g->stream));
	report_one("pool.after_free_and_wait", "bytes", (double)(before - free_now()),
		   "still taken with the release threshold as it is by default");
	if (cu.cuMemPoolTrimTo)
		TRY(cu.cuMemPoolTrimTo(pool, 0));
	report_one("pool.after_trim", "bytes", (double)(before - free_now()), "still taken");
	return 0;
}

static int allocation_sizes(int index, void *arg)
{
	static const size_t sizes[] = {1,	    512,      513,	   4 * KIB,	64 * KIB,
				       MIB,	    MIB + 1,  2 * MIB,	   2 * MIB + 1, 3 * MIB,
				       5 * MIB + 1, 20 * MIB, 32 * MIB + 1};
	struct gpu g;

	(void)index;
	(void)arg;
	if (gpu_open(&g))
		return 1;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		if (one_size(sizes[i]))
			return 1;
	return pool_growth(&g) ? 1 : 0;
}

/*
 * Death: from SIGKILL until NVML says that the memory is back.
 */
struct victim {
	_Atomic uint32_t ready;
	size_t bytes;
	uint64_t kernel_ns; /* one that runs when it is killed; 0: none */
};

static int be_victim(int index, void *arg)
{
	struct victim *v = arg;
	CUdeviceptr p, none = 0;
	struct gpu g;

	(void)index;
	probe_step("victim");
	if (gpu_open(&g))
		return 1;
	for (size_t had = 0; had < v->bytes; had += GIB)
		TRY(cu.cuMemAlloc_v2(&p, v->bytes < GIB ? v->bytes : GIB));
	if (v->kernel_ns)
		TRY(gpu_run(&g, K_SPIN, (unsigned)g.sms, 32, g.stream, &v->kernel_ns, &none));
	sleep_ns(50 * MSEC);
	futex_set(&v->ready, 1);
	sleep_ns(20 * SEC);
	return 1;
}

static void death(const char *name, size_t bytes, uint64_t kernel_ns, int times)
{
	struct samples gone = {0}, back = {0};
	char what[64];

	for (int i = 0; i < times; i++) {
		struct victim *v = shared_alloc(sizeof(*v));
		int64_t before = nvml_device_used();
		uint64_t t0, end;
		pid_t pid;

		v->bytes = bytes;
		v->kernel_ns = kernel_ns;
		pid = spawn(be_victim, 0, v);
		if (!futex_wait(&v->ready, 0, 15)) {
			join_one(pid, 0);
			break;
		}
		t0 = now_ns();
		end = t0 + 20 * SEC;
		kill(pid, SIGKILL);
		while (nvml_device_used() > before + (int64_t)(16 * MIB) && now_ns() < end)
			;
		samples_add(&back, (double)(now_ns() - t0));
		join_one(pid, 20);
		samples_add(&gone, (double)(now_ns() - t0));
	}
	snprintf(what, sizeof(what), "death.%s.memory_back", name);
	report(what, "ns", &back, "from SIGKILL until NVML shows the memory free again");
	snprintf(what, sizeof(what), "death.%s.reaped", name);
	report(what, "ns", &gone,
	       "from SIGKILL until the process could be waited for (after that)");
}

int main(int argc, char **argv)
{
	int times;
	bool computes;
	pid_t pid;

	probe_begin(argc, argv, "memory", 120, NULL);
	times = probe_quick() ? 1 : 5;
	if (!device_there(&computes))
		return probe_end();
	walk_steps();
	pid = spawn(allocation_sizes, 0, NULL);
	if (join_one(pid, 40))
		report_skipped("sizes", "could not finish (see its own record)");
	if (nvml_device_used() >= 0) {
		death("256MiB_idle", 256 * MIB, 0, times);
		death("16GiB_idle", probe_quick() ? GIB : 16 * GIB, 0, times);
		death("256MiB_in_kernel", 256 * MIB, 3 * SEC, times > 2 ? 2 : times);
	}
	return probe_end();
}
