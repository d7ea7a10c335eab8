/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream capture: operations become nodes of a graph instead of work. Which calls a capture
 * forbids, and to whom, is in sim_exec_unsafe_call() and sim_capture_check().
 *
 * Source: CUDA driver API, cuStreamBeginCapture_v2, cuThreadExchangeStreamCaptureMode, error codes
 * 900 to 908; CUDA programming guide, "Cross-stream dependencies and events".
 */
#include "capture.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "event.h"
#include "graph.h"
#include "graph_memory.h"

#include "base/banned.h"

/* A capture sequence. Under sim_executor.lock, as everything here. */
struct sim_capture {
	struct aq_list link; /* captures */
	uint64_t id;
	struct sim_graph *graph;
	bool owns_graph; /* not given by the program */
	bool invalid;
	CUstreamCaptureMode mode;
	pthread_t owner;
	struct sim_stream *origin;
	struct aq_list streams; /* struct sim_capturing */
};

/* A stream that takes part in one. */
struct sim_capturing {
	struct sim_capture *capture;
	struct sim_stream *stream;
	struct aq_list link;	/* sim_capture.streams */
	struct sim_node **deps; /* that its next operation waits for */
	CUgraphEdgeData *data;	/* of these edges */
	size_t n_deps;
};

static struct aq_list captures = {&captures, &captures};
static _Atomic unsigned int n_captures; /* in it; read without the lock by who only asks for none */
static uint64_t last_id;

static __thread CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

/*
 * Dependencies.
 */

/* Room for @n more. */
static int reserve(struct sim_capturing *c, size_t n)
{
	struct sim_node **deps;
	CUgraphEdgeData *data;

	deps = reallocarray(c->deps, c->n_deps + n + 1, sizeof(struct sim_node *));
	if (!deps)
		return -ENOMEM;
	c->deps = deps;
	data = reallocarray(c->data, c->n_deps + n + 1, sizeof(*data));
	if (!data)
		return -ENOMEM;
	c->data = data;
	return 0;
}

/* One more dependency; room is there. */
static void add_dep(struct sim_capturing *c, struct sim_node *n, const CUgraphEdgeData *data)
{
	for (size_t i = 0; i < c->n_deps; i++)
		if (c->deps[i] == n)
			return;
	c->deps[c->n_deps] = n;
	c->data[c->n_deps] = data ? *data : (CUgraphEdgeData){0};
	c->n_deps++;
}

/*
 * Beginning and ending.
 */

static struct sim_capturing *join(struct sim_capture *capture, struct sim_stream *s)
{
	struct sim_capturing *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	if (reserve(c, 0) < 0) {
		free(c->deps);
		free(c);
		return NULL;
	}
	c->capture = capture;
	c->stream = s;
	aq_list_append(&capture->streams, &c->link);
	s->capturing = c;
	s->exec->n_captures++;
	return c;
}

static void leave(struct sim_capturing *c)
{
	c->stream->capturing = NULL;
	c->stream->exec->n_captures--;
	aq_list_remove(&c->link);
	free(c->deps);
	free(c->data);
	free(c);
}

/* @keep: the graph is the caller's now. */
static void capture_free(struct sim_capture *capture, bool keep)
{
	while (!aq_list_empty(&capture->streams))
		leave(aq_container_of(capture->streams.next, struct sim_capturing, link));
	aq_list_remove(&capture->link);
	n_captures--;
	capture->graph->captures--;
	if (capture->owns_graph && !keep)
		sim_graph_free(capture->graph);
	free(capture);
}

void sim_capture_drop(struct sim_stream *s)
{
	if (s->capturing)
		capture_free(s->capturing->capture, false);
}

