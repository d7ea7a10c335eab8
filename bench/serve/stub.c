/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of the OpenAI API without a model behind it: tokens leave at exact times, and each says
 * in its text when it was sent (`t=NANOSECONDS`, CLOCK_MONOTONIC), so that the error of who times
 * them can be measured token by token. Listens on loopback only, prints its port, runs until it is
 * ended. It trusts its clients: it is for measurements, not for the world.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "base/banned.h"

#define REQUEST_BYTES (16u << 20)
#define CHUNK_BYTES 512

enum { OPT_PORT = 1024, OPT_TTFT, OPT_PER_USER, OPT_ITL, OPT_BEAT };

struct stub {
	struct event_base *base;
	uint64_t ttft_ns, per_user_ns, itl_ns;
	bool beat; /* all streams' tokens leave together, as those of one decode step do */
	struct event tick;
	struct stream *streams; /* that a beat serves */
	unsigned int active;
};

struct stream {
	struct stub *stub;
	struct stream *next, **link; /* in stub->streams, while tokens are due */
	int fd;
	struct event readable, timer;
	char *in;
	size_t in_size, in_room;
	bool chat, active;
	uint32_t isl, sent, wanted;
	uint64_t due_ns; /* next token */
};

static void leave(struct stream *s)
{
	if (!s->active)
		return;
	s->active = false;
	s->stub->active--;
	event_del(&s->timer);
	if (s->link) {
		*s->link = s->next;
		if (s->next)
			s->next->link = s->link;
		s->link = NULL;
	}
}

static void hang_up(struct stream *s)
{
	leave(s);
	event_del(&s->readable);
	close(s->fd);
	free(s->in);
	free(s);
}

/* All or nothing: who does not read is cut off. */
static bool put(struct stream *s, const char *bytes, size_t size)
{
	return send(s->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

static bool put_chunk(struct stream *s, const char *data, const char *end)
{
	char chunk[CHUNK_BYTES];
	size_t size = strlen(data);
	int n = snprintf(chunk, sizeof(chunk), "%zx\r\ndata: %s\n\n\r\n%s", size + 8, data, end);

	return put(s, chunk, (size_t)n);
}

static bool put_token(struct stream *s)
{
	char text[64], data[CHUNK_BYTES - 64];

	snprintf(text, sizeof(text), "t=%" PRIu64, aq_now_ns());
	if (s->chat)
		snprintf(data, sizeof(data),
			 "{\"id\":\"stub\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,"
			 "\"delta\":{\"content\":\"%s\"},\"finish_reason\":null}]}", text);
	else
		snprintf(data, sizeof(data),
			 "{\"id\":\"stub\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,"
			 "\"text\":\"%s\",\"finish_reason\":null}]}", text);
	return put_chunk(s, data, "");
}

static bool put_end(struct stream *s)
{
	char data[CHUNK_BYTES - 64];

	snprintf(data, sizeof(data),
		 "{\"id\":\"stub\",\"choices\":[],\"usage\":{\"prompt_tokens\":%u,"
		 "\"completion_tokens\":%u}}", s->isl, s->sent);
	return put_chunk(s, data, "") && put_chunk(s, "[DONE]", "0\r\n\r\n");
}

static void schedule(struct stream *s)
{
	uint64_t now = aq_now_ns(), left = s->due_ns > now ? s->due_ns - now : 0;
	struct timeval tv = {(time_t)(left / AQ_NS_PER_S),
			     (suseconds_t)(left % AQ_NS_PER_S / AQ_NS_PER_US)};

	event_add(&s->timer, &tv);
}

/* One token. Return: the stream goes on. */
static bool step(struct stream *s)
{
	bool fine = put_token(s);

	s->sent++;
	if (fine && s->sent < s->wanted)
		return true;
	leave(s);
	if (!fine || !put_end(s))
		hang_up(s);
	return false;
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	struct stream *s = arg;
	struct stub *stub = s->stub;

	if (!step(s))
		return;
	s->due_ns += stub->itl_ns;
	if (!stub->beat) {
		schedule(s);
		return;
	}
	s->next = stub->streams;
	s->link = &stub->streams;
	if (s->next)
		s->next->link = &s->next;
	stub->streams = s;
}

static void on_beat(evutil_socket_t fd, short events, void *arg)
{
	struct stub *stub = arg;

	for (struct stream *s = stub->streams, *next; s; s = next) {
		next = s->next;
		step(s);
	}
}

static void answer_whole(struct stream *s, const char *body)
{
	char text[CHUNK_BYTES];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
			 "Content-Length: %zu\r\n\r\n%s", strlen(body), body);

	if (!put(s, text, (size_t)n))
		shutdown(s->fd, SHUT_RDWR); /* the reader finds out and frees it */
}

static void answer_stream(struct stream *s)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n";
	struct stub *stub = s->stub;

	if (!put(s, head, sizeof(head) - 1)) {
		shutdown(s->fd, SHUT_RDWR);
		return;
	}
	s->active = true;
	stub->active++;
	s->sent = 0;
	s->due_ns = aq_now_ns() + stub->ttft_ns + stub->per_user_ns * stub->active;
	schedule(s);
}

