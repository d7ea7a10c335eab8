/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Green contexts: parts of a device's multiprocessors are split off, given out and told again, and
 * streams know which one they are of. That is all: a green context's CUcontext is the primary one
 * of its device, which it retains, and its work takes as long as on the whole device.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "exec.h"

#include "base/banned.h"

#define GREEN_MAGIC 0x53494d47u	   /* "SIMG" */
#define RESOURCE_MAGIC 0x53494d52u /* "SIMR" */
#define SPLIT_FLAGS                                                                                \
	(CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING |                                         \
	 CU_DEV_SM_RESOURCE_SPLIT_MAX_POTENTIAL_CLUSTER_SIZE)

/* In the padding of a CUdevResource. */
struct origin {
	uint32_t magic;
	int32_t device; /* ordinal */
	uint32_t split; /* comes from a split: not to be split again */
};

static_assert(sizeof(struct origin) <= sizeof(((CUdevResource *)0)->_internal_padding), "fits");

/* A CUdevResourceDesc. The driver has no call that ends one. */
struct part {
	struct sim_device *device;
	unsigned int sms;
	struct aq_list link; /* parts */
};

struct sim_green {
	uint32_t magic; /* 0 once destroyed */
	struct sim_context *primary;
	uint64_t primary_id; /* a primary context that was reset is another one */
	unsigned long long id;
	unsigned int sms;
	struct aq_list link; /* greens, or old_greens: a handle used too late is recognised */
};

/* Under sim.lock. */
static struct aq_list parts = {&parts, &parts};
static struct aq_list greens = {&greens, &greens}, old_greens = {&old_greens, &old_greens};
static unsigned long long last_id;

/* The smallest part, and what parts are multiples of.
 * Source: CUDA driver API 12.4, 6.35 "Green Contexts", the list by compute capability. */
static void granularity(const struct sim_device *device, unsigned int flags,
			unsigned int *ret_least, unsigned int *ret_step)
{
	static const unsigned int by_major[][2] = {
		[6] = {1, 1}, [7] = {2, 2}, [8] = {4, 2}, [9] = {8, 8}};
	uint32_t major = device->profile->cc_major < 9 ? device->profile->cc_major : 9;

	*ret_least = by_major[major][0];
	*ret_step = by_major[major][1];
	/* Source: the same of the flag, "lower the minimum SM count and alignment, and treat each
	 * SM independently"; on compute capability 9.0 to 2. */
	if (flags & CU_DEV_SM_RESOURCE_SPLIT_IGNORE_SM_COSCHEDULING && *ret_least > 2)
		*ret_least = *ret_step = 2;
}

static void fill_in(CUdevResource *r, const struct sim_device *device, unsigned int sms, bool split)
{
	const struct origin origin = {RESOURCE_MAGIC, device->ordinal, split};

	memset(r, 0, sizeof(*r));
	if (!sms)
		return; /* CU_DEV_RESOURCE_TYPE_INVALID: nothing is left */
	r->type = CU_DEV_RESOURCE_TYPE_SM;
	memcpy(r->_internal_padding, &origin, sizeof(origin));
	r->sm.smCount = sms;
	granularity(device, 0, &r->sm.minSmPartitionSize, &r->sm.smCoscheduledAlignment);
}

/* What a program hands back may be anything. */
static CUresult look_at(const CUdevResource *r, struct sim_device **ret_device, bool *ret_split)
{
	struct origin origin;

	memcpy(&origin, r->_internal_padding, sizeof(origin));
	if (r->type != CU_DEV_RESOURCE_TYPE_SM)
		return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	*ret_device = origin.magic == RESOURCE_MAGIC ? sim_device_get(origin.device) : NULL;
	if (!*ret_device || !r->sm.smCount || r->sm.smCount > (*ret_device)->profile->sm_count)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	*ret_split = origin.split;
	return CUDA_SUCCESS;
}

static CUresult tell(CUdevResource *ret, const struct sim_device *device, unsigned int sms,
		     CUdevResourceType type)
{
	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	if (type != CU_DEV_RESOURCE_TYPE_SM)
		return CUDA_ERROR_INVALID_RESOURCE_TYPE;
	fill_in(ret, device, sms, false);
	return CUDA_SUCCESS;
}

