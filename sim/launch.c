/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel launches of every form: arguments are checked as the driver does, and made a task. */
#include "launch.h"

#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "event.h"
#include "exec.h"
#include "function.h"

#include "base/banned.h"

/* Limits of grids, blocks and clusters. Source: CUDA programming guide, compute capabilities. */
#define MAX_GRID_X 2147483647u
#define MAX_GRID_YZ 65535u
#define MAX_BLOCK_Z 64u
#define MAX_CLUSTER 8u /* portable; 16 where the function allows more */

static bool dims_valid(const CUlaunchConfig *c)
{
	return c->gridDimX && c->gridDimY && c->gridDimZ && c->gridDimX <= MAX_GRID_X &&
	       c->gridDimY <= MAX_GRID_YZ && c->gridDimZ <= MAX_GRID_YZ && c->blockDimX &&
	       c->blockDimY && c->blockDimZ && c->blockDimX <= SIM_MAX_BLOCK_THREADS &&
	       c->blockDimY <= SIM_MAX_BLOCK_THREADS && c->blockDimZ <= MAX_BLOCK_Z;
}

static CUresult check_cluster(const struct sim_function *f, const CUlaunchConfig *c,
			      const uint32_t cluster[3])
{
	uint32_t n = cluster[0] * cluster[1] * cluster[2];

	if (!n)
		return f->entry->explicit_cluster ? CUDA_ERROR_INVALID_CLUSTER_SIZE : CUDA_SUCCESS;
	if (f->ctx->device->profile->cc_major < 9)
		return n == 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CLUSTER_SIZE;
	if (n > (f->non_portable_cluster ? 2 * MAX_CLUSTER : MAX_CLUSTER) ||
	    c->gridDimX % cluster[0] || c->gridDimY % cluster[1] || c->gridDimZ % cluster[2])
		return CUDA_ERROR_INVALID_CLUSTER_SIZE;
	return CUDA_SUCCESS;
}

static CUresult read_attributes(const CUlaunchConfig *c, struct sim_kernel_task *k)
{
	if (c->numAttrs && !c->attrs)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < c->numAttrs; i++) {
		const CUlaunchAttributeValue *v = &c->attrs[i].value;

		switch ((int)c->attrs[i].id) {
		case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
			k->cooperative = v->cooperative != 0;
			break;
		case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
			k->cluster[0] = v->clusterDim.x;
			k->cluster[1] = v->clusterDim.y;
			k->cluster[2] = v->clusterDim.z;
			if (!k->cluster[0] || !k->cluster[1] || !k->cluster[2])
				return CUDA_ERROR_INVALID_VALUE;
			break;
		case CU_LAUNCH_ATTRIBUTE_PRIORITY:
			k->priority = v->priority;
			break;
		case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
			if (v->deviceUpdatableKernelNode.deviceUpdatable)
				return CUDA_ERROR_NOT_SUPPORTED;
			break;
		default: /* hints, and events, which the caller of this sees to */
			if ((int)c->attrs[i].id < 0 ||
			    c->attrs[i].id > CU_LAUNCH_ATTRIBUTE_NVLINK_UTIL_CENTRIC_SCHEDULING)
				return CUDA_ERROR_INVALID_VALUE;
		}
	}
	return CUDA_SUCCESS;
}

/* { BUFFER_POINTER, p, BUFFER_SIZE, &size, END } in any order. */
static CUresult read_extra(void **extra, void **ret_buffer, size_t *ret_bytes)
{
	void *buffer = NULL;
	size_t *bytes = NULL;

	for (int i = 0; extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
		if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER)
			buffer = extra[i + 1];
		else if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE)
			bytes = extra[i + 1];
		else
			return CUDA_ERROR_INVALID_VALUE;
		if (i >= 8)
			return CUDA_ERROR_INVALID_VALUE;
	}
	if (!buffer || !bytes)
		return CUDA_ERROR_INVALID_VALUE;
	*ret_buffer = buffer;
	*ret_bytes = *bytes;
	return CUDA_SUCCESS;
}

