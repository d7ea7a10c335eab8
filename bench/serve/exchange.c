/* SPDX-License-Identifier: Apache-2.0 */
/* Drives one connection. Decides nothing about when requests are sent, and counts nothing. */
#include "serve/exchange.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "base/banned.h"

#define READ_BYTES 65536
#define TAIL_NS AQ_NS_PER_S     /* how long the end of a body may take behind [DONE] */
#define COMPLAINT_BYTES 4096    /* of the body of an HTTP error; the rest is not waited for */
#define ENDLESS_FACTOR 2        /* times the tokens asked for, and ... */
#define ENDLESS_MORE 64         /* ... these: servers that stop only at words may overrun */

/* Results of the sinks that are no enum aq_end. */
#define STOP 1000 /* enough was read */

static int64_t realtime_offset(void)
{
	struct timespec real, mono;

	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_REALTIME, &real);
	return (real.tv_sec - mono.tv_sec) * (int64_t)AQ_NS_PER_S + real.tv_nsec - mono.tv_nsec;
}

int aq_wire_init(struct aq_wire *w, struct event_base *base, const struct aq_limits *limits)
{
	*w = (struct aq_wire){.base = base, .limits = *limits};
	w->read_bytes = malloc(READ_BYTES);
	w->lag = calloc(1, sizeof(*w->lag));
	if (!w->read_bytes || !w->lag) {
		aq_wire_finish(w);
		return -ENOMEM;
	}
	aq_wire_tick(w);
	return 0;
}

void aq_wire_finish(struct aq_wire *w)
{
	free(w->read_bytes);
	free(w->lag);
	w->read_bytes = NULL;
	w->lag = NULL;
}

void aq_wire_tick(struct aq_wire *w)
{
	w->realtime_offset_ns = realtime_offset();
}

/* The kernel's stamp on the monotonic clock; 0 none, or none that can be: somebody set the clock. */
static uint64_t stamp_of(const struct aq_wire *w, struct msghdr *message, uint64_t now_ns)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		struct timespec ts;
		int64_t ns;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
			continue;
		memcpy(&ts, CMSG_DATA(c), sizeof(ts));
		ns = ts.tv_sec * (int64_t)AQ_NS_PER_S + ts.tv_nsec - w->realtime_offset_ns;
		if (ns > 0 && (uint64_t)ns <= now_ns + AQ_NS_PER_MS &&
		    now_ns - (uint64_t)ns + AQ_NS_PER_MS < 60 * AQ_NS_PER_S)
			return (uint64_t)ns < now_ns ? (uint64_t)ns : now_ns;
	}
	return 0;
}

static ssize_t receive(struct aq_exchange *x)
{
	struct aq_wire *w = x->wire;
	union {
		char bytes[CMSG_SPACE(sizeof(struct timespec))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = w->read_bytes, .iov_len = READ_BYTES};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(x->fd, &message, MSG_DONTWAIT);
	uint64_t now = aq_now_ns(), stamp;

	if (n <= 0)
		return n < 0 ? -errno : 0;
	stamp = stamp_of(w, &message, now);
	w->unstamped += !stamp;
	/* Time does not run backwards on a connection, whatever the clocks say. */
	x->arrival_ns = stamp ? stamp : now;
	if (x->arrival_ns < x->last_ns)
		x->arrival_ns = x->last_ns;
	aq_hist_add(w->lag, now - x->arrival_ns);
	x->received += (uint64_t)n;
	return n;
}

static void hang_up(struct aq_exchange *x)
{
	if (x->fd < 0)
		return;
	event_del(&x->readable);
	event_del(&x->writable);
	close(x->fd);
	x->fd = -1;
	x->reused = false;
}

static void end(struct aq_exchange *x, enum aq_end how, uint64_t now_ns)
{
	bool keep = how == AQ_END_OK && x->http.state == AQ_HTTP_DONE && x->http.keep_alive;

	x->state = AQ_EXCHANGE_IDLE;
	free(x->out);
	x->out = NULL;
	if (keep)
		x->reused = true;
	else
		hang_up(x);
	x->ops->end(x, how, now_ns, x->why);
}

static enum aq_end end_of_errno(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return AQ_END_REFUSED;
	case ECONNRESET:
	case EPIPE:
	case ENOTCONN:
		return AQ_END_RESET;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
	case EADDRNOTAVAIL:
		return AQ_END_LOCAL;
	default:
		return AQ_END_UNREACHABLE;
	}
}

static void fail(struct aq_exchange *x, int error)
{
	enum aq_end how = end_of_errno(error);

	if (!x->why[0])
		snprintf(x->why, sizeof(x->why), "%s", strerror(error));
	/* Once connected, whatever breaks is the connection. */
	if (how != AQ_END_LOCAL && x->state != AQ_EXCHANGE_CONNECTING)
		how = AQ_END_RESET;
	end(x, how, aq_now_ns());
}

