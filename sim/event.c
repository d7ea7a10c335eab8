/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events. Times are those of the simulated device, exact to the nanosecond, however late the host
 * looks. Those of captures are capture.c's.
 */
#include "event.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "capture.h"

#include "base/banned.h"
#include "base/timing.h"

#define SHARED_POLL_NS                                                                             \
	(50 * AQ_NS_PER_US) /* another process's progress is looked at that often                  \
			     */

/* A record of a shared event that is under way. */
struct shared_record {
	struct sim_shared_event *shared;
	uint64_t number;
	struct sim_mark *mark;
};

CUresult sim_event_check(CUevent handle, struct sim_event **ret_event)
{
	struct sim_event *e = (struct sim_event *)handle;

	if ((uintptr_t)handle < 4096 || e->magic != SIM_EVENT_MAGIC)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_event = e;
	return CUDA_SUCCESS;
}

void sim_event_set_mark(struct sim_event *e, struct sim_mark *m)
{
	sim_mark_get(m);
	sim_mark_put(e->mark);
	e->mark = m;
	free(e->deps);
	e->deps = NULL;
	e->n_deps = 0;
	e->capture_id = 0;
}

static struct sim_event *event_create(struct sim_exec *x, unsigned int flags)
{
	struct sim_event *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->magic = SIM_EVENT_MAGIC;
	e->flags = flags;
	e->exec = x;
	sim_exec_lock();
	aq_list_append(&x->events, &e->link);
	sim_exec_unlock();
	return e;
}

/* All but its memory. With the lock held. */
static void event_end(struct sim_event *e)
{
	e->magic = 0;
	aq_list_remove(&e->link);
	sim_mark_put(e->mark);
	free(e->deps);
}

void sim_event_destroy_all(struct sim_exec *x)
{
	struct sim_event *e, *tmp;

	AQ_LIST_FOREACH (e, tmp, &x->events, link) {
		if (e->shared)
			sim_shared_event_put(e->shared);
		event_end(e);
		sim_exec_bury(&e->link);
	}
}