static CUresult pack_params(const struct sim_ptx_entry *e, void **params, void **extra,
			    uint8_t *local, struct sim_kernel_task *k)
{
	void *buffer;
	size_t bytes;
	CUresult r;

	k->params = local;
	k->param_bytes = e->param_bytes;
	if (!e->n_params)
		return params && extra ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
	if (!params == !extra)
		return CUDA_ERROR_INVALID_VALUE;
	if (extra) {
		r = read_extra(extra, &buffer, &bytes);
		if (r != CUDA_SUCCESS)
			return r;
		if (bytes < e->param_bytes)
			return CUDA_ERROR_INVALID_VALUE;
		k->params = buffer;
		return CUDA_SUCCESS;
	}
	if (e->param_bytes > SIM_LAUNCH_LOCAL_BYTES)
		return CUDA_ERROR_INVALID_VALUE;
	for (uint32_t i = 0; i < e->n_params; i++) {
		const struct sim_ptx_param *p = &e->params[i];

		if (!params[i])
			return CUDA_ERROR_INVALID_VALUE;
		memcpy(local + p->offset_bytes, params[i], p->size_bytes);
	}
	return CUDA_SUCCESS;
}

CUresult sim_launch_prepare(struct sim_function *f, const CUlaunchConfig *c, void **params,
			    void **extra, uint8_t *local, struct sim_task *ret_task)
{
	struct sim_kernel_task *k = &ret_task->kernel;
	const struct sim_ptx_entry *e = f->entry;
	uint32_t threads;
	CUresult r;

	if (!dims_valid(c))
		return CUDA_ERROR_INVALID_VALUE;
	threads = c->blockDimX * c->blockDimY * c->blockDimZ;
	if (threads > sim_function_max_threads(f))
		return CUDA_ERROR_INVALID_VALUE;
	if (e->req_ntid[0] && (c->blockDimX != e->req_ntid[0] || c->blockDimY != e->req_ntid[1] ||
			       c->blockDimZ != e->req_ntid[2]))
		return CUDA_ERROR_INVALID_VALUE;
	if (c->sharedMemBytes > (uint32_t)sim_function_max_dynamic(f))
		return CUDA_ERROR_INVALID_VALUE;

	ret_task->kind = SIM_TASK_KERNEL;
	*k = (struct sim_kernel_task){
		.function = f,
		.grid = {c->gridDimX, c->gridDimY, c->gridDimZ},
		.block = {c->blockDimX, c->blockDimY, c->blockDimZ},
		.shared_bytes = c->sharedMemBytes,
	};
	for (int i = 0; i < 3; i++)
		k->cluster[i] = (uint32_t)f->cluster[i];
	r = read_attributes(c, k);
	if (r == CUDA_SUCCESS)
		r = check_cluster(f, c, k->cluster);
	if (r != CUDA_SUCCESS)
		return r;
	if (k->cooperative) {
		uint64_t fit = (uint64_t)sim_function_blocks_per_sm(f, threads, c->sharedMemBytes) *
			       f->ctx->device->profile->sm_count;

		if ((uint64_t)c->gridDimX * c->gridDimY * c->gridDimZ > fit)
			return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
	}
	return pack_params(e, params, extra, local, k);
}

/* Events that a launch is to record when it has begun or ended; here both mean ended. */
static CUresult record_attributes(const CUlaunchConfig *c)
{
	CUresult r = CUDA_SUCCESS;

	for (unsigned int i = 0; i < c->numAttrs && r == CUDA_SUCCESS; i++) {
		const CUlaunchAttributeValue *v = &c->attrs[i].value;

		if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
			r = cuEventRecord(v->programmaticEvent.event, c->hStream);
		else if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
			r = cuEventRecord(v->launchCompletionEvent.event, c->hStream);
	}
	return r;
}

