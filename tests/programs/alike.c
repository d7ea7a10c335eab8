/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the driver everything that it can be asked about memory of cuMemAlloc(), uses that memory in
 * every way, here, on a second device and in a second process, and prints each answer on a line.
 * Addresses are printed as what they are relative to, so two drivers that behave alike print the
 * same. Knows nothing of Aliquot.
 *
 *   alike              all of it
 *   alike child        the second process: reads a struct letter from stdin
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cu.h"

#ifndef AQ_TEST_REAL_CUDA_H
#define cuMemGetAddressRange cuMemGetAddressRange_v2
#define cuMemcpy2D cuMemcpy2D_v2
#define cuMemcpy2DAsync cuMemcpy2DAsync_v2
#define cuMemcpy2DUnaligned cuMemcpy2DUnaligned_v2
#define cuMemcpy3D cuMemcpy3D_v2
#define cuMemsetD16 cuMemsetD16_v2
#define cuMemsetD2D16 cuMemsetD2D16_v2
#define cuMemsetD2D32 cuMemsetD2D32_v2
#define cuMemsetD2D8 cuMemsetD2D8_v2
#endif

#if defined(AQ_TEST_REAL_CUDA_H) && CUDA_VERSION >= 13000
#define ALIKE_HERE here
#define ALIKE_FLAGS 0,
#else
#define ALIKE_HERE 0
#define ALIKE_FLAGS
#endif

#define KIB (1ull << 10)
#define MIB (1ull << 20)

static const char *who = "";
static CUcontext ctx[2];
static unsigned char host[8 << 20];

/* What the first process tells the second one. */
struct letter {
	CUipcMemHandle memory, inside, small, freed;
	CUipcEventHandle event;
	CUmemPoolPtrExportData pointer;
	int pool_fd; /* -1 none */
};

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	va_list args;

	printf("%s", who);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

#define SAY(call) say("%s: %d", #call, (int)(call))

/* ---- what there is at an address ---- */

static size_t attribute_bytes(int attr)
{
	switch (attr) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
	case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
		return 8;
	default:
		return 4;
	}
}

static unsigned long long buffer_of(CUdeviceptr p)
{
	unsigned long long id = 0;

	(void)cuPointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, p);
	return id;
}

/* A value as it must be, whatever the addresses and numbers are. */
static void say_value(const char *what, int attr, CUresult r, uint64_t value, CUdeviceptr base)
{
	char text[64];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	if (r != CUDA_SUCCESS) {
		snprintf(text, sizeof(text), "-");
	} else if (attr == CU_POINTER_ATTRIBUTE_CONTEXT) {
		snprintf(text, sizeof(text), "%s",
			 !value					? "none"
			 : value == (uint64_t)(uintptr_t)ctx[0] ? "first"
			 : value == (uint64_t)(uintptr_t)ctx[1] ? "second"
								: "another");
	} else if (attr == CU_POINTER_ATTRIBUTE_DEVICE_POINTER ||
		   attr == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR ||
		   attr == CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR) {
		if (value)
			snprintf(text, sizeof(text), "base%+" PRId64, (int64_t)(value - base));
	} else if (attr == CU_POINTER_ATTRIBUTE_BUFFER_ID ||
		   attr == CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID) {
		snprintf(text, sizeof(text), "%s",
			 !value			    ? "none"
			 : value == buffer_of(base) ? "its"
						    : "another");
	}
	say("%s attribute %d: %d %s", what, attr, (int)r, text);
}

static void attributes_at(const char *what, CUdeviceptr p, CUdeviceptr base)
{
	CUdeviceptr start = 1;
	size_t size = 1;
	CUresult r;

	for (int attr = 0; attr <= 23; attr++) {
		uint64_t value[2] = {0};

		if (attr == CU_POINTER_ATTRIBUTE_P2P_TOKENS)
			continue; /* for kernel modules */
		r = cuPointerGetAttribute(value, (CUpointer_attribute)attr, p);
		say_value(what, attr, r, value[0], base);
	}
	r = cuMemGetAddressRange(&start, &size, p);
	say("%s range: %d base%+" PRId64 " %zu", what, (int)r,
	    r == CUDA_SUCCESS ? (int64_t)(start - base) : 0, r == CUDA_SUCCESS ? size : 0);
	say("%s range, base alone: %d", what, (int)cuMemGetAddressRange(&start, NULL, p));
	say("%s range, size alone: %d", what, (int)cuMemGetAddressRange(NULL, &size, p));
}