CUresult cuEventCreate(CUevent *event, unsigned int flags)
{
	const unsigned int all =
		CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
	struct sim_shared_event *shared = NULL;
	struct sim_event *e;

	SIM_ENTER_CONTEXT(ctx);
	if (!event || flags & ~all)
		return CUDA_ERROR_INVALID_VALUE;
	if (flags & CU_EVENT_INTERPROCESS) {
		if (!(flags & CU_EVENT_DISABLE_TIMING))
			return CUDA_ERROR_INVALID_VALUE;
		shared = sim_shared_event_create(ctx->device);
		if (!shared)
			return CUDA_ERROR_OUT_OF_MEMORY;
	}
	e = event_create(ctx->exec, flags);
	if (!e) {
		if (shared)
			sim_shared_event_put(shared);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	e->shared = shared;
	*event = (CUevent)e;
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event)
{
	struct sim_shared_event *shared;
	struct sim_event *e;
	CUresult r;

	SIM_ENTER();
	r = sim_event_check(event, &e);
	if (r != CUDA_SUCCESS)
		return r;
	shared = e->shared;
	sim_exec_lock();
	event_end(e);
	sim_exec_unlock();
	free(e);
	if (shared)
		sim_shared_event_put(shared);
	return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event)
{
	return cuEventDestroy_v2(event);
}

/*
 * Between processes.
 */

CUresult sim_event_shared(CUevent event, struct sim_shared_event **ret_shared)
{
	struct sim_event *e;
	CUresult r = sim_event_check(event, &e);

	if (r != CUDA_SUCCESS)
		return r;
	if (!e->shared)
		return CUDA_ERROR_INVALID_HANDLE;
	*ret_shared = e->shared;
	return CUDA_SUCCESS;
}

CUresult sim_event_open(struct sim_shared_event *shared, CUevent *ret_event)
{
	struct sim_context *ctx;
	struct sim_event *e;
	CUresult r = sim_current_live(&ctx);

	if (r != CUDA_SUCCESS)
		return r;
	e = event_create(ctx->exec, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS);
	if (!e)
		return CUDA_ERROR_OUT_OF_MEMORY;
	e->shared = shared;
	*ret_event = (CUevent)e;
	return CUDA_SUCCESS;
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void shared_done(void *arg)
{
	struct shared_record *record = arg;
	struct sim_shared_event *shared = record->shared;
	uint64_t at = 0;

	sim_exec_lock();
	sim_mark_decided(record->mark, &at);
	sim_mark_put(record->mark);
	sim_exec_unlock();
	__atomic_store_n(&shared->finish_ns, at, __ATOMIC_RELAXED);
	if (load(&shared->completed) < record->number)
		__atomic_store_n(&shared->completed, record->number, __ATOMIC_RELEASE);
	free(record);
}

/* Others learn of a record by a call in stream order behind it. */
static CUresult record_shared(struct sim_stream *s, struct sim_event *e)
{
	struct shared_record *record = malloc(sizeof(*record));
	CUresult r;

	if (!record)
		return CUDA_ERROR_OUT_OF_MEMORY;
	record->shared = e->shared;
	record->number = __atomic_add_fetch(&e->shared->recorded, 1, __ATOMIC_ACQ_REL);
	sim_exec_lock();
	record->mark = sim_mark_get(e->mark);
	sim_exec_unlock();
	r = sim_exec_call(s, shared_done, record);
	if (r != CUDA_SUCCESS) /* so that nobody waits for it */
		shared_done(record);
	return r;
}

static bool shared_reached(const struct sim_shared_event *shared, uint64_t number)
{
	return load(&shared->completed) >= number;
}

/* A stream waits for another process as for any value in memory. */
static CUresult wait_shared(struct sim_stream *s, const struct sim_shared_event *shared)
{
	CUstreamBatchMemOpParams op = {
		.waitValue =
			{
				.operation = CU_STREAM_MEM_OP_WAIT_VALUE_64,
				.address = (CUdeviceptr)(uintptr_t)&shared->completed,
				.value64 = load(&shared->recorded),
				.flags = CU_STREAM_WAIT_VALUE_GEQ,
			},
	};
	struct sim_task t = {
		.kind = SIM_TASK_MEMOPS,
		.memops = {.count = 1, .ops = &op},
	};

	return sim_submit(s, &t, false);
}

/*
 * Recording and waiting.
 */

static CUresult record(CUevent event, CUstream stream, unsigned int flags, bool per_thread)
{
	struct sim_stream *s;
	struct sim_event *e;
	struct sim_mark *m;
	CUresult r;

	if (flags & ~(unsigned int)CU_EVENT_RECORD_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_event_check(event, &e);
	if (r == CUDA_SUCCESS)
		r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (e->exec != s->exec)
		return CUDA_ERROR_INVALID_HANDLE;
	if (sim_capture_record(s, e, flags & CU_EVENT_RECORD_EXTERNAL, &r))
		return r;
	if (flags) /* external means something in captures only */
		return CUDA_ERROR_ILLEGAL_STATE;
	r = sim_capture_check(s);
	if (r != CUDA_SUCCESS)
		return r;

	sim_exec_lock();
	m = sim_mark_create();
	if (!m) {
		sim_exec_unlock();
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	r = sim_submit_mark(s, m);
	if (r == CUDA_SUCCESS)
		sim_event_set_mark(e, m);
	sim_mark_put(m);
	sim_exec_unlock();
	if (r == CUDA_SUCCESS && e->shared)
		r = record_shared(s, e);
	return r;
}

static CUresult stream_wait(CUstream stream, CUevent event, unsigned int flags, bool per_thread)
{
	struct sim_task t = {.kind = SIM_TASK_WAIT};
	struct sim_stream *s;
	struct sim_event *e;
	CUresult r;

	if (flags & ~(unsigned int)CU_EVENT_WAIT_EXTERNAL)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r == CUDA_SUCCESS)
		r = sim_event_check(event, &e);
	if (r != CUDA_SUCCESS)
		return r;
	if (sim_capture_wait(s, e, flags & CU_EVENT_WAIT_EXTERNAL, &r))
		return r;
	if (flags)
		return CUDA_ERROR_ILLEGAL_STATE;
	if (e->shared)
		return wait_shared(s, e->shared);
	sim_exec_lock();
	if (e->mark)
		t.mark = sim_mark_get(e->mark);
	sim_exec_unlock();
	if (!t.mark)
		return CUDA_SUCCESS; /* an event that was never recorded is done */
	r = sim_submit(s, &t, false);
	sim_exec_lock();
	sim_mark_put(t.mark);
	sim_exec_unlock();
	return r;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return record(event, stream, 0, false);
}

CUresult cuEventRecord_ptsz(CUevent event, CUstream stream)
{
	SIM_ENTER_CONTEXT(ctx);
	return record(event, stream, 0, true);
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return record(event, stream, flags, false);
}

CUresult cuEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return record(event, stream, flags, true);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return stream_wait(stream, event, flags, false);
}

CUresult cuStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return stream_wait(stream, event, flags, true);
}

CUresult cuEventQuery(CUevent event)
{
	struct sim_event *e;
	CUresult r;

	SIM_ENTER();
	r = sim_event_check(event, &e);
	if (r != CUDA_SUCCESS)
		return r;
	if (e->capture_id)
		return CUDA_ERROR_CAPTURED_EVENT;
	if (e->shared)
		return shared_reached(e->shared, load(&e->shared->recorded)) ? CUDA_SUCCESS
									     : CUDA_ERROR_NOT_READY;
	r = sim_exec_unsafe_call();
	if (r != CUDA_SUCCESS)
		return r;
	sim_exec_lock();
	if (e->mark && !sim_mark_past(e->mark, aq_now_ns()))
		r = CUDA_ERROR_NOT_READY;
	sim_exec_unlock();
	return r == CUDA_SUCCESS ? e->exec->ctx->sticky : r;
}

CUresult cuEventSynchronize(CUevent event)
{
	struct sim_context *ctx;
	struct sim_mark *m;
	struct sim_event *e;
	CUresult r;

	SIM_ENTER();
	r = sim_event_check(event, &e);
	if (r != CUDA_SUCCESS)
		return r;
	if (e->capture_id)
		return CUDA_ERROR_CAPTURED_EVENT;
	r = sim_exec_unsafe_call();
	if (r != CUDA_SUCCESS)
		return r;
	ctx = e->exec->ctx;
	if (e->shared) {
		uint64_t number = load(&e->shared->recorded);

		while (!shared_reached(e->shared, number))
			aq_sleep_until_ns(aq_now_ns() + SHARED_POLL_NS);
		return ctx->sticky;
	}
	sim_exec_lock();
	if (e->mark) {
		/* The event may be recorded anew or destroyed meanwhile. */
		m = sim_mark_get(e->mark);
		sim_wait_mark(NULL, m);
		sim_mark_put(m);
	}
	sim_exec_unlock();
	sim_pool_synchronised(ctx->device);
	return ctx->sticky;
}

static CUresult elapsed(float *ms, CUevent start, CUevent end)
{
	struct sim_event *a, *b;
	uint64_t from = 0, to = 0, now;
	CUresult r;

	if (!ms)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_event_check(start, &a);
	if (r == CUDA_SUCCESS)
		r = sim_event_check(end, &b);
	if (r != CUDA_SUCCESS)
		return r;
	if (a->capture_id || b->capture_id)
		return CUDA_ERROR_CAPTURED_EVENT;
	if ((a->flags | b->flags) & CU_EVENT_DISABLE_TIMING ||
	    a->exec->ctx->device != b->exec->ctx->device)
		return CUDA_ERROR_INVALID_HANDLE;
	sim_exec_lock();
	now = aq_now_ns();
	if (!a->mark || !b->mark)
		r = CUDA_ERROR_INVALID_HANDLE;
	else if (!sim_mark_past(a->mark, now) || !sim_mark_past(b->mark, now))
		r = CUDA_ERROR_NOT_READY;
	if (r == CUDA_SUCCESS) {
		sim_mark_decided(a->mark, &from);
		sim_mark_decided(b->mark, &to);
	}
	sim_exec_unlock();
	if (r == CUDA_SUCCESS)
		*ms = (float)((double)(int64_t)(to - from) / 1e6);
	return r;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
	SIM_ENTER();
	return elapsed(ms, start, end);
}

CUresult cuEventElapsedTime_v2(float *ms, CUevent start, CUevent end)
{
	SIM_ENTER();
	return elapsed(ms, start, end);
}

/*
 * Whole contexts.
 */

CUresult cuCtxRecordEvent(CUcontext handle, CUevent event)
{
	struct sim_context *ctx;
	struct sim_event *e;
	struct sim_mark *m;
	CUresult r;

	SIM_ENTER();
	r = sim_context_check(handle, &ctx);
	if (r == CUDA_SUCCESS)
		r = sim_event_check(event, &e);
	if (r != CUDA_SUCCESS)
		return r;
	if (e->exec != ctx->exec)
		return CUDA_ERROR_INVALID_HANDLE;
	if (ctx->exec->n_captures)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	sim_exec_lock();
	/* Work that waits for the host is waited for here: a mark on all streams is not kept. */
	sim_wait_issued(ctx->exec);
	m = sim_mark_create();
	if (m) {
		sim_mark_issue(m, &ctx->exec->all_when);
		sim_event_set_mark(e, m);
		sim_mark_put(m);
	} else {
		r = CUDA_ERROR_OUT_OF_MEMORY;
	}
	sim_exec_unlock();
	return r;
}

CUresult cuCtxWaitEvent(CUcontext handle, CUevent event)
{
	struct sim_task t = {.kind = SIM_TASK_WAIT};
	struct sim_context *ctx;
	struct sim_event *e;
	CUresult r;

	SIM_ENTER();
	r = sim_context_check(handle, &ctx);
	if (r == CUDA_SUCCESS)
		r = sim_event_check(event, &e);
	if (r != CUDA_SUCCESS)
		return r;
	if (ctx->exec->n_captures)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	sim_exec_lock();
	t.mark = e->mark ? sim_mark_get(e->mark) : NULL;
	if (t.mark)
		r = sim_submit_all(ctx->exec, &t);
	sim_mark_put(t.mark);
	sim_exec_unlock();
	return r;
}
