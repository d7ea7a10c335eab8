/* SPDX-License-Identifier: Apache-2.0 */
/* Opens and watches pidfds. What a death means is the business of clients, fractions and queue. */
#include "daemon/process.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "daemon/client.h"
#include "daemon/fraction.h"
#include "daemon/loop.h"
#include "daemon/queue.h"
#include "base/banned.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; Source: include/uapi/asm-generic/socket.h */
#endif

static struct aq_list *bucket_of(struct aqd *d, pid_t pid)
{
	return &d->processes[(uint32_t)pid & (AQD_PID_BUCKETS - 1)];
}

static bool has_exited(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void free_process(struct aqd *d, struct aqd_deferred *what)
{
	struct aqd_process *p = aq_container_of(what, struct aqd_process, deferred);

	what->end = NULL;
	if (p->refs) /* found again by somebody in the same turn */
		return;
	aq_list_remove(&p->bucket);
	if (p->exited)
		event_free(p->exited);
	close(p->pidfd);
	free(p);
}

/* The process is gone: tell those who hang on it, each of which may drop its reference. */
static void bury(struct aqd *d, struct aqd_process *p)
{
	struct aqd_client *c, *next_client;
	struct aqd_fraction *f, *next_fraction;

	if (p->dead)
		return;
	p->dead = true;
	p->refs++;
	aq_list_remove(&p->bucket);
	event_del(p->exited);
	AQ_LIST_FOREACH (c, next_client, &p->clients, of_process)
		aqd_client_end(d, c, "its process ended");
	AQ_LIST_FOREACH (f, next_fraction, &p->holdings, of_holder)
		aqd_fraction_holder_gone(f);
	aqd_queue_process_gone(d, p);
	aqd_process_put(d, p);
}

static void on_exited(evutil_socket_t fd, short what, void *arg)
{
	struct aqd_process *p = arg;

	bury(p->daemon, p);
}

bool aqd_process_notice(struct aqd *d, struct aqd_process *p)
{
	if (p->dead || !has_exited(p->pidfd))
		return false;
	bury(d, p);
	return true;
}

struct aqd_process *aqd_process_known(struct aqd *d, pid_t pid)
{
	struct aqd_process *p, *tmp;

	AQ_LIST_FOREACH (p, tmp, bucket_of(d, pid), bucket)
		if (p->pid == pid)
			return p;
	return NULL;
}

/* Takes over @pidfd, whatever the result. */
static int find_or_make(struct aqd *d, pid_t pid, uint64_t start_ticks, int pidfd,
			struct aqd_process **ret)
{
	struct aqd_process *p = aqd_process_known(d, pid);

	if (p && p->start_ticks != start_ticks) { /* the pid was used again before we were told */
		bury(d, p);
		p = NULL;
	}
	if (p) {
		close(pidfd);
		p->refs++;
		*ret = p;
		return 0;
	}

	p = calloc(1, sizeof(*p));
	if (!p) {
		close(pidfd);
		return -ENOMEM;
	}
	p->daemon = d;
	p->pid = pid;
	p->start_ticks = start_ticks;
	p->pidfd = pidfd;
	p->refs = 1;
	aq_list_init(&p->clients);
	aq_list_init(&p->holdings);
	aq_list_init(&p->waits);
	aq_list_append(bucket_of(d, pid), &p->bucket);
	p->exited = event_new(d->base, pidfd, EV_READ, on_exited, p);
	if (!p->exited || event_add(p->exited, NULL) < 0) {
		aqd_process_put(d, p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

int aqd_process_of_peer(struct aqd *d, int fd, uid_t *ret_uid, struct aqd_process **ret)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	AQ_CLEANUP(close) int pidfd = -1;
	uint64_t start;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return -errno;
	if (peer.pid <= 0) /* of another pid namespace */
		return -ESRCH;
	size = sizeof(pidfd);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) < 0) {
		/* Older kernel. A pid that was used again is a process of the same user at most:
		 * the socket's uid is checked, not the process's. */
		pidfd = aq_pidfd_open(peer.pid);
		if (pidfd < 0)
			return pidfd == -EINVAL ? -ESRCH : pidfd;
	}
	/* In this order: alive after its start time was read, so that was this process's. */
	r = aq_pid_start_time(peer.pid, &start);
	if (r < 0)
		return r;
	if (has_exited(pidfd))
		return -ESRCH;
	r = find_or_make(d, peer.pid, start, aq_steal_fd(&pidfd), ret);
	if (r == 0)
		*ret_uid = peer.uid;
	return r;
}

int aqd_process_of_pid(struct aqd *d, pid_t pid, uint64_t start_ticks, struct aqd_process **ret)
{
	AQ_CLEANUP(close) int pidfd = aq_pidfd_open(pid);
	uint64_t start;
	int r;

	if (pidfd < 0)
		return pidfd == -EINVAL ? -ESRCH : pidfd;
	r = aq_pid_start_time(pid, &start);
	if (r < 0)
		return r;
	if (start != start_ticks || has_exited(pidfd))
		return -ESRCH;
	return find_or_make(d, pid, start, aq_steal_fd(&pidfd), ret);
}

void aqd_process_put(struct aqd *d, struct aqd_process *p)
{
	if (p && !--p->refs)
		aqd_defer(d, &p->deferred, free_process);
}

int aqd_process_signal(const struct aqd_process *p, int sig)
{
	return syscall(SYS_pidfd_send_signal, p->pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}
