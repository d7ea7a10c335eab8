/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that are known to go wrong in memory limiters, one sub-command each: a program that uses
 * the driver API in a lawful but unusual way and says whether the answers add up. It looks at
 * nothing but the driver API; whoever runs it looks from outside. Every sub-command prints
 * `NAME key=value ...` lines and ends with `NAME ok=1` (exit 0) or `NAME ok=0 why=...` (exit 1).
 *
 *   unknown-free     pointers that an allocation table might not know are freed, and come back
 *   pool-limit       stream-ordered allocations over the limit answer 2
 *   vmm-device       cuMemCreate is charged where it says, not to the current context's device
 *   vmm-loop         create, map, release without unmapping never passes the limit
 *   boundary         refused calls of every kind leave nothing behind
 *   other-context    memory is freed while another device is current, and from another thread
 *   null-out         NULL where a result should go: the driver's own answer (compare with bare)
 *   every-method     each kind of allocation takes from what is free, and gives it back
 *   resolved         entry points from cuGetProcAddress are held to the limit like linked ones
 *   order            device 0 is the first of CUDA_VISIBLE_DEVICES, in the driver and in charges
 *   long-kernel      one long block and many tiny kernels both run to their end
 *   graph-replay     a graph that allocates and frees can be launched for ever inside the limit
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cu.h"

#define MIB (1ull << 20)

static const char *name;
static CUcontext context[2];

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *format, ...)
{
	va_list ap;

	printf("%s ok=0 why=", name);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	exit(1);
}

static void must(CUresult r, const char *what)
{
	if (r != CUDA_SUCCESS)
		fail("%s answered %d", what, (int)r);
}

static void must_be(CUresult r, int want, const char *what)
{
	if ((int)r != want)
		fail("%s answered %d, not %d", what, (int)r, want);
}

static void start(int devices)
{
	int count = 0;

	must(cuInit(0), "cuInit");
	must(cuDeviceGetCount(&count), "cuDeviceGetCount");
	if (count < devices)
		fail("needs %d devices, has %d", devices, count);
	for (int i = 0; i < devices; i++)
		must(cuDevicePrimaryCtxRetain(&context[i], i), "cuDevicePrimaryCtxRetain");
	must(cuCtxSetCurrent(context[0]), "cuCtxSetCurrent");
}

static uint64_t free_now(void)
{
	size_t free_bytes = 0, total = 0;

	must(cuMemGetInfo(&free_bytes, &total), "cuMemGetInfo");
	return free_bytes;
}

static uint64_t free_on(int device)
{
	CUcontext before;
	uint64_t n;

	must(cuCtxGetCurrent(&before), "cuCtxGetCurrent");
	must(cuCtxSetCurrent(context[device]), "cuCtxSetCurrent");
	n = free_now();
	must(cuCtxSetCurrent(before), "cuCtxSetCurrent");
	return n;
}

static CUmemoryPool pool_on(int device)
{
	CUmemPoolProps props = cu_pool_on(device);
	CUmemoryPool pool;

	must(cuMemPoolCreate(&pool, &props), "cuMemPoolCreate");
	return pool;
}

