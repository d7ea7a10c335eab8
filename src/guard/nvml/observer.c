/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The observer's connection: found when first needed, again after it broke, anew in a forked child.
 *
 * Descriptors belong to the program: it may close ours and get the number back for a file of its
 * own. So before each use we look whether it still is the socket that we opened, and it lies above
 * the low numbers that programs count on.
 */
#include "guard/nvml/observer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/hello.h"
#include "abi/wire.h"
#include "base/paths.h"
#include "base/timing.h"

#include "guard/guest.h"

#define LOW_FDS 100		      /* guess: above what programs and shells count on */
#define REPLY_TIMEOUT_S 2	      /* guess: a monitor that hangs is worse than one that fails */
#define RETRY_NS (500 * AQ_NS_PER_MS) /* between two tries to find a daemon */

/* All under `lock`. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	int fd; /* -1 none */
	dev_t dev;
	ino_t ino;
	pid_t pid; /* that opened it; another is a child without fork()'s handlers */
	uint32_t seq;
	uint32_t n_devices; /* of the fraction */
	uint64_t tried_ns;  /* last try to connect that failed; 0 none */
	int failure;	    /* how it failed: -ENOENT or -EACCES */
	bool tenant;	    /* a daemon knew us once: from then on we are one */
	uint32_t n_known;
	struct {
		uint8_t uuid[16];
		struct aq__share share;
	} known[AQ_MAX_DEVICES]; /* what was told last */
} conn = {.fd = -1};

static bool ours(void)
{
	struct stat st;

	return conn.fd >= 0 && conn.pid == getpid() && fstat(conn.fd, &st) == 0 &&
	       st.st_dev == conn.dev && st.st_ino == conn.ino;
}

static void drop(void)
{
	if (ours())
		close(conn.fd);
	conn.fd = -1;
}

static void forked(void)
{
	lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	conn.pid = getpid(); /* the copy of the descriptor is ours to close, and not to use */
	drop();
	conn.tried_ns = 0;
}

static void register_fork_handler(void)
{
	pthread_atfork(NULL, NULL, forked);
}

static void keep(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, LOW_FDS);
	struct stat st;

	if (high >= 0) {
		close(fd);
		fd = high;
	}
	conn.fd = fd;
	conn.pid = getpid();
	if (fstat(fd, &st) == 0) {
		conn.dev = st.st_dev;
		conn.ino = st.st_ino;
	}
}

/* The environment names a daemon or a fraction: whoever does not answer then is missing. */
static bool told(void)
{
	const char *socket_path = secure_getenv("ALIQUOT_SOCKET");
	const char *fraction = secure_getenv("ALIQUOT_FRACTION");

	return (socket_path && socket_path[0]) || (fraction && fraction[0]);
}

/* HELLO on a new socket. Return: 0; negative errno, the daemon's own word included. */
static int hello(int fd)
{
	const char *fraction = secure_getenv("ALIQUOT_FRACTION");
	union aq_msg msg;
	int r;

	if (!fraction || strlen(fraction) >= AQ_NAME_BYTES)
		fraction = ""; /* find me by my ancestors */
	r = aq_hello(fd, REPLY_TIMEOUT_S, AQ_HELLO_OBSERVER, fraction, -1, &msg, NULL);
	if (r < 0)
		return r;
	conn.n_devices = msg.hello_reply.device_count;
	return msg.hello_reply.result;
}

