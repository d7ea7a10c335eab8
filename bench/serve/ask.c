/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking GET with a deadline. No load is sent this way. */
#include "serve/ask.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "cli/http.h"
#include "serve/target.h"
#include "base/banned.h"

struct body {
	char *text;
	size_t size;
};

static int hear(void *arg, const char *bytes, size_t size)
{
	struct body *b = arg;
	char *more;

	if (size > AQ_ASK_BYTES - b->size)
		return -EMSGSIZE;
	more = realloc(b->text, b->size + size + 1);
	if (!more)
		return -ENOMEM;
	b->text = more;
	memcpy(more + b->size, bytes, size);
	b->size += size;
	more[b->size] = '\0';
	return 0;
}

/* Return: 0 @events have come; -ETIMEDOUT; -errno. */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now = aq_now_ns();
		int r;

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)((deadline_ns - now) / AQ_NS_PER_MS) + 1);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

static int dial(const struct aq_target *t, uint64_t deadline_ns)
{
	AQ_CLEANUP(close) int fd =
		socket(t->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t size = sizeof(int);
	int r, error = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&t->address, t->address_size) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		r = wait_for(fd, POLLOUT, deadline_ns);
		if (r < 0)
			return r;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
			return -errno;
		if (error)
			return -error;
	}
	return aq_steal_fd(&fd);
}

static int receive_all(int fd, struct aq_http_reader *reader, uint64_t deadline_ns)
{
	char bytes[4096];

	while (reader->state != AQ_HTTP_DONE) {
		int r = wait_for(fd, POLLIN, deadline_ns);
		ssize_t n;

		if (r < 0)
			return r;
		n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return aq_http_end(reader);
		r = aq_http_feed(reader, bytes, (size_t)n);
		if (r)
			return r;
	}
	return 0;
}

int aq_ask(const struct aq_target *t, const char *path, const char *headers, uint64_t timeout_ns,
	   char **ret_body, size_t *ret_size)
{
	uint64_t deadline_ns = aq_now_ns() + timeout_ns;
	AQ_CLEANUP(free) struct aq_http_reader *reader = malloc(sizeof(*reader));
	AQ_CLEANUP(free) char *text = NULL;
	AQ_CLEANUP(close) int fd = -1;
	struct body body = {.text = NULL};
	int n, r;

	n = asprintf(&text, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", path,
		     t->host, headers);
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	if (!reader)
		return -ENOMEM;
	fd = dial(t, deadline_ns);
	if (fd < 0)
		return fd;
	/* A request this short fits into a new connection's buffer, or something is wrong. */
	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		return -ECONNRESET;
	aq_http_reader_init(reader, hear, &body);
	r = receive_all(fd, reader, deadline_ns);
	if (!r && reader->status != 200)
		r = -ENOENT;
	if (!r && !body.text)
		r = hear(&body, "", 0);
	if (r) {
		free(body.text);
		return r;
	}
	*ret_body = body.text;
	*ret_size = body.size;
	return 0;
}
