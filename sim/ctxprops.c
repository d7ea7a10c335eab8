/* SPDX-License-Identifier: Apache-2.0 */
/* What can be asked of a context and set in it: limits, flags, preferences, peers; and the memory
 * that its modules and limits cost. */
#include "sim.h"

#include "base/banned.h"

#define CHARGE_ALIGN 4096ull

static uint64_t round_charge(uint64_t bytes)
{
	return (bytes + CHARGE_ALIGN - 1) & ~(CHARGE_ALIGN - 1);
}

CUresult sim_charge_module(struct sim_context *ctx, uint64_t bytes)
{
	bytes = round_charge(bytes);
	if (sim_overhead_charge(&sim.machine, ctx->device->index, bytes) < 0)
		return CUDA_ERROR_OUT_OF_MEMORY;
	__atomic_add_fetch(&ctx->overhead_bytes, bytes, __ATOMIC_RELAXED);
	return CUDA_SUCCESS;
}

void sim_release_module(struct sim_context *ctx, uint64_t bytes)
{
	bytes = round_charge(bytes);
	sim_overhead_release(&sim.machine, ctx->device->index, bytes);
	__atomic_sub_fetch(&ctx->overhead_bytes, bytes, __ATOMIC_RELAXED);
}

CUresult cuCtxGetDevice(CUdevice *device)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = ctx->device->ordinal;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext handle)
{
	struct sim_context *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_context_check(handle, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!device)
		return CUDA_ERROR_INVALID_VALUE;
	*device = ctx->device->ordinal;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext handle, unsigned long long *ctx_id)
{
	struct sim_context *ctx;
	CUresult r;

	SIM_ENTER();
	if (!ctx_id)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_context_check(handle, &ctx);
	if (r == CUDA_SUCCESS)
		*ctx_id = ctx->id;
	return r;
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int *version)
{
	struct sim_context *ctx;
	CUresult r;

	SIM_ENTER();
	if (!version)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_context_check(handle, &ctx);
	if (r == CUDA_SUCCESS)
		*version = ctx->api_version;
	return r;
}

CUresult cuCtxGetFlags(unsigned int *flags)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!flags)
		return CUDA_ERROR_INVALID_VALUE;
	*flags = ctx->flags;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	if (flags & ~(unsigned int)CU_CTX_FLAGS_MASK)
		return CUDA_ERROR_INVALID_VALUE;
	ctx->flags = flags;
	return CUDA_SUCCESS;
}

static bool limit_known(CUlimit limit)
{
	return (int)limit >= 0 && limit < CU_LIMIT_MAX;
}

/* Of these the driver has some only on special systems. */
static bool limit_supported(CUlimit limit)
{
	return limit <= CU_LIMIT_PERSISTING_L2_CACHE_SIZE;
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!value || !limit_known(limit))
		return CUDA_ERROR_INVALID_VALUE;
	if (!limit_supported(limit))
		return CUDA_ERROR_UNSUPPORTED_LIMIT;
	*value = ctx->limits[limit];
	return CUDA_SUCCESS;
}

/* Device memory that a limit takes: the heap and the FIFO as they are, the stack for every thread
 * that can be resident. */