/* The same by the call that asks for many at once. */
static void all_attributes_at(const char *what, CUdeviceptr p, CUdeviceptr base)
{
	CUpointer_attribute attrs[24];
	uint64_t values[24][2];
	void *data[24];
	unsigned int n = 0;
	CUresult r;

	memset(values, 0xa5, sizeof(values));
	for (int attr = 1; attr <= 21; attr++) {
		if (attr == CU_POINTER_ATTRIBUTE_P2P_TOKENS)
			continue;
		attrs[n] = (CUpointer_attribute)attr;
		data[n] = values[n];
		n++;
	}
	r = cuPointerGetAttributes(n, attrs, data, p);
	for (unsigned int i = 0; i < n; i++)
		say_value(what, (int)attrs[i], r,
			  attribute_bytes((int)attrs[i]) == 8 ? values[i][0]
							      : (uint32_t)values[i][0],
			  base);
	attrs[1] = (CUpointer_attribute)99;
	say("%s, an attribute that is none: %d", what,
	    (int)cuPointerGetAttributes(n, attrs, data, p));
	say("%s, nothing asked: %d", what, (int)cuPointerGetAttributes(0, attrs, data, p));
}

static void addresses(void)
{
	static const uint64_t sizes[] = {1,	  512,	   1000,    70 * KIB, MIB,
					 MIB + 1, 2 * MIB, 3 * MIB, 20 * MIB, 20 * MIB + 4};
	unsigned int on = 1;
	CUdeviceptr p;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char what[64];

		SAY(cuMemAlloc(&p, sizes[i]));
		snprintf(what, sizeof(what), "%" PRIu64 " bytes", sizes[i]);
		say("%s: aligned to 512: %d", what, p % 512 == 0);
		attributes_at(what, p, p);
		attributes_at("its last byte", p + sizes[i] - 1, p);
		all_attributes_at("all of it", p + sizes[i] / 2, p);
		SAY(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p + sizes[i] / 2));
		attributes_at("with SYNC_MEMOPS", p, p);
		SAY(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_BUFFER_ID, p));
		SAY(cuMemFree(p + 1));
		SAY(cuMemFree(p));
		SAY(cuMemFree(p));
		if (sizes[i] > MIB) { /* smaller ones have neighbours */
			attributes_at("freed", p, p);
			all_attributes_at("freed", p, p);
		}
	}
	SAY(cuMemAlloc(&p, 0));
	SAY(cuMemAlloc(NULL, 1));
	SAY(cuMemAlloc(&p, 1ull << 60));
	SAY(cuMemFree(0));
}

static void what_is_of_others(void)
{
	CUmemLocation here = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0};
	CUmemAccessDesc desc = {.location = here, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemGenericAllocationHandle handle = 0;
	unsigned long long flags = 0;
	int fd = -1, value = 0;
	CUdeviceptr p;

	SAY(cuMemAlloc(&p, 4 * MIB));
	SAY(cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)p));
	SAY(cuMemGetAccess(&flags, &here, p));
	SAY(cuMemSetAccess(p, 4 * MIB, &desc, 1));
	SAY(cuMemUnmap(p, 4 * MIB));
	SAY(cuMemAddressFree(p, 4 * MIB));
	SAY(cuMemMap(p, 4 * MIB, 0, handle, 0));
	SAY(cuMemGetHandleForAddressRange(&fd, p, 4 * MIB, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0));
	SAY(cuMemRangeGetAttribute(&value, sizeof(value), CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY, p,
				   4 * MIB));
	SAY(cuMemAdvise(p, 4 * MIB, CU_MEM_ADVISE_SET_READ_MOSTLY, ALIKE_HERE));
	SAY(cuMemPrefetchAsync(p, 4 * MIB, ALIKE_HERE, ALIKE_FLAGS NULL));
	SAY(cuStreamWriteValue32(NULL, p + 4, 7, 0));
	SAY(cuStreamWaitValue32(NULL, p + 4, 7, CU_STREAM_WAIT_VALUE_EQ));
	SAY(cuStreamWriteValue32(NULL, p + 1, 7, 0));
	SAY(cuStreamSynchronize(NULL));
	SAY(cuMemFreeAsync(p, NULL));
	SAY(cuMemFree(p));
	SAY(cuStreamSynchronize(NULL));
}

/* ---- using it ---- */