static int take_event(void *arg, const char *data, size_t size)
{
	struct aq_exchange *x = arg;
	struct aq_answer answer;

	if (x->done)
		return 0;
	if (size == 6 && !memcmp(data, "[DONE]", 6)) {
		x->done = true;
		x->done_ns = x->arrival_ns;
		return 0;
	}
	if (aq_answer_event(data, size, &answer) < 0) {
		aq_answer_complaint(data, size, x->why);
		return AQ_END_JSON;
	}
	if (answer.is_error) {
		memcpy(x->why, answer.message, sizeof(x->why));
		return AQ_END_SAID;
	}
	if (answer.has_text) {
		x->state = AQ_EXCHANGE_STREAMING;
		x->last_ns = x->arrival_ns;
		x->chunks++;
	}
	x->ops->answer(x, &answer, x->arrival_ns);
	return (uint64_t)x->chunks > (uint64_t)x->osl * ENDLESS_FACTOR + ENDLESS_MORE
		       ? AQ_END_ENDLESS
		       : 0;
}

static int collect(struct aq_exchange *x, const char *bytes, size_t size)
{
	if (size > AQ_BODY_BYTES - x->body_size)
		return AQ_END_LARGE;
	if (x->body_size + size > x->body_room) {
		size_t room = x->body_room ? x->body_room : 4096;
		char *more;

		while (room < x->body_size + size)
			room *= 2;
		more = realloc(x->body, room);
		if (!more)
			return AQ_END_LOCAL;
		x->body = more;
		x->body_room = room;
	}
	memcpy(x->body + x->body_size, bytes, size);
	x->body_size += size;
	return x->http.status != 200 && x->body_size >= COMPLAINT_BYTES ? STOP : 0;
}

static bool is_stream(const struct aq_exchange *x)
{
	return x->http.status == 200 && x->http.event_stream &&
	       x->target->api != AQ_SERVE_EMBEDDINGS;
}

static int take_body(void *arg, const char *bytes, size_t size)
{
	struct aq_exchange *x = arg;
	int r;

	if (!is_stream(x))
		return collect(x, bytes, size);
	r = aq_sse_feed(&x->sse, bytes, size);
	return r == -EMSGSIZE ? AQ_END_LARGE : r < 0 ? AQ_END_LOCAL : r;
}

static enum aq_end end_of_status(struct aq_exchange *x)
{
	aq_answer_complaint(x->body ? x->body : "", x->body_size, x->why);
	if (!x->why[0])
		snprintf(x->why, sizeof(x->why), "status %d", x->http.status);
	return x->http.status == 429   ? AQ_END_S429
	       : x->http.status == 503 ? AQ_END_S503
				       : AQ_END_STATUS;
}

static enum aq_end end_of_embedding(struct aq_exchange *x)
{
	struct aq_answer answer;

	if (aq_answer_embedding(x->body ? x->body : "", x->body_size, &answer) < 0)
		return AQ_END_JSON;
	if (answer.is_error) {
		memcpy(x->why, answer.message, sizeof(x->why));
		return AQ_END_SAID;
	}
	x->chunks++;
	x->last_ns = x->arrival_ns;
	x->ops->answer(x, &answer, x->arrival_ns);
	return AQ_END_OK;
}

/* All of the answer is here. */
static enum aq_end end_of_body(struct aq_exchange *x)
{
	if (x->http.status != 200)
		return end_of_status(x);
	if (x->target->api == AQ_SERVE_EMBEDDINGS)
		return end_of_embedding(x);
	if (!is_stream(x))
		return AQ_END_NO_STREAM;
	if (!x->done)
		return AQ_END_NO_DONE;
	return x->chunks ? AQ_END_OK : AQ_END_EMPTY;
}

static void dial(struct aq_exchange *x);

/* The server closed an idle connection just when we used it: no fault of either; once more. */
static bool try_again(struct aq_exchange *x)
{
	if (!x->reused || x->received)
		return false;
	hang_up(x);
	x->wire->reconnects++;
	x->out_at = 0;
	dial(x);
	return true;
}

static void hear_end(struct aq_exchange *x)
{
	if (x->state == AQ_EXCHANGE_IDLE)
		hang_up(x);
	else if (x->done)
		end(x, x->chunks ? AQ_END_OK : AQ_END_EMPTY, x->done_ns);
	else if (x->http.state == AQ_HTTP_BODY_REST)
		end(x, end_of_body(x), aq_now_ns());
	else if (!try_again(x))
		fail(x, ECONNRESET);
}

static void hear(struct aq_exchange *x, size_t size)
{
	int r = aq_http_feed(&x->http, x->wire->read_bytes, size);

	if (r == STOP)
		end(x, end_of_status(x), aq_now_ns());
	else if (r > 0)
		end(x, (enum aq_end)r, aq_now_ns());
	else if (r < 0 && !x->done)
		end(x, AQ_END_HTTP, aq_now_ns());
	else if (r < 0)
		end(x, x->chunks ? AQ_END_OK : AQ_END_EMPTY, x->done_ns); /* behind [DONE] */
	else if (x->http.state == AQ_HTTP_DONE)
		end(x, end_of_body(x), x->done ? x->done_ns : x->arrival_ns);
	else if (x->done)
		x->state = AQ_EXCHANGE_TAIL;
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
	struct aq_exchange *x = arg;
	ssize_t n = receive(x);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (x->state == AQ_EXCHANGE_IDLE)
		hang_up(x); /* closed, or speaks without being asked */
	else if (!n)
		hear_end(x);
	else if (n > 0)
		hear(x, (size_t)n);
	else if (x->done)
		hear_end(x);
	else if (!try_again(x))
		fail(x, (int)-n);
}