/* Fault 1. A third of what is free, 12 rounds: a leak of any of them shows as a refusal. */
static void unknown_free(void)
{
	CUdeviceptr p = 0;
	CUmemoryPool pool;
	uint64_t size, before;

	start(1);
	pool = pool_on(0);
	before = free_now();
	size = before / 3 / MIB * MIB;
	for (int i = 0; i < 12; i++) {
		must(cuMemAllocAsync(&p, size, NULL), "cuMemAllocAsync");
		must(cuStreamSynchronize(NULL), "cuStreamSynchronize");
		must(cuMemFree(p), "cuMemFree of a stream-ordered pointer");
		must(cuMemAllocFromPoolAsync(&p, size, pool, NULL), "cuMemAllocFromPoolAsync");
		must(cuStreamSynchronize(NULL), "cuStreamSynchronize");
		must(cuMemFree(p), "cuMemFree of a pool pointer");
		must(cuMemPoolTrimTo(pool, 0), "cuMemPoolTrimTo");
		must(cuMemAllocManaged(&p, size, CU_MEM_ATTACH_GLOBAL), "cuMemAllocManaged");
		must(cuMemFree(p), "cuMemFree of a managed pointer");
		must(cuMemAlloc(&p, size), "cuMemAlloc");
		must(cuMemFreeAsync(p, NULL), "cuMemFreeAsync of a linear pointer");
		must(cuStreamSynchronize(NULL), "cuStreamSynchronize");
	}
	must(cuMemFree(0), "cuMemFree(0)");
	printf("%s bogus=%d again=%d inside=%d\n", name, (int)cuMemFree(0x123450000ull),
	       (int)cuMemFree(p), (int)cuMemFree(p + 512));
	must(cuMemPoolDestroy(pool), "cuMemPoolDestroy");
	printf("%s before=%" PRIu64 " after=%" PRIu64 "\n", name, before, free_now());
}

/* Fault 2. */
static void pool_limit(void)
{
	CUdeviceptr p, held[16];
	CUmemoryPool pool;
	unsigned int n = 0;
	uint64_t size;

	start(1);
	pool = pool_on(0);
	must_be(cuMemAllocAsync(&p, free_now() + 64 * MIB, NULL), 2, "cuMemAllocAsync over all");
	must_be(cuMemAllocFromPoolAsync(&p, free_now() + 64 * MIB, pool, NULL), 2,
		"cuMemAllocFromPoolAsync over all");
	size = free_now() / 8 / MIB * MIB;
	for (;;) {
		CUresult r = n % 2 ? cuMemAllocAsync(&held[n], size, NULL)
				   : cuMemAllocFromPoolAsync(&held[n], size, pool, NULL);

		if (r != CUDA_SUCCESS) {
			must_be(r, 2, "the stream-ordered allocation that no longer fits");
			break;
		}
		if (++n == 16)
			fail("16 eighths fitted");
	}
	if (n < 7)
		fail("only %u eighths fitted", n);
	printf("%s fitted=%u\n", name, n);
	while (n--)
		must(cuMemFreeAsync(held[n], NULL), "cuMemFreeAsync");
	must(cuStreamSynchronize(NULL), "cuStreamSynchronize");
	/* What was refused must not have spoilt the stream. */
	must(cuMemAllocAsync(&p, size, NULL), "cuMemAllocAsync after a refusal");
	must(cuMemFreeAsync(p, NULL), "cuMemFreeAsync");
	must(cuStreamSynchronize(NULL), "cuStreamSynchronize");
}

/* Fault 3. */
static void vmm_device(void)
{
	CUmemAllocationProp prop;
	CUmemGenericAllocationHandle handle;
	uint64_t before[2], during[2], after[2];
	const uint64_t size = 256 * MIB;

	start(2);
	prop = cu_memory_on(1);
	for (int i = 0; i < 2; i++)
		before[i] = free_on(i);
	must(cuMemCreate(&handle, size, &prop, 0), "cuMemCreate");
	for (int i = 0; i < 2; i++)
		during[i] = free_on(i);
	must(cuCtxSetCurrent(NULL), "cuCtxSetCurrent(NULL)");
	must(cuMemRelease(handle), "cuMemRelease without a context");
	must(cuMemCreate(&handle, size, &prop, 0), "cuMemCreate without a context");
	must(cuMemRelease(handle), "cuMemRelease without a context");
	must(cuCtxSetCurrent(context[0]), "cuCtxSetCurrent");
	for (int i = 0; i < 2; i++)
		after[i] = free_on(i);
	printf("%s took0=%" PRId64 " took1=%" PRId64 " left0=%" PRId64 " left1=%" PRId64 "\n", name,
	       (int64_t)(before[0] - during[0]), (int64_t)(before[1] - during[1]),
	       (int64_t)(before[0] - after[0]), (int64_t)(before[1] - after[1]));
	if (before[0] != during[0] || before[1] - during[1] != size)
		fail("charged to the wrong device");
	if (before[0] != after[0] || before[1] != after[1])
		fail("not all came back");
}