/* The sum of all bytes, and a hash of where they are. */
static void say_bytes(const char *what, CUdeviceptr p, size_t n)
{
	uint64_t hash = 1469598103934665603ull;
	CUresult r;

	memset(host, 0x77, n);
	r = cuMemcpyDtoH(host, p, n);
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ host[i]) * 1099511628211ull;
	say("%s: %d %016" PRIx64, what, (int)r, hash);
}

static void number_bytes(CUdeviceptr p, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i++)
		host[i] = (unsigned char)((i + seed) * 2654435761u >> 13);
	SAY(cuMemcpyHtoD(p, host, n));
}

static void memsets(void)
{
	size_t n = 3 * MIB;
	CUdeviceptr p;
	CUstream s;

	SAY(cuMemAlloc(&p, n));
	SAY(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	SAY(cuMemsetD8(p, 0x11, n));
	SAY(cuMemsetD8(p + 3, 0x21, 1001));
	SAY(cuMemsetD16(p + 4000, 0x3132, 999));
	SAY(cuMemsetD16(p + 4001, 0x3132, 999));
	SAY(cuMemsetD32(p + 8000, 0x41424344, 777));
	SAY(cuMemsetD32(p + 8002, 0x41424344, 777));
	SAY(cuMemsetD8(p, 0, 0));
	say_bytes("set", p, n);
	SAY(cuMemsetD2D8(p + 1, 4096, 0x51, 1000, 300));
	SAY(cuMemsetD2D16(p + 2 * MIB, 1024, 0x6162, 100, 300));
	SAY(cuMemsetD2D32(p + 20, 2048, 0x71727374, 50, 700));
	SAY(cuMemsetD2D32(p, 2047, 0x71727374, 50, 700));
	SAY(cuMemsetD2D8(p, 10, 1, 11, 2));
	say_bytes("set in two dimensions", p, n);
	SAY(cuMemsetD8Async(p + 5, 0x81, 12345, s));
	SAY(cuMemsetD16Async(p + 20000, 0x8283, 1234, s));
	SAY(cuMemsetD32Async(p + 40000, 0x84858687, 1234, s));
	SAY(cuMemsetD2D8Async(p + 50000, 512, 0x88, 100, 1000, s));
	SAY(cuMemsetD2D16Async(p + 50000, 1024, 0x899a, 33, 1000, s));
	SAY(cuMemsetD2D32Async(p + 60000, 512, 0x8b8c8d8e, 7, 1000, s));
	SAY(cuStreamSynchronize(s));
	say_bytes("set in a stream", p, n);
	SAY(cuStreamDestroy(s));
	SAY(cuMemFree(p));
}

static void pitches(void)
{
	static const struct {
		size_t width, height;
		unsigned int element;
	} asked[] = {{1, 1, 4},	      {100, 10, 4},   {511, 3, 8},	 {512, 3, 16}, {513, 3, 4},
		     {3000, 1000, 4}, {70000, 64, 8}, {0, 10, 4},	 {10, 0, 4},   {10, 10, 3},
		     {10, 10, 0},     {10, 10, 32},   {3ull << 30, 1, 4}};

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		CUdeviceptr p = 0, start = 0;
		size_t pitch = 0, size = 0;
		CUresult r = cuMemAllocPitch(&p, &pitch, asked[i].width, asked[i].height,
					     asked[i].element);

		say("pitch of %zu x %zu of %u: %d %zu", asked[i].width, asked[i].height,
		    asked[i].element, (int)r, r == CUDA_SUCCESS ? pitch : 0);
		if (r != CUDA_SUCCESS)
			continue;
		r = cuMemGetAddressRange(&start, &size, p + pitch * asked[i].height - 1);
		say("its range: %d %d %zu", (int)r, start == p, size);
		SAY(cuMemFree(p));
	}
}

static CUDA_MEMCPY2D flat(CUdeviceptr to, size_t to_pitch, CUdeviceptr from, size_t from_pitch,
			  size_t width, size_t height)
{
	return (CUDA_MEMCPY2D){
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcDevice = from,
		.srcPitch = from_pitch,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstDevice = to,
		.dstPitch = to_pitch,
		.WidthInBytes = width,
		.Height = height,
	};
}

