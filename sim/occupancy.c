/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many blocks fit on a multiprocessor, by threads, registers, shared memory and slots. Register
 * counts are guesses for PTX (function.c), so the answers for kernels that need many are too high.
 *
 * Source: CUDA programming guide, technical specifications per compute capability.
 */
#include "function.h"
#include "module.h"

#include "base/banned.h"

#define WARP 32u
#define REGS_PER_SM 65536u
#define REG_GRANULE 256u /* registers are given to a warp in such lots */
#define SHARED_GRANULE 128u
#define SHARED_SYSTEM                                                                              \
	1024u /* taken by the system for each block; compute capability 8 and newer                \
	       */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t warps_of(uint32_t threads)
{
	return (threads + WARP - 1) / WARP;
}

static uint64_t shared_per_block(const struct sim_function *f, uint64_t dynamic_bytes)
{
	uint64_t bytes = f->entry->shared_bytes + dynamic_bytes + SHARED_SYSTEM;

	return (bytes + SHARED_GRANULE - 1) / SHARED_GRANULE * SHARED_GRANULE;
}

uint32_t sim_function_blocks_per_sm(const struct sim_function *f, uint32_t block_threads,
				    uint64_t dynamic_bytes)
{
	const struct sim_profile *p = f->ctx->device->profile;
	uint32_t warps = warps_of(block_threads), regs, blocks;
	uint64_t shared = shared_per_block(f, dynamic_bytes);

	if (!block_threads || block_threads > sim_function_max_threads(f) ||
	    shared > p->smem_per_sm_bytes)
		return 0;
	regs = (sim_function_regs(f) * WARP + REG_GRANULE - 1) / REG_GRANULE * REG_GRANULE * warps;
	blocks = min_u32(p->max_blocks_per_sm, p->max_threads_per_sm / (warps * WARP));
	blocks = min_u32(blocks, REGS_PER_SM / regs);
	return min_u32(blocks, (uint32_t)(p->smem_per_sm_bytes / shared));
}

static CUresult max_active(int *n_blocks, CUfunction func, int block_size, size_t smem_bytes,
			   unsigned int flags)
{
	struct sim_context *ctx;
	struct sim_function *f;
	CUresult r;

	if (!n_blocks || block_size <= 0 ||
	    flags & ~(unsigned int)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_current_live(&ctx);
	if (r == CUDA_SUCCESS)
		r = sim_function_check(func, ctx, &f);
	if (r == CUDA_SUCCESS)
		*n_blocks = (int)sim_function_blocks_per_sm(f, (uint32_t)block_size, smem_bytes);
	return r;
}

static CUresult best_block(int *min_grid, int *block_size, CUfunction func,
			   CUoccupancyB2DSize smem_of_block, size_t smem_bytes, int block_limit,
			   unsigned int flags)
{
	uint32_t limit, best = 0, best_threads = 0, best_blocks = 0;
	struct sim_context *ctx;
	struct sim_function *f;
	CUresult r;

	if (!min_grid || !block_size || block_limit < 0 ||
	    flags & ~(unsigned int)CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_current_live(&ctx);
	if (r == CUDA_SUCCESS)
		r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	limit = sim_function_max_threads(f);
	if (block_limit && (uint32_t)block_limit < limit)
		limit = (uint32_t)block_limit;
	/* The largest block of those that keep the most threads busy. */
	for (uint32_t n = warps_of(limit) * WARP; n > 0; n -= WARP) {
		uint32_t threads = min_u32(n, limit);
		size_t dynamic = smem_of_block ? smem_of_block((int)threads) : smem_bytes;
		uint32_t blocks = sim_function_blocks_per_sm(f, threads, dynamic);

		if (blocks * threads <= best)
			continue;
		best = blocks * threads;
		best_threads = threads;
		best_blocks = blocks;
	}
	*block_size = (int)best_threads;
	*min_grid = (int)(best_blocks * ctx->device->profile->sm_count);
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n_blocks, CUfunction func, int block_size,
						     size_t smem_bytes)
{
	SIM_ENTER();
	return max_active(n_blocks, func, block_size, smem_bytes, 0);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n_blocks, CUfunction func,
							      int block_size, size_t smem_bytes,
							      unsigned int flags)
{
	SIM_ENTER();
	return max_active(n_blocks, func, block_size, smem_bytes, flags);
}

CUresult cuOccupancyMaxPotentialBlockSize(int *min_grid, int *block_size, CUfunction func,
					  CUoccupancyB2DSize smem_of_block, size_t smem_bytes,
					  int block_limit)
{
	SIM_ENTER();
	return best_block(min_grid, block_size, func, smem_of_block, smem_bytes, block_limit, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *min_grid, int *block_size, CUfunction func,
						   CUoccupancyB2DSize smem_of_block,
						   size_t smem_bytes, int block_limit,
						   unsigned int flags)
{
	SIM_ENTER();
	return best_block(min_grid, block_size, func, smem_of_block, smem_bytes, block_limit,
			  flags);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *smem_bytes, CUfunction func, int n_blocks,
						 int block_size)
{
	struct sim_function *f;
	uint64_t each, taken;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!smem_bytes || n_blocks <= 0 || block_size <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (sim_function_blocks_per_sm(f, (uint32_t)block_size, 0) < (uint32_t)n_blocks)
		return CUDA_ERROR_INVALID_VALUE;
	each = ctx->device->profile->smem_per_sm_bytes / (uint32_t)n_blocks / SHARED_GRANULE *
	       SHARED_GRANULE;
	taken = f->entry->shared_bytes + SHARED_SYSTEM;
	each = each > taken ? each - taken : 0;
	if (each > (uint64_t)sim_function_max_dynamic(f))
		each = (uint64_t)sim_function_max_dynamic(f);
	*smem_bytes = each;
	return CUDA_SUCCESS;
}

/* Clusters are scheduled within groups of multiprocessors (GPCs); on H100 one has up to 18. */
CUresult cuOccupancyMaxPotentialClusterSize(int *cluster_size, CUfunction func,
					    const CUlaunchConfig *config)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!cluster_size || !config)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (ctx->device->profile->cc_major < 9)
		return CUDA_ERROR_NOT_SUPPORTED;
	*cluster_size = f->non_portable_cluster ? 16 : 8;
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveClusters(int *n_clusters, CUfunction func,
				      const CUlaunchConfig *config)
{
	uint32_t size = 1, blocks;
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!n_clusters || !config || (config->numAttrs && !config->attrs))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (ctx->device->profile->cc_major < 9)
		return CUDA_ERROR_NOT_SUPPORTED;
	for (unsigned int i = 0; i < config->numAttrs; i++)
		if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
			size = config->attrs[i].value.clusterDim.x *
			       config->attrs[i].value.clusterDim.y *
			       config->attrs[i].value.clusterDim.z;
	if (!size)
		return CUDA_ERROR_INVALID_VALUE;
	blocks = sim_function_blocks_per_sm(
		f, config->blockDimX * config->blockDimY * config->blockDimZ,
		config->sharedMemBytes);
	*n_clusters = (int)(blocks * ctx->device->profile->sm_count / size);
	return CUDA_SUCCESS;
}
