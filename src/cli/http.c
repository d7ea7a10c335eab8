/* SPDX-License-Identifier: Apache-2.0 */
/* Speaks HTTP over a connected socket. Knows no JSON and no daemon. */
#include "cli/http.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "base/timing.h"
#include "base/banned.h"

#define MAX_HEADERS 100
#define READ_BYTES 65536
#define WAIT_STEP_NS (AQ_NS_PER_S / 2)
#define MAX_CHUNK_BYTES (1ull << 40) /* no real chunk comes near; sums cannot overflow */

void aq_http_reader_init(struct aq_http_reader *r, aq_http_sink sink, void *arg)
{
	*r = (struct aq_http_reader){.sink = sink, .arg = arg};
}

/* `HTTP/1.1 200 OK` */
static int take_status(struct aq_http_reader *r)
{
	const char *p = r->line;
	char digits[4];
	uint64_t status;

	if (strncmp(p, "HTTP/1.", 7) || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
		return -EPROTO;
	snprintf(digits, sizeof(digits), "%.3s", p + 9);
	if (aq_uint_parse(digits, 200, 599, &status) < 0 || (p[12] && p[12] != ' '))
		return -EPROTO;
	r->status = (int)status;
	r->keep_alive = p[7] == '1';
	r->state = AQ_HTTP_HEADERS;
	return 0;
}

/* The value behind `NAME:` if the line is that header, without blanks in front; else NULL. */
static const char *header_value(const char *line, const char *name)
{
	size_t len = strlen(name);

	if (strncasecmp(line, name, len) || line[len] != ':')
		return NULL;
	line += len + 1;
	return line + strspn(line, " \t");
}

/* What says nothing about the body's length. */
static void take_manners(struct aq_http_reader *r)
{
	const char *value = header_value(r->line, "Connection");

	if (value && !strcasecmp(value, "close"))
		r->keep_alive = false;
	else if (value && !strcasecmp(value, "keep-alive"))
		r->keep_alive = true;
	value = header_value(r->line, "Content-Type");
	if (value)
		r->event_stream = !strncasecmp(value, "text/event-stream", 17);
}

static int take_header(struct aq_http_reader *r)
{
	const char *value;

	if (++r->headers > MAX_HEADERS)
		return -EPROTO;
	if (r->line[0]) {
		take_manners(r);
		value = header_value(r->line, "Content-Length");
		if (value) {
			if (aq_uint_parse(value, 0, MAX_CHUNK_BYTES, &r->left) < 0)
				return -EPROTO;
			r->has_length = true;
		}
		value = header_value(r->line, "Transfer-Encoding");
		if (value)
			r->chunked = !strcasecmp(value, "chunked");
		return 0;
	}
	if (r->chunked)
		r->state = AQ_HTTP_CHUNK_SIZE;
	else if (r->has_length)
		r->state = r->left ? AQ_HTTP_BODY_LENGTH : AQ_HTTP_DONE;
	else
		r->state = AQ_HTTP_BODY_REST;
	if (r->state == AQ_HTTP_BODY_REST)
		r->keep_alive = false; /* its end is the connection's */
	return 0;
}

/* Hexadecimal; what stands behind a semicolon is nothing to us. */
static int take_chunk_size(struct aq_http_reader *r)
{
	char *end;

	if (!strchr("0123456789abcdefABCDEF", r->line[0]) || !r->line[0])
		return -EPROTO;
	errno = 0;
	r->left = strtoull(r->line, &end, 16);
	if (errno || r->left > MAX_CHUNK_BYTES || (*end && *end != ';' && *end != ' '))
		return -EPROTO;
	r->state = r->left ? AQ_HTTP_CHUNK_DATA : AQ_HTTP_TRAILERS;
	return 0;
}

static int take_line(struct aq_http_reader *r)
{
	switch (r->state) {
	case AQ_HTTP_STATUS:
		return take_status(r);
	case AQ_HTTP_HEADERS:
		return take_header(r);
	case AQ_HTTP_CHUNK_SIZE:
		return take_chunk_size(r);
	case AQ_HTTP_CHUNK_END:
		r->state = AQ_HTTP_CHUNK_SIZE;
		return r->line[0] ? -EPROTO : 0;
	case AQ_HTTP_TRAILERS:
		if (!r->line[0])
			r->state = AQ_HTTP_DONE;
		return ++r->headers > MAX_HEADERS ? -EPROTO : 0;
	default:
		return -EPROTO;
	}
}

/* One byte of a line; a whole line is taken without its end. */
static int feed_line(struct aq_http_reader *r, char byte)
{
	if (byte != '\n') {
		if (!byte || r->line_size == sizeof(r->line) - 1)
			return -EPROTO;
		r->line[r->line_size++] = byte;
		return 0;
	}
	if (r->line_size && r->line[r->line_size - 1] == '\r')
		r->line_size--;
	r->line[r->line_size] = '\0';
	r->line_size = 0;
	return take_line(r);
}

/* Bytes of the body that stand in front of @bytes. Return: how many were taken. */
static size_t feed_body(struct aq_http_reader *r, const char *bytes, size_t size, int *ret_result)
{
	if (r->state != AQ_HTTP_BODY_REST && size > r->left)
		size = (size_t)r->left;
	*ret_result = r->sink(r->arg, bytes, size);
	if (r->state == AQ_HTTP_BODY_REST)
		return size;
	r->left -= size;
	if (!r->left)
		r->state = r->state == AQ_HTTP_CHUNK_DATA ? AQ_HTTP_CHUNK_END : AQ_HTTP_DONE;
	return size;
}

int aq_http_feed(struct aq_http_reader *r, const char *bytes, size_t size)
{
	int result = 0;

	while (size && !result) {
		size_t n = 1;

		switch (r->state) {
		case AQ_HTTP_DONE:
			return -EPROTO; /* more than was announced */
		case AQ_HTTP_BODY_LENGTH:
		case AQ_HTTP_BODY_REST:
		case AQ_HTTP_CHUNK_DATA:
			n = feed_body(r, bytes, size, &result);
			break;
		default:
			result = feed_line(r, *bytes);
		}
		bytes += n;
		size -= n;
	}
	return result;
}

int aq_http_end(const struct aq_http_reader *r)
{
	return r->state == AQ_HTTP_DONE || r->state == AQ_HTTP_BODY_REST ? 0 : -ECONNRESET;
}

/* Return: 0 @events have come; negative errno; what request->wait returned. */
static int wait_for(int fd, short events, const struct aq_http_request *request,
		    uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = aq_now_ns(), step = WAIT_STEP_NS;
		int r;

		if (deadline_ns && now >= deadline_ns)
			return -ETIMEDOUT;
		if (deadline_ns && deadline_ns - now < step)
			step = deadline_ns - now;
		r = poll(&p, 1, (int)(step / AQ_NS_PER_MS) + 1);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		r = !r && request->wait ? request->wait(request->wait_arg) : 0;
		if (r)
			return r;
	}
}

