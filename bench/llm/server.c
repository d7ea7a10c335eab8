/* SPDX-License-Identifier: Apache-2.0 */
/* Listens, finds the handler, drains and ends; see server.h. What an answer says is reply.c's. */
#include "bench/llm/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "bench/llm/ask.h"
#include "bench/llm/reply.h"
#include "base/banned.h"

#define BODY_MAX_BYTES ((ssize_t)8 << 20) /* a prompt of 131,072 numbers of 6 digits, eight times over */
#define HEADERS_MAX_BYTES (32 * 1024)
#define TIMEOUT_S 120 /* of a peer that sends nothing, or reads nothing */
#define ACCEPT_PAUSE_US 100000
#define MAX_DESCRIPTORS 65536u
#define LAST_S 2 /* for clients to be told, after the time to drain */

struct server {
	const struct llm_server_options *o;
	struct event_base *base;
	struct evhttp *http;
	struct evhttp_bound_socket *bound;
	struct llm_engine *engine;
	struct llm_replies replies;
	struct llm_ask_limits limits;
	int wake_fd;
	struct event *woken, *late, *again, *signals[2];
	bool draining, aborted;
};

/* Whose listener it is that fails: evhttp keeps the listener's own argument for itself. Set before
 * anybody can connect; there is one server in a program. */
static struct server *accepting;

/* Called by the engine's thread. */
static void wake(void *arg)
{
	struct server *s = arg;
	uint64_t one = 1;

	if (write(s->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is at its most: it is awake */
}

static void end_if_drained(void *arg)
{
	struct server *s = arg;

	if (s->draining && !s->replies.n)
		event_base_loopbreak(s->base);
}

static void on_woken(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	struct llm_event *events;
	uint64_t count;
	size_t n;

	if (read(fd, &count, sizeof(count)) < 0)
		return;
	events = llm_engine_events(s->engine, &n);
	for (size_t i = 0; i < n; i++)
		llm_reply_event(&s->replies, &events[i]);
	free(events);
	if (!llm_engine_healthy(s->engine))
		s->draining = true;
	end_if_drained(s);
}

static void get_health(struct server *s, struct evhttp_request *request)
{
	if (llm_engine_healthy(s->engine) && !s->draining)
		evhttp_send_reply(request, 200, "OK", NULL);
	else
		llm_reply_error(request, 503, s->draining ? "going down" : "the device failed");
}

static void get_models(struct server *s, struct evhttp_request *request)
{
	const struct llm_engine_facts *f = llm_engine_facts(s->engine);

	llm_reply_json(request, 200,
		       json_pack("{s:s,s:[{s:s,s:s,s:I,s:s,s:s,s:n,s:I}]}", "object", "list",
				 "data", "id", s->replies.model, "object", "model", "created",
				 (json_int_t)time(NULL), "owned_by", "aliquot", "root",
				 f->model->hf, "parent", "max_model_len",
				 (json_int_t)f->max_tokens));
}

static void get_metrics(struct server *s, struct evhttp_request *request)
{
	struct llm_metrics m;

	llm_engine_metrics(s->engine, &m);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
			  "text/plain; version=0.0.4; charset=utf-8");
	llm_metrics_print(&m, s->replies.model, llm_engine_facts(s->engine)->n_blocks,
			  evhttp_request_get_output_buffer(request));
	evhttp_send_reply(request, 200, "OK", NULL);
}

static void get_version(struct server *s, struct evhttp_request *request)
{
	llm_reply_json(request, 200, json_pack("{s:s}", "version", AQ_VERSION));
}

static void answer(struct server *s, struct evhttp_request *request, enum llm_ask_kind kind)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(request);
	struct llm_ask_error error;
	struct llm_ask ask;

	if (s->draining) {
		llm_reply_error(request, 503, "going down");
		return;
	}
	if (s->replies.n >= s->o->max_requests) {
		llm_reply_error(request, 503, "%u requests are being answered already",
				s->replies.n);
		return;
	}
	if (llm_ask_parse(kind, (const char *)evbuffer_pullup(in, -1), evbuffer_get_length(in),
			  &s->limits, &ask, &error) < 0)
		llm_reply_error(request, error.status, "%s", error.text);
	else
		llm_reply_start(&s->replies, request, &ask);
}

static void post_completions(struct server *s, struct evhttp_request *request)
{
	answer(s, request, LLM_ASK_COMPLETION);
}

