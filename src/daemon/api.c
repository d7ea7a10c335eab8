/* SPDX-License-Identifier: Apache-2.0 */
/* Listens with evhttp, finds the handler, reads bodies, writes answers. Knows no fraction's rules.
 */
#include "daemon/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/fraction.h"
#include "daemon/guard.h"
#include "daemon/input.h"
#include "daemon/json.h"
#include "daemon/loop.h"
#include "daemon/peers.h"
#include "base/banned.h"

#define BODY_MAX_BYTES (64 * 1024)
#define HEADERS_MAX_BYTES (16 * 1024)
#define TIMEOUT_S 15 /* of a peer that sends or reads nothing; who waits for us is not meant */
#define RESUME_NS (100 * AQ_NS_PER_MS) /* when descriptors ran short */
#define ERROR_BYTES 256

struct aqd_api {
	struct evhttp *http;
	struct evconnlistener *listener; /* http's */
	struct event *resume;
	struct aqd_peers *peers;
	int fd;
};

void aqd_api_send(struct evhttp_request *request, int code, const char *type)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	struct evbuffer *body = evhttp_request_get_output_buffer(request);
	char length[24];

	evhttp_add_header(headers, "Content-Type", type);
	if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
		snprintf(length, sizeof(length), "%zu", evbuffer_get_length(body));
		evhttp_add_header(headers, "Content-Length", length);
		evbuffer_drain(body, evbuffer_get_length(body));
	}
	evhttp_send_reply(request, code, NULL, NULL);
}

void aqd_api_reply(struct evhttp_request *request, int code, json_t *value)
{
	AQ_CLEANUP(free) char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
	struct evbuffer *body = evhttp_request_get_output_buffer(request);

	json_decref(value);
	if (!text) {
		code = 500;
		evbuffer_add_printf(body,
				    "{\"error\": \"out of memory\", \"reason\": \"memory\"}\n");
	} else {
		evbuffer_add(body, text, strlen(text));
		evbuffer_add(body, "\n", 1);
	}
	aqd_api_send(request, code, "application/json");
}

void aqd_api_error(struct evhttp_request *request, int code, const char *reason, json_t *numbers,
		   const char *format, ...)
{
	char text[ERROR_BYTES];
	json_t *o = numbers ? numbers : json_object();
	json_t *line;
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	line = json_string(text);
	json_object_set_new(o, "error", line ? line : json_string("not UTF-8"));
	json_object_set_new(o, "reason", json_string(reason));
	aqd_api_reply(request, code, o);
}

bool aqd_api_read(struct aqd_call *call, const struct aqd_input *inputs, size_t count)
{
	char error[ERROR_BYTES];

	if (aqd_input_read(call->body, inputs, count, error, sizeof(error)) == 0)
		return true;
	aqd_api_error(call->request, 400, "invalid", NULL, "%s", error);
	return false;
}

int aqd_api_peer_fd(struct evhttp_request *request)
{
	struct evhttp_connection *conn = evhttp_request_get_connection(request);

	return conn ? (int)bufferevent_getfd(evhttp_connection_get_bufferevent(conn)) : -1;
}

void aqd_api_awaited(struct aqd_api_patient *p)
{
	evhttp_connection_set_closecb(evhttp_request_get_connection(p->request), NULL, NULL);
	event_free(p->hangup);
	p->hangup = NULL;
}

void aqd_api_hang_up(struct aqd_api_patient *p)
{
	struct evhttp_connection *conn = evhttp_request_get_connection(p->request);

	aqd_api_awaited(p);
	p->request = NULL;
	evhttp_connection_free(conn);
}

static void on_hangup(evutil_socket_t fd, short what, void *arg)
{
	struct aqd_api_patient *p = arg;

	aqd_api_hang_up(p);
	p->left(p);
}

/*
 * evhttp itself found the connection broken, and frees it; the request with it, unless it took
 * them apart because we had not answered in full: then the request is ours.
 */
static void on_broken(struct evhttp_connection *conn, void *arg)
{
	struct aqd_api_patient *p = arg;

	if (!evhttp_request_get_connection(p->request))
		evhttp_request_free(p->request);
	event_free(p->hangup);
	p->hangup = NULL;
	p->request = NULL;
	p->left(p);
}

int aqd_api_await(struct aqd *d, struct aqd_api_patient *p, struct evhttp_request *request,
		  void (*left)(struct aqd_api_patient *self))
{
	p->request = request;
	p->left = left;
	p->hangup = event_new(d->base, aqd_api_peer_fd(request), EV_CLOSED, on_hangup, p);
	if (!p->hangup || event_add(p->hangup, NULL) < 0) {
		if (p->hangup)
			event_free(p->hangup);
		p->hangup = NULL;
		return -ENOMEM;
	}
	evhttp_connection_set_closecb(evhttp_request_get_connection(request), on_broken, p);
	return 0;
}