static CUresult begin(CUstream handle, struct sim_graph *graph, struct sim_node *const *deps,
		      const CUgraphEdgeData *data, size_t n_deps, CUstreamCaptureMode mode,
		      bool per_thread)
{
	struct sim_capture *capture;
	struct sim_capturing *c;
	struct sim_stream *s;
	CUresult r;

	if ((unsigned int)mode > CU_STREAM_CAPTURE_MODE_RELAXED || (n_deps && !deps))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(handle, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (s->kind == SIM_STREAM_LEGACY)
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	for (size_t i = 0; i < n_deps; i++)
		if ((uintptr_t)deps[i] < 4096 || deps[i]->magic != SIM_NODE_MAGIC ||
		    deps[i]->graph != graph)
			return CUDA_ERROR_INVALID_VALUE;
	sim_exec_lock();
	if (s->capturing) {
		sim_exec_unlock();
		return CUDA_ERROR_ILLEGAL_STATE;
	}
	capture = calloc(1, sizeof(*capture));
	if (!capture)
		goto fail;
	capture->graph = graph ? graph : sim_graph_create();
	if (!capture->graph)
		goto fail;
	capture->graph->captures++;
	capture->owns_graph = !graph;
	capture->id = ++last_id;
	capture->mode = mode;
	capture->owner = pthread_self();
	capture->origin = s;
	aq_list_init(&capture->streams);
	aq_list_append(&captures, &capture->link);
	n_captures++;
	c = join(capture, s);
	if (!c || reserve(c, n_deps) < 0) {
		capture_free(capture, false);
		capture = NULL;
		goto fail;
	}
	for (size_t i = 0; i < n_deps; i++)
		add_dep(c, deps[i], data ? &data[i] : NULL);
	sim_exec_unlock();
	return CUDA_SUCCESS;
fail:
	free(capture);
	sim_exec_unlock();
	return CUDA_ERROR_OUT_OF_MEMORY;
}

/* Whether all that @c captured is waited for by the origin, so that nothing is lost with it. */
static bool is_joined(const struct sim_capturing *c, const struct sim_capturing *origin)
{
	struct sim_graph *g = c->capture->graph;
	struct sim_node *n, *tmp, **path;
	size_t top = 0;
	bool joined = true;
	uint8_t *seen;

	path = calloc(g->n_nodes + 1, sizeof(struct sim_node *));
	seen = calloc(g->n_nodes + 1, 1);
	if (!path || !seen) {
		free(path);
		free(seen);
		return false;
	}
	AQ_LIST_FOREACH (n, tmp, &g->nodes, link)
		n->index = top++;
	top = 0;
	for (size_t i = 0; i < origin->n_deps; i++) {
		seen[origin->deps[i]->index] = 1;
		path[top++] = origin->deps[i];
	}
	while (top) {
		n = path[--top];
		for (size_t i = 0; i < n->deps.n; i++) {
			struct sim_node *dep = n->deps.edge[i].node;

			if (seen[dep->index])
				continue;
			seen[dep->index] = 1;
			path[top++] = dep;
		}
	}
	for (size_t i = 0; i < c->n_deps; i++)
		joined &= seen[c->deps[i]->index];
	free(path);
	free(seen);
	return joined;
}

static CUresult end_check(struct sim_stream *s)
{
	struct sim_capture *capture = s->capturing->capture;
	struct sim_capturing *c, *tmp;

	if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
	    !pthread_equal(capture->owner, pthread_self()))
		return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	if (capture->origin != s)
		return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
	if (capture->invalid)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	AQ_LIST_FOREACH (c, tmp, &capture->streams, link)
		if (c->stream != s && !is_joined(c, s->capturing))
			return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
	return CUDA_SUCCESS;
}