static CUresult launch(CUfunction func, const CUlaunchConfig *config, void **params, void **extra,
		       bool per_thread)
{
	uint8_t local[SIM_LAUNCH_LOCAL_BYTES] __attribute__((aligned(16)));
	struct sim_function *f;
	struct sim_stream *s;
	struct sim_task t;
	CUresult r;

	if (!func)
		return CUDA_ERROR_INVALID_HANDLE;
	r = sim_stream_resolve(config->hStream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_function_check(func, s->exec->ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (f->ctx != s->exec->ctx)
		return CUDA_ERROR_INVALID_HANDLE;
	r = sim_launch_prepare(f, config, params, extra, local, &t);
	if (r != CUDA_SUCCESS)
		return r;
	if (!config->numAttrs)
		t.kernel.priority = s->priority;
	r = sim_enqueue(s, &t, SIM_ASYNC);
	return r == CUDA_SUCCESS && config->numAttrs ? record_attributes(config) : r;
}

#define LAUNCH_PARAMS                                                                              \
	CUfunction func, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,            \
		unsigned int block_x, unsigned int block_y, unsigned int block_z,                  \
		unsigned int shared_bytes, CUstream stream

#define LAUNCH_CONFIG                                                                              \
	{                                                                                          \
		.gridDimX = grid_x, .gridDimY = grid_y, .gridDimZ = grid_z, .blockDimX = block_x,  \
		.blockDimY = block_y, .blockDimZ = block_z, .sharedMemBytes = shared_bytes,        \
		.hStream = stream,                                                                 \
	}

CUresult cuLaunchKernel(LAUNCH_PARAMS, void **params, void **extra)
{
	const CUlaunchConfig config = LAUNCH_CONFIG;

	SIM_ENTER_CONTEXT(ctx);
	return launch(func, &config, params, extra, false);
}

CUresult cuLaunchKernel_ptsz(LAUNCH_PARAMS, void **params, void **extra)
{
	const CUlaunchConfig config = LAUNCH_CONFIG;

	SIM_ENTER_CONTEXT(ctx);
	return launch(func, &config, params, extra, true);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction func, void **params,
			  void **extra)
{
	SIM_ENTER_CONTEXT(ctx);
	return config ? launch(func, config, params, extra, false) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction func, void **params,
			       void **extra)
{
	SIM_ENTER_CONTEXT(ctx);
	return config ? launch(func, config, params, extra, true) : CUDA_ERROR_INVALID_VALUE;
}

static CUlaunchAttribute cooperative_attribute = {
	.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
	.value = {.cooperative = 1},
};

static CUresult launch_cooperative(CUfunction func, CUlaunchConfig *config, void **params,
				   bool per_thread)
{
	config->attrs = &cooperative_attribute;
	config->numAttrs = 1;
	return launch(func, config, params, NULL, per_thread);
}

CUresult cuLaunchCooperativeKernel(LAUNCH_PARAMS, void **params)
{
	CUlaunchConfig config = LAUNCH_CONFIG;

	SIM_ENTER_CONTEXT(ctx);
	return launch_cooperative(func, &config, params, false);
}

CUresult cuLaunchCooperativeKernel_ptsz(LAUNCH_PARAMS, void **params)
{
	CUlaunchConfig config = LAUNCH_CONFIG;

	SIM_ENTER_CONTEXT(ctx);
	return launch_cooperative(func, &config, params, true);
}

/* Deprecated: the launches are made one after the other, without the grids waiting for each other.
 */
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launches, unsigned int ndevs,
					      unsigned int flags)
{
	const unsigned int all = CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_PRE_LAUNCH_SYNC |
				 CUDA_COOPERATIVE_LAUNCH_MULTI_DEVICE_NO_POST_LAUNCH_SYNC;

	SIM_ENTER_CONTEXT(ctx);
	if (!launches || !ndevs || flags & ~all)
		return CUDA_ERROR_INVALID_VALUE;
	for (unsigned int i = 0; i < ndevs; i++) {
		const CUDA_LAUNCH_PARAMS *l = &launches[i];
		CUlaunchConfig config = {
			.gridDimX = l->gridDimX,
			.gridDimY = l->gridDimY,
			.gridDimZ = l->gridDimZ,
			.blockDimX = l->blockDimX,
			.blockDimY = l->blockDimY,
			.blockDimZ = l->blockDimZ,
			.sharedMemBytes = l->sharedMemBytes,
			.hStream = l->hStream,
		};
		CUresult r;

		/* The default streams belong to no device in particular. */
		if ((uintptr_t)l->hStream < 4096)
			return CUDA_ERROR_INVALID_VALUE;
		r = launch_cooperative(l->function, &config, l->kernelParams, false);
		if (r != CUDA_SUCCESS)
			return r;
	}
	return CUDA_SUCCESS;
}

/*
 * The launches of CUDA 3 and before: what is launched is set on the function.
 */

CUresult cuFuncSetBlockShape(CUfunction func, int x, int y, int z)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (x <= 0 || y <= 0 || z <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	f->block[0] = (uint32_t)x;
	f->block[1] = (uint32_t)y;
	f->block[2] = (uint32_t)z;
	return CUDA_SUCCESS;
}

CUresult cuFuncSetSharedSize(CUfunction func, unsigned int bytes)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_function_check(func, ctx, &f);
	if (r == CUDA_SUCCESS)
		f->shared_bytes = bytes;
	return r;
}