/* As much of the request as goes. Return: 0 all of it is out, -EAGAIN; -errno. */
static int send_out(struct aq_exchange *x)
{
	while (x->out_at < x->out_size) {
		ssize_t n = send(x->fd, x->out + x->out_at, x->out_size - x->out_at,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		x->out_at += (size_t)n;
	}
	return 0;
}

static void go_on_sending(struct aq_exchange *x)
{
	int r = send_out(x);

	if (!r)
		event_del(&x->writable);
	else if (r == -EAGAIN)
		event_add(&x->writable, NULL);
	else if (!try_again(x))
		fail(x, -r);
}

static void on_writable(evutil_socket_t fd, short events, void *arg)
{
	struct aq_exchange *x = arg;
	socklen_t size = sizeof(int);
	int error = 0;

	if (x->state == AQ_EXCHANGE_CONNECTING) {
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
			error = errno;
		if (error) {
			fail(x, error);
			return;
		}
		x->state = AQ_EXCHANGE_WAITING;
		event_add(&x->readable, NULL);
	}
	go_on_sending(x);
}

static void dial(struct aq_exchange *x)
{
	const struct aq_target *t = x->target;
	int one = 1;

	x->state = AQ_EXCHANGE_CONNECTING;
	x->fd = socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (x->fd < 0) {
		fail(x, errno);
		return;
	}
	setsockopt(x->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* Where it is not to be had, reads are stamped when they happen: see unstamped. */
	setsockopt(x->fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one));
	event_assign(&x->readable, x->wire->base, x->fd, EV_READ | EV_PERSIST, on_readable, x);
	event_assign(&x->writable, x->wire->base, x->fd, EV_WRITE | EV_PERSIST, on_writable, x);
	if (connect(x->fd, (const struct sockaddr *)&t->address, t->address_size) < 0 &&
	    errno != EINPROGRESS) {
		fail(x, errno);
		return;
	}
	event_add(&x->writable, NULL);
}

void aq_exchange_init(struct aq_exchange *x, struct aq_wire *wire, const struct aq_target *target,
		      const struct aq_exchange_ops *ops, void *arg)
{
	*x = (struct aq_exchange){
		.wire = wire, .target = target, .ops = ops, .arg = arg, .fd = -1};
	aq_sse_init(&x->sse, take_event, x);
}

void aq_exchange_finish(struct aq_exchange *x)
{
	hang_up(x);
	free(x->out);
	free(x->body);
	aq_sse_finish(&x->sse);
	x->out = x->body = NULL;
}

void aq_exchange_start(struct aq_exchange *x, char *text, size_t size, uint32_t osl,
		       uint64_t now_ns)
{
	x->out = text;
	x->out_size = size;
	x->out_at = x->body_size = 0;
	x->osl = osl;
	x->chunks = 0;
	x->received = 0;
	x->done = false;
	x->why[0] = '\0';
	x->start_ns = now_ns;
	x->last_ns = x->arrival_ns = now_ns;
	aq_http_reader_init(&x->http, take_body, x);
	aq_sse_reset(&x->sse);
	if (x->fd < 0) {
		dial(x);
		return;
	}
	x->state = AQ_EXCHANGE_WAITING;
	go_on_sending(x);
}

void aq_exchange_sweep(struct aq_exchange *x, uint64_t now_ns)
{
	const struct aq_limits *l = &x->wire->limits;
	uint64_t whole = now_ns - x->start_ns;

	if (x->state == AQ_EXCHANGE_IDLE || now_ns < x->start_ns)
		return;
	if (x->state == AQ_EXCHANGE_TAIL) {
		if (now_ns > x->done_ns + TAIL_NS)
			end(x, x->chunks ? AQ_END_OK : AQ_END_EMPTY, x->done_ns);
	} else if (x->state == AQ_EXCHANGE_CONNECTING && whole > l->connect_ns) {
		snprintf(x->why, sizeof(x->why), "%s", strerror(ETIMEDOUT));
		end(x, AQ_END_UNREACHABLE, now_ns);
	} else if (x->state == AQ_EXCHANGE_WAITING && whole > l->first_ns) {
		end(x, AQ_END_FIRST, now_ns);
	} else if (x->state == AQ_EXCHANGE_STREAMING && now_ns > x->last_ns + l->stall_ns) {
		end(x, AQ_END_STALLED, now_ns);
	} else if (whole > l->request_ns) {
		end(x, AQ_END_SLOW, now_ns);
	}
}

void aq_exchange_cut(struct aq_exchange *x, uint64_t now_ns)
{
	if (x->state != AQ_EXCHANGE_IDLE)
		end(x, AQ_END_CUT, now_ns);
	hang_up(x);
}