static int send_all(int fd, const char *text, size_t size, const struct aq_http_request *request,
		    uint64_t deadline_ns)
{
	while (size) {
		ssize_t n;
		int r = wait_for(fd, POLLOUT, request, deadline_ns);

		if (r)
			return r;
		n = send(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return errno == EPIPE ? -ECONNRESET : -errno;
		text += n;
		size -= (size_t)n;
	}
	return 0;
}

static int receive_all(int fd, const struct aq_http_request *request, struct aq_http_reader *r,
		       uint64_t deadline_ns)
{
	AQ_CLEANUP(free) char *bytes = malloc(READ_BYTES);

	if (!bytes)
		return -ENOMEM;
	while (r->state != AQ_HTTP_DONE) {
		ssize_t n;
		int result = wait_for(fd, POLLIN, request, deadline_ns);

		if (result)
			return result;
		n = recv(fd, bytes, READ_BYTES, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return aq_http_end(r);
		result = aq_http_feed(r, bytes, (size_t)n);
		if (result)
			return result;
	}
	return 0;
}

int aq_http_exchange(int fd, const struct aq_http_request *request, struct aq_http_reader *r)
{
	uint64_t deadline_ns = request->timeout_ns ? aq_now_ns() + request->timeout_ns : 0;
	size_t body_size = request->body ? strlen(request->body) : 0;
	AQ_CLEANUP(free) char *text = NULL;
	int n, result;

	n = asprintf(&text,
		     "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: aliquot/" AQ_VERSION
		     "\r\nConnection: close\r\nContent-Type: application/json\r\n"
		     "Content-Length: %zu\r\n\r\n%s",
		     request->method, request->path, body_size, request->body ? request->body : "");
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	result = send_all(fd, text, (size_t)n, request, deadline_ns);
	return result ? result : receive_all(fd, request, r, deadline_ns);
}