static void post_chat(struct server *s, struct evhttp_request *request)
{
	answer(s, request, LLM_ASK_CHAT);
}

static void post_embeddings(struct server *s, struct evhttp_request *request)
{
	answer(s, request, LLM_ASK_EMBEDDING);
}

static const struct route {
	enum evhttp_cmd_type method;
	const char *path;
	void (*handle)(struct server *s, struct evhttp_request *request);
} routes[] = {
	{EVHTTP_REQ_GET, "/health", get_health},
	{EVHTTP_REQ_GET, "/metrics", get_metrics},
	{EVHTTP_REQ_GET, "/version", get_version},
	{EVHTTP_REQ_GET, "/v1/models", get_models},
	{EVHTTP_REQ_POST, "/v1/completions", post_completions},
	{EVHTTP_REQ_POST, "/v1/chat/completions", post_chat},
	{EVHTTP_REQ_POST, "/v1/embeddings", post_embeddings},
};

/* Tokens are small writes, each of which shall leave at once. */
static void no_delay(struct evhttp_request *request)
{
	struct evhttp_connection *conn = evhttp_request_get_connection(request);
	int one = 1;

	setsockopt(bufferevent_getfd(evhttp_connection_get_bufferevent(conn)), IPPROTO_TCP,
		   TCP_NODELAY, &one, sizeof(one));
}

static void on_request(struct evhttp_request *request, void *arg)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	bool known = false;

	no_delay(request);
	for (size_t i = 0; path && i < AQ_ARRAY_SIZE(routes); i++) {
		if (strcmp(routes[i].path, path))
			continue;
		known = true;
		if (routes[i].method != evhttp_request_get_command(request))
			continue;
		routes[i].handle(arg, request);
		return;
	}
	llm_reply_error(request, known ? 405 : 404, known ? "Method Not Allowed" : "Not Found");
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct timeval last = {.tv_sec = LAST_S};
	struct server *s = arg;

	if (s->aborted) {
		event_base_loopbreak(s->base);
		return;
	}
	s->aborted = true;
	llm_replies_abort(&s->replies);
	event_add(s->late, &last);
}

/* The first signal lets what runs end; the second does not. */
static void on_signal(evutil_socket_t number, short what, void *arg)
{
	struct server *s = arg;
	struct timeval drain = {.tv_sec = s->draining ? 0 : (time_t)s->o->drain_s};

	if (s->bound)
		evhttp_del_accept_socket(s->http, AQ_STEAL(s->bound));
	s->draining = true;
	event_add(s->late, &drain);
	end_if_drained(s);
}

/* No descriptor for one more: others have to go first, and asking again at once burns a CPU. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	struct timeval pause = {.tv_usec = ACCEPT_PAUSE_US};

	evconnlistener_disable(listener);
	event_add(accepting->again, &pause);
}

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;

	if (s->bound)
		evconnlistener_enable(evhttp_bound_socket_get_listener(s->bound));
}

/* Each client is a descriptor: take as many as may be had. */
static void raise_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur == l.rlim_max)
		return;
	l.rlim_cur = l.rlim_max < MAX_DESCRIPTORS ? l.rlim_max : MAX_DESCRIPTORS;
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		aq_debug("limit of descriptors: %s", strerror(errno));
}

static int listen_on(struct server *s, uint16_t *ret_port)
{
	struct sockaddr_storage a;
	socklen_t size = sizeof(a);

	s->http = evhttp_new(s->base);
	if (!s->http)
		return -ENOMEM;
	evhttp_set_max_body_size(s->http, BODY_MAX_BYTES);
	evhttp_set_max_headers_size(s->http, HEADERS_MAX_BYTES);
	evhttp_set_timeout(s->http, TIMEOUT_S);
	evhttp_set_gencb(s->http, on_request, s);
	s->bound = evhttp_bind_socket_with_handle(s->http, s->o->host, s->o->port);
	if (!s->bound)
		return errno ? -errno : -EADDRNOTAVAIL;
	accepting = s;
	evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(s->bound), on_accept_error);
	if (getsockname(evhttp_bound_socket_get_fd(s->bound), (struct sockaddr *)&a, &size) < 0)
		return -errno;
	*ret_port = ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
						  : ((struct sockaddr_in *)&a)->sin_port);
	return 0;
}