/* Fault 4. */
static void vmm_loop(void)
{
	CUmemAllocationProp prop;
	CUmemAccessDesc access;
	CUmemGenericAllocationHandle handle, again;
	CUdeviceptr va[64];
	uint64_t size, before, after;
	unsigned int n = 0;
	CUresult r;

	start(1);
	prop = cu_memory_on(0);
	memset(&access, 0, sizeof(access));
	access.location = prop.location;
	access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	before = free_now();
	size = before / 8 / (2 * MIB) * (2 * MIB);
	for (;;) {
		r = cuMemCreate(&handle, size, &prop, 0);
		if (r != CUDA_SUCCESS)
			break;
		must(cuMemAddressReserve(&va[n], size, 0, 0, 0), "cuMemAddressReserve");
		must(cuMemMap(va[n], size, 0, handle, 0), "cuMemMap");
		must(cuMemRelease(handle), "cuMemRelease of a mapped handle");
		must(cuMemSetAccess(va[n], size, &access, 1), "cuMemSetAccess");
		must(cuMemsetD8(va[n], (unsigned char)n, 4096), "cuMemsetD8");
		if (++n == 64)
			fail("64 eighths fitted");
	}
	must_be(r, 2, "cuMemCreate over the limit");
	if (n < 7 || n > 8)
		fail("%u eighths fitted", n);
	/* Unmapping gives it back; but not while a retained handle holds it. */
	must(cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)va[0]),
	     "cuMemRetainAllocationHandle");
	must(cuMemUnmap(va[0], size), "cuMemUnmap");
	if (free_now() >= size)
		fail("memory came back while a handle was retained");
	must(cuMemMap(va[0], size, 0, again, 0), "cuMemMap of the retained handle");
	must(cuMemUnmap(va[0], size), "cuMemUnmap");
	must(cuMemRelease(again), "cuMemRelease of the retained handle");
	if (free_now() < size)
		fail("memory did not come back with the last reference");
	for (unsigned int i = 0; i < n; i++) {
		if (i)
			must(cuMemUnmap(va[i], size), "cuMemUnmap");
		must(cuMemAddressFree(va[i], size), "cuMemAddressFree");
	}
	after = free_now();
	printf("%s fitted=%u before=%" PRIu64 " after=%" PRIu64 "\n", name, n, before, after);
	if (before != after)
		fail("not all came back");
}

/* Fault 5. 200 refusals of each kind; whoever runs this also looks at the device from outside. */
static void boundary(void)
{
	CUmemAllocationProp prop;
	CUmemGenericAllocationHandle handle;
	CUDA_ARRAY3D_DESCRIPTOR cube;
	CUmipmappedArray mipmap;
	CUarray array;
	CUdeviceptr hold, p;
	uint64_t before, size;
	size_t pitch;

	start(1);
	prop = cu_memory_on(0);
	/* Leave less than 64 MiB, so each of the calls below is over by a little. */
	size = free_now() / MIB * MIB - 32 * MIB;
	must(cuMemAlloc(&hold, size), "cuMemAlloc of nearly all");
	before = free_now();
	memset(&cube, 0, sizeof(cube));
	cube.Width = 1024;
	cube.Height = 1024;
	cube.Depth = 16;
	cube.Format = CU_AD_FORMAT_FLOAT;
	cube.NumChannels = 1;
	for (int i = 0; i < 200; i++) {
		must_be(cuMemAlloc(&p, 64 * MIB), 2, "cuMemAlloc");
		must_be(cuMemAllocPitch(&p, &pitch, 65000, 1024, 4), 2, "cuMemAllocPitch");
		must_be(cuMemAllocManaged(&p, 64 * MIB, CU_MEM_ATTACH_GLOBAL), 2,
			"cuMemAllocManaged");
		must_be(cuMemCreate(&handle, 64 * MIB, &prop, 0), 2, "cuMemCreate");
		must_be(cuArray3DCreate(&array, &cube), 2, "cuArray3DCreate");
		must_be(cuMipmappedArrayCreate(&mipmap, &cube, 4), 2, "cuMipmappedArrayCreate");
		must_be(cuMemAllocAsync(&p, 64 * MIB, NULL), 2, "cuMemAllocAsync");
	}
	printf("%s before=%" PRIu64 " after=%" PRIu64 "\n", name, before, free_now());
	if (free_now() != before)
		fail("refused calls changed what is free");
	/* And it can still be used to the end. */
	must(cuMemAlloc(&p, before / 512 * 512), "cuMemAlloc of all that was left");
	must_be(cuMemAlloc(&hold, 1), 2, "cuMemAlloc of one byte more");
}

