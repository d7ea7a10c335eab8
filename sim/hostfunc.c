/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions of the program that run in stream order (cuLaunchHostFunc, cuStreamAddCallback), on one
 * thread of their own: one at a time, and one that blocks holds up no device work but what waits
 * for it, as with a real driver. Decides nothing about when they are due.
 */
#include <errno.h>
#include <stdlib.h>

#include "capture.h"
#include "exec.h"

#include "base/banned.h"

struct host_call {
	struct aq_list link;
	struct sim_host_task task;
	CUresult status;
	void (*done)(void *);
	void *arg;
};

/* Under sim_executor.lock. */
static struct {
	struct aq_list queue;
	pthread_cond_t work;
	bool started;
} host = {
	.queue = {&host.queue, &host.queue},
	.work = PTHREAD_COND_INITIALIZER,
};

/* Set while the calling thread runs a function of the program. */
static __thread bool in_host_call;

bool sim_in_host_call(void)
{
	return in_host_call;
}

static void *host_main(void *unused)
{
	pthread_setname_np(pthread_self(), "sim-host-calls");
	in_host_call = true;
	sim_exec_lock();
	for (;;) {
		struct host_call *c;

		while (aq_list_empty(&host.queue))
			pthread_cond_wait(&host.work, &sim_executor.lock);
		c = aq_container_of(host.queue.next, struct host_call, link);
		aq_list_remove(&c->link);
		sim_exec_unlock();
		if (c->task.callback)
			c->task.callback(c->task.stream, c->status, c->task.data);
		else
			c->task.fn(c->task.data);
		sim_exec_lock();
		c->done(c->arg);
		free(c);
	}
	return NULL;
}

int sim_host_run(const struct sim_host_task *t, CUresult status, void (*done)(void *), void *arg)
{
	struct host_call *c;
	int r;

	if (!host.started) {
		r = sim_thread_start(host_main, NULL);
		if (r < 0)
			return r;
		host.started = true;
	}
	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	*c = (struct host_call){.task = *t, .status = status, .done = done, .arg = arg};
	aq_list_append(&host.queue, &c->link);
	pthread_cond_signal(&host.work);
	return 0;
}

static CUresult launch_host(CUstream handle, bool per_thread, struct sim_host_task *t)
{
	struct sim_task task = {.kind = SIM_TASK_HOST, .host = *t};
	struct sim_stream *s;
	CUresult r;

	r = sim_stream_resolve(handle, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	return sim_enqueue(s, &task, SIM_ASYNC);
}

static CUresult launch_fn(CUstream stream, CUhostFn fn, void *data, bool per_thread)
{
	struct sim_host_task t = {.fn = fn, .data = data};

	return fn ? launch_host(stream, per_thread, &t) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult add_callback(CUstream stream, CUstreamCallback callback, void *data,
			     unsigned int flags, bool per_thread)
{
	struct sim_host_task t = {.callback = callback, .stream = stream, .data = data};
	struct sim_stream *s;
	CUresult r;

	if (!callback || flags)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	/* Unlike host functions, callbacks cannot be captured. */
	if (sim_stream_capturing(s)) {
		sim_capture_invalidate(s);
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	return launch_host(stream, per_thread, &t);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn fn, void *data)
{
	SIM_ENTER_CONTEXT(ctx);
	return launch_fn(stream, fn, data, false);
}

CUresult cuLaunchHostFunc_ptsz(CUstream stream, CUhostFn fn, void *data)
{
	SIM_ENTER_CONTEXT(ctx);
	return launch_fn(stream, fn, data, true);
}

/* How the driver's own thread waits for its turn is of no account here. */
static CUresult check_mode(unsigned int sync_mode)
{
	return sync_mode > 1 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc_v2(CUstream stream, CUhostFn fn, void *data, unsigned int sync_mode)
{
	CUresult r = check_mode(sync_mode);

	SIM_ENTER_CONTEXT(ctx);
	return r ? r : launch_fn(stream, fn, data, false);
}

CUresult cuLaunchHostFunc_v2_ptsz(CUstream stream, CUhostFn fn, void *data, unsigned int sync_mode)
{
	CUresult r = check_mode(sync_mode);

	SIM_ENTER_CONTEXT(ctx);
	return r ? r : launch_fn(stream, fn, data, true);
}

CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback callback, void *data,
			     unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return add_callback(stream, callback, data, flags, false);
}

CUresult cuStreamAddCallback_ptsz(CUstream stream, CUstreamCallback callback, void *data,
				  unsigned int flags)
{
	SIM_ENTER_CONTEXT(ctx);
	return add_callback(stream, callback, data, flags, true);
}
