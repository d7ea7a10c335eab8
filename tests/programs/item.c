/* SPDX-License-Identifier: Apache-2.0 */
/* Allocates and frees by every method of the driver; see item.h. */
#include "item.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const method_names[N_METHODS] = {
	"linear", "pitch", "array",	"array3d", "mipmap", "managed", "async",
	"pool",	  "vmm",   "vmmcreate", "graph",   "host",   "ipc",
};

struct tally {
	int64_t now, peak;
};

struct item items[MAX_ITEMS];
unsigned int n_items;
static CUmemoryPool pools[MAX_DEVICES];
static struct tally *tally;

void item_tally_open(void)
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

bool item_parse_method(const char *text, enum method *ret_method)
{
	for (unsigned int i = 0; i < N_METHODS; i++) {
		if (text && !strcmp(text, method_names[i])) {
			*ret_method = (enum method)i;
			return true;
		}
	}
	return false;
}

static CUresult alloc_vmm(struct item *it, uint64_t bytes, bool map)
{
	CUmemAllocationProp prop = cu_memory_on(it->device);
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
	params.poolProps = cu_pool_on(it->device);
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
		CUmemPoolProps props = cu_pool_on(it->device);

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

CUresult item_alloc(struct item *it, int device, enum method method, uint64_t bytes)
{
	size_t pitch = 0;
	CUresult r;

	memset(it, 0, sizeof(*it));
	it->method = method;
	it->device = device;
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

CUresult item_free(struct item *it)
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

struct item *item_slot(void)
{
	for (unsigned int i = n_items; i-- > 0 && n_items >= MAX_ITEMS;)
		if (!items[i].live)
			return &items[i];
	return n_items < MAX_ITEMS ? &items[n_items] : NULL;
}

/* Allocate and keep; the id of the new item goes to @ret_id. */
CUresult item_keep(int device, enum method method, uint64_t bytes, unsigned int *ret_id)
{
	struct item *it = item_slot();
	CUresult r;

	if (!it)
		return CUDA_ERROR_UNKNOWN;
	r = item_alloc(it, device, method, bytes);
	if (r != CUDA_SUCCESS)
		return r;
	*ret_id = (unsigned int)(it - items);
	if (*ret_id == n_items)
		n_items++;
	return CUDA_SUCCESS;
}

struct item *item_named(const char *text)
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

CUmemoryPool item_pool(int device)
{
	return pools[device];
}