static void copies(void)
{
	size_t n = 4 * MIB;
	CUDA_MEMCPY2D two;
	CUDA_MEMCPY3D three = {
		.srcMemoryType = CU_MEMORYTYPE_DEVICE,
		.srcPitch = 1024,
		.srcHeight = 64,
		.dstMemoryType = CU_MEMORYTYPE_DEVICE,
		.dstPitch = 2048,
		.dstHeight = 32,
		.WidthInBytes = 1000,
		.Height = 30,
		.Depth = 20,
		.srcXInBytes = 3,
		.dstY = 1,
		.dstZ = 2,
	};
	CUdeviceptr p, q;
	CUstream s;

	SAY(cuMemAlloc(&p, n));
	SAY(cuMemAlloc(&q, n));
	SAY(cuStreamCreate(&s, 0));
	number_bytes(p, n, 1);
	SAY(cuMemsetD8(q, 0, n));
	SAY(cuMemcpyDtoD(q + 7, p + 100, 2 * MIB));
	SAY(cuMemcpy(q + 3 * MIB, p + 1, 5000));
	SAY(cuMemcpyDtoDAsync(q + 3 * MIB + 9999, p + 77, 12345, s));
	SAY(cuMemcpyAsync(q + 3 * MIB + 30000, p + 777, 12345, s));
	SAY(cuStreamSynchronize(s));
	SAY(cuMemcpyDtoD(q, p, 0));
	say_bytes("copied", q, n);
	two = flat(q, 1024, p, 2048, 1000, 500);
	SAY(cuMemcpy2D(&two));
	two = flat(q + MIB, 1000, p, 999, 998, 500);
	SAY(cuMemcpy2DUnaligned(&two));
	two.srcPitch = 10;
	SAY(cuMemcpy2D(&two));
	two = flat(q + 2 * MIB, 512, p, 4096, 300, 600);
	SAY(cuMemcpy2DAsync(&two, s));
	SAY(cuStreamSynchronize(s));
	two.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
	two.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
	two.dstDevice = q + 3 * MIB;
	SAY(cuMemcpy2D(&two));
	say_bytes("copied in two dimensions", q, n);
	three.srcDevice = p;
	three.dstDevice = q;
	SAY(cuMemcpy3D(&three));
	three.srcHeight = 1;
	SAY(cuMemcpy3D(&three));
	say_bytes("copied in three dimensions", q, n);
	SAY(cuMemcpyDtoD(q, 0, 100));
	SAY(cuMemcpyHtoD(0, host, 100));
	SAY(cuMemFree(p));
	SAY(cuMemFree(q));
	SAY(cuStreamDestroy(s));
}

static void room(void)
{
	size_t before, after, total;
	CUdeviceptr p;

	SAY(cuMemGetInfo(&before, &total));
	SAY(cuMemAlloc(&p, 64 * MIB));
	SAY(cuMemGetInfo(&after, &total));
	say("64 MiB less: %d", before - after == 64 * MIB);
	SAY(cuMemFree(p));
	SAY(cuMemGetInfo(&after, &total));
	say("as before: %d", before == after);
}

/* ---- two devices ---- */

static void two_devices(void)
{
	size_t n = 3 * MIB;
	CUdeviceptr p, q;
	int can = -1;

	SAY(cuDeviceCanAccessPeer(&can, 0, 1));
	say("can: %d", can);
	SAY(cuCtxSetCurrent(ctx[1]));
	SAY(cuMemAlloc(&q, n));
	attributes_at("on the second", q, q);
	number_bytes(q, n, 9);
	SAY(cuCtxSetCurrent(ctx[0]));
	SAY(cuMemAlloc(&p, n));
	attributes_at("the second's, from the first", q, q);
	SAY(cuMemcpyPeer(p, ctx[0], q, ctx[1], n));
	say_bytes("from the second", p, n);
	SAY(cuMemsetD8(p, 0, n));
	SAY(cuMemcpyPeerAsync(p, ctx[0], q + 1, ctx[1], n - 1, NULL));
	SAY(cuStreamSynchronize(NULL));
	say_bytes("from the second, in a stream", p, n);
	if (can == 1) {
		SAY(cuCtxEnablePeerAccess(ctx[1], 1));
		SAY(cuCtxEnablePeerAccess(ctx[1], 0));
		SAY(cuCtxEnablePeerAccess(ctx[1], 0));
		SAY(cuMemcpyDtoD(p, q, n));
		SAY(cuMemsetD32(q + 4096, 0x5a5a5a5a, 1000));
		SAY(cuMemcpyDtoD(p + 8, q + 8, n - 8));
		say_bytes("by peer access", p, n);
		attributes_at("the second's, enabled", q, q);
		SAY(cuCtxSetCurrent(ctx[1]));
		SAY(cuMemFree(q));
		SAY(cuMemAlloc(&q, 2 * n)); /* after it was enabled */
		SAY(cuMemsetD8(q, 0x37, 2 * n));
		SAY(cuCtxSynchronize());
		SAY(cuCtxSetCurrent(ctx[0]));
		SAY(cuMemcpyDtoD(p, q + n, n));
		say_bytes("by peer access, later", p, n);
		SAY(cuCtxDisablePeerAccess(ctx[1]));
		SAY(cuCtxDisablePeerAccess(ctx[1]));
	}
	SAY(cuMemFree(q)); /* with the other device current */
	SAY(cuMemFree(p));
}

