/* SPDX-License-Identifier: Apache-2.0 */
/* What can be asked of functions and kernels, and set on them. Launches nothing. */
#include <string.h>

#include "function.h"
#include "library.h"
#include "module.h"

#include "base/banned.h"

/* What a block may have without opting in. Source: CUDA programming guide, compute capabilities. */
#define DEFAULT_SHARED_BYTES 49152

/* Registers of a thread, which only compiling would tell. Guess: most kernels have 32 or less. */
#define GUESSED_REGS 32

int32_t sim_function_max_dynamic(const struct sim_function *f)
{
	int32_t left = DEFAULT_SHARED_BYTES - (int32_t)f->entry->shared_bytes;

	if (f->max_dynamic_shared_bytes)
		return f->max_dynamic_shared_bytes;
	return left > 0 ? left : 0;
}

uint32_t sim_function_max_threads(const struct sim_function *f)
{
	uint32_t n = f->entry->max_threads;

	return n && n < SIM_MAX_BLOCK_THREADS ? n : SIM_MAX_BLOCK_THREADS;
}

uint32_t sim_function_regs(const struct sim_function *f)
{
	uint32_t n = f->entry->max_regs;

	return n && n < GUESSED_REGS ? n : GUESSED_REGS;
}

static CUresult get_attribute(int *value, CUfunction_attribute attr, const struct sim_function *f)
{
	const struct sim_ptx *code = &f->image->code;
	const struct sim_profile *p = f->ctx->device->profile;
	int binary = (int)(10 * p->cc_major + p->cc_minor);

	switch (attr) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
		*value = (int)sim_function_max_threads(f);
		break;
	case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
		*value = (int)f->entry->shared_bytes;
		break;
	case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
		*value = 0;
		break;
	case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
		*value = (int)f->entry->local_bytes;
		break;
	case CU_FUNC_ATTRIBUTE_NUM_REGS:
		*value = (int)sim_function_regs(f);
		break;
	case CU_FUNC_ATTRIBUTE_PTX_VERSION:
		*value = (int)code->target;
		break;
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
		*value = code->version ? binary : (int)code->target;
		break;
	case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
		*value = 0;
		break;
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		*value = sim_function_max_dynamic(f);
		break;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		*value = f->carveout;
		break;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
		*value = f->entry->explicit_cluster;
		break;
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
		*value = f->cluster[attr - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH];
		break;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
		*value = f->non_portable_cluster;
		break;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		*value = f->cluster_policy;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

static bool valid_dynamic_shared(const struct sim_profile *p, const struct sim_ptx_entry *e,
				 int value)
{
	return value >= 0 && (uint64_t)value + e->shared_bytes <= p->smem_optin_bytes;
}

static CUresult set_attribute(CUfunction_attribute attr, int value, struct sim_function *f)
{
	const struct sim_profile *p = f->ctx->device->profile;

	switch (attr) {
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		if (!valid_dynamic_shared(p, f->entry, value))
			return CUDA_ERROR_INVALID_VALUE;
		f->max_dynamic_shared_bytes = value;
		break;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		if (value < -1 || value > 100)
			return CUDA_ERROR_INVALID_VALUE;
		f->carveout = value;
		break;
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
	case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
		if (value < 0 || p->cc_major < 9)
			return CUDA_ERROR_INVALID_VALUE;
		f->cluster[attr - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH] = value;
		break;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
		f->non_portable_cluster = value != 0;
		break;
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		if (value < 0 || value > CU_CLUSTER_SCHEDULING_POLICY_LOAD_BALANCING)
			return CUDA_ERROR_INVALID_VALUE;
		f->cluster_policy = value;
		break;
	default: /* the others are facts */
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

static CUresult param_info(const struct sim_ptx_entry *e, size_t index, size_t *offset,
			   size_t *size)
{
	if (!offset || index >= e->n_params)
		return CUDA_ERROR_INVALID_VALUE;
	*offset = e->params[index].offset_bytes;
	if (size)
		*size = e->params[index].size_bytes;
	return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attr, CUfunction func)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_function_check(func, ctx, &f);
	return r == CUDA_SUCCESS ? get_attribute(value, attr, f) : r;
}

CUresult cuFuncSetAttribute(CUfunction func, CUfunction_attribute attr, int value)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_function_check(func, ctx, &f);
	return r == CUDA_SUCCESS ? set_attribute(attr, value, f) : r;
}

CUresult cuFuncSetCacheConfig(CUfunction func, CUfunc_cache config)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if ((unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		return CUDA_ERROR_INVALID_VALUE;
	f->cache = config;
	return CUDA_SUCCESS;
}

CUresult cuFuncSetSharedMemConfig(CUfunction func, CUsharedconfig config)
{
	struct sim_function *f;

	SIM_ENTER_CONTEXT(ctx);
	if ((unsigned int)config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_function_check(func, ctx, &f);
}

CUresult cuFuncGetModule(CUmodule *mod, CUfunction func)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!mod)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_function_check(func, ctx, &f);
	if (r == CUDA_SUCCESS)
		*mod = (CUmodule)f->module;
	return r;
}

CUresult cuFuncGetName(const char **name, CUfunction func)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_function_check(func, ctx, &f);
	if (r == CUDA_SUCCESS)
		*name = f->entry->name;
	return r;
}

