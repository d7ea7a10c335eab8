/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams as handles: made, destroyed, asked, synchronised; and what a context needs of the
 * execution side. What is in them is the business of issue.c and
 * executor.c.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "event.h"
#include "exec.h"
#include "graph_memory.h"
#include "module.h"

#include "base/banned.h"

/* Priorities as H100 and A100 have them; lower goes first. Kept, without effect on order. */
#define PRIORITY_LEAST 0
#define PRIORITY_GREATEST (-5)

/* The per-thread default streams of the calling thread, one for each context that it used. */
struct per_thread {
	struct per_thread *next;
	uint64_t exec_id;
	struct sim_stream *stream; /* freed with its context: only valid while that lives */
};

/* Contexts may be made anew at the same address; their execution sides never have the same id. */
static uint64_t next_exec_id;

static pthread_key_t per_thread_key;
static pthread_once_t per_thread_once = PTHREAD_ONCE_INIT;

static bool stream_init(struct sim_stream *s, struct sim_exec *x, enum sim_stream_kind kind,
			unsigned int flags, int priority)
{
	s->depth = calloc(SIM_STREAM_DEPTH, sizeof(*s->depth));
	if (!s->depth)
		return false;
	s->magic = SIM_STREAM_MAGIC;
	s->kind = kind;
	s->blocking = kind != SIM_STREAM_LEGACY && !(flags & CU_STREAM_NON_BLOCKING);
	s->flags = flags;
	s->priority = priority;
	s->id = ++sim_executor.next_stream_id;
	s->exec = x;
	s->sync_policy = CU_SYNC_POLICY_AUTO;
	aq_list_init(&s->queue);
	aq_list_append(&x->streams, &s->link);
	return true;
}

static struct sim_stream *stream_create(struct sim_exec *x, enum sim_stream_kind kind,
					unsigned int flags, int priority)
{
	struct sim_stream *s = calloc(1, sizeof(*s));

	if (s && !stream_init(s, x, kind, flags, priority)) {
		free(s);
		return NULL;
	}
	return s;
}

/* The thread ends: its default streams go when their work is done. */
static void per_thread_end(void *arg)
{
	struct per_thread *p = arg;

	if (!sim_is_alive()) /* a forked child has none of these, and maybe a lock that nobody holds */
		return;
	sim_exec_lock();
	while (p) {
		struct per_thread *next = p->next;
		struct sim_exec *x, *tmp;

		AQ_LIST_FOREACH (x, tmp, &sim_executor.execs, link) {
			if (x->id != p->exec_id)
				continue;
			sim_capture_drop(p->stream);
			p->stream->destroyed = true;
			sim_stream_reap(p->stream);
			break;
		}
		free(p);
		p = next;
	}
	sim_exec_unlock();
}

static void per_thread_setup(void)
{
	pthread_key_create(&per_thread_key, per_thread_end);
}

static struct sim_stream *per_thread_stream(struct sim_exec *x)
{
	struct per_thread *head, *p;

	pthread_once(&per_thread_once, per_thread_setup);
	head = pthread_getspecific(per_thread_key);
	for (p = head; p; p = p->next)
		if (p->exec_id == x->id)
			return p->stream;
	p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	sim_exec_lock();
	p->stream = stream_create(x, SIM_STREAM_PER_THREAD, 0, 0);
	sim_exec_unlock();
	p->exec_id = x->id;
	p->next = head;
	if (!p->stream || pthread_setspecific(per_thread_key, p) != 0) {
		free(p->stream); /* a list item lost with the memory is not worth more code */
		free(p);
		return NULL;
	}
	return p->stream;
}

CUresult sim_stream_resolve(CUstream handle, bool per_thread, struct sim_stream **ret_stream)
{
	struct sim_stream *s = (struct sim_stream *)handle;
	struct sim_context *ctx;
	CUresult r;

	if (sim_in_host_call())
		return CUDA_ERROR_NOT_PERMITTED;
	if (!handle || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
		r = sim_current_live(&ctx);
		if (r != CUDA_SUCCESS)
			return r;
		if (handle == CU_STREAM_PER_THREAD || (!handle && per_thread))
			s = per_thread_stream(ctx->exec);
		else
			s = &ctx->exec->legacy;
		if (!s)
			return CUDA_ERROR_OUT_OF_MEMORY;
	} else if ((uintptr_t)handle < 4096 || s->magic != SIM_STREAM_MAGIC || s->destroyed) {
		return CUDA_ERROR_INVALID_HANDLE;
	}
	*ret_stream = s;
	return CUDA_SUCCESS;
}

