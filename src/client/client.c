/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listens to requests to shrink as an observer on the daemon's guard socket: asks, is answered when
 * there is one or after some seconds, asks again. Has no page, and cannot get memory.
 */
#include <aliquot/client.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi/hello.h"
#include "abi/wire.h"
#include "base/name.h"
#include "base/paths.h"
#include "base/timing.h"
#include "base/banned.h"

#define PUBLIC __attribute__((visibility("default")))
#define REPLY_S 10 /* guess: a daemon that says nothing for twice AQ_SHRINK_WAIT_MS is gone */
#define RETRY_NS (500 * AQ_NS_PER_MS) /* between two tries to find a daemon */

struct aliquot_shrink {
	int fd; /* -1: none, look for a daemon */
	uint32_t seq;
	uint32_t seen; /* number of the last request */
	bool done;     /* ... and it is, but that is not told yet */
	bool asked;    /* an answer is due */
};

static int greet(int fd)
{
	const char *fraction = secure_getenv("ALIQUOT_FRACTION");
	union aq_msg msg;
	int r;

	if (!fraction || !aq_name_valid(fraction))
		fraction = ""; /* find me by my ancestors */
	r = aq_hello(fd, REPLY_S, AQ_HELLO_OBSERVER, fraction, -1, &msg, NULL);
	return r < 0 ? r : msg.hello_reply.result;
}

static int connect_to(struct aliquot_shrink *s)
{
	char path[AQ_PATH_BYTES];
	int fd = aq_hello_connect(path), r;

	if (fd < 0)
		return fd == -ECONNREFUSED ? -ENOENT : fd;
	r = greet(fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	s->fd = fd;
	s->asked = false;
	return 0;
}

static void drop(struct aliquot_shrink *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->asked = false;
	s->seen = 0; /* another daemon counts anew */
	s->done = false;
}

PUBLIC int aliquot_shrink_open(struct aliquot_shrink **ret)
{
	struct aliquot_shrink *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	r = connect_to(s);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

static int ask(struct aliquot_shrink *s)
{
	union aq_msg msg;
	int r;

	if (s->asked)
		return 0;
	aq_msg_init(&msg, AQ_MSG_SHRINK, ++s->seq);
	msg.shrink.seen = s->seen;
	msg.shrink.answered = s->done;
	msg.shrink.wait_ms = AQ_SHRINK_WAIT_MS;
	r = aq_msg_send(s->fd, &msg, -1);
	if (r < 0)
		return r;
	s->asked = true;
	s->done = false;
	return 0;
}

/* Return: 1 with a request that is new; 0 it was not; negative errno. */
static int take_answer(struct aliquot_shrink *s, struct aliquot_shrink_request *ret)
{
	union aq_msg msg;
	int r = aq_msg_receive(s->fd, &msg, NULL);

	if (r < 0)
		return r;
	if (msg.head.type != AQ_MSG_SHRINK_REPLY || msg.shrink_reply.result < 0)
		return -EBADMSG;
	s->asked = false;
	if (msg.shrink_reply.turn == s->seen)
		return 0;
	s->seen = msg.shrink_reply.turn;
	*ret = (struct aliquot_shrink_request){
		.device = msg.shrink_reply.device,
		.number = msg.shrink_reply.turn,
		.keep_bytes = msg.shrink_reply.keep_bytes,
		.used_bytes = msg.shrink_reply.used_bytes,
	};
	memcpy(ret->uuid, msg.shrink_reply.uuid, sizeof(ret->uuid));
	return 1;
}

/* Until @end_ns, wait for @fd (or, with -1, for the time to try again). Return: as poll(). */
static int wait_until(int fd, uint64_t end_ns)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t now = aq_now_ns(), left = end_ns > now ? end_ns - now : 0;
	uint64_t ms = left / AQ_NS_PER_MS + 1;
	int r = poll(&p, fd >= 0, ms > INT32_MAX ? INT32_MAX : (int)ms);

	return r < 0 ? -errno : r;
}

PUBLIC int aliquot_shrink_wait(struct aliquot_shrink *s, int timeout_ms,
			       struct aliquot_shrink_request *ret)
{
	uint64_t end =
		timeout_ms < 0 ? UINT64_MAX : aq_now_ns() + (uint64_t)timeout_ms * AQ_NS_PER_MS;
	int r;

	do {
		if (s->fd < 0 && connect_to(s) < 0) {
			uint64_t next = aq_now_ns() + RETRY_NS;

			r = wait_until(-1, next < end ? next : end);
			if (r < 0)
				return r;
			continue;
		}
		r = ask(s);
		if (r == 0) {
			r = wait_until(s->fd, end);
			if (r == -EINTR || r == 0)
				return r;
		}
		if (r > 0)
			r = take_answer(s, ret);
		if (r > 0)
			return r;
		if (r < 0)
			drop(s);
	} while (aq_now_ns() < end);
	return 0;
}

PUBLIC void aliquot_shrink_done(struct aliquot_shrink *s)
{
	s->done = true;
}

PUBLIC void aliquot_shrink_close(struct aliquot_shrink *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

/* Written once by aliquot_on_shrink(), before its thread starts. */
static struct {
	pthread_mutex_t lock;
	struct aliquot_shrink *listener;
	void (*heard)(const struct aliquot_shrink_request *request, void *context);
	void *context;
} background = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *listen_on(void *unused)
{
	struct aliquot_shrink_request request;

	for (;;) {
		if (aliquot_shrink_wait(background.listener, -1, &request) != 1)
			continue;
		background.heard(&request, background.context);
		aliquot_shrink_done(background.listener);
	}
	return unused;
}

/* The program's signals are for its own threads. */
static int start_thread(void)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, listen_on, NULL);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

PUBLIC int aliquot_on_shrink(void (*heard)(const struct aliquot_shrink_request *request,
					   void *context),
			     void *context)
{
	int r = -EBUSY;

	pthread_mutex_lock(&background.lock);
	if (!background.listener) {
		r = aliquot_shrink_open(&background.listener);
		background.heard = heard;
		background.context = context;
		if (r == 0)
			r = start_thread();
		if (r < 0) {
			aliquot_shrink_close(background.listener);
			background.listener = NULL;
		}
	}
	pthread_mutex_unlock(&background.lock);
	return r;
}