struct worker {
	CUdeviceptr *p;
	unsigned int n;
	CUresult r;
};

static void *free_them(void *arg)
{
	struct worker *w = arg;

	/* No context is current in this thread until now. */
	w->r = cuCtxSetCurrent(context[1]);
	for (unsigned int i = 0; i < w->n && w->r == CUDA_SUCCESS; i++)
		w->r = cuMemFree(w->p[i]);
	return NULL;
}

static void *churn(void *arg)
{
	struct worker *w = arg;
	CUdeviceptr p[8];

	w->r = cuCtxSetCurrent(context[0]);
	for (unsigned int i = 0; i < 300 && w->r == CUDA_SUCCESS; i++) {
		for (unsigned int k = 0; k < 8 && w->r == CUDA_SUCCESS; k++)
			w->r = cuMemAlloc(&p[k], 1000 + 977 * k + i);
		for (unsigned int k = 0; k < 8 && w->r == CUDA_SUCCESS; k++)
			w->r = cuMemFree(p[k]);
	}
	return NULL;
}

/* Fault 6. */
static void other_context(void)
{
	CUdeviceptr p[8];
	uint64_t before[2], during[2], after[2];
	struct worker w = {.p = p, .n = 8}, many[4] = {{0}};
	pthread_t thread, threads[4];

	start(2);
	for (int i = 0; i < 2; i++)
		before[i] = free_on(i);
	for (unsigned int i = 0; i < 8; i++)
		must(cuMemAlloc(&p[i], 32 * MIB), "cuMemAlloc");
	for (int i = 0; i < 2; i++)
		during[i] = free_on(i);
	must(cuCtxSetCurrent(context[1]), "cuCtxSetCurrent");
	if (pthread_create(&thread, NULL, free_them, &w))
		fail("pthread_create");
	pthread_join(thread, NULL);
	must(w.r, "cuMemFree while another device is current");
	for (int i = 0; i < 2; i++)
		after[i] = free_on(i);
	printf("%s took0=%" PRId64 " took1=%" PRId64 " left0=%" PRId64 " left1=%" PRId64 "\n", name,
	       (int64_t)(before[0] - during[0]), (int64_t)(before[1] - during[1]),
	       (int64_t)(before[0] - after[0]), (int64_t)(before[1] - after[1]));
	if (before[0] - during[0] != 256 * MIB || before[1] != during[1])
		fail("charged to the wrong device");
	if (before[0] != after[0] || before[1] != after[1])
		fail("given back to the wrong device");
	for (unsigned int i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, churn, &many[i]))
			fail("pthread_create");
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		must(many[i].r, "allocating and freeing in four threads");
	}
	if (free_on(0) != before[0] || free_on(1) != before[1])
		fail("four threads left a difference");
}

