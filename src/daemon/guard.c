/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accepts guards and reads their packets, so many a turn. A slow or hostile peer costs its own
 * connection: nothing here waits for anybody.
 */
#include "daemon/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/compute.h"
#include "daemon/context.h"
#include "daemon/event.h"
#include "daemon/loop.h"
#include "daemon/need.h"
#include "daemon/process.h"
#include "daemon/request.h"
#include "daemon/share.h"
#include "base/banned.h"

#define BACKLOG 1024 /* 300 programs that start at once find room */
#define ACCEPTS_A_TURN 64
#define MESSAGES_A_TURN 16 /* of one connection; the next turn goes on */
#define HELLO_NS (5 * AQ_NS_PER_S)
#define RESUME_NS (100 * AQ_NS_PER_MS) /* when descriptors ran out */
#define SPARE_FDS 256u		       /* devices, API connections, files */

int aqd_listen(const char *path, int type, mode_t mode)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	AQ_CLEANUP(close) int fd = -1;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* The lock on the pid file is ours: what lies here is left over. */
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (chmod(path, mode) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return aq_steal_fd(&fd);
}

bool aqd_fds_scarce(void)
{
	struct rlimit limit;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC); /* the lowest that is free */

	if (fd < 0)
		return true;
	close(fd);
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
	       (rlim_t)fd > limit.rlim_cur - limit.rlim_cur / 4;
}

static void free_conn(struct aqd *d, struct aqd_deferred *what)
{
	struct aqd_conn *conn = aq_container_of(what, struct aqd_conn, deferred);

	if (conn->readable)
		event_free(conn->readable);
	if (conn->fd >= 0)
		close(conn->fd);
	free(conn);
}

void aqd_conn_close(struct aqd *d, struct aqd_conn *conn)
{
	if (conn->state == AQD_CONN_CLOSED)
		return;
	conn->state = AQD_CONN_CLOSED;
	if (conn->readable)
		event_del(conn->readable);
	if (conn->client) {
		aqd_context_client_lost(d, conn->client);
		aqd_compute_leave(d, conn->client);
		conn->client->conn = NULL;
	}
	conn->client = NULL;
	aq_list_remove(&conn->of_fraction);
	conn->fraction = NULL;
	aq_list_remove(&conn->pending);
	aqd_need_drop(&conn->need);
	aq_list_remove(&conn->link);
	d->conn_count--;
	if (conn->process) {
		conn->process->connections--;
		aqd_process_put(d, conn->process);
	}
	aqd_defer(d, &conn->deferred, free_conn);
}

void aqd_conn_babbled(struct aqd *d, struct aqd_conn *conn, const char *what)
{
	struct aqd_event_facts facts = aqd_event_none;

	facts.fraction = conn->client ? conn->client->fraction : conn->fraction;
	facts.pid = conn->process->pid;
	facts.reason = "protocol";
	aqd_event(d, AQD_EVENT_babbled, &facts, "connection of process %d closed: %s",
		  (int)facts.pid, what);
	aqd_conn_close(d, conn);
}

void aqd_conn_reply(struct aqd *d, struct aqd_conn *conn, const union aq_msg *msg, int pass_fd)
{
	int r = aq_msg_send(conn->fd, msg, pass_fd);

	if (r == -EAGAIN || r == -EWOULDBLOCK)
		aqd_conn_babbled(d, conn, "it does not read its replies");
	else if (r < 0)
		aqd_conn_close(d, conn);
}

void aqd_conn_hold(struct aqd *d, struct aqd_conn *conn, enum aqd_conn_wait why,
		   const union aq_msg *msg)
{
	conn->wait = why;
	memcpy(&conn->held, msg, msg->head.size);
	aq_list_remove(&conn->pending);
	if (why == AQD_WAIT_ROOM) /* in aqd.needs; others may wait for what it rings about */
		return;
	event_del(conn->readable);
	aq_list_append(why == AQD_WAIT_MEASURE	 ? &d->measuring
		       : why == AQD_WAIT_SHRINK ? &d->listening
						: &d->adopting,
		       &conn->pending);
}

void aqd_conn_resume(struct aqd *d, struct aqd_conn *conn)
{
	conn->wait = AQD_WAIT_NOTHING;
	aq_list_remove(&conn->pending);
	if (conn->state != AQD_CONN_CLOSED)
		event_add(conn->readable, NULL);
}

void aqd_conn_is_client(struct aqd *d, struct aqd_conn *conn, struct aqd_client *c)
{
	conn->state = AQD_CONN_CLIENT;
	conn->deadline_ns = 0;
	conn->client = c;
	aq_list_remove(&conn->pending);
	aqd_compute_join(d, c);
	aqd_share_client_here(d, c, conn->uid);
}

void aqd_conn_is_observer(struct aqd_conn *conn, struct aqd_fraction *f)
{
	conn->state = AQD_CONN_OBSERVER;
	conn->fraction = f;
	aq_list_append(&f->observers, &conn->of_fraction);
	aq_list_remove(&conn->pending);
}