static uint32_t number_behind(const char *text, const char *key, uint32_t otherwise)
{
	const char *at = strstr(text, key);

	return at ? (uint32_t)strtoul(at + strlen(key), NULL, 10) : otherwise;
}

static uint32_t count_words(const char *body)
{
	const char *at = strstr(body, "\"content\":\"");
	uint32_t words = 1;

	if (!at)
		at = strstr(body, "\"prompt\":\"");
	if (!at)
		return 0;
	for (at = strstr(at, ":\"") + 2; *at && *at != '"'; at++)
		words += *at == ' ';
	return words;
}

static void serve(struct stream *s, const char *head, const char *body)
{
	if (!strncmp(head, "GET ", 4)) {
		answer_whole(s, strstr(head, "/models ")
					? "{\"object\":\"list\",\"data\":[{\"id\":\"stub\"}]}"
					: "{}");
		return;
	}
	if (strstr(head, "/embeddings ")) {
		answer_whole(s, "{\"data\":[{\"embedding\":[0.25,0.5]}],"
				"\"usage\":{\"prompt_tokens\":1}}");
		return;
	}
	s->chat = strstr(head, "/chat/") != NULL;
	s->wanted = number_behind(body, "\"max_tokens\":", 16);
	s->isl = count_words(body);
	answer_stream(s);
}

/* Return: bytes of the first whole request in s->in, 0 when there is none yet. */
static size_t whole_request(struct stream *s, char **ret_body)
{
	char *end = strstr(s->in, "\r\n\r\n"), *length;
	uint64_t size = 0;

	if (!end)
		return 0;
	*end = '\0';
	length = strcasestr(s->in, "\r\nContent-Length:");
	if (length)
		size = strtoul(length + 17, NULL, 10);
	if (s->in_size < (size_t)(end + 4 - s->in) + size) {
		*end = '\r';
		return 0;
	}
	*ret_body = end + 4;
	return (size_t)(end + 4 - s->in) + size;
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
	struct stream *s = arg;
	size_t used;
	ssize_t n;
	char *body, last;

	if (s->in_room < s->in_size + 65536) {
		s->in_room = s->in_size + 131072;
		s->in = realloc(s->in, s->in_room + 1);
		if (!s->in || s->in_room > REQUEST_BYTES)
			abort();
	}
	n = recv(fd, s->in + s->in_size, s->in_room - s->in_size, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(s);
		return;
	}
	s->in_size += (size_t)n;
	s->in[s->in_size] = '\0';
	used = whole_request(s, &body);
	if (!used)
		return;
	last = s->in[used];
	s->in[used] = '\0';
	serve(s, s->in, body);
	s->in[used] = last;
	s->in_size -= used;
	memmove(s->in, s->in + used, s->in_size + 1);
}