CUresult cuDeviceGetDevResource(CUdevice dev, CUdevResource *resource, CUdevResourceType type)
{
	struct sim_device *device;

	SIM_ENTER();
	device = sim_device_get(dev);
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	return tell(resource, device, device->profile->sm_count, type);
}

CUresult cuCtxGetDevResource(CUcontext handle, CUdevResource *resource, CUdevResourceType type)
{
	struct sim_context *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_context_check(handle, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	return tell(resource, ctx->device, ctx->device->profile->sm_count, type);
}

CUresult cuDevSmResourceSplitByCount(CUdevResource *result, unsigned int *n_groups,
				     const CUdevResource *input, CUdevResource *remaining,
				     unsigned int use_flags, unsigned int min_count)
{
	unsigned int least, step, size, groups;
	struct sim_device *device;
	bool split;
	CUresult r;

	SIM_ENTER();
	if (!n_groups || !input || use_flags & ~(unsigned int)SPLIT_FLAGS)
		return CUDA_ERROR_INVALID_VALUE;
	r = look_at(input, &device, &split);
	if (r != CUDA_SUCCESS)
		return r;
	granularity(device, use_flags, &least, &step);
	if (split || min_count > input->sm.smCount)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	size = min_count < least ? least : (min_count + step - 1) / step * step;
	groups = input->sm.smCount / size;
	if (!groups)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	if (result && *n_groups < groups)
		groups = *n_groups;
	for (unsigned int i = 0; result && i < groups; i++)
		fill_in(&result[i], device, size, true);
	if (remaining)
		fill_in(remaining, device, input->sm.smCount - groups * size, true);
	*n_groups = groups;
	return CUDA_SUCCESS;
}

CUresult cuDevResourceGenerateDesc(CUdevResourceDesc *desc, CUdevResource *resources,
				   unsigned int count)
{
	struct sim_device *device = NULL, *its;
	struct part *part;
	uint64_t sms = 0;
	bool split;

	SIM_ENTER();
	if (!desc || !resources || !count)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < count; i++) {
		CUresult r = look_at(&resources[i], &its, &split);

		if (r != CUDA_SUCCESS)
			return r;
		if (device && device != its)
			return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
		device = its;
		sms += resources[i].sm.smCount;
	}
	if (sms > device->profile->sm_count)
		return CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION;
	part = calloc(1, sizeof(*part));
	if (!part)
		return CUDA_ERROR_OUT_OF_MEMORY;
	part->device = device;
	part->sms = (unsigned int)sms;
	sim_lock_process();
	aq_list_append(&parts, &part->link);
	sim_unlock_process();
	*desc = (CUdevResourceDesc)part;
	return CUDA_SUCCESS;
}

static struct part *part_of(CUdevResourceDesc desc)
{
	struct part *p, *tmp, *found = NULL;

	sim_lock_process();
	AQ_LIST_FOREACH (p, tmp, &parts, link)
		if ((CUdevResourceDesc)p == desc)
			found = p;
	sim_unlock_process();
	return found;
}

CUresult cuGreenCtxCreate(CUgreenCtx *ret, CUdevResourceDesc desc, CUdevice dev, unsigned int flags)
{
	struct sim_green *g;
	struct part *part;
	CUcontext primary;
	CUresult r;

	SIM_ENTER();
	part = part_of(desc);
	if (!ret || flags != CU_GREEN_CTX_DEFAULT_STREAM || !part)
		return CUDA_ERROR_INVALID_VALUE;
	if (part->device != sim_device_get(dev))
		return CUDA_ERROR_INVALID_DEVICE;
	g = calloc(1, sizeof(*g));
	if (!g)
		return CUDA_ERROR_OUT_OF_MEMORY;
	r = cuDevicePrimaryCtxRetain(&primary, dev);
	if (r != CUDA_SUCCESS) {
		free(g);
		return r;
	}
	g->magic = GREEN_MAGIC;
	g->primary = sim_context_of(primary);
	g->primary_id = g->primary->id;
	g->sms = part->sms;
	sim_lock_process();
	g->id = ++last_id;
	aq_list_append(&greens, &g->link);
	sim_unlock_process();
	*ret = (CUgreenCtx)g;
	return CUDA_SUCCESS;
}