/* Lock held. Return: 0 connected; -ENOENT, -EACCES. */
static int connected(void)
{
	uint64_t now_ns = aq_now_ns();
	char path[AQ_PATH_BYTES];
	int fd, r;

	if (ours())
		return 0;
	conn.fd = -1;
	if (conn.tried_ns && now_ns - conn.tried_ns < RETRY_NS)
		return conn.failure;
	fd = aq_hello_connect(path);
	r = fd < 0 ? fd : hello(fd);
	if (r == 0) {
		keep(fd);
		conn.tenant = true;
		conn.tried_ns = 0;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	/*
	 * No daemon where none was promised, or one that does not know us: an ordinary program. One
	 * that answers anything else (another ABI, nothing at all) may well have us for a tenant.
	 */
	conn.failure = conn.tenant || told() || (fd >= 0 && r != -ENOENT) ? -EACCES : -ENOENT;
	conn.tried_ns = now_ns;
	return conn.failure;
}

/* Lock held. One request, and its reply in the same place; a broken connection is tried twice. */
static int ask(union aq_msg *msg, enum aq_msg_type reply)
{
	union aq_msg answer;
	int r = -EACCES;

	for (int tries = 0; tries < 2; tries++) {
		r = connected();
		if (r < 0)
			return r;
		msg->head.seq = ++conn.seq;
		r = aq_msg_send(conn.fd, msg, -1);
		if (r == 0)
			r = aq_msg_receive(conn.fd, &answer, NULL);
		if (r == 0 && answer.head.type == reply && answer.head.seq == msg->head.seq) {
			memcpy(msg, &answer, answer.head.size);
			return 0;
		}
		drop(); /* what is on its way there belongs to nobody now */
	}
	return -EACCES;
}

/* Every public function runs between these two. */
static int enter(int *saved)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int cancel;

	*saved = errno;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_once(&once, register_fork_handler);
	pthread_mutex_lock(&lock);
	return cancel;
}

static void leave(int cancel, int saved)
{
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
}

static void make_query(union aq_msg *msg, enum aq_msg_type type, uint32_t device,
		       const uint8_t *uuid)
{
	aq_msg_init(msg, type, 0);
	msg->query.device = device;
	if (uuid)
		memcpy(msg->query.uuid, uuid, sizeof(msg->query.uuid));
}

static struct aq__share *known_share(const uint8_t uuid[16], bool add)
{
	for (uint32_t i = 0; i < conn.n_known; i++) {
		if (!memcmp(conn.known[i].uuid, uuid, 16))
			return &conn.known[i].share;
	}
	if (!add || conn.n_known >= AQ_MAX_DEVICES)
		return NULL;
	memcpy(conn.known[conn.n_known].uuid, uuid, 16);
	return &conn.known[conn.n_known++].share;
}

int aq__observe_share(const uint8_t uuid[16], struct aq__share *ret)
{
	struct aq__share *known;
	union aq_msg msg;
	int saved, r;
	int cancel = enter(&saved);

	make_query(&msg, AQ_MSG_QUERY, UINT32_MAX, uuid);
	r = ask(&msg, AQ_MSG_QUERY_REPLY);
	if (r == 0 && msg.query_reply.result == 0) {
		*ret = (struct aq__share){
			.limit_bytes = msg.query_reply.limit_bytes,
			.used_bytes = msg.query_reply.used_bytes,
			.free_bytes = msg.query_reply.free_bytes,
		};
		known = known_share(uuid, true);
		if (known)
			*known = *ret;
	} else if (r == 0) {
		r = -EACCES;
	} else if (r == -EACCES && (known = known_share(uuid, false))) {
		*ret = *known;
		r = 0;
	}
	leave(cancel, saved);
	return r;
}

int aq__observe_procs(const uint8_t uuid[16], struct aq__procs *ret)
{
	union aq_msg msg;
	int saved, r;
	int cancel = enter(&saved);

	make_query(&msg, AQ_MSG_PROCS, UINT32_MAX, uuid);
	r = ask(&msg, AQ_MSG_PROCS_REPLY);
	if (r == 0 && msg.procs_reply.result < 0)
		r = -EACCES;
	if (r == 0) {
		ret->count = msg.procs_reply.count;
		memcpy(ret->proc, msg.procs_reply.proc, ret->count * sizeof(ret->proc[0]));
	}
	leave(cancel, saved);
	return r;
}

int aq__observe_pid(int32_t pid)
{
	union aq_msg msg;
	int saved, r;
	int cancel = enter(&saved);

	r = connected();
	for (uint32_t i = 0; r == 0 && i < conn.n_devices; i++) {
		make_query(&msg, AQ_MSG_PROCS, i, NULL);
		r = ask(&msg, AQ_MSG_PROCS_REPLY);
		for (uint32_t n = 0; r == 0 && n < msg.procs_reply.count; n++)
			r = msg.procs_reply.proc[n].pid == pid;
	}
	leave(cancel, saved);
	return r;
}

int aq__observe_tenant(void)
{
	int saved, r;
	int cancel = enter(&saved);

	r = connected();
	leave(cancel, saved);
	return r;
}