CUresult cuParamSetSize(CUfunction func, unsigned int bytes)
{
	struct sim_function *f;
	CUresult r;

	SIM_ENTER_CONTEXT(ctx);
	r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (bytes > SIM_OLD_PARAM_BYTES)
		return CUDA_ERROR_INVALID_VALUE;
	f->param_size = bytes;
	return CUDA_SUCCESS;
}

static CUresult set_param(CUfunction func, int offset, const void *bytes, unsigned int size)
{
	struct sim_context *ctx;
	struct sim_function *f;
	CUresult r;

	r = sim_current_live(&ctx);
	if (r == CUDA_SUCCESS)
		r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (offset < 0 || !bytes || size > SIM_OLD_PARAM_BYTES ||
	    (unsigned int)offset > SIM_OLD_PARAM_BYTES - size)
		return CUDA_ERROR_INVALID_VALUE;
	if (!f->param_buffer)
		f->param_buffer = calloc(1, SIM_OLD_PARAM_BYTES);
	if (!f->param_buffer)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(f->param_buffer + offset, bytes, size);
	return CUDA_SUCCESS;
}

CUresult cuParamSeti(CUfunction func, int offset, unsigned int value)
{
	SIM_ENTER();
	return set_param(func, offset, &value, sizeof(value));
}

CUresult cuParamSetf(CUfunction func, int offset, float value)
{
	SIM_ENTER();
	return set_param(func, offset, &value, sizeof(value));
}

CUresult cuParamSetv(CUfunction func, int offset, void *ptr, unsigned int bytes)
{
	SIM_ENTER();
	return set_param(func, offset, ptr, bytes);
}

static CUresult launch_old(CUfunction func, int grid_x, int grid_y, CUstream stream)
{
	CUlaunchConfig config = {.gridDimZ = 1, .hStream = stream};
	struct sim_context *ctx;
	struct sim_function *f;
	size_t bytes;
	CUresult r;

	r = sim_current_live(&ctx);
	if (r == CUDA_SUCCESS)
		r = sim_function_check(func, ctx, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (grid_x <= 0 || grid_y <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	config.gridDimX = (unsigned int)grid_x;
	config.gridDimY = (unsigned int)grid_y;
	config.blockDimX = f->block[0];
	config.blockDimY = f->block[1];
	config.blockDimZ = f->block[2];
	config.sharedMemBytes = f->shared_bytes;
	bytes = f->param_size;
	{
		void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, f->param_buffer,
				 CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};

		return launch(func, &config, NULL, f->entry->n_params ? extra : NULL, false);
	}
}

CUresult cuLaunch(CUfunction func)
{
	SIM_ENTER();
	return launch_old(func, 1, 1, NULL);
}

CUresult cuLaunchGrid(CUfunction func, int grid_width, int grid_height)
{
	SIM_ENTER();
	return launch_old(func, grid_width, grid_height, NULL);
}

CUresult cuLaunchGridAsync(CUfunction func, int grid_width, int grid_height, CUstream stream)
{
	SIM_ENTER();
	return launch_old(func, grid_width, grid_height, stream);
}

/* Profilers watch nothing here. */
CUresult cuProfilerStart(void)
{
	SIM_ENTER_CONTEXT(ctx);
	return CUDA_SUCCESS;
}

CUresult cuProfilerStop(void)
{
	SIM_ENTER_CONTEXT(ctx);
	return CUDA_SUCCESS;
}
