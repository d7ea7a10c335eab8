/* SPDX-License-Identifier: Apache-2.0 */
/* Allocating and freeing in the order of a stream. */
#include "pool.h"

#include <stdlib.h>

#include "memory.h"
#include "base/banned.h"

/* @pool NULL: the current one of the stream's device. */
static CUresult alloc_async(CUdeviceptr *ret, size_t bytes, CUmemoryPool handle, bool any_pool,
			    CUstream stream_handle, bool per_thread)
{
	struct sim_stream *stream;
	struct sim_pool *pool;
	CUresult r;

	if (!ret || bytes == 0)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream_handle, per_thread, &stream);
	if (r != CUDA_SUCCESS)
		return r;
	sim_lock_process();
	pool = any_pool ? sim_pool_current(sim_stream_context(stream)->device)
			: sim_pool_find(handle);
	sim_unlock_process();
	if (!pool)
		return any_pool ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
	if (pool->imported)
		return CUDA_ERROR_INVALID_VALUE; /* its exporter allocates. Source: cuda.h */
	if (sim_stream_capturing(stream))
		return sim_capture_alloc(stream, (CUmemoryPool)pool, bytes, ret);
	return sim_pool_alloc(pool, stream, bytes, ret);
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytes, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return alloc_async(dptr, bytes, NULL, true, stream, false);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytes, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return alloc_async(dptr, bytes, NULL, true, stream, true);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytes, CUmemoryPool pool,
				 CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return alloc_async(dptr, bytes, pool, false, stream, false);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *dptr, size_t bytes, CUmemoryPool pool,
				      CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return alloc_async(dptr, bytes, pool, false, stream, true);
}

static void reached(void *arg)
{
	sim_pool_reached(arg);
}

/* The pool allocation that begins at @dptr, marked as freed by @stream; NULL: there is none. */
static struct sim_pool_free *begin_free(CUdeviceptr dptr, struct sim_stream *stream)
{
	struct sim_pool_free *f = calloc(1, sizeof(*f));
	struct sim_alloc *a;

	sim_lock_process();
	a = sim_alloc_find(dptr);
	if (!f || !a || a->base != dptr || a->kind != SIM_MEMORY_POOL || a->freeing) {
		sim_unlock_process();
		free(f);
		return NULL;
	}
	a->freeing = true;
	f->alloc = a;
	f->stream = stream;
	a->pool->used_bytes -= a->span;
	/* Memory of another process is given back, never reused here. */
	if (a->opened)
		aq_list_init(&f->link);
	else
		aq_list_append(&a->pool->pending, &f->link);
	sim_unlock_process();
	return f;
}

static void reached_linear(void *arg)
{
	sim_memory_release(arg);
}

/* Memory of cuMemAlloc may be freed in stream order too. Source: CUDA programming guide, "Stream
 * Ordered Memory Allocator". */
static CUresult free_linear(CUdeviceptr dptr, struct sim_stream *stream)
{
	struct sim_alloc *a = sim_memory_claim(dptr);
	CUresult r;

	if (!a)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_exec_call(stream, reached_linear, a);
	if (r != CUDA_SUCCESS)
		sim_memory_release(a); /* nothing runs any more in that stream */
	return r;
}

static CUresult free_async(CUdeviceptr dptr, CUstream stream_handle, bool per_thread)
{
	struct sim_stream *stream;
	struct sim_pool_free *f;
	struct sim_span span;
	CUresult r = CUDA_SUCCESS;

	r = sim_stream_resolve(stream_handle, per_thread, &stream);
	if (r != CUDA_SUCCESS)
		return r;
	if (!dptr)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_resolve(dptr, 0, &span) != CUDA_SUCCESS)
		return CUDA_ERROR_INVALID_VALUE;
	if (sim_stream_capturing(stream))
		return sim_capture_free(stream, dptr);
	if (span.kind == SIM_MEMORY_GRAPH)
		return sim_graph_memory_free(stream, dptr);
	if (span.kind == SIM_MEMORY_LINEAR)
		return free_linear(dptr, stream);
	f = begin_free(dptr, stream);
	if (!f)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_exec_call(stream, reached, f);
	if (r != CUDA_SUCCESS)
		sim_pool_reached(f); /* nothing runs any more in that stream */
	return r;
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return free_async(dptr, stream, false);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr dptr, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	(void)ctx;
	return free_async(dptr, stream, true);
}