static void on_connection(evutil_socket_t listener, short events, void *arg)
{
	struct stub *stub = arg;
	struct stream *s;
	int one = 1, fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		s = calloc(1, sizeof(*s));
		if (!s)
			abort();
		s->stub = stub;
		s->fd = fd;
		event_assign(&s->readable, stub->base, fd, EV_READ | EV_PERSIST, on_readable, s);
		event_assign(&s->timer, stub->base, -1, 0, on_timer, s);
		event_add(&s->readable, NULL);
	}
}

static int listen_at(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 4096) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
		aq_say("stub: cannot listen: %s", strerror(errno));
		return -1;
	}
	printf("%u\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

static const struct aq_verb verb = {
	.name = "serve stub",
	.operands = "[OPTION...]",
	.summary = "an endpoint whose tokens say when they were sent",
	.opts = (const struct aq_opt[]){
		{"port", OPT_PORT, AQ_OPT_VALUE, "N", "(default: any; it is printed)", NULL},
		{"ttft", OPT_TTFT, AQ_OPT_VALUE, "TIME", "until the first token (default 100ms)", NULL},
		{"ttft-per-user", OPT_PER_USER, AQ_OPT_VALUE, "TIME",
		 "more for each request that is in it (default 0)", NULL},
		{"itl", OPT_ITL, AQ_OPT_VALUE, "TIME", "between two tokens (default 50ms)", NULL},
		{"beat", OPT_BEAT, AQ_OPT_NONE, NULL, "all streams' tokens leave together", NULL},
		{0},
	},
};

static int parse(struct stub *stub, int argc, char **argv, uint64_t *ret_port)
{
	struct aq_opt_scan scan;
	const char *value;
	int id, r = 0;

	aq_opt_start(&scan, &verb, argc, argv);
	while (!r && (id = aq_opt_next(&scan, &value)) > 0) {
		if (id == OPT_PORT)
			r = aq_uint_parse(value, 0, UINT16_MAX, ret_port);
		else if (id == OPT_TTFT)
			r = aq_duration_parse(value, &stub->ttft_ns);
		else if (id == OPT_PER_USER)
			r = aq_duration_parse(value, &stub->per_user_ns);
		else if (id == OPT_ITL)
			r = aq_duration_parse(value, &stub->itl_ns);
		else if (id == OPT_BEAT)
			stub->beat = true;
		else
			r = -EINVAL;
	}
	if (r || id < 0 || !stub->itl_ns) {
		aq_opt_help(&verb, stderr);
		return -EINVAL;
	}
	return 0;
}

/* Timers by timerfd, or tokens were a millisecond late. */
static struct event_base *make_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base;

	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

int main(int argc, char **argv)
{
	struct stub stub = {.ttft_ns = 100 * AQ_NS_PER_MS, .itl_ns = 50 * AQ_NS_PER_MS};
	struct rlimit limit;
	struct event accepting;
	struct timeval beat;
	uint64_t port = 0;
	int fd;

	if (parse(&stub, argc, argv, &port) < 0)
		return AQ_EXIT_USAGE;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	fd = listen_at((uint16_t)port);
	stub.base = make_base();
	if (fd < 0 || !stub.base)
		return AQ_EXIT_FAILED;
	event_assign(&accepting, stub.base, fd, EV_READ | EV_PERSIST, on_connection, &stub);
	event_add(&accepting, NULL);
	if (stub.beat) {
		beat = (struct timeval){(time_t)(stub.itl_ns / AQ_NS_PER_S),
					(suseconds_t)(stub.itl_ns % AQ_NS_PER_S / AQ_NS_PER_US)};
		event_assign(&stub.tick, stub.base, -1, EV_PERSIST, on_beat, &stub);
		event_add(&stub.tick, &beat);
	}
	return event_base_dispatch(stub.base) < 0 ? AQ_EXIT_FAILED : AQ_EXIT_OK;
}
