/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/events: the past as an array, or past and future as a stream of lines. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/keyvalq_struct.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "daemon/api.h"
#include "daemon/event.h"
#include "daemon/loop.h"
#include "base/banned.h"

#define MAX_FOLLOWERS 64u
#define MAX_BEHIND_BYTES (1u << 20) /* of lines that a follower has not read */

struct follower {
	struct aqd_follower self;
	struct aqd_api_patient reader; /* its request is NULL when the connection is gone */
	struct aq_list link;	       /* in followers */
	struct aqd_deferred deferred;
	struct aqd *daemon;
};

/* All of them; the daemon is one. Changed as connections come and go. */
static struct aq_list followers = {&followers, &followers};
static uint32_t follower_count;

uint32_t aqd_api_followers(const struct aqd *d)
{
	return follower_count;
}

static void free_follower(struct aqd *d, struct aqd_deferred *what)
{
	struct follower *f = aq_container_of(what, struct follower, deferred);

	if (f->reader.request) /* fell behind */
		aqd_api_hang_up(&f->reader);
	free(f);
}

/* Hear no more. The connection is ended at the end of the turn, when nothing is under way on it. */
static void stop(struct follower *f)
{
	aqd_events_unfollow(&f->self);
	aq_list_remove(&f->link);
	follower_count--;
	aqd_loop_used(f->daemon);
	aqd_defer(f->daemon, &f->deferred, free_follower);
}

static void on_left(struct aqd_api_patient *reader)
{
	struct follower *f = aq_container_of(reader, struct follower, reader);

	if (!f->deferred.end)
		stop(f);
}

static void send_line(struct follower *f, json_t *event)
{
	AQ_CLEANUP(free) char *text = json_dumps(event, JSON_COMPACT);
	struct evbuffer *line = evbuffer_new();

	if (text && line) {
		evbuffer_add_printf(line, "%s\n", text);
		evhttp_send_reply_chunk(f->reader.request, line);
	}
	if (line)
		evbuffer_free(line);
}

static void on_event(struct aqd_follower *self, json_t *event)
{
	struct follower *f = aq_container_of(self, struct follower, self);
	struct evhttp_connection *conn = evhttp_request_get_connection(f->reader.request);
	struct bufferevent *peer = evhttp_connection_get_bufferevent(conn);

	if (evbuffer_get_length(bufferevent_get_output(peer)) > MAX_BEHIND_BYTES)
		stop(f);
	else
		send_line(f, event);
}

static void follow(struct aqd_call *call, json_t *past)
{
	struct follower *f = follower_count < MAX_FOLLOWERS ? calloc(1, sizeof(*f)) : NULL;
	json_t *event;
	size_t i;

	if (!f || aqd_api_await(call->daemon, &f->reader, call->request, on_left) < 0) {
		free(f);
		aqd_api_error(call->request, 503, "followers", NULL, "too many follow already");
		return;
	}
	f->daemon = call->daemon;
	f->self.heard = on_event;
	aq_list_append(&followers, &f->link);
	follower_count++;
	evhttp_add_header(evhttp_request_get_output_headers(call->request), "Content-Type",
			  "application/x-ndjson");
	evhttp_send_reply_start(call->request, 200, "OK");
	/* It sends nothing for as long as it likes; who does not read is found by MAX_BEHIND_BYTES.
	 */
	bufferevent_set_timeouts(
		evhttp_connection_get_bufferevent(evhttp_request_get_connection(call->request)),
		NULL, NULL);
	json_array_foreach(past, i, event) send_line(f, event);
	aqd_events_follow(call->daemon, &f->self);
}

void aqd_api_events(struct aqd_call *call)
{
	uint64_t since = 0, limit = AQD_EVENTS_MAX, following = 0;
	struct evkeyvalq query;
	struct evkeyval *pair;
	json_t *past;
	int r = 0;

	TAILQ_INIT(&query);
	if (call->query && evhttp_parse_query_str(call->query, &query) < 0)
		r = -EINVAL;
	TAILQ_FOREACH(pair, &query, next)
	{
		if (r < 0)
			break;
		if (!strcmp(pair->key, "since"))
			r = aq_uint_parse(pair->value, 0, UINT64_MAX, &since);
		else if (!strcmp(pair->key, "limit"))
			r = aq_uint_parse(pair->value, 0, UINT32_MAX, &limit);
		else if (!strcmp(pair->key, "follow"))
			r = aq_uint_parse(pair->value, 0, 1, &following);
		else
			r = -EINVAL;
	}
	evhttp_clear_headers(&query);
	if (r < 0) {
		aqd_api_error(call->request, 400, "invalid", NULL,
			      "the query takes since=NUMBER, limit=NUMBER and follow=0 or 1");
		return;
	}
	past = aqd_events_json(call->daemon, since, limit);
	if (!following || evhttp_request_get_command(call->request) == EVHTTP_REQ_HEAD) {
		aqd_api_reply(call->request, 200, past);
		return;
	}
	follow(call, past);
	json_decref(past);
}

void aqd_api_events_finish(struct aqd *d)
{
	while (!aq_list_empty(&followers)) {
		struct follower *f = aq_container_of(followers.next, struct follower, link);

		aqd_api_awaited(&f->reader);
		evhttp_send_reply_end(f->reader.request);
		f->reader.request = NULL;
		stop(f);
	}
}