/* Fault 7. Only prints codes: they are to be those of the bare driver. */
static void null_out(void)
{
	CUmemAllocationProp prop;
	CUmemGenericAllocationHandle handle;
	CUDA_ARRAY_DESCRIPTOR flat;
	CUDA_ARRAY3D_DESCRIPTOR cube;
	size_t n = 0;
	CUdeviceptr p;

	start(1);
	prop = cu_memory_on(0);
	memset(&flat, 0, sizeof(flat));
	flat.Width = flat.Height = 64;
	flat.Format = CU_AD_FORMAT_FLOAT;
	flat.NumChannels = 1;
	memset(&cube, 0, sizeof(cube));
	cube.Width = cube.Height = cube.Depth = 16;
	cube.Format = CU_AD_FORMAT_FLOAT;
	cube.NumChannels = 1;
#define SAY(call) printf("%s %d %s\n", name, (int)(call), #call)
	SAY(cuMemGetInfo(NULL, &n));
	SAY(cuMemGetInfo(&n, NULL));
	SAY(cuMemGetInfo(NULL, NULL));
	SAY(cuDeviceTotalMem(NULL, 0));
	SAY(cuDeviceTotalMem(&n, 99));
	SAY(cuDeviceTotalMem(&n, -1));
	SAY(cuMemAlloc(NULL, 512));
	SAY(cuMemAlloc(&p, 0));
	SAY(cuMemAllocPitch(NULL, &n, 64, 64, 4));
	SAY(cuMemAllocPitch(&p, NULL, 64, 64, 4));
	SAY(cuMemAllocPitch(&p, &n, 0, 64, 4));
	SAY(cuMemAllocPitch(&p, &n, 64, 64, 3));
	SAY(cuMemAllocManaged(NULL, 512, CU_MEM_ATTACH_GLOBAL));
	SAY(cuMemAllocManaged(&p, 0, CU_MEM_ATTACH_GLOBAL));
	SAY(cuMemAllocManaged(&p, 512, 77));
	SAY(cuMemAllocAsync(NULL, 512, NULL));
	SAY(cuMemAllocFromPoolAsync(NULL, 512, NULL, NULL));
	SAY(cuMemAllocFromPoolAsync(&p, 512, NULL, NULL));
	SAY(cuArrayCreate(NULL, &flat));
	SAY(cuArrayCreate((CUarray *)&p, NULL));
	SAY(cuArray3DCreate(NULL, &cube));
	SAY(cuMipmappedArrayCreate(NULL, &cube, 1));
	SAY(cuArrayDestroy(NULL));
	SAY(cuMipmappedArrayDestroy(NULL));
	SAY(cuMemCreate(NULL, 2 * MIB, &prop, 0));
	SAY(cuMemCreate(&handle, 2 * MIB, NULL, 0));
	SAY(cuMemCreate(&handle, 1, &prop, 0));
	SAY(cuMemRelease(0));
	SAY(cuMemUnmap(0, 2 * MIB));
	SAY(cuMemPoolCreate(NULL, NULL));
	SAY(cuMemPoolDestroy(NULL));
	SAY(cuIpcCloseMemHandle(0x5000));
	SAY(cuMemFreeAsync(0x5000, NULL));
	SAY(cuDevicePrimaryCtxRetain(NULL, 0));
	SAY(cu_ctx_create(NULL, 0));
	SAY(cuCtxDestroy(NULL));
	SAY(cuGraphInstantiateWithFlags(NULL, NULL, 0));
	SAY(cuModuleLoadData(NULL, NULL));
	SAY(cuInit(1));
	prop.location.id = 99;
	SAY(cuMemCreate(&handle, 2 * MIB, &prop, 0));
	must(cuCtxSetCurrent(NULL), "cuCtxSetCurrent(NULL)");
	SAY(cuMemGetInfo(&n, &n));
	SAY(cuMemAlloc(&p, 512));
	SAY(cuMemFree(0x5000));
#undef SAY
}