struct sim_context *sim_stream_context(struct sim_stream *stream)
{
	return stream->exec->ctx;
}

/*
 * Contexts.
 */

CUresult sim_exec_context_create(struct sim_context *ctx)
{
	struct sim_exec *x = calloc(1, sizeof(*x));

	if (!x)
		return CUDA_ERROR_OUT_OF_MEMORY;
	x->ctx = ctx;
	x->id = __atomic_add_fetch(&next_exec_id, 1, __ATOMIC_RELAXED);
	aq_list_init(&x->streams);
	aq_list_init(&x->marks);
	aq_list_init(&x->deferred);
	aq_list_init(&x->events);
	aq_list_init(&x->modules);
	sim_exec_lock();
	if (!stream_init(&x->legacy, x, SIM_STREAM_LEGACY, 0, 0)) {
		sim_exec_unlock();
		free(x);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	aq_list_append(&sim_executor.execs, &x->link);
	sim_exec_unlock();
	ctx->exec = x;
	return CUDA_SUCCESS;
}

void sim_exec_context_destroy(struct sim_context *ctx)
{
	struct sim_exec *x = ctx->exec;
	struct sim_stream *s, *tmp;

	if (!x)
		return;
	sim_wait_context(x);
	sim_exec_lock();
	AQ_LIST_FOREACH (s, tmp, &x->streams, link) {
		sim_capture_drop(s);
		s->magic = 0;
		free(s->depth);
		aq_list_remove(&s->link);
		if (s != &x->legacy)
			sim_exec_bury(&s->link);
	}
	sim_event_destroy_all(x);
	sim_marks_refresh(x);
	aq_list_remove(&x->link);
	sim_exec_unlock();
	sim_library_context_gone(ctx);
	sim_module_destroy_all(ctx);
	sim_graph_memory_context_gone(ctx);
	ctx->exec = NULL;
	free(x);
}

CUresult sim_exec_context_synchronize(struct sim_context *ctx)
{
	return sim_wait_context(ctx->exec);
}

CUresult sim_exec_call(struct sim_stream *stream, void (*fn)(void *), void *arg)
{
	struct sim_task t = {.kind = SIM_TASK_CALL, .call = {.fn = fn, .arg = arg}};

	return sim_submit(stream, &t, false);
}

/*
 * Entry points.
 */

CUresult sim_stream_new(CUstream *ret, struct sim_context *ctx, struct sim_green *green,
			unsigned int flags, int priority)
{
	struct sim_stream *s;

	if (!ret || flags & ~(unsigned int)CU_STREAM_NON_BLOCKING)
		return CUDA_ERROR_INVALID_VALUE;
	if (priority > PRIORITY_LEAST)
		priority = PRIORITY_LEAST;
	if (priority < PRIORITY_GREATEST)
		priority = PRIORITY_GREATEST;
	sim_exec_lock();
	s = stream_create(ctx->exec, SIM_STREAM_CREATED, flags, priority);
	if (s)
		s->green = green;
	sim_exec_unlock();
	if (!s)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*ret = (CUstream)s;
	return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return sim_stream_new(stream, ctx, NULL, flags, 0);
}

CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority)
{
	SIM_ENTER_CONTEXT(ctx);
	return sim_stream_new(stream, ctx, NULL, flags, priority);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
	struct sim_stream *s = (struct sim_stream *)stream;

	SIM_ENTER();
	if ((uintptr_t)stream < 4096 || s->magic != SIM_STREAM_MAGIC ||
	    s->kind != SIM_STREAM_CREATED)
		return CUDA_ERROR_INVALID_HANDLE;
	sim_exec_lock();
	sim_capture_drop(s);
	s->magic = 0;
	s->destroyed = true;
	sim_stream_reap(s);
	sim_exec_unlock();
	return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream)
{
	return cuStreamDestroy_v2(stream);
}