/* Is its primary context still the one that it retained? */
static bool is_whole(const struct sim_green *g)
{
	return !__atomic_load_n(&g->primary->destroyed, __ATOMIC_ACQUIRE) &&
	       g->primary->id == g->primary_id;
}

static CUresult check(CUgreenCtx handle, struct sim_green **ret_green)
{
	struct sim_green *g, *tmp;
	CUresult r = CUDA_ERROR_INVALID_CONTEXT;

	sim_lock_process();
	AQ_LIST_FOREACH (g, tmp, &greens, link)
		if ((CUgreenCtx)g == handle) {
			*ret_green = g;
			r = is_whole(g) ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
		}
	AQ_LIST_FOREACH (g, tmp, &old_greens, link)
		if ((CUgreenCtx)g == handle)
			r = CUDA_ERROR_CONTEXT_IS_DESTROYED;
	sim_unlock_process();
	return r;
}

CUresult cuGreenCtxDestroy(CUgreenCtx handle)
{
	struct sim_green *g = NULL;
	CUresult r;
	bool mine;

	SIM_ENTER();
	r = check(handle, &g);
	if (!g)
		return r;
	sim_lock_process();
	mine = g->magic == GREEN_MAGIC;
	if (mine) {
		g->magic = 0;
		aq_list_remove(&g->link);
		aq_list_append(&old_greens, &g->link);
	}
	sim_unlock_process();
	if (!mine)
		return CUDA_ERROR_CONTEXT_IS_DESTROYED;
	if (r == CUDA_SUCCESS)
		sim_stream_green_gone(g->primary->exec, g);
	return r == CUDA_SUCCESS ? cuDevicePrimaryCtxRelease_v2(g->primary->device->ordinal)
				 : CUDA_SUCCESS; /* a reset has let go for it */
}

CUresult cuCtxFromGreenCtx(CUcontext *ctx, CUgreenCtx green)
{
	struct sim_green *g;
	CUresult r;

	SIM_ENTER();
	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	r = check(green, &g);
	if (r == CUDA_SUCCESS)
		*ctx = sim_context_handle(g->primary);
	return r;
}

CUresult cuGreenCtxGetDevResource(CUgreenCtx green, CUdevResource *resource, CUdevResourceType type)
{
	struct sim_green *g;
	CUresult r;

	SIM_ENTER();
	r = check(green, &g);
	return r == CUDA_SUCCESS ? tell(resource, g->primary->device, g->sms, type) : r;
}

CUresult cuGreenCtxGetId(CUgreenCtx green, unsigned long long *id)
{
	struct sim_green *g;
	CUresult r;

	SIM_ENTER();
	if (!id)
		return CUDA_ERROR_INVALID_VALUE;
	r = check(green, &g);
	if (r == CUDA_SUCCESS)
		*id = g->id;
	return r;
}

CUresult cuGreenCtxStreamCreate(CUstream *stream, CUgreenCtx green, unsigned int flags,
				int priority)
{
	struct sim_green *g;
	CUresult r;

	SIM_ENTER();
	if (flags != CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	r = check(green, &g);
	return r == CUDA_SUCCESS ? sim_stream_new(stream, g->primary, g, flags, priority) : r;
}

/* Of all of the primary context: later than need be, never too early. */
CUresult cuGreenCtxRecordEvent(CUgreenCtx green, CUevent event)
{
	struct sim_green *g;
	CUresult r;

	SIM_ENTER();
	r = check(green, &g);
	return r == CUDA_SUCCESS ? cuCtxRecordEvent(sim_context_handle(g->primary), event) : r;
}

CUresult cuGreenCtxWaitEvent(CUgreenCtx green, CUevent event)
{
	struct sim_green *g;
	CUresult r;

	SIM_ENTER();
	r = check(green, &g);
	return r == CUDA_SUCCESS ? cuCtxWaitEvent(sim_context_handle(g->primary), event) : r;
}