/* Fault 11. */
static void every_method(void)
{
	const uint64_t size = 64 * MIB;
	CUDA_ARRAY3D_DESCRIPTOR cube;
	CUDA_ARRAY_DESCRIPTOR flat;
	CUmemAllocationProp prop;
	CUmemGenericAllocationHandle handle;
	CUDA_MEM_ALLOC_NODE_PARAMS node_params;
	CUmipmappedArray mipmap;
	CUmemoryPool pool;
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph graph;
	CUarray array;
	CUdeviceptr p;
	size_t pitch;
	uint64_t before, during, after;

	start(1);
	prop = cu_memory_on(0);
	pool = pool_on(0);
	memset(&flat, 0, sizeof(flat));
	flat.Width = 16384;
	flat.Height = size / 65536;
	flat.Format = CU_AD_FORMAT_FLOAT;
	flat.NumChannels = 1;
	memset(&cube, 0, sizeof(cube));
	cube.Width = 1024;
	cube.Height = 1024;
	cube.Depth = size / (4 * MIB);
	cube.Format = CU_AD_FORMAT_FLOAT;
	cube.NumChannels = 1;
	/* The graph executable's own cost is not what is measured here: make it once before. */
#define TAKES(what, make, give_back)                                                               \
	do {                                                                                       \
		before = free_now();                                                               \
		must((make), what);                                                                \
		must(cuStreamSynchronize(NULL), "cuStreamSynchronize");                            \
		during = free_now();                                                               \
		must((give_back), what " given back");                                             \
		must(cuStreamSynchronize(NULL), "cuStreamSynchronize");                            \
		must(cuMemPoolTrimTo(pool, 0), "cuMemPoolTrimTo");                                 \
		must(cuDeviceGraphMemTrim(0), "cuDeviceGraphMemTrim");                             \
		after = free_now();                                                                \
		printf("%s method=%s took=%" PRId64 " left=%" PRId64 "\n", name, what,             \
		       (int64_t)(before - during), (int64_t)(before - after));                     \
		if ((int64_t)(before - during) < (int64_t)size ||                                  \
		    before - during > size + size / 2 + 8 * MIB)                                   \
			fail("%s of %" PRIu64 " took %" PRId64, what, size,                        \
			     (int64_t)(before - during));                                          \
		if (before != after)                                                               \
			fail("%s left %" PRId64, what, (int64_t)(before - after));                 \
	} while (0)
	TAKES("linear", cuMemAlloc(&p, size), cuMemFree(p));
	TAKES("pitch", cuMemAllocPitch(&p, &pitch, 65536, size / 65536, 4), cuMemFree(p));
	TAKES("managed", cuMemAllocManaged(&p, size, CU_MEM_ATTACH_GLOBAL), cuMemFree(p));
	TAKES("array", cuArrayCreate(&array, &flat), cuArrayDestroy(array));
	TAKES("array3d", cuArray3DCreate(&array, &cube), cuArrayDestroy(array));
	TAKES("mipmap", cuMipmappedArrayCreate(&mipmap, &cube, 1), cuMipmappedArrayDestroy(mipmap));
	TAKES("vmm", cuMemCreate(&handle, size, &prop, 0), cuMemRelease(handle));
	TAKES("async", cuMemAllocAsync(&p, size, NULL), cuMemFreeAsync(p, NULL));
	TAKES("pool", cuMemAllocFromPoolAsync(&p, size, pool, NULL), cuMemFreeAsync(p, NULL));

	memset(&node_params, 0, sizeof(node_params));
	node_params.poolProps = cu_pool_on(0);
	node_params.bytesize = size;
	must(cuGraphCreate(&graph, 0), "cuGraphCreate");
	must(cuGraphAddMemAllocNode(&node, graph, NULL, 0, &node_params), "cuGraphAddMemAllocNode");
	must(cuGraphInstantiateWithFlags(&exec, graph, 0), "cuGraphInstantiateWithFlags");
	must(cuGraphLaunch(exec, NULL), "cuGraphLaunch");
	must(cuStreamSynchronize(NULL), "cuStreamSynchronize");
	during = free_now();
	must(cuMemFree(node_params.dptr), "cuMemFree of graph memory");
	must(cuGraphExecDestroy(exec), "cuGraphExecDestroy");
	must(cuGraphDestroy(graph), "cuGraphDestroy");
	must(cuDeviceGraphMemTrim(0), "cuDeviceGraphMemTrim");
	after = free_now();
	printf("%s method=graph took=%" PRId64 " left=%" PRId64 "\n", name,
	       (int64_t)(before - during), (int64_t)(before - after));
	if (before - during < size)
		fail("graph memory of %" PRIu64 " took %" PRId64, size, (int64_t)(before - during));
	if (after < before && before - after > 4 * MIB)
		fail("graph memory left %" PRIu64, before - after);
}