static CUresult synchronize(CUstream stream, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_capture_check(s);
	if (r == CUDA_SUCCESS)
		r = sim_exec_unsafe_call();
	if (r != CUDA_SUCCESS)
		return r;
	r = sim_wait_stream(s);
	sim_pool_synchronised(s->exec->ctx->device);
	return r;
}

static CUresult query(CUstream stream, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_capture_check(s);
	if (r == CUDA_SUCCESS)
		r = sim_exec_unsafe_call();
	if (r != CUDA_SUCCESS)
		return r;
	sim_exec_lock();
	if (!sim_stream_idle(s))
		r = CUDA_ERROR_NOT_READY;
	sim_exec_unlock();
	return r;
}

static CUresult synchronize_context(struct sim_context *ctx)
{
	CUresult r = sim_capture_check_context(ctx->exec);

	if (r == CUDA_SUCCESS)
		r = sim_exec_unsafe_call();
	if (r != CUDA_SUCCESS)
		return r;
	r = sim_wait_context(ctx->exec);
	sim_pool_synchronised(ctx->device);
	return r;
}

CUresult cuCtxSynchronize(void)
{
	SIM_ENTER_CONTEXT(ctx);
	return sim_in_host_call() ? CUDA_ERROR_NOT_PERMITTED : synchronize_context(ctx);
}

CUresult cuCtxSynchronize_v2(CUcontext handle)
{
	struct sim_context *ctx;
	CUresult r;

	SIM_ENTER();
	r = sim_context_check(handle, &ctx);
	if (r != CUDA_SUCCESS)
		return r;
	return sim_in_host_call() ? CUDA_ERROR_NOT_PERMITTED : synchronize_context(ctx);
}

static CUresult get_ctx(CUstream stream, CUcontext *ret, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		*ret = sim_context_handle(s->exec->ctx);
	return r;
}

static CUgreenCtx green_of(struct sim_stream *s)
{
	struct sim_green *green;

	sim_exec_lock();
	green = s->green;
	sim_exec_unlock();
	return (CUgreenCtx)green;
}

void sim_stream_green_gone(struct sim_exec *x, const struct sim_green *green)
{
	struct sim_stream *s, *tmp;

	sim_exec_lock();
	AQ_LIST_FOREACH (s, tmp, &x->streams, link)
		if (s->green == green)
			s->green = NULL;
	sim_exec_unlock();
}

static CUresult get_ctx_v2(CUstream stream, CUcontext *ret, CUgreenCtx *ret_green, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!ret || !ret_green)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	*ret = sim_context_handle(s->exec->ctx);
	*ret_green = green_of(s);
	return CUDA_SUCCESS;
}

static CUresult get_device(CUstream stream, CUdevice *ret, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		*ret = s->exec->ctx->device->ordinal;
	return r;
}

static CUresult get_flags(CUstream stream, unsigned int *ret, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		*ret = s->flags;
	return r;
}

static CUresult get_id(CUstream stream, unsigned long long *ret, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		*ret = s->id;
	return r;
}

static CUresult get_priority(CUstream stream, int *ret, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		*ret = s->priority;
	return r;
}

/* Where an attribute is kept; NULL: streams do not have it. */
static CUlaunchAttributeValue *attribute(struct sim_stream *s, CUstreamAttrID attr)
{
	switch (attr) {
	case CU_STREAM_ATTRIBUTE_ACCESS_POLICY_WINDOW:
		return &s->attrs[0];
	case CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY:
		return &s->attrs[1];
	case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
		return &s->attrs[2];
	case CU_STREAM_ATTRIBUTE_MEM_SYNC_DOMAIN:
		return &s->attrs[3];
	default:
		return NULL;
	}
}

static CUresult get_attribute(CUstream stream, CUstreamAttrID attr, CUstreamAttrValue *value,
			      bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (attr == CU_STREAM_ATTRIBUTE_PRIORITY) {
		value->priority = s->priority;
		return CUDA_SUCCESS;
	}
	if (!attribute(s, attr))
		return CUDA_ERROR_INVALID_VALUE;
	*value = *attribute(s, attr);
	if (attr == CU_STREAM_ATTRIBUTE_SYNCHRONIZATION_POLICY && !value->syncPolicy)
		value->syncPolicy = CU_SYNC_POLICY_AUTO;
	return CUDA_SUCCESS;
}