static uint64_t limit_cost(const struct sim_context *ctx, CUlimit limit, size_t value)
{
	const struct sim_profile *p = ctx->device->profile;

	switch (limit) {
	case CU_LIMIT_STACK_SIZE:
		return (uint64_t)value * p->sm_count * p->max_threads_per_sm;
	case CU_LIMIT_PRINTF_FIFO_SIZE:
	case CU_LIMIT_MALLOC_HEAP_SIZE:
		return value;
	default:
		return 0;
	}
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{
	uint64_t before, after;
	CUresult r = CUDA_SUCCESS;

	SIM_ENTER_CONTEXT(ctx);
	if (!limit_known(limit))
		return CUDA_ERROR_INVALID_VALUE;
	if (!limit_supported(limit))
		return CUDA_ERROR_UNSUPPORTED_LIMIT;
	if (limit == CU_LIMIT_STACK_SIZE && value > (512u << 10))
		return CUDA_ERROR_INVALID_VALUE; /* 512 KiB local memory a thread: programming guide
						  */
	if (limit == CU_LIMIT_MAX_L2_FETCH_GRANULARITY && value > 128)
		return CUDA_ERROR_INVALID_VALUE;
	if (limit == CU_LIMIT_PERSISTING_L2_CACHE_SIZE &&
	    value > ctx->device->profile->persisting_l2_bytes)
		value = ctx->device->profile->persisting_l2_bytes;
	/* The driver charges at the next launch; here at once, so that it can be refused. */
	before = round_charge(limit_cost(ctx, limit, ctx->limits[limit]));
	after = round_charge(limit_cost(ctx, limit, value));
	if (after > before)
		r = sim_charge_module(ctx, after - before);
	else if (after < before)
		sim_release_module(ctx, before - after);
	if (r == CUDA_SUCCESS)
		ctx->limits[limit] = value;
	return r;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *config)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!config)
		return CUDA_ERROR_INVALID_VALUE;
	*config = ctx->cache_config;
	return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config)
{
	SIM_ENTER_CONTEXT(ctx);
	if ((unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		return CUDA_ERROR_INVALID_VALUE;
	ctx->cache_config = config;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig *config)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!config)
		return CUDA_ERROR_INVALID_VALUE;
	*config = ctx->shared_config;
	return CUDA_SUCCESS;
}

/* Accepted and without effect on all cards since Maxwell: the bank size stays 4 bytes. */
CUresult cuCtxSetSharedMemConfig(CUsharedconfig config)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if ((unsigned int)config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	if (least)
		*least = 0;
	if (greatest)
		*greatest = -5; /* six levels, as real cards since Volta answer */
	return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache(void)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return CUDA_SUCCESS;
}

CUresult cuCtxGetExecAffinity(CUexecAffinityParam *exec_affinity, CUexecAffinityType type)
{
	SIM_ENTER_CONTEXT(ctx);
	if (!exec_affinity)
		return CUDA_ERROR_INVALID_VALUE;
	if (type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
		return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
	exec_affinity->type = type;
	exec_affinity->param.smCount.val = ctx->device->profile->sm_count;
	return CUDA_SUCCESS;
}

/*
 * Peers. Copies between devices work without this, as unified addressing has it; the simulator
 * keeps only the books.
 */

static CUresult peer_device(CUcontext handle, struct sim_context *ctx,
			    struct sim_device **ret_device)
{
	struct sim_context *peer;
	CUresult r;

	if (!handle)
		return CUDA_ERROR_INVALID_CONTEXT;
	r = sim_context_check(handle, &peer);
	if (r != CUDA_SUCCESS)
		return r;
	if (peer->device == ctx->device)
		return CUDA_ERROR_INVALID_DEVICE;
	*ret_device = peer->device;
	return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer_context, unsigned int flags)
{
	struct sim_device *device;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (flags)
		return CUDA_ERROR_INVALID_VALUE;
	r = peer_device(peer_context, ctx, &device);
	if (r != CUDA_SUCCESS)
		return r;
	if (!sim_device_peers(ctx->device, device))
		return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
	if (__atomic_fetch_or(&ctx->peers, 1ull << device->ordinal, __ATOMIC_RELAXED) &
	    (1ull << device->ordinal))
		return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
	return CUDA_SUCCESS;
}

CUresult cuCtxDisablePeerAccess(CUcontext peer_context)
{
	struct sim_device *device;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = peer_device(peer_context, ctx, &device);
	if (r != CUDA_SUCCESS)
		return r;
	if (!(__atomic_fetch_and(&ctx->peers, ~(1ull << device->ordinal), __ATOMIC_RELAXED) &
	      (1ull << device->ordinal)))
		return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
	return CUDA_SUCCESS;
}