static void get_version(struct aqd_call *call)
{
	struct aqd *d = call->daemon;

	aqd_api_reply(call->request, 200,
		      json_pack("{s:s,s:i,s:i,s:I,s:s,s:b}", "version", AQ_VERSION, "abi",
				(int)AQ_ABI_VERSION, "pid", (int)getpid(), "started_ns",
				(json_int_t)d->started_ns, "rundir", d->rundir, "system",
				(int)d->system));
}

static void get_devices(struct aqd_call *call)
{
	aqd_api_reply(call->request, 200, aqd_json_devices(call->daemon));
}

static void get_fractions(struct aqd_call *call)
{
	aqd_api_reply(call->request, 200, aqd_json_fractions(call->daemon));
}

static void get_status(struct aqd_call *call)
{
	aqd_api_reply(call->request, 200, aqd_json_status(call->daemon));
}

static void get_fraction(struct aqd_call *call)
{
	struct aqd *d = call->daemon;
	struct aqd_fraction *f = aqd_fraction_find(d, call->name);
	struct aqd_wait *w, *next;

	if (f) {
		aqd_api_reply(call->request, 200, aqd_json_fraction(d, f));
		return;
	}
	AQ_LIST_FOREACH (w, next, &d->waits, link)
		if (!strcmp(w->ask.name, call->name)) {
			aqd_api_reply(call->request, 200, aqd_json_waiting(d, w));
			return;
		}
	aqd_api_error(call->request, 404, "no_fraction", NULL, "there is no fraction '%s'",
		      call->name);
}

/* Every route once. A `*` stands for the name of a fraction. */
static const struct route {
	enum evhttp_cmd_type method;
	const char *path;
	void (*handle)(struct aqd_call *call);
} routes[] = {
	{EVHTTP_REQ_GET, "/v1/version", get_version},
	{EVHTTP_REQ_GET, "/v1/devices", get_devices},
	{EVHTTP_REQ_GET, "/v1/fractions", get_fractions},
	{EVHTTP_REQ_POST, "/v1/fractions", aqd_api_create},
	{EVHTTP_REQ_GET, "/v1/fractions/*", get_fraction},
	{EVHTTP_REQ_PATCH, "/v1/fractions/*", aqd_api_resize},
	{EVHTTP_REQ_POST, "/v1/fractions/*/kill", aqd_api_kill},
	{EVHTTP_REQ_POST, "/v1/fractions/*/park", aqd_api_park},
	{EVHTTP_REQ_POST, "/v1/fractions/*/resume", aqd_api_resume},
	{EVHTTP_REQ_GET, "/v1/events", aqd_api_events},
	{EVHTTP_REQ_GET, "/v1/status", get_status},
	{EVHTTP_REQ_GET, "/metrics", aqd_api_metrics},
};

/* Does @path follow @pattern? The name that stands for the star goes to @name. */
static bool matches(const char *pattern, const char *path, char *name)
{
	const char *star = strchr(pattern, '*');
	size_t before, length;

	name[0] = '\0';
	if (!star)
		return !strcmp(pattern, path);
	before = (size_t)(star - pattern);
	if (strncmp(pattern, path, before))
		return false;
	path += before;
	length = strcspn(path, "/");
	if (strcmp(path + length, star + 1) || length >= AQ_NAME_BYTES)
		return false;
	memcpy(name, path, length);
	name[length] = '\0';
	return aq_name_valid(name);
}

/* The body as an object. Return: false when it was answered with an error. */
static bool read_body(struct aqd_call *call)
{
	struct evbuffer *in = evhttp_request_get_input_buffer(call->request);
	size_t size = evbuffer_get_length(in);
	const char *text = (const char *)evbuffer_pullup(in, -1);
	json_error_t error;

	if (!size) {
		call->body = json_object();
		return true;
	}
	call->body = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	if (!call->body) {
		aqd_api_error(call->request, 400, "not_json", NULL, "the body is not JSON: %s",
			      error.text);
		return false;
	}
	if (!json_is_object(call->body)) {
		aqd_api_error(call->request, 400, "not_json", NULL,
			      "the body must be a JSON object");
		return false;
	}
	return true;
}