/* ---- two processes ---- */

static void open_in_another_context(const CUipcMemHandle *handle)
{
	CUcontext other;
	CUdeviceptr p, q;

	SAY(cuIpcOpenMemHandle(&p, *handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	SAY(cu_ctx_create(&other, 0));
	SAY(cuIpcOpenMemHandle(&q, *handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	say("at another address: %d", p != q);
	say_bytes("in the other context", q, 5 * MIB);
	SAY(cuCtxDestroy(other)); /* and what is open in it */
	SAY(cuCtxSetCurrent(ctx[0]));
	SAY(cuIpcCloseMemHandle(q));
	attributes_at("open in a context that is gone", q, q);
	SAY(cuIpcCloseMemHandle(p));
}

static void open_memory(const struct letter *l)
{
	CUdeviceptr p = 0, again = 0, inside = 0, small = 0, gone = 0;
	CUipcMemHandle own, nonsense;
	CUmemGenericAllocationHandle handle = 0;
	unsigned int on = 1;

	memset(&nonsense, 0x5a, sizeof(nonsense));
	SAY(cuIpcOpenMemHandle(&p, l->memory, 0));
	SAY(cuIpcOpenMemHandle(&p, nonsense, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	SAY(cuIpcOpenMemHandle(&gone, l->freed, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	SAY(cuIpcOpenMemHandle(&p, l->memory, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	SAY(cuIpcOpenMemHandle(&again, l->memory, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	SAY(cuIpcOpenMemHandle(&inside, l->inside, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	say("the same: %d %d", p == again, p == inside);
	SAY(cuIpcOpenMemHandle(&small, l->small, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	attributes_at("opened", p, p);
	attributes_at("opened, in the middle", p + 3 * MIB, p);
	all_attributes_at("opened, all", p + 1, p);
	attributes_at("opened, small", small, small);
	SAY(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
	attributes_at("opened, with SYNC_MEMOPS", p, p);
	say_bytes("what the other wrote", p, 5 * MIB);
	say_bytes("what the other wrote, small", small, 1000);
	SAY(cuMemsetD8(p + 17, 0x99, 4 * MIB));
	SAY(cuMemcpyDtoD(p + 100, small, 900));
	SAY(cuMemsetD8(small + 500, 0x55, 500));
	SAY(cuIpcGetMemHandle(&own, p));
	SAY(cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)p));
	SAY(cuMemUnmap(p, 6 * MIB));
	SAY(cuIpcCloseMemHandle(p + 1));
	SAY(cuIpcCloseMemHandle(inside));
	SAY(cuIpcCloseMemHandle(again));
	say_bytes("still open", p, 1 * MIB);
	SAY(cuIpcCloseMemHandle(p));
	SAY(cuIpcCloseMemHandle(p));
	attributes_at("closed", p, p);
	SAY(cuIpcCloseMemHandle(small));
	open_in_another_context(&l->memory);
}

static void open_event(const struct letter *l)
{
	CUstream s;
	CUevent e;
	CUdeviceptr p;

	SAY(cuIpcOpenEventHandle(&e, l->event));
	SAY(cuEventQuery(e));
	SAY(cuEventSynchronize(e));
	SAY(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
	SAY(cuStreamWaitEvent(s, e, 0));
	SAY(cuMemAlloc(&p, MIB));
	SAY(cuMemsetD8Async(p, 1, MIB, s));
	SAY(cuStreamSynchronize(s));
	SAY(cuMemFree(p));
	SAY(cuStreamDestroy(s));
	SAY(cuEventDestroy(e));
}

static void open_pool(const struct letter *l)
{
	CUmemPoolPtrExportData pointer = l->pointer;
	CUmemoryPool pool;
	CUdeviceptr p;

	if (l->pool_fd < 0)
		return;
	SAY(cuMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)l->pool_fd,
					       CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	SAY(cuMemPoolImportPointer(&p, pool, &pointer));
	say_bytes("of the other's pool", p, MIB);
	SAY(cuMemFree(p));
	SAY(cuMemPoolDestroy(pool));
}

static int child(void)
{
	struct letter l;

	who = "child: ";
	if (fread(&l, sizeof(l), 1, stdin) != 1 || cuInit(0) != CUDA_SUCCESS ||
	    cuDevicePrimaryCtxRetain(&ctx[0], 0) != CUDA_SUCCESS ||
	    cuCtxSetCurrent(ctx[0]) != CUDA_SUCCESS)
		return 1;
	open_memory(&l);
	open_event(&l);
	open_pool(&l);
	SAY(cuDevicePrimaryCtxRelease(0));
	return 0;
}

/* Run ourselves as the second process, and wait. */
static void send(const struct letter *l)
{
	int ends[2], status = -1;
	pid_t pid;

	if (pipe(ends) || write(ends[1], l, sizeof(*l)) != (ssize_t)sizeof(*l))
		return;
	close(ends[1]);
	pid = fork();
	if (!pid) {
		dup2(ends[0], 0);
		execl("/proc/self/exe", "alike", "child", (char *)NULL);
		_exit(127);
	}
	close(ends[0]);
	waitpid(pid, &status, 0);
	say("the child ended: %d", status);
}

/* A pool that others may import, and memory of it. */
static void make_pool(struct letter *l, CUmemoryPool *pool, CUdeviceptr *p)
{
	CUmemPoolProps props = {
		.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
		.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0},
	};

	l->pool_fd = -1;
	SAY(cuMemPoolCreate(pool, &props));
	SAY(cuMemAllocFromPoolAsync(p, MIB, *pool, NULL));
	SAY(cuStreamSynchronize(NULL));
	number_bytes(*p, MIB, 4);
	SAY(cuMemPoolExportToShareableHandle(&l->pool_fd, *pool,
					     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
	SAY(cuMemPoolExportPointer(&l->pointer, *p));
}

static void two_processes(void)
{
	CUdeviceptr p, small, q, pooled;
	CUipcMemHandle handle, again;
	CUmemoryPool pool;
	struct letter l;
	CUevent e;

	memset(&l, 0, sizeof(l));
	SAY(cuMemAlloc(&p, 5 * MIB));
	SAY(cuMemAlloc(&small, 1000));
	SAY(cuMemAlloc(&q, 7 * MIB));
	number_bytes(p, 5 * MIB, 2);
	number_bytes(small, 1000, 3);
	SAY(cuIpcGetMemHandle(&l.memory, p));
	SAY(cuIpcGetMemHandle(&again, p));
	say("the same handle: %d", !memcmp(&l.memory, &again, sizeof(again)));
	SAY(cuIpcGetMemHandle(&l.inside, p + 3 * MIB));
	SAY(cuIpcGetMemHandle(&l.small, small));
	SAY(cuIpcGetMemHandle(&l.freed, q));
	SAY(cuIpcGetMemHandle(NULL, p));
	SAY(cuIpcGetMemHandle(&handle, 0x1234));
	SAY(cuIpcOpenMemHandle(&pooled, l.memory, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
	SAY(cuMemFree(q));
	SAY(cuIpcGetMemHandle(&handle, q));
	SAY(cuEventCreate(&e, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING));
	SAY(cuMemsetD8Async(p + 5 * MIB - 1, 1, 1, NULL));
	SAY(cuEventRecord(e, NULL));
	SAY(cuIpcGetEventHandle(&l.event, e));
	make_pool(&l, &pool, &pooled);
	send(&l);
	say_bytes("what the child wrote", p, 5 * MIB);
	say_bytes("what the child wrote, small", small, 1000);
	SAY(cuMemFree(pooled));
	SAY(cuMemPoolDestroy(pool));
	SAY(cuEventDestroy(e));
	SAY(cuMemFree(small));
	SAY(cuMemFree(p));
}

int main(int argc, char **argv)
{
	int count = 0;

	if (argc > 1)
		return child();
	if (cuInit(0) != CUDA_SUCCESS || cuDeviceGetCount(&count) != CUDA_SUCCESS)
		return 1;
	for (int i = 0; i < 2 && i < count; i++) {
		if (cuDevicePrimaryCtxRetain(&ctx[i], i) != CUDA_SUCCESS)
			return 1;
	}
	SAY(cuCtxSetCurrent(ctx[0]));
	addresses();
	what_is_of_others();
	memsets();
	pitches();
	copies();
	room();
	if (count > 1)
		two_devices();
	two_processes();
	for (int i = 0; i < 2 && i < count; i++)
		SAY(cuDevicePrimaryCtxRelease(i));
	return 0;
}
