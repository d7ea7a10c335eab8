/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver-API program that does what it is told: one command a line, one line of
 * `command key=value ...` for an answer. It allocates by every method there is, in any step, until
 * refused or not; holds, fills, verifies and frees. It knows nothing of Aliquot.
 *
 *   tenant [COMMAND...] [-]      commands from the arguments, then from stdin if `-` is last
 *
 * Sizes take K, M, G (powers of 1024). Commands:
 *   init                  cuInit, count the devices
 *   dev N                 retain the primary context of device N and make it current
 *   drop N                release that context once
 *   ctxnew / ctxdel       make one more context (and put back the current one) / end the last made
 *   info                  cuMemGetInfo, cuDeviceTotalMem
 *   alloc METHOD SIZE     one allocation, keeps it
 *   fill METHOD SIZE [N]  allocations of SIZE until one is refused, or N of them
 *   squeeze METHOD SIZE   fill with SIZE, SIZE/2, SIZE/4 ... down to one grain of 512 bytes
 *   retry METHOD SIZE N   N allocations that are each expected to fail; counts the codes
 *   free ID|last|all      give back
 *   put ID SEED / check ID SEED   write or verify a pattern in the first, middle and last 4 KiB
 *   churn METHOD SIZE N SEED      N random allocations and frees around what is held
 *   ipcget ID / ipcopen HEX       export a linear allocation / open one from another process
 *   module / unmodule     load and drop a small PTX module
 *   sync, trim, pid, sleep MS, quit CODE
 *
 * METHOD: linear pitch array array3d mipmap managed async pool vmm vmmcreate graph host
 *
 * When the environment names a file in TALLY, all tenants that share it add up there what they
 * hold (added after an allocation succeeds, taken off before it is freed, so the sum is never more
 * than the truth) and keep the highest sum: a witness that is independent of anybody's accounting.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "cu.h"

#define MAX_ITEMS 200000u
#define MAX_DEVICES 16
#define GRAIN 512u
#define PROBE 4096u /* bytes of a pattern that are written at each of three places */

enum method {
	LINEAR,
	PITCH,
	ARRAY,
	ARRAY3D,
	MIPMAP,
	MANAGED,
	ASYNC,
	POOL,
	VMM,
	VMMCREATE,
	GRAPH,
	HOST,
	IPC,
	N_METHODS,
};

static const char *const method_names[N_METHODS] = {
	"linear", "pitch", "array",	"array3d", "mipmap", "managed", "async",
	"pool",	  "vmm",   "vmmcreate", "graph",   "host",   "ipc",
};

struct item {
	bool live;
	enum method method;
	int device;
	uint64_t bytes; /* as asked, or as the driver rounded it where it says so */
	CUdeviceptr ptr;
	union {
		CUarray array;
		CUmipmappedArray mipmap;
		CUmemGenericAllocationHandle handle;
		void *host;
		struct {
			CUgraph graph;
			CUgraphExec exec;
		} g;
	} u;
};

struct tally {
	int64_t now, peak;
};

static struct item items[MAX_ITEMS];
static unsigned int n_items;
static CUcontext contexts[MAX_DEVICES];
static CUmemoryPool pools[MAX_DEVICES];
static CUcontext extra[64];
static unsigned int n_extra;
static CUmodule modules[64];
static unsigned int n_modules;
static int current_device = -1;
static struct tally *tally;

static const char ptx[] = ".version 7.0\n.target sm_70\n.address_size 64\n"
			  ".visible .entry nothing()\n{\n    ret;\n}\n";

static void tally_open(void)
{
	const char *path = getenv("TALLY");
	int fd;

	if (!path)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (tally == MAP_FAILED)
		tally = NULL;
	close(fd);
}