static void dispatch(struct aqd_call *call, const char *path)
{
	enum evhttp_cmd_type method = evhttp_request_get_command(call->request);
	char name[AQ_NAME_BYTES];
	bool path_known = false;

	if (method == EVHTTP_REQ_HEAD)
		method = EVHTTP_REQ_GET; /* aqd_api_send() knows the difference */
	for (size_t i = 0; i < AQ_ARRAY_SIZE(routes); i++) {
		if (!matches(routes[i].path, path, name))
			continue;
		path_known = true;
		if (routes[i].method != method)
			continue;
		call->name = name[0] ? name : NULL;
		if (method == EVHTTP_REQ_GET || read_body(call))
			routes[i].handle(call);
		return;
	}
	if (path_known)
		aqd_api_error(call->request, 405, "method", NULL, "this path has no such method");
	else
		aqd_api_error(call->request, 404, "no_path", NULL, "there is no such path");
}

static void on_request(struct evhttp_request *request, void *arg)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	struct aqd_call call = {.daemon = arg, .request = request};
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	struct ucred peer;
	socklen_t size = sizeof(peer);

	aqd_loop_used(arg);
	aqd_api_settle(arg);
	if (aqd_peers_refused(call.daemon->api->peers, aqd_api_peer_fd(request))) {
		aqd_api_error(request, 429, "user_connections", NULL, "too many connections");
		return;
	}
	if (getsockopt(aqd_api_peer_fd(request), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
		aqd_api_error(request, 500, "peer", NULL, "cannot tell who asks: %s",
			      strerror(errno));
		return;
	}
	call.uid = peer.uid;
	call.query = uri ? evhttp_uri_get_query(uri) : NULL;
	dispatch(&call, path && path[0] ? path : "/");
	json_decref(call.body);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;

	if (aqd_fds_scarce())
		aqd_timer_set(d->api->resume, RESUME_NS);
	else
		evconnlistener_enable(d->api->listener);
}

/*
 * Somebody connected: an answer will be wanted, so this is not the moment to end. evhttp would try
 * to accept without a pause when descriptors run out, and leave none for guards: stop before.
 */
static struct bufferevent *on_connect(struct event_base *base, void *arg)
{
	struct bufferevent *bev;
	struct aqd *d = arg;

	aqd_loop_used(d);
	if (aqd_fds_scarce()) {
		evconnlistener_disable(d->api->listener);
		aqd_timer_set(d->api->resume, RESUME_NS);
	}
	bev = bufferevent_socket_new(base, -1, 0);
	if (bev)
		aqd_peers_expect(d->api->peers, bev);
	return bev;
}

void aqd_api_settle(struct aqd *d)
{
	if (d->api)
		aqd_peers_settle(d, d->api->peers);
}

bool aqd_api_in_use(const struct aqd *d)
{
	return aqd_api_followers(d) > 0;
}

int aqd_api_init(struct aqd *d)
{
	struct aqd_api *api = calloc(1, sizeof(*api));
	struct evhttp_bound_socket *bound;
	int r;

	if (!api)
		return -ENOMEM;
	d->api = api;
	api->fd = -1;
	api->http = evhttp_new(d->base);
	if (!api->http || aqd_peers_create(&api->peers) < 0)
		return -ENOMEM;
	evhttp_set_max_body_size(api->http, BODY_MAX_BYTES);
	evhttp_set_max_headers_size(api->http, HEADERS_MAX_BYTES);
	evhttp_set_timeout(api->http, TIMEOUT_S);
	evhttp_set_allowed_methods(api->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PATCH |
						      EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
						      EVHTTP_REQ_HEAD);
	evhttp_set_bevcb(api->http, on_connect, d);
	evhttp_set_gencb(api->http, on_request, d);
	r = aqd_listen(d->api_path, SOCK_STREAM, d->system ? 0666 : 0600);
	if (r < 0)
		return r;
	api->fd = r;
	api->resume = evtimer_new(d->base, on_resume, d);
	bound = api->resume ? evhttp_accept_socket_with_handle(api->http, api->fd) : NULL;
	if (!bound)
		return -ENOMEM;
	api->listener = evhttp_bound_socket_get_listener(bound);
	return 0;
}

void aqd_api_finish(struct aqd *d)
{
	struct aqd_api *api = d->api;

	if (!api)
		return;
	aqd_api_events_finish(d);
	if (api->fd >= 0)
		unlink(d->api_path);
	if (api->resume)
		event_free(api->resume);
	if (api->fd >= 0 && !api->listener)
		close(api->fd);
	if (api->http)
		evhttp_free(api->http); /* closes the socket too */
	aqd_peers_free(api->peers);
	free(api);
	d->api = NULL;
}