static void *resolve(const char *symbol, int version, unsigned long long flags)
{
	CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	void *pfn = NULL;

	must(cuGetProcAddress(symbol, &pfn, version, flags, &status), "cuGetProcAddress");
	if (!pfn || status != CU_GET_PROC_ADDRESS_SUCCESS)
		fail("%s at %d: status %d", symbol, version, (int)status);
	return pfn;
}

/* Fault 12, and 2 for the per-thread twins. */
static void resolved(void)
{
	CUresult (*alloc)(CUdeviceptr *, size_t);
	CUresult (*alloc_async)(CUdeviceptr *, size_t, CUstream);
	CUresult (*add_node)(CUgraphNode *, CUgraph, const CUgraphNode *, size_t,
			     CUDA_MEM_ALLOC_NODE_PARAMS *);
	CUresult (*instantiate)(CUgraphExec *, CUgraph, unsigned long long);
	CUresult (*launch)(CUgraphExec, CUstream);
	CUDA_MEM_ALLOC_NODE_PARAMS params;
	CUgraphNode node;
	CUgraphExec exec;
	CUgraph graph;
	CUdeviceptr p;
	uint64_t over;
	CUresult r;

	start(1);
	over = free_now() + 64 * MIB;
	*(void **)&alloc = resolve("cuMemAlloc", 3020, 0);
	must_be(alloc(&p, over), 2, "resolved cuMemAlloc");
	for (unsigned int flags = 0; flags <= 2; flags += 2) {
		*(void **)&alloc_async = resolve("cuMemAllocAsync", 11020, flags);
		must_be(alloc_async(&p, over, NULL), 2, "resolved cuMemAllocAsync");
	}
	*(void **)&add_node = resolve("cuGraphAddMemAllocNode", 11040, 0);
	*(void **)&instantiate = resolve("cuGraphInstantiate", 12000, 0);
	*(void **)&launch = resolve("cuGraphLaunch", 10000, 2);
	memset(&params, 0, sizeof(params));
	params.poolProps = cu_pool_on(0);
	params.bytesize = over;
	must(cuGraphCreate(&graph, 0), "cuGraphCreate");
	r = add_node(&node, graph, NULL, 0, &params);
	if (r == CUDA_SUCCESS) {
		r = instantiate(&exec, graph, 0);
		if (r == CUDA_SUCCESS) {
			r = launch(exec, NULL);
			cuGraphExecDestroy(exec);
		}
	}
	must_be(r, 2, "a resolved graph that allocates over the limit");
	must(cuGraphDestroy(graph), "cuGraphDestroy");
}