static CUresult set_attribute(CUstream stream, CUstreamAttrID attr, const CUstreamAttrValue *value,
			      bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!value)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (attr == CU_STREAM_ATTRIBUTE_PRIORITY) {
		if (value->priority > PRIORITY_LEAST || value->priority < PRIORITY_GREATEST)
			return CUDA_ERROR_INVALID_VALUE;
		s->priority = value->priority;
		return CUDA_SUCCESS;
	}
	if (!attribute(s, attr))
		return CUDA_ERROR_INVALID_VALUE;
	*attribute(s, attr) = *value;
	return CUDA_SUCCESS;
}

static CUresult copy_attributes(CUstream dst, CUstream src, bool per_thread)
{
	struct sim_stream *to, *from;
	CUresult r;

	r = sim_stream_resolve(dst, per_thread, &to);
	if (r == CUDA_SUCCESS)
		r = sim_stream_resolve(src, per_thread, &from);
	if (r == CUDA_SUCCESS)
		memcpy(to->attrs, from->attrs, sizeof(to->attrs));
	return r;
}

static CUresult attach(CUstream stream, CUdeviceptr dptr, size_t length, unsigned int flags,
		       bool per_thread)
{
	struct sim_stream *s;
	struct sim_span span;
	CUresult r;

	if (!dptr || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST &&
		      flags != CU_MEM_ATTACH_SINGLE))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_resolve(dptr, length, &span);
	if (r != CUDA_SUCCESS)
		return r;
	if (span.kind != SIM_MEMORY_MANAGED || (length && length != span.bytes) ||
	    (flags == CU_MEM_ATTACH_SINGLE && s->kind == SIM_STREAM_LEGACY))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS; /* the host sees managed memory at all times here */
}

/* Each entry point and its per-thread twin. */
#define TWINS(name, fn, params, ...)                                                               \
	CUresult name params                                                                       \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(__VA_ARGS__, false);                                                     \
	}                                                                                          \
	CUresult name##_ptsz params                                                                \
	{                                                                                          \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return fn(__VA_ARGS__, true);                                                      \
	}

TWINS(cuStreamSynchronize, synchronize, (CUstream stream), stream)
TWINS(cuStreamQuery, query, (CUstream stream), stream)
TWINS(cuStreamGetCtx, get_ctx, (CUstream stream, CUcontext *ret), stream, ret)
TWINS(cuStreamGetCtx_v2, get_ctx_v2, (CUstream stream, CUcontext *ret, CUgreenCtx *green), stream,
      ret, green)
TWINS(cuStreamGetDevice, get_device, (CUstream stream, CUdevice *device), stream, device)
TWINS(cuStreamGetFlags, get_flags, (CUstream stream, unsigned int *flags), stream, flags)
TWINS(cuStreamGetId, get_id, (CUstream stream, unsigned long long *id), stream, id)
TWINS(cuStreamGetPriority, get_priority, (CUstream stream, int *priority), stream, priority)
TWINS(cuStreamGetAttribute, get_attribute,
      (CUstream stream, CUstreamAttrID attr, CUstreamAttrValue *value), stream, attr, value)
TWINS(cuStreamSetAttribute, set_attribute,
      (CUstream stream, CUstreamAttrID attr, const CUstreamAttrValue *value), stream, attr, value)
TWINS(cuStreamCopyAttributes, copy_attributes, (CUstream dst, CUstream src), dst, src)
TWINS(cuStreamAttachMemAsync, attach,
      (CUstream stream, CUdeviceptr dptr, size_t length, unsigned int flags), stream, dptr, length,
      flags)

CUresult cuStreamGetGreenCtx(CUstream stream, CUgreenCtx *ctx)
{
	struct sim_stream *s;
	CUresult r;

	SIM_ENTER();
	if (!ctx)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, false, &s);
	if (r == CUDA_SUCCESS)
		*ctx = green_of(s);
	return r;
}

/* Writes that others make through the bus are seen at once here. */
CUresult cuFlushGPUDirectRDMAWrites(CUflushGPUDirectRDMAWritesTarget target,
				    CUflushGPUDirectRDMAWritesScope scope)
{
	SIM_ENTER_CONTEXT(ctx);
	if (target != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX ||
	    (scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER &&
	     scope != CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_ALL_DEVICES))
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}