/* One packet. Return: false when there is nothing (more) to read now. */
static bool read_one(struct aqd *d, struct aqd_conn *conn)
{
	AQ_CLEANUP(close) int passed = -1;
	union aq_msg msg;
	int r = aq_msg_receive(conn->fd, &msg, &passed);

	switch (r) {
	case 0:
		aqd_request(d, conn, &msg, passed);
		return true;
	case -EAGAIN:
		return false;
	case -EPROTO:
		aqd_request_foreign_abi(d, conn, &msg);
		return false;
	case -EBADMSG:
		aqd_conn_babbled(d, conn, "a packet that is none of the protocol");
		return false;
	default: /* hung up, or no descriptor is left here; the process may live on */
		aqd_conn_close(d, conn);
		return false;
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct aqd_conn *conn = arg;

	for (int i = 0; i < MESSAGES_A_TURN; i++)
		if (conn->state == AQD_CONN_CLOSED || (conn->wait != AQD_WAIT_NOTHING && conn->wait != AQD_WAIT_ROOM) ||
		    !read_one(conn->daemon, conn))
			return;
}

static uint32_t max_connections(void)
{
	struct rlimit limit;
	rlim_t n = AQD_MAX_CONNECTIONS;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    limit.rlim_cur / 2 < n + SPARE_FDS)
		n = limit.rlim_cur / 2 > SPARE_FDS ? limit.rlim_cur / 2 - SPARE_FDS : 16;
	return (uint32_t)n;
}

static void make_conn(struct aqd *d, int accepted)
{
	AQ_CLEANUP(close) int fd = accepted;
	struct aqd_event_facts facts = aqd_event_none;
	struct aqd_process *p = NULL;
	struct aqd_conn *conn;
	uid_t uid;

	if (aqd_process_of_peer(d, fd, &uid, &p) < 0)
		return;
	if (p->connections >= AQD_PROCESS_CONNECTIONS || d->conn_count >= max_connections()) {
		facts.pid = p->pid;
		facts.reason = "connections";
		aqd_event(d, AQD_EVENT_rejected, &facts, "process %d: %s have too many connections",
			  (int)p->pid,
			  p->connections >= AQD_PROCESS_CONNECTIONS ? "it would" : "we would");
		aqd_process_put(d, p);
		return;
	}
	conn = calloc(1, sizeof(*conn));
	if (conn)
		conn->readable = event_new(d->base, fd, EV_READ | EV_PERSIST, on_readable, conn);
	if (!conn || !conn->readable) {
		free(conn);
		aqd_process_put(d, p);
		return;
	}
	conn->daemon = d;
	conn->fd = aq_steal_fd(&fd);
	conn->uid = uid;
	conn->process = p;
	p->connections++;
	conn->deadline_ns = aq_now_ns() + HELLO_NS;
	aq_list_init(&conn->of_fraction);
	aq_list_append(&d->conns, &conn->link);
	aq_list_append(&d->hellos, &conn->pending);
	d->conn_count++;
	event_add(conn->readable, NULL);
	if (!evtimer_pending(d->guard_deadline, NULL))
		aqd_timer_set(d->guard_deadline, HELLO_NS);
}

static void on_connect(evutil_socket_t listener, short what, void *arg)
{
	struct aqd *d = arg;

	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			make_conn(d, fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			aq_warn("accept: %s", strerror(errno));
			event_del(d->guard_readable);
			aqd_timer_set(d->guard_resume, RESUME_NS);
			return;
		} else if (errno != ECONNABORTED && errno != EINTR) {
			return;
		}
	}
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;

	event_add(d->guard_readable, NULL);
}

/* Close those who did not say HELLO in time. They are in order of their deadlines. */
static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
	struct aqd *d = arg;
	uint64_t now = aq_now_ns();

	while (!aq_list_empty(&d->hellos)) {
		struct aqd_conn *conn = aq_container_of(d->hellos.next, struct aqd_conn, pending);

		if (conn->deadline_ns > now) {
			aqd_timer_set(d->guard_deadline, conn->deadline_ns - now + AQ_NS_PER_MS);
			return;
		}
		aqd_conn_babbled(d, conn, "no HELLO in time");
	}
}

static void on_adopt_timer(evutil_socket_t fd, short what, void *arg)
{
	aqd_request_retry_adopting(arg);
}

void aqd_guard_finish_measuring(struct aqd *d)
{
	aqd_request_finish_measuring(d);
}

int aqd_guard_init(struct aqd *d)
{
	struct rlimit limit;
	int r;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	r = aqd_listen(d->guard_path, SOCK_SEQPACKET, d->system ? 0666 : 0600);
	if (r < 0)
		return r;
	d->guard_fd = r;
	d->guard_readable = event_new(d->base, r, EV_READ | EV_PERSIST, on_connect, d);
	d->guard_deadline = evtimer_new(d->base, on_deadline, d);
	d->guard_resume = evtimer_new(d->base, on_resume, d);
	d->adopt_timer = evtimer_new(d->base, on_adopt_timer, d);
	if (!d->guard_readable || !d->guard_deadline || !d->guard_resume || !d->adopt_timer)
		return -ENOMEM;
	return event_add(d->guard_readable, NULL) < 0 ? -EIO : 0;
}

void aqd_guard_finish(struct aqd *d)
{
	struct event *all[] = {d->guard_readable, d->guard_deadline, d->guard_resume,
			       d->adopt_timer};
	struct aqd_conn *conn, *next;

	AQ_LIST_FOREACH (conn, next, &d->conns, link)
		aqd_conn_close(d, conn);
	for (size_t i = 0; i < AQ_ARRAY_SIZE(all); i++)
		if (all[i])
			event_free(all[i]);
	if (d->guard_fd >= 0) {
		close(d->guard_fd);
		unlink(d->guard_path);
	}
	d->guard_fd = -1;
}