static CUresult end(CUstream handle, CUgraph *ret, bool per_thread)
{
	struct sim_capture *capture;
	struct sim_stream *s;
	CUresult r;

	if (!ret)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(handle, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	sim_exec_lock();
	if (!s->capturing) {
		sim_exec_unlock();
		return CUDA_ERROR_ILLEGAL_STATE;
	}
	capture = s->capturing->capture;
	r = end_check(s);
	*ret = NULL;
	if (r == CUDA_SUCCESS)
		*ret = (CUgraph)capture->graph;
	if (r == CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD)
		capture->invalid = true; /* only its thread can end it */
	else if (r == CUDA_ERROR_STREAM_CAPTURE_UNMATCHED)
		capture->invalid = true; /* only in its stream */
	else
		capture_free(capture, r == CUDA_SUCCESS);
	sim_exec_unlock();
	return r;
}

/*
 * What captures forbid.
 */

void sim_capture_invalidate(struct sim_stream *s)
{
	sim_exec_lock();
	if (s->capturing)
		s->capturing->capture->invalid = true;
	sim_exec_unlock();
}

int sim_stream_capturing(struct sim_stream *s)
{
	return s->capturing != NULL;
}

/* A blocking stream of @x captures: nothing may wait for all of them, as the legacy stream does.
 * With the lock held. */
static bool break_blocking(struct sim_exec *x)
{
	struct sim_stream *s, *tmp;
	bool any = false;

	AQ_LIST_FOREACH (s, tmp, &x->streams, link) {
		if (!s->capturing || !s->blocking)
			continue;
		s->capturing->capture->invalid = true;
		any = true;
	}
	return any;
}

CUresult sim_capture_check(struct sim_stream *s)
{
	CUresult r = CUDA_SUCCESS;

	if (!s->exec->n_captures)
		return CUDA_SUCCESS;
	sim_exec_lock();
	if (s->capturing) {
		r = s->capturing->capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
						   : CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
		s->capturing->capture->invalid = true;
	} else if (s->kind == SIM_STREAM_LEGACY && break_blocking(s->exec)) {
		r = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	}
	sim_exec_unlock();
	return r;
}

CUresult sim_capture_check_context(struct sim_exec *x)
{
	struct sim_stream *s, *tmp;
	CUresult r = CUDA_SUCCESS;

	if (!x->n_captures)
		return CUDA_SUCCESS;
	sim_exec_lock();
	AQ_LIST_FOREACH (s, tmp, &x->streams, link) {
		if (!s->capturing)
			continue;
		s->capturing->capture->invalid = true;
		r = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	sim_exec_unlock();
	return r;
}

CUresult sim_exec_unsafe_call(void)
{
	struct sim_capture *capture, *tmp;
	CUresult r = CUDA_SUCCESS;

	if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED || !n_captures)
		return CUDA_SUCCESS;
	sim_exec_lock();
	AQ_LIST_FOREACH (capture, tmp, &captures, link) {
		bool own = pthread_equal(capture->owner, pthread_self());

		if (capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
			continue;
		if (!own && (thread_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL ||
			     capture->mode != CU_STREAM_CAPTURE_MODE_GLOBAL))
			continue;
		capture->invalid = true;
		r = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	sim_exec_unlock();
	return r;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	CUstreamCaptureMode old = thread_mode;

	SIM_ENTER();
	if (!mode || (unsigned int)*mode > CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_ERROR_INVALID_VALUE;
	thread_mode = *mode;
	*mode = old;
	return CUDA_SUCCESS;
}

/*
 * Capturing.
 */

/* Make @b, which goes over, the next node of a stream. With the lock held. */
static CUresult capture_body(struct sim_capturing *c, struct sim_body *b,
			     struct sim_node **ret_node)
{
	struct sim_node *n;
	CUresult r;

	r = sim_node_add(c->capture->graph, c->deps, c->data, c->n_deps, b, &n);
	if (r != CUDA_SUCCESS) {
		c->capture->invalid = true;
		return r;
	}
	c->n_deps = 0;
	add_dep(c, n, NULL);
	if (ret_node)
		*ret_node = n;
	return CUDA_SUCCESS;
}

/* Return: whether @s captures; then with the lock held, and *@ret_result set when its capture is
 * beyond repair. */
static bool capturing_lock(struct sim_stream *s, CUresult *ret_result)
{
	if (!s->capturing)
		return false;
	sim_exec_lock();
	if (!s->capturing) {
		sim_exec_unlock();
		return false;
	}
	*ret_result = s->capturing->capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
						     : CUDA_SUCCESS;
	return true;
}

CUresult sim_enqueue(struct sim_stream *s, struct sim_task *t, enum sim_enqueue how)
{
	struct sim_body b;
	CUresult r;

	if (capturing_lock(s, &r)) {
		if (r == CUDA_SUCCESS && how == SIM_SYNC) {
			s->capturing->capture->invalid = true;
			r = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
		}
		if (r == CUDA_SUCCESS)
			r = sim_body_task(t, s->exec->ctx, &b);
		if (r == CUDA_SUCCESS)
			r = capture_body(s->capturing, &b, NULL);
		sim_exec_unlock();
		return r;
	}
	if (s->kind == SIM_STREAM_LEGACY && s->exec->n_captures) {
		r = sim_capture_check(s);
		if (r != CUDA_SUCCESS)
			return r;
	}
	if (how == SIM_SYNC) {
		r = sim_exec_unsafe_call();
		if (r != CUDA_SUCCESS)
			return r;
	}
	return sim_submit(s, t, how != SIM_ASYNC);
}

CUresult sim_capture_child(struct sim_stream *s, struct sim_graph *g)
{
	struct sim_body b = {.type = CU_GRAPH_NODE_TYPE_GRAPH};
	struct sim_node *n;
	CUresult r = CUDA_ERROR_ILLEGAL_STATE;

	if (capturing_lock(s, &r)) {
		if (r == CUDA_SUCCESS)
			r = capture_body(s->capturing, &b, &n);
		if (r == CUDA_SUCCESS) {
			g->is_child = true;
			n->child = g;
		}
		sim_exec_unlock();
	}
	if (r != CUDA_SUCCESS)
		sim_graph_free(g);
	return r;
}

static struct sim_capture *capture_by_id(uint64_t id)
{
	struct sim_capture *capture, *tmp;

	AQ_LIST_FOREACH (capture, tmp, &captures, link)
		if (capture->id == id)
			return capture;
	return NULL;
}

int sim_capture_record(struct sim_stream *s, struct sim_event *e, bool external,
		       CUresult *ret_result)
{
	struct sim_capturing *c;
	struct sim_node **deps;
	struct sim_body b;

	if (!capturing_lock(s, ret_result))
		return 0;
	c = s->capturing;
	if (*ret_result == CUDA_SUCCESS && external) {
		*ret_result = sim_body_event(CU_GRAPH_NODE_TYPE_EVENT_RECORD, (CUevent)e, &b);
		if (*ret_result == CUDA_SUCCESS)
			*ret_result = capture_body(c, &b, NULL);
	} else if (*ret_result == CUDA_SUCCESS) {
		deps = calloc(c->n_deps + 1, sizeof(struct sim_node *));
		if (deps) {
			memcpy(deps, c->deps, c->n_deps * sizeof(struct sim_node *));
			free(e->deps);
			e->deps = deps;
			e->n_deps = c->n_deps;
			e->capture_id = c->capture->id;
		} else {
			*ret_result = CUDA_ERROR_OUT_OF_MEMORY;
		}
	}
	sim_exec_unlock();
	return 1;
}

/* With the lock held. */
static CUresult wait_captured(struct sim_stream *s, struct sim_event *e)
{
	struct sim_capture *capture = capture_by_id(e->capture_id);
	struct sim_capturing *c = s->capturing;

	if (!capture) /* a point in a capture that is over */
		return CUDA_ERROR_CAPTURED_EVENT;
	if (capture->invalid)
		return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	if (s->kind == SIM_STREAM_LEGACY) {
		capture->invalid = true;
		return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	}
	if (c && c->capture != capture) {
		capture->invalid = true;
		c->capture->invalid = true;
		return CUDA_ERROR_STREAM_CAPTURE_MERGE;
	}
	if (!c)
		c = join(capture, s);
	if (!c || reserve(c, e->n_deps) < 0) {
		capture->invalid = true;
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	for (size_t i = 0; i < e->n_deps; i++)
		add_dep(c, e->deps[i], NULL);
	return CUDA_SUCCESS;
}

int sim_capture_wait(struct sim_stream *s, struct sim_event *e, bool external, CUresult *ret_result)
{
	struct sim_body b;
	CUresult r = CUDA_SUCCESS;

	if (!s->capturing && !e->capture_id)
		return 0;
	sim_exec_lock();
	if (s->capturing && s->capturing->capture->invalid) {
		r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
	} else if (s->capturing && external) {
		r = sim_body_event(CU_GRAPH_NODE_TYPE_WAIT_EVENT, (CUevent)e, &b);
		if (r == CUDA_SUCCESS)
			r = capture_body(s->capturing, &b, NULL);
	} else if (e->capture_id) {
		r = wait_captured(s, e);
	} else if (s->capturing && (e->mark || e->shared)) {
		s->capturing->capture->invalid = true;
		r = CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
	}
	sim_exec_unlock();
	*ret_result = r;
	return 1;
}

CUresult sim_capture_alloc(struct sim_stream *s, CUmemoryPool pool, size_t bytes,
			   CUdeviceptr *ret_address)
{
	CUDA_MEM_ALLOC_NODE_PARAMS p = {
		.poolProps =
			{
				.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
				.location =
					{
						.type = CU_MEM_LOCATION_TYPE_DEVICE,
						.id = s->exec->ctx->device->ordinal,
					},
			},
		.bytesize = bytes,
	};
	struct sim_body b = {.type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
	CUresult r;

	r = sim_graph_alloc_create(&p, &b.alloc);
	if (r != CUDA_SUCCESS)
		return r;
	if (!capturing_lock(s, &r)) {
		sim_body_finish(&b);
		return CUDA_ERROR_ILLEGAL_STATE;
	}
	if (r == CUDA_SUCCESS) {
		*ret_address = sim_graph_alloc_address(b.alloc);
		r = capture_body(s->capturing, &b, NULL);
	} else {
		sim_body_finish(&b);
	}
	sim_exec_unlock();
	return r;
}

CUresult sim_capture_free(struct sim_stream *s, CUdeviceptr address)
{
	struct sim_body b = {
		.type = CU_GRAPH_NODE_TYPE_MEM_FREE,
		.alloc = sim_graph_alloc_find(address),
	};
	CUresult r;

	if (!b.alloc) { /* only graphs free what graphs allocate, and nothing else */
		sim_capture_invalidate(s);
		return CUDA_ERROR_INVALID_VALUE;
	}
	if (!capturing_lock(s, &r)) {
		sim_body_finish(&b);
		return CUDA_ERROR_ILLEGAL_STATE;
	}
	if (r == CUDA_SUCCESS)
		r = capture_body(s->capturing, &b, NULL);
	else
		sim_body_finish(&b);
	sim_exec_unlock();
	return r;
}

/*
 * Entry points.
 */

static CUresult begin_plain(CUstream stream, CUstreamCaptureMode mode, bool per_thread)
{
	return begin(stream, NULL, NULL, NULL, 0, mode, per_thread);
}

static CUresult begin_to_graph(CUstream stream, CUgraph graph, const CUgraphNode *deps,
			       const CUgraphEdgeData *data, size_t n_deps, CUstreamCaptureMode mode,
			       bool per_thread)
{
	struct sim_graph *g;
	CUresult r = sim_graph_check(graph, &g);

	return r == CUDA_SUCCESS ? begin(stream, g, (struct sim_node *const *)deps, data, n_deps,
					 mode, per_thread)
				 : r;
}

static CUresult is_capturing(CUstream stream, CUstreamCaptureStatus *status, bool per_thread)
{
	struct sim_stream *s;
	CUresult r;

	if (!status)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	sim_exec_lock();
	if (s->kind == SIM_STREAM_LEGACY && s->exec->n_captures && break_blocking(s->exec))
		r = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	else if (!s->capturing)
		*status = CU_STREAM_CAPTURE_STATUS_NONE;
	else if (s->capturing->capture->invalid)
		*status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
	else
		*status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
	sim_exec_unlock();
	return r;
}

static CUresult get_info(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id,
			 CUgraph *graph, const CUgraphNode **deps, const CUgraphEdgeData **data,
			 size_t *n_deps, bool per_thread)
{
	static const CUgraphEdgeData plain;
	struct sim_capturing *c;
	struct sim_stream *s;
	CUresult r;

	r = is_capturing(stream, status, per_thread);
	if (r == CUDA_SUCCESS)
		r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS || *status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
		return r;
	sim_exec_lock();
	c = s->capturing;
	for (size_t i = 0; deps && !data && i < c->n_deps; i++)
		if (memcmp(&c->data[i], &plain, sizeof(plain)))
			r = CUDA_ERROR_LOSSY_QUERY;
	if (id)
		*id = c->capture->id;
	if (graph)
		*graph = (CUgraph)c->capture->graph;
	if (deps)
		*deps = (const CUgraphNode *)c->deps;
	if (data)
		*data = c->data;
	if (n_deps)
		*n_deps = c->n_deps;
	sim_exec_unlock();
	return r;
}

static CUresult update_deps(CUstream stream, CUgraphNode *deps, const CUgraphEdgeData *data,
			    size_t n_deps, unsigned int flags, bool per_thread)
{
	struct sim_capturing *c;
	struct sim_stream *s;
	CUresult r;

	if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (n_deps && !deps))
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_stream_resolve(stream, per_thread, &s);
	if (r != CUDA_SUCCESS)
		return r;
	if (!capturing_lock(s, &r))
		return CUDA_ERROR_ILLEGAL_STATE;
	c = s->capturing;
	for (size_t i = 0; i < n_deps && r == CUDA_SUCCESS; i++) {
		struct sim_node *n;

		r = sim_node_check(deps[i], &n);
		if (r == CUDA_SUCCESS && n->graph != c->capture->graph)
			r = CUDA_ERROR_INVALID_VALUE;
	}
	if (r == CUDA_SUCCESS && reserve(c, n_deps) < 0)
		r = CUDA_ERROR_OUT_OF_MEMORY;
	if (r == CUDA_SUCCESS) {
		if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
			c->n_deps = 0;
		for (size_t i = 0; i < n_deps; i++)
			add_dep(c, (struct sim_node *)deps[i], data ? &data[i] : NULL);
	}
	sim_exec_unlock();
	return r;
}

/* Each entry point and its per-thread twin. */
#define TWINS(name, params, call)                                                                  \
	CUresult name params                                                                       \
	{                                                                                          \
		const bool per_thread = false;                                                     \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return call;                                                                       \
	}                                                                                          \
	CUresult name##_ptsz params                                                                \
	{                                                                                          \
		const bool per_thread = true;                                                      \
		SIM_ENTER_CONTEXT(ctx);                                                            \
		return call;                                                                       \
	}

TWINS(cuStreamBeginCapture, (CUstream stream),
      begin_plain(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, per_thread))
TWINS(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode),
      begin_plain(stream, mode, per_thread))
TWINS(cuStreamBeginCaptureToGraph,
      (CUstream stream, CUgraph graph, const CUgraphNode *deps, const CUgraphEdgeData *data,
       size_t n_deps, CUstreamCaptureMode mode),
      begin_to_graph(stream, graph, deps, data, n_deps, mode, per_thread))
TWINS(cuStreamEndCapture, (CUstream stream, CUgraph *graph), end(stream, graph, per_thread))
TWINS(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus *status),
      is_capturing(stream, status, per_thread))
TWINS(cuStreamGetCaptureInfo, (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id),
      get_info(stream, status, id, NULL, NULL, NULL, NULL, per_thread))
TWINS(cuStreamGetCaptureInfo_v2,
      (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
       const CUgraphNode **deps, size_t *n_deps),
      get_info(stream, status, id, graph, deps, NULL, n_deps, per_thread))
TWINS(cuStreamGetCaptureInfo_v3,
      (CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
       const CUgraphNode **deps, const CUgraphEdgeData **data, size_t *n_deps),
      get_info(stream, status, id, graph, deps, data, n_deps, per_thread))
TWINS(cuStreamUpdateCaptureDependencies,
      (CUstream stream, CUgraphNode *deps, size_t n_deps, unsigned int flags),
      update_deps(stream, deps, NULL, n_deps, flags, per_thread))
TWINS(cuStreamUpdateCaptureDependencies_v2,
      (CUstream stream, CUgraphNode *deps, const CUgraphEdgeData *data, size_t n_deps,
       unsigned int flags),
      update_deps(stream, deps, data, n_deps, flags, per_thread))
