/* SPDX-License-Identifier: Apache-2.0 */
/* See peers.h. Knows no HTTP beyond the one line that it says to whom it refuses. */
#include "daemon/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "daemon/event.h"
#include "base/banned.h"

/* A user's share of the descriptors; guess: enough for a storm of commands, and seven of eight are
 * left for others and for guards. */
#define USER_PART 8u
#define USER_MIN 16u
#define USER_MAX 1024u
#define EVENT_NS (10 * AQ_NS_PER_S) /* who storms is told of so often */

/* One connection. Nobody tells when it ends: its descriptor then names something else. */
struct peer {
	ino_t inode; /* of the socket; 0: none */
	uid_t uid;
	bool refused;
};

struct aqd_peers {
	struct peer *by_fd;
	size_t room;
	struct bufferevent **fresh; /* references of ours; not looked at yet */
	size_t fresh_count, fresh_room;
	uint64_t told_ns;
};

int aqd_peers_create(struct aqd_peers **ret)
{
	struct aqd_peers *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	*ret = p;
	return 0;
}

void aqd_peers_free(struct aqd_peers *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->fresh_count; i++)
		bufferevent_decref(p->fresh[i]);
	free(p->fresh);
	free(p->by_fd);
	free(p);
}

void aqd_peers_expect(struct aqd_peers *p, struct bufferevent *bev)
{
	if (p->fresh_count == p->fresh_room) {
		size_t room = p->fresh_room ? 2 * p->fresh_room : 16;
		struct bufferevent **more = realloc(p->fresh, room * sizeof(*more));

		if (!more)
			return; /* out of memory it is not counted, and works */
		p->fresh = more;
		p->fresh_room = room;
	}
	bufferevent_incref(bev);
	p->fresh[p->fresh_count++] = bev;
}

static ino_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

static uint32_t user_limit(void)
{
	struct rlimit limit;
	rlim_t n = USER_MAX;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / USER_PART < n)
		n = limit.rlim_cur / USER_PART;
	return n > USER_MIN ? (uint32_t)n : USER_MIN;
}

/* Connections of @uid; @look: see which of them are still there, and forget the others. */
static uint32_t count(struct aqd_peers *p, uid_t uid, bool look)
{
	uint32_t n = 0;

	for (size_t fd = 0; fd < p->room; fd++) {
		struct peer *peer = &p->by_fd[fd];

		if (!peer->inode || peer->uid != uid)
			continue;
		if (look && inode_of((int)fd) != peer->inode)
			peer->inode = 0;
		else
			n++;
	}
	return n;
}

static struct peer *slot(struct aqd_peers *p, int fd)
{
	size_t room = p->room ? p->room : 64;
	struct peer *more;

	while (room <= (size_t)fd)
		room *= 2;
	if (room > p->room) {
		more = realloc(p->by_fd, room * sizeof(*more));
		if (!more)
			return NULL;
		memset(more + p->room, 0, (room - p->room) * sizeof(*more));
		p->by_fd = more;
		p->room = room;
	}
	return &p->by_fd[fd];
}

static void refuse(struct aqd *d, struct aqd_peers *p, int fd, const struct ucred *who)
{
	static const char text[] = "HTTP/1.1 429 Too Many Requests\r\n"
				   "Content-Type: application/json\r\n"
				   "Content-Length: 78\r\nConnection: close\r\n\r\n"
				   "{\"error\": \"your user has too many connections\", "
				   "\"reason\": \"user_connections\"}\n";
	struct aqd_event_facts facts = aqd_event_none;
	uint64_t now = aq_now_ns();

	/* The answer is short and the socket new: it fits, or the peer is none to be polite to. */
	if (send(fd, text, sizeof(text) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		errno = 0;
	shutdown(fd, SHUT_RDWR);
	if (p->told_ns && now - p->told_ns < EVENT_NS)
		return;
	p->told_ns = now;
	facts.pid = who->pid;
	facts.reason = "user_connections";
	aqd_event(d, AQD_EVENT_rejected, &facts,
		  "process %d: user %u has too many connections to the API", (int)who->pid,
		  (unsigned int)who->uid);
}

static void admit(struct aqd *d, struct aqd_peers *p, int fd)
{
	struct peer *peer = slot(p, fd);
	uint32_t limit = user_limit();
	struct ucred who;
	socklen_t size = sizeof(who);

	if (!peer || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
		return;
	peer->inode = 0; /* whoever had the number before is gone */
	peer->refused = count(p, who.uid, false) >= limit && count(p, who.uid, true) >= limit;
	peer->uid = who.uid;
	if (peer->refused)
		refuse(d, p, fd, &who);
	peer->inode = inode_of(fd);
}

void aqd_peers_settle(struct aqd *d, struct aqd_peers *p)
{
	for (size_t i = 0; i < p->fresh_count; i++) { /* first come, first served */
		int fd = bufferevent_getfd(p->fresh[i]);

		if (fd >= 0)
			admit(d, p, fd);
		bufferevent_decref(p->fresh[i]);
	}
	p->fresh_count = 0;
}

bool aqd_peers_refused(struct aqd_peers *p, int fd)
{
	return fd >= 0 && (size_t)fd < p->room && p->by_fd[fd].refused &&
	       p->by_fd[fd].inode == inode_of(fd);
}