/* Fault 13. The caller compares uuids and sees from outside which device was charged. */
static void order(void)
{
	CUuuid uuid;
	CUdeviceptr p;
	size_t total;

	start(2);
	for (int i = 0; i < 2; i++) {
		must(cuDeviceGetUuid(&uuid, i), "cuDeviceGetUuid");
		must(cuDeviceTotalMem(&total, i), "cuDeviceTotalMem");
		printf("%s device=%d total=%zu uuid=", name, i, total);
		for (unsigned int k = 0; k < 16; k++)
			printf("%02x", (unsigned int)(unsigned char)uuid.bytes[k]);
		putchar('\n');
	}
	must(cuCtxSetCurrent(context[0]), "cuCtxSetCurrent");
	must(cuMemAlloc(&p, 100 * MIB), "cuMemAlloc on 0");
	must(cuCtxSetCurrent(context[1]), "cuCtxSetCurrent");
	must(cuMemAlloc(&p, 300 * MIB), "cuMemAlloc on 1");
	printf("%s holding=1\n", name);
	fflush(stdout);
	getchar();
}

static const char kernels[] = ".version 7.0\n.target sm_70\n.address_size 64\n"
			      ".visible .entry nothing()\n{\n    ret;\n}\n";

/* Fault 14, the part that needs no shares of compute. */
static void long_kernel(void)
{
	CUmodule module;
	CUfunction f;

	start(1);
	must(cuModuleLoadData(&module, kernels), "cuModuleLoadData");
	must(cuModuleGetFunction(&f, module, "nothing"), "cuModuleGetFunction");
	must(cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL), "cuLaunchKernel, one block");
	for (unsigned int i = 0; i < 2000; i++)
		must(cuLaunchKernel(f, 1024, 1, 1, 256, 1, 1, 0, NULL, NULL, NULL),
		     "cuLaunchKernel");
	must(cuCtxSynchronize(), "cuCtxSynchronize");
}

static void graph_replay(void)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params;
	CUgraphNode node, node2;
	CUgraphExec exec;
	CUgraph graph;
	uint64_t before, after;

	start(1);
	before = free_now();
	memset(&params, 0, sizeof(params));
	params.poolProps = cu_pool_on(0);
	params.bytesize = before / 2 / MIB * MIB;
	must(cuGraphCreate(&graph, 0), "cuGraphCreate");
	must(cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params), "cuGraphAddMemAllocNode");
	must(cuGraphAddMemFreeNode(&node2, graph, &node, 1, params.dptr), "cuGraphAddMemFreeNode");
	must(cuGraphInstantiateWithFlags(&exec, graph, 0), "cuGraphInstantiateWithFlags");
	for (unsigned int i = 0; i < 50; i++)
		must(cuGraphLaunch(exec, NULL), "cuGraphLaunch");
	must(cuStreamSynchronize(NULL), "cuStreamSynchronize");
	must(cuGraphExecDestroy(exec), "cuGraphExecDestroy");
	must(cuGraphDestroy(graph), "cuGraphDestroy");
	must(cuDeviceGraphMemTrim(0), "cuDeviceGraphMemTrim");
	after = free_now();
	printf("%s before=%" PRIu64 " after=%" PRIu64 "\n", name, before, after);
	if (after < before && before - after > 4 * MIB)
		fail("%" PRIu64 " bytes did not come back", before - after);
}

static const struct {
	const char *name;
	void (*run)(void);
} faults[] = {
	{"unknown-free", unknown_free}, {"pool-limit", pool_limit},
	{"vmm-device", vmm_device},	{"vmm-loop", vmm_loop},
	{"boundary", boundary},		{"other-context", other_context},
	{"null-out", null_out},		{"every-method", every_method},
	{"resolved", resolved},		{"order", order},
	{"long-kernel", long_kernel},	{"graph-replay", graph_replay},
};

int main(int argc, char **argv)
{
	for (unsigned int i = 0; argc == 2 && i < sizeof(faults) / sizeof(faults[0]); i++) {
		if (!strcmp(argv[1], faults[i].name)) {
			name = faults[i].name;
			faults[i].run();
			printf("%s ok=1\n", name);
			return 0;
		}
	}
	fprintf(stderr, "usage: faults NAME\n");
	return 2;
}