CUresult cuFuncGetParamInfo(CUfunction func, size_t param_index, size_t *param_offset,
			    size_t *param_size)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_function_check(func, ctx, &f);
	return r == CUDA_SUCCESS ? param_info(f->entry, param_index, param_offset, param_size) : r;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	if (!state)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_function_check(function, ctx, &f);
	if (r == CUDA_SUCCESS)
		*state = CU_FUNCTION_LOADING_STATE_LOADED;
	return r;
}

CUresult cuFuncLoad(CUfunction function)
{
	struct sim_function *f;

	SIM_ENTER_CONTEXT(ctx);
	return sim_function_check(function, ctx, &f);
}

/*
 * Kernels of libraries.
 */

CUresult cuKernelGetName(const char **name, CUkernel kernel)
{
	struct sim_kernel_handle *k;
	CUresult r;

	SIM_ENTER();
	if (!name)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_kernel_check(kernel, &k);
	if (r == CUDA_SUCCESS)
		*name = sim_kernel_entry(k)->name;
	return r;
}

CUresult cuKernelGetParamInfo(CUkernel kernel, size_t param_index, size_t *param_offset,
			      size_t *param_size)
{
	struct sim_kernel_handle *k;
	CUresult r;

	SIM_ENTER();
	r = sim_kernel_check(kernel, &k);
	return r == CUDA_SUCCESS
		       ? param_info(sim_kernel_entry(k), param_index, param_offset, param_size)
		       : r;
}

CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attr, CUkernel kernel, CUdevice dev)
{
	struct sim_device *device = sim_device_get(dev);
	struct sim_kernel_handle *k;
	struct sim_function *f;
	struct sim_context *ctx;
	CUresult r;

	SIM_ENTER();
	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	r = sim_kernel_check(kernel, &k);
	if (r != CUDA_SUCCESS)
		return r;
	ctx = sim_context_any(device);
	if (!ctx)
		return CUDA_ERROR_INVALID_CONTEXT;
	r = sim_kernel_function(kernel, ctx, &f);
	return r == CUDA_SUCCESS ? get_attribute(value, attr, f) : r;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attr, int val, CUkernel kernel, CUdevice dev)
{
	struct sim_device *device = sim_device_get(dev);
	struct sim_kernel_handle *k;
	CUresult r;

	SIM_ENTER();
	if (!device)
		return CUDA_ERROR_INVALID_DEVICE;
	r = sim_kernel_check(kernel, &k);
	if (r != CUDA_SUCCESS)
		return r;
	switch (attr) {
	case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
		if (!valid_dynamic_shared(device->profile, sim_kernel_entry(k), val))
			return CUDA_ERROR_INVALID_VALUE;
		k->max_dynamic_shared_bytes = val;
		break;
	case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
		if (val < -1 || val > 100)
			return CUDA_ERROR_INVALID_VALUE;
		k->carveout = val;
		break;
	case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
	case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
		return CUDA_SUCCESS; /* without effect here */
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	sim_kernel_set(k);
	return CUDA_SUCCESS;
}

CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev)
{
	struct sim_kernel_handle *k;

	SIM_ENTER();
	if (!sim_device_get(dev))
		return CUDA_ERROR_INVALID_DEVICE;
	if ((unsigned int)config > CU_FUNC_CACHE_PREFER_EQUAL)
		return CUDA_ERROR_INVALID_VALUE;
	return sim_kernel_check(kernel, &k);
}