static void tally_add(int64_t bytes)
{
	int64_t sum, peak;

	if (!tally)
		return;
	sum = __atomic_add_fetch(&tally->now, bytes, __ATOMIC_SEQ_CST);
	peak = __atomic_load_n(&tally->peak, __ATOMIC_SEQ_CST);
	while (sum > peak && !__atomic_compare_exchange_n(&tally->peak, &peak, sum, false,
							  __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	switch (*end) {
	case 'k':
	case 'K':
		return n << 10;
	case 'm':
	case 'M':
		return n << 20;
	case 'g':
	case 'G':
		return n << 30;
	default:
		return n;
	}
}

static bool parse_method(const char *text, enum method *ret_method)
{
	for (unsigned int i = 0; i < N_METHODS; i++) {
		if (text && !strcmp(text, method_names[i])) {
			*ret_method = (enum method)i;
			return true;
		}
	}
	return false;
}

static CUmemAllocationProp vmm_prop(int device)
{
	CUmemAllocationProp prop;

	memset(&prop, 0, sizeof(prop));
	prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
	prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	prop.location.id = device;
	return prop;
}

static CUresult alloc_vmm(struct item *it, uint64_t bytes, bool map)
{
	CUmemAllocationProp prop = vmm_prop(it->device);
	CUmemAccessDesc access;
	size_t unit = 0;
	CUresult r;

	r = cuMemGetAllocationGranularity(&unit, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	if (r != CUDA_SUCCESS)
		return r;
	bytes = (bytes + unit - 1) / unit * unit;
	it->bytes = bytes;
	r = cuMemCreate(&it->u.handle, bytes, &prop, 0);
	if (r != CUDA_SUCCESS || !map)
		return r;
	memset(&access, 0, sizeof(access));
	access.location = prop.location;
	access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
	r = cuMemAddressReserve(&it->ptr, bytes, 0, 0, 0);
	if (r != CUDA_SUCCESS)
		goto fail_handle;
	r = cuMemMap(it->ptr, bytes, 0, it->u.handle, 0);
	if (r != CUDA_SUCCESS)
		goto fail_range;
	r = cuMemSetAccess(it->ptr, bytes, &access, 1);
	if (r != CUDA_SUCCESS)
		goto fail_map;
	return CUDA_SUCCESS;
fail_map:
	cuMemUnmap(it->ptr, bytes);
fail_range:
	cuMemAddressFree(it->ptr, bytes);
fail_handle:
	cuMemRelease(it->u.handle);
	return r;
}

/* A graph whose one node allocates: the memory comes with the launch and stays until freed. */
static CUresult alloc_graph(struct item *it, uint64_t bytes)
{
	CUDA_MEM_ALLOC_NODE_PARAMS params;
	CUgraphNode node;
	CUresult r;

	memset(&params, 0, sizeof(params));
	params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
	params.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
	params.poolProps.location.id = it->device;
	params.bytesize = bytes;
	r = cuGraphCreate(&it->u.g.graph, 0);
	if (r != CUDA_SUCCESS)
		return r;
	r = cuGraphAddMemAllocNode(&node, it->u.g.graph, NULL, 0, &params);
	if (r != CUDA_SUCCESS)
		goto fail_graph;
	it->ptr = params.dptr;
	r = cuGraphInstantiateWithFlags(&it->u.g.exec, it->u.g.graph, 0);
	if (r != CUDA_SUCCESS)
		goto fail_graph;
	r = cuGraphLaunch(it->u.g.exec, NULL);
	if (r == CUDA_SUCCESS)
		r = cuStreamSynchronize(NULL);
	if (r != CUDA_SUCCESS)
		goto fail_exec;
	return CUDA_SUCCESS;
fail_exec:
	cuGraphExecDestroy(it->u.g.exec);
fail_graph:
	cuGraphDestroy(it->u.g.graph);
	return r;
}

static CUresult alloc_pool(struct item *it, uint64_t bytes)
{
	CUmemoryPool *pool = &pools[it->device];
	CUresult r;

	if (!*pool) {
		CUmemPoolProps props;

		memset(&props, 0, sizeof(props));
		props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
		props.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
		props.location.id = it->device;
		r = cuMemPoolCreate(pool, &props);
		if (r != CUDA_SUCCESS)
			return r;
	}
	r = cuMemAllocFromPoolAsync(&it->ptr, bytes, *pool, NULL);
	return r == CUDA_SUCCESS ? cuStreamSynchronize(NULL) : r;
}

/* Rows of 64 KiB for flat shapes, so that rounding inside the driver stays small. */
static CUresult alloc_array(struct item *it, uint64_t bytes)
{
	CUDA_ARRAY3D_DESCRIPTOR d3;
	CUDA_ARRAY_DESCRIPTOR d2;
	size_t width = bytes < 65536 ? (bytes + 3) / 4 : 16384;
	size_t rows = (bytes + 65535) / 65536;

	if (it->method == ARRAY) {
		memset(&d2, 0, sizeof(d2));
		d2.Width = width;
		d2.Height = rows;
		d2.Format = CU_AD_FORMAT_FLOAT;
		d2.NumChannels = 1;
		it->bytes = width * rows * 4;
		return cuArrayCreate(&it->u.array, &d2);
	}
	memset(&d3, 0, sizeof(d3));
	d3.Format = CU_AD_FORMAT_FLOAT;
	d3.NumChannels = 1;
	if (it->method == MIPMAP) {
		d3.Width = width;
		d3.Height = rows;
		it->bytes = width * rows * 4;
		return cuMipmappedArrayCreate(&it->u.mipmap, &d3, 3);
	}
	d3.Width = 1024;
	d3.Height = 256;
	d3.Depth = (bytes + (1 << 20) - 1) >> 20;
	it->bytes = (uint64_t)d3.Depth << 20;
	return cuArray3DCreate(&it->u.array, &d3);
}

static CUresult item_alloc(struct item *it, enum method method, uint64_t bytes)
{
	size_t pitch = 0;
	CUresult r;

	memset(it, 0, sizeof(*it));
	it->method = method;
	it->device = current_device < 0 ? 0 : current_device;
	it->bytes = bytes;
	switch (method) {
	case LINEAR:
		r = cuMemAlloc(&it->ptr, bytes);
		break;
	case PITCH:
		r = cuMemAllocPitch(&it->ptr, &pitch, bytes < 65536 ? bytes : 65536,
				    (bytes + 65535) / 65536, 4);
		it->bytes = pitch * ((bytes + 65535) / 65536);
		break;
	case ARRAY:
	case ARRAY3D:
	case MIPMAP:
		r = alloc_array(it, bytes);
		break;
	case MANAGED:
		r = cuMemAllocManaged(&it->ptr, bytes, CU_MEM_ATTACH_GLOBAL);
		break;
	case ASYNC:
		r = cuMemAllocAsync(&it->ptr, bytes, NULL);
		if (r == CUDA_SUCCESS)
			r = cuStreamSynchronize(NULL);
		break;
	case POOL:
		r = alloc_pool(it, bytes);
		break;
	case VMM:
	case VMMCREATE:
		r = alloc_vmm(it, bytes, method == VMM);
		break;
	case GRAPH:
		r = alloc_graph(it, bytes);
		break;
	case HOST:
		r = cuMemHostAlloc(&it->u.host, bytes, 0);
		break;
	default:
		r = CUDA_ERROR_INVALID_VALUE;
		break;
	}
	if (r == CUDA_SUCCESS) {
		it->live = true;
		if (method != HOST)
			tally_add((int64_t)it->bytes);
	}
	return r;
}

static CUresult item_free(struct item *it)
{
	CUresult r = CUDA_SUCCESS, r2;

	if (it->method != HOST && it->method != IPC)
		tally_add(-(int64_t)it->bytes);
	switch (it->method) {
	case LINEAR:
	case PITCH:
	case MANAGED:
		r = cuMemFree(it->ptr);
		break;
	case ARRAY:
	case ARRAY3D:
		r = cuArrayDestroy(it->u.array);
		break;
	case MIPMAP:
		r = cuMipmappedArrayDestroy(it->u.mipmap);
		break;
	case ASYNC:
	case POOL:
		r = cuMemFreeAsync(it->ptr, NULL);
		if (r == CUDA_SUCCESS)
			r = cuStreamSynchronize(NULL);
		break;
	case VMM:
		r = cuMemUnmap(it->ptr, it->bytes);
		r2 = cuMemRelease(it->u.handle);
		r = r != CUDA_SUCCESS ? r : r2;
		r2 = cuMemAddressFree(it->ptr, it->bytes);
		r = r != CUDA_SUCCESS ? r : r2;
		break;
	case VMMCREATE:
		r = cuMemRelease(it->u.handle);
		break;
	case GRAPH:
		r = cuMemFree(it->ptr);
		cuGraphExecDestroy(it->u.g.exec);
		cuGraphDestroy(it->u.g.graph);
		cuDeviceGraphMemTrim(it->device);
		break;
	case HOST:
		r = cuMemFreeHost(it->u.host);
		break;
	case IPC:
		r = cuIpcCloseMemHandle(it->ptr);
		break;
	case N_METHODS:
		break;
	}
	it->live = false;
	return r;
}

static struct item *item_slot(void)
{
	for (unsigned int i = n_items; i-- > 0 && n_items >= MAX_ITEMS;)
		if (!items[i].live)
			return &items[i];
	return n_items < MAX_ITEMS ? &items[n_items] : NULL;
}

/* Allocate and keep; the id of the new item goes to @ret_id. */
static CUresult keep(enum method method, uint64_t bytes, unsigned int *ret_id)
{
	struct item *it = item_slot();
	CUresult r;

	if (!it)
		return CUDA_ERROR_UNKNOWN;
	r = item_alloc(it, method, bytes);
	if (r != CUDA_SUCCESS)
		return r;
	*ret_id = (unsigned int)(it - items);
	if (*ret_id == n_items)
		n_items++;
	return CUDA_SUCCESS;
}

static struct item *item_named(const char *text)
{
	unsigned long id;

	if (!text)
		return NULL;
	if (!strcmp(text, "last")) {
		for (unsigned int i = n_items; i-- > 0;)
			if (items[i].live)
				return &items[i];
		return NULL;
	}
	id = strtoul(text, NULL, 10);
	return id < n_items && items[id].live ? &items[id] : NULL;
}

static void cmd_init(void)
{
	int count = -1;
	CUresult r = cuInit(0);

	if (r == CUDA_SUCCESS)
		cuDeviceGetCount(&count);
	printf("init code=%d count=%d", (int)r, count);
}

static void cmd_dev(const char *arg)
{
	int n = arg ? (int)strtol(arg, NULL, 10) : 0;
	CUuuid uuid;
	CUdevice dev;
	CUresult r;

	if (n < 0 || n >= MAX_DEVICES) {
		printf("dev code=-1");
		return;
	}
	memset(&uuid, 0, sizeof(uuid));
	r = cuDeviceGet(&dev, n);
	if (r == CUDA_SUCCESS)
		r = cuDeviceGetUuid(&uuid, dev);
	if (r == CUDA_SUCCESS && !contexts[n])
		r = cuDevicePrimaryCtxRetain(&contexts[n], dev);
	if (r == CUDA_SUCCESS)
		r = cuCtxSetCurrent(contexts[n]);
	if (r == CUDA_SUCCESS)
		current_device = n;
	printf("dev code=%d uuid=", (int)r);
	for (unsigned int i = 0; i < 16; i++)
		printf("%02x", (unsigned int)(unsigned char)uuid.bytes[i]);
}

static void cmd_drop(const char *arg)
{
	int n = arg ? (int)strtol(arg, NULL, 10) : 0;
	CUresult r = cuDevicePrimaryCtxRelease(n);

	if (n >= 0 && n < MAX_DEVICES)
		contexts[n] = NULL;
	printf("drop code=%d", (int)r);
}

static void cmd_ctxnew(void)
{
	CUcontext popped;
	CUresult r = CUDA_ERROR_UNKNOWN;

	if (n_extra < sizeof(extra) / sizeof(extra[0]))
		r = cu_ctx_create(&extra[n_extra], current_device < 0 ? 0 : current_device);
	if (r == CUDA_SUCCESS) {
		n_extra++;
		cuCtxPopCurrent(&popped);
	}
	printf("ctxnew code=%d count=%u", (int)r, n_extra);
}

static void cmd_ctxdel(void)
{
	CUresult r = n_extra ? cuCtxDestroy(extra[--n_extra]) : CUDA_ERROR_UNKNOWN;

	printf("ctxdel code=%d count=%u", (int)r, n_extra);
}

static void cmd_info(void)
{
	size_t free_now = 0, total = 0, device_total = 0;
	CUresult r = cuMemGetInfo(&free_now, &total);
	CUresult r2 = cuDeviceTotalMem(&device_total, current_device < 0 ? 0 : current_device);

	printf("info code=%d free=%zu total=%zu code2=%d devtotal=%zu", (int)r, free_now, total,
	       (int)r2, device_total);
}

static void cmd_alloc(enum method method, uint64_t bytes)
{
	unsigned int id = 0;
	CUresult r = keep(method, bytes, &id);

	if (r == CUDA_SUCCESS)
		printf("alloc code=0 id=%u bytes=%" PRIu64, id, items[id].bytes);
	else
		printf("alloc code=%d", (int)r);
}

static void cmd_fill(const char *verb, enum method method, uint64_t step, uint64_t max,
		     bool squeeze)
{
	uint64_t sum = 0, count = 0;
	unsigned int id = 0;
	CUresult r = CUDA_SUCCESS;

	for (;;) {
		while (count < max) {
			r = keep(method, step, &id);
			if (r != CUDA_SUCCESS)
				break;
			sum += items[id].bytes;
			count++;
		}
		if (!squeeze || step <= GRAIN ||
		    (r != CUDA_SUCCESS && r != CUDA_ERROR_OUT_OF_MEMORY))
			break;
		step /= 2;
	}
	printf("%s code=%d count=%" PRIu64 " bytes=%" PRIu64, verb, (int)r, count, sum);
}

static void cmd_retry(enum method method, uint64_t bytes, uint64_t n)
{
	uint64_t ok = 0, oom = 0, other = 0;
	int last = 0;

	for (uint64_t i = 0; i < n; i++) {
		struct item it;
		CUresult r = item_alloc(&it, method, bytes);

		if (r == CUDA_SUCCESS) {
			ok++;
			item_free(&it);
		} else if (r == CUDA_ERROR_OUT_OF_MEMORY) {
			oom++;
		} else {
			other++;
			last = (int)r;
		}
	}
	printf("retry ok=%" PRIu64 " oom=%" PRIu64 " other=%" PRIu64 " other_code=%d", ok, oom,
	       other, last);
}

static void cmd_free(const char *arg)
{
	unsigned int count = 0;
	CUresult r = CUDA_SUCCESS;
	struct item *it;

	if (arg && !strcmp(arg, "all")) {
		for (unsigned int i = 0; i < n_items; i++) {
			if (items[i].live) {
				CUresult r2 = item_free(&items[i]);

				r = r != CUDA_SUCCESS ? r : r2;
				count++;
			}
		}
		n_items = 0;
	} else {
		it = item_named(arg);
		r = it ? item_free(it) : CUDA_ERROR_UNKNOWN;
		count = it != NULL;
	}
	printf("free code=%d count=%u", (int)r, count);
}

static void pattern(unsigned char *buf, uint64_t seed, uint64_t at)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull + at + 1;

	for (unsigned int i = 0; i < PROBE; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		buf[i] = (unsigned char)(x >> 56);
	}
}

static void cmd_pattern(const char *verb, const char *id, const char *seed_text, bool write_it)
{
	unsigned char want[PROBE], got[PROBE];
	struct item *it = item_named(id);
	uint64_t seed = seed_text ? strtoull(seed_text, NULL, 0) : 1;
	unsigned int bad = 0;
	CUresult r = it && it->ptr && it->bytes >= PROBE ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;

	for (unsigned int place = 0; r == CUDA_SUCCESS && place < 3; place++) {
		uint64_t at = (it->bytes - PROBE) / 2 * place;

		pattern(want, seed, at);
		if (write_it) {
			r = cuMemcpyHtoD(it->ptr + at, want, PROBE);
			continue;
		}
		memset(got, 0, sizeof(got));
		r = cuMemcpyDtoH(got, it->ptr + at, PROBE);
		bad += r == CUDA_SUCCESS && memcmp(want, got, PROBE) != 0;
	}
	printf("%s code=%d bad=%u", verb, (int)r, bad);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void cmd_churn(enum method method, uint64_t max_bytes, uint64_t n, uint64_t seed)
{
	uint64_t state = seed * 2654435761u + 88172645463325252ull, oom = 0, other = 0, done = 0;
	struct item held[32];
	unsigned int n_held = 0;
	int last = 0;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t bytes = next_random(&state) % max_bytes + 1;
		CUresult r;

		if (n_held == 32 || (n_held && next_random(&state) % 3 == 0)) {
			unsigned int k = (unsigned int)(next_random(&state) % n_held);

			r = item_free(&held[k]);
			held[k] = held[--n_held];
		} else {
			r = item_alloc(&held[n_held], method, bytes);
			if (r == CUDA_SUCCESS)
				n_held++;
		}
		done += r == CUDA_SUCCESS;
		oom += r == CUDA_ERROR_OUT_OF_MEMORY;
		if (r != CUDA_SUCCESS && r != CUDA_ERROR_OUT_OF_MEMORY) {
			other++;
			last = (int)r;
		}
	}
	while (n_held) {
		if (item_free(&held[--n_held]) != CUDA_SUCCESS)
			other++;
	}
	printf("churn done=%" PRIu64 " oom=%" PRIu64 " other=%" PRIu64 " other_code=%d", done, oom,
	       other, last);
}

static void cmd_ipcget(const char *id)
{
	struct item *it = item_named(id);
	CUipcMemHandle handle;
	CUresult r;

	memset(&handle, 0, sizeof(handle));
	r = it ? cuIpcGetMemHandle(&handle, it->ptr) : CUDA_ERROR_UNKNOWN;
	printf("ipcget code=%d handle=", (int)r);
	for (unsigned int i = 0; i < sizeof(handle); i++)
		printf("%02x", (unsigned int)((unsigned char *)&handle)[i]);
}

static void cmd_ipcopen(const char *hex, const char *size)
{
	CUipcMemHandle handle;
	struct item *it = item_slot();
	CUresult r;

	if (!it || !hex || strlen(hex) != 2 * sizeof(handle)) {
		printf("ipcopen code=-1");
		return;
	}
	for (unsigned int i = 0; i < sizeof(handle); i++) {
		char two[3] = {hex[2 * i], hex[2 * i + 1], 0};

		((unsigned char *)&handle)[i] = (unsigned char)strtoul(two, NULL, 16);
	}
	memset(it, 0, sizeof(*it));
	r = cuIpcOpenMemHandle(&it->ptr, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
	if (r == CUDA_SUCCESS) {
		it->live = true;
		it->method = IPC;
		it->bytes = size ? parse_size(size) : PROBE;
		n_items++;
		printf("ipcopen code=0 id=%u", (unsigned int)(it - items));
	} else {
		printf("ipcopen code=%d", (int)r);
	}
}

static void cmd_module(void)
{
	CUresult r = CUDA_ERROR_UNKNOWN;

	if (n_modules < sizeof(modules) / sizeof(modules[0]))
		r = cuModuleLoadData(&modules[n_modules], ptx);
	n_modules += r == CUDA_SUCCESS;
	printf("module code=%d count=%u", (int)r, n_modules);
}

static void cmd_trim(void)
{
	CUmemoryPool pool;
	CUresult r = cuDeviceGetDefaultMemPool(&pool, current_device < 0 ? 0 : current_device);

	if (r == CUDA_SUCCESS)
		r = cuMemPoolTrimTo(pool, 0);
	if (r == CUDA_SUCCESS && current_device >= 0 && pools[current_device])
		r = cuMemPoolTrimTo(pools[current_device], 0);
	printf("trim code=%d", (int)r);
}

static void sleep_ms(unsigned long ms)
{
	struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* Commands that take a METHOD. Return: false when @verb is none of them. */
static bool run_with_method(char **word, unsigned int n)
{
	static const char *const verbs[] = {"alloc", "fill", "squeeze", "retry", "churn"};
	uint64_t bytes = n > 2 ? parse_size(word[2]) : 0;
	uint64_t count = n > 3 ? parse_size(word[3]) : UINT64_MAX;
	enum method method = N_METHODS;
	unsigned int v;

	for (v = 0; v < 5; v++)
		if (!strcmp(word[0], verbs[v]))
			break;
	if (v == 5)
		return false;
	if (n < 3 || !parse_method(word[1], &method))
		printf("%s code=-1 error=usage", word[0]);
	else if (v == 0)
		cmd_alloc(method, bytes);
	else if (v == 1 || v == 2)
		cmd_fill(word[0], method, bytes, count, v == 2);
	else if (v == 3)
		cmd_retry(method, bytes, n > 3 ? count : 1);
	else
		cmd_churn(method, bytes ? bytes : 1, n > 3 ? count : 100,
			  n > 4 ? parse_size(word[4]) : 1);
	return true;
}

static void run_command(char *line)
{
	char *word[6] = {NULL}, *save = NULL;
	unsigned int n = 0;

	for (char *w = strtok_r(line, " \t\r\n", &save); w && n < 6;
	     w = strtok_r(NULL, " \t\r\n", &save))
		word[n++] = w;
	if (!n)
		return;
	if (run_with_method(word, n)) {
		; /* done */
	} else if (!strcmp(word[0], "init")) {
		cmd_init();
	} else if (!strcmp(word[0], "dev")) {
		cmd_dev(word[1]);
	} else if (!strcmp(word[0], "drop")) {
		cmd_drop(word[1]);
	} else if (!strcmp(word[0], "ctxnew")) {
		cmd_ctxnew();
	} else if (!strcmp(word[0], "ctxdel")) {
		cmd_ctxdel();
	} else if (!strcmp(word[0], "info")) {
		cmd_info();
	} else if (!strcmp(word[0], "free")) {
		cmd_free(word[1]);
	} else if (!strcmp(word[0], "put") || !strcmp(word[0], "check")) {
		cmd_pattern(word[0], word[1], word[2], word[0][0] == 'p');
	} else if (!strcmp(word[0], "ipcget")) {
		cmd_ipcget(word[1]);
	} else if (!strcmp(word[0], "ipcopen")) {
		cmd_ipcopen(word[1], word[2]);
	} else if (!strcmp(word[0], "module")) {
		cmd_module();
	} else if (!strcmp(word[0], "unmodule")) {
		printf("unmodule code=%d",
		       n_modules ? (int)cuModuleUnload(modules[--n_modules]) : -1);
	} else if (!strcmp(word[0], "sync")) {
		printf("sync code=%d", (int)cuCtxSynchronize());
	} else if (!strcmp(word[0], "trim")) {
		cmd_trim();
	} else if (!strcmp(word[0], "pid")) {
		printf("pid pid=%d", (int)getpid());
	} else if (!strcmp(word[0], "sleep")) {
		sleep_ms(word[1] ? strtoul(word[1], NULL, 10) : 0);
		printf("sleep code=0");
	} else if (!strcmp(word[0], "quit")) {
		exit(word[1] ? (int)strtol(word[1], NULL, 10) : 0);
	} else {
		printf("%s code=-1 error=unknown_command", word[0]);
	}
	putchar('\n');
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[4096];

	tally_open();
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-") && i == argc - 1) {
			while (fgets(line, sizeof(line), stdin))
				run_command(line);
			break;
		}
		snprintf(line, sizeof(line), "%s", argv[i]);
		run_command(line);
	}
	return 0;
}