static int make_events(struct server *s)
{
	static const int numbers[] = {SIGTERM, SIGINT};

	s->woken = event_new(s->base, s->wake_fd, EV_READ | EV_PERSIST, on_woken, s);
	s->late = evtimer_new(s->base, on_late, s);
	s->again = evtimer_new(s->base, on_accept_again, s);
	if (!s->woken || !s->late || !s->again || event_add(s->woken, NULL) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < AQ_ARRAY_SIZE(numbers); i++) {
		s->signals[i] = evsignal_new(s->base, numbers[i], on_signal, s);
		if (!s->signals[i] || event_add(s->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* One line of JSON, which whoever started this waits for. */
static void say_ready(struct server *s, uint16_t port)
{
	const struct llm_engine_facts *f = llm_engine_facts(s->engine);
	json_t *o =
		json_pack("{s:b,s:s,s:i,s:i,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:s}",
			  "ready", 1, "host", s->o->host, "port", (int)port, "pid", (int)getpid(),
			  "model", s->replies.model, "device", f->device, "memory_total_bytes",
			  (json_int_t)f->total_bytes, "weight_bytes", (json_int_t)f->weight_bytes,
			  "kv_cache_bytes", (json_int_t)f->cache_bytes, "workspace_bytes",
			  (json_int_t)f->workspace_bytes, "kv_blocks", (json_int_t)f->n_blocks,
			  "kv_tokens", (json_int_t)f->n_blocks * LLM_BLOCK_TOKENS, "max_model_len",
			  (json_int_t)f->max_tokens, "max_num_seqs", (json_int_t)f->max_seqs,
			  "max_num_batched_tokens", (json_int_t)f->budget, "graphs",
			  (json_int_t)f->n_graphs, "host_costs", s->o->engine.host.id);
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	printf("%s\n", text ? text : "{}");
	fflush(stdout);
	free(text);
	json_decref(o);
}

static int start(struct server *s)
{
	struct llm_engine_options engine = s->o->engine;
	uint16_t port = 0;
	int r;

	engine.wake = wake;
	engine.arg = s;
	r = llm_engine_create(&engine, &s->engine);
	if (r < 0)
		return r;
	s->replies.engine = s->engine;
	s->limits.max_tokens = llm_engine_facts(s->engine)->max_tokens;
	r = make_events(s);
	if (r == 0)
		r = listen_on(s, &port);
	if (r < 0)
		aq_error("'%s' port %u: %s", s->o->host, s->o->port, strerror(-r));
	else
		say_ready(s, port);
	return r;
}

static void finish(struct server *s)
{
	struct event *all[] = {s->woken, s->late, s->again, s->signals[0], s->signals[1]};
	struct llm_event *events;
	size_t n;

	llm_replies_abort(&s->replies);
	if (s->engine) {
		/* Its last words are those of every sequence that is left. */
		llm_engine_stop(s->engine);
		events = llm_engine_events(s->engine, &n);
		for (size_t i = 0; i < n; i++)
			llm_reply_event(&s->replies, &events[i]);
		free(events);
	}
	llm_engine_free(s->engine);
	if (s->http)
		evhttp_free(s->http);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(all); i++)
		if (all[i])
			event_free(all[i]);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	if (s->base)
		event_base_free(s->base);
}

int llm_server_run(const struct llm_server_options *o)
{
	const struct llm_model *model = o->engine.device.model;
	struct server s = {
		.o = o,
		.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		.base = event_base_new(),
		.replies = {.model = o->served ? o->served : model->id,
			    .mean_output = o->mean_output},
		.limits = {.model = o->served ? o->served : model->id,
			   .hf = model->hf,
			   .embedding = model->embedding},
	};
	int r = -ENOMEM;

	raise_limit();
	aq_list_init(&s.replies.all);
	s.replies.base = s.base;
	s.replies.on_none = end_if_drained;
	s.replies.arg = &s;
	if (getrandom(&s.replies.key, sizeof(s.replies.key), 0) < 0)
		s.replies.key = (uint64_t)getpid() << 32 ^ (uint64_t)time(NULL);
	if (s.base && s.wake_fd >= 0)
		r = start(&s);
	if (r == 0) {
		event_base_dispatch(s.base);
		r = llm_engine_healthy(s.engine) ? 0 : -EIO;
	}
	finish(&s);
	return r;
}
