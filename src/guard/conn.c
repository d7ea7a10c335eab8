/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket, HELLO, requests, and the thread that finds the next daemon. Decides nothing about memory.
 *
 * Descriptors belong to the program: it may close all of ours (daemons do) and get the numbers
 * back for files of its own. So each use of one first looks whether it still is what we opened,
 * and all are moved above the low numbers that programs count on.
 */
#include "guard/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "abi/hello.h"
#include "abi/page.h"
#include "base/number.h"
#include "base/paths.h"
#include "base/timing.h"
#include "guard/guard.h"
#include "guard/guest.h"

#define LOW_FDS 100	   /* guess: above what programs and shells count on */
#define REPLY_TIMEOUT_S 10 /* guess: a daemon that says nothing for so long is gone */
#define MAX_SILENCES 2
#define MAX_DEATHS 16 /* of daemons during one request, which may wait for long; guess */
#define BACKOFF_FIRST_NS (50 * AQ_NS_PER_MS)
#define BACKOFF_LAST_NS (500 * AQ_NS_PER_MS)
#define REFUSED_NS (10 * AQ_NS_PER_S) /* guess: asking again is an event in the daemon's log */
#define WAIT_NS AQ_NS_PER_S	      /* a new daemon adopts within a second (design) */
#define WAIT_IF_GONE_NS (2 * AQ_NS_PER_S)
#define HELPER_STACK_BYTES ((size_t)128 << 10)

struct file {
	int fd; /* -1 none */
	dev_t dev;
	ino_t ino;
};

/* All under `lock` but where a comment says otherwise. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* `up` became what it was not */
	struct file socket;
	struct file page;
	uint32_t seq;
	bool up;	  /* written under it, read by aq__conn_up() without */
	uint32_t epoch;	  /* atomic: how often it became so */
	uint32_t ringing; /* atomic: threads in aq__conn_tell() */
	bool helper;	  /* runs, and will connect again */
	bool robbed;	  /* the program closed the socket: the helper cannot have noticed */
	bool orphan;	  /* there is no way back to any daemon */
	uint64_t lost_ns; /* when `up` ended */
	char path[AQ_PATH_BYTES];
	char fraction[AQ_NAME_BYTES];
} conn = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
	.socket.fd = -1,
	.page.fd = -1,
};

static void set_up(bool up)
{
	if (up)
		__atomic_fetch_add(&conn.epoch, 1, __ATOMIC_SEQ_CST);
	__atomic_store_n(&conn.up, up, __ATOMIC_SEQ_CST);
}

uint32_t aq__conn_epoch(void)
{
	return __atomic_load_n(&conn.epoch, __ATOMIC_SEQ_CST);
}

bool aq__conn_up(void)
{
	return __atomic_load_n(&conn.up, __ATOMIC_ACQUIRE);
}

static bool ours(const struct file *f)
{
	struct stat st;

	return f->fd >= 0 && fstat(f->fd, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino;
}

/* Take over @fd, under a higher number where there is one. */
static void file_init(struct file *f, int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, LOW_FDS);
	struct stat st;

	if (high >= 0) {
		close(fd);
		fd = high;
	}
	f->fd = fd;
	if (fstat(fd, &st) == 0) {
		f->dev = st.st_dev;
		f->ino = st.st_ino;
	}
}

/* Not up any more, so that nobody new rings; who still does is in one call that does not wait. */
static void file_finish(struct file *f)
{
	while (__atomic_load_n(&conn.ringing, __ATOMIC_SEQ_CST))
		sched_yield();
	if (ours(f))
		close(f->fd);
	f->fd = -1;
}

static void say(char *text, size_t size, const char *what, int error)
{
	const char *why = strerrordesc_np(-error);

	snprintf(text, size, "%s: %s", what, why ? why : "unknown error");
}

/* The page of a positive reply, or why not. Takes over @page_fd. */
static int take_page(const union aq_msg *msg, int page_fd, char *text, size_t size,
		     struct aq_page **ret_page)
{
	int r = msg->hello_reply.result;

	if (r < 0) {
		if (msg->hello_reply.text[0])
			snprintf(text, size, "%s", msg->hello_reply.text);
		else
			say(text, size, "aliquotd refused", r);
	} else if (page_fd < 0) {
		r = -EBADMSG;
		say(text, size, "aliquotd sent no page", r);
	} else {
		r = aq_page_map(page_fd, ret_page);
		if (r < 0)
			say(text, size, "aliquotd sent a bad page", r);
	}
	if (r < 0) {
		if (page_fd >= 0)
			close(page_fd);
		return r;
	}
	file_init(&conn.page, page_fd);
	return 0;
}

int aq__conn_open(char *text, size_t size, struct aq_page **ret_page)
{
	const char *fraction = secure_getenv("ALIQUOT_FRACTION");
	int fd, r, page_fd = -1;
	union aq_msg msg;

	if (!fraction || strlen(fraction) >= AQ_NAME_BYTES)
		fraction = ""; /* find me by my ancestors */
	fd = aq_hello_connect(conn.path);
	if (fd < 0) {
		char what[AQ_PATH_BYTES + 32];

		snprintf(what, sizeof(what), "no aliquotd at %s", conn.path);
		say(text, size, what, fd);
		return fd;
	}
	r = aq_hello(fd, REPLY_TIMEOUT_S, AQ_HELLO_CLIENT, fraction, -1, &msg, &page_fd);
	if (r == -EPROTO) {
		snprintf(text, size, "aliquotd at %s speaks ABI %u, this program's guard %u",
			 conn.path, msg.head.abi, AQ_ABI_VERSION);
	} else if (r == -EMFILE) {
		say(text, size, "no room for what aliquotd answers (ulimit -n)", r);
	} else if (r < 0) {
		say(text, size, "aliquotd does not answer", r);
	} else {
		r = take_page(&msg, page_fd, text, size, ret_page);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	pthread_mutex_lock(&conn.lock);
	file_init(&conn.socket, fd);
	memcpy(conn.fraction, msg.hello_reply.fraction, sizeof(conn.fraction));
	set_up(true);
	pthread_mutex_unlock(&conn.lock);
	return 0;
}

void aq__conn_close(void)
{
	pthread_mutex_lock(&conn.lock);
	set_up(false);
	file_finish(&conn.socket);
	file_finish(&conn.page);
	pthread_mutex_unlock(&conn.lock);
}

/* Lock held. The helper, who sleeps in poll(), closes the socket: nobody else reuses its number. */
static void lost(void)
{
	if (conn.up) {
		set_up(false);
		conn.lost_ns = aq_now_ns();
		pthread_cond_broadcast(&conn.changed);
	}
	if (ours(&conn.socket))
		shutdown(conn.socket.fd, SHUT_RDWR);
}

/*
 * Lock held. One try; the next daemon knows the fraction by name and us by the page. Where the
 * program closed the page's descriptor, the daemon that gave it may still know us; another cannot.
 * Return: 0; -EACCES: it does not want us; -EBADF: nor will any other; negative errno.
 */
static int connect_again(void)
{
	bool have_page = ours(&conn.page);
	union aq_msg msg;
	int fd, r, surplus = -1;

	if (conn.orphan)
		return -EBADF;
	fd = aq_paths_connect(conn.path, SOCK_SEQPACKET);
	if (fd < 0)
		return fd;
	r = aq_hello(fd, REPLY_TIMEOUT_S, have_page ? AQ_HELLO_CLIENT : AQ_HELLO_BACK,
		     conn.fraction, have_page ? conn.page.fd : -1, &msg, &surplus);
	if (surplus >= 0)
		close(surplus); /* we keep the page that our charges are in */
	if (r == 0 && msg.hello_reply.result < 0) {
		conn.orphan = !have_page;
		r = have_page ? -EACCES : -EBADF;
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	file_init(&conn.socket, fd);
	conn.robbed = false;
	set_up(true);
	pthread_cond_broadcast(&conn.changed);
	return 0;
}

/* The socket with inode @ended is at its end. Return: false when there is no way back. */
static bool reconnect(ino_t ended)
{
	uint64_t backoff_ns = BACKOFF_FIRST_NS;
	bool replaced;
	int r;

	pthread_mutex_lock(&conn.lock);
	replaced = conn.up && conn.socket.ino != ended;
	if (!replaced) {
		lost();
		file_finish(&conn.socket);
	}
	pthread_mutex_unlock(&conn.lock);
	if (replaced)
		return true;
	for (;;) {
		aq_sleep_until_ns(aq_now_ns() + backoff_ns);
		pthread_mutex_lock(&conn.lock);
		r = conn.up ? 0 : connect_again();
		if (r == -EBADF)
			conn.helper = false;
		pthread_mutex_unlock(&conn.lock);
		if (r == 0 || r == -EBADF)
			return r == 0;
		backoff_ns = backoff_ns * 2 < BACKOFF_LAST_NS ? backoff_ns * 2 : BACKOFF_LAST_NS;
		if (r == -EACCES)
			backoff_ns = REFUSED_NS;
	}
}

static void *help(void *arg)
{
	bool go_on = true;

	(void)arg;
	while (go_on) {
		struct pollfd p = {.events = POLLRDHUP};
		ino_t watched;

		pthread_mutex_lock(&conn.lock);
		p.fd = ours(&conn.socket) ? conn.socket.fd : -1;
		watched = conn.socket.ino;
		pthread_mutex_unlock(&conn.lock);
		/* Replies are for whoever asked: only the end is of interest here. */
		if (p.fd >= 0 && (poll(&p, 1, -1) < 0 || !p.revents))
			continue;
		go_on = reconnect(watched);
	}
	return NULL;
}

/*
 * In a static executable that loaded us by dlopen(), the C library that we got with us has not been
 * started, and pthread_create() of it crashes (glibc 2.36). There the program has no loader
 * (AT_BASE) of its own; nor has it where somebody ran the loader as a program, and then it is a
 * pity but no harm. Without the thread, the next request finds the next daemon.
 */
static bool threads_work(void)
{
	return getauxval(AT_BASE) != 0;
}

bool aq__thread_start(void *(*main)(void *), size_t stack_bytes, const char *name)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int saved = errno, r;

	if (!threads_work())
		return false;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* the program's handlers never run in it */
	pthread_attr_setstacksize(&attr, stack_bytes);
	r = pthread_create(&thread, &attr, main, NULL);
	if (r == EINVAL) { /* the program's static TLS, which is taken out of it, is larger */
		pthread_attr_destroy(&attr);
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		r = pthread_create(&thread, &attr, main, NULL);
	}
	if (r == 0)
		pthread_setname_np(thread, name);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	errno = saved;
	return r == 0;
}

void aq__conn_start_helper(void)
{
	pthread_mutex_lock(&conn.lock); /* it waits for us to be done */
	conn.helper = aq__thread_start(help, HELPER_STACK_BYTES, "aliquot");
	pthread_mutex_unlock(&conn.lock);
}

/*
 * Lock held. For the helper to have connected. Daemons may come and go while others of our threads
 * have them: each that went starts the wait anew.
 */
static void wait_for_helper(void)
{
	uint64_t from = aq_now_ns(), until_ns;
	uint32_t epoch = conn.epoch;
	struct timespec until;

	while (!conn.up && conn.epoch - epoch < MAX_DEATHS) {
		until_ns = aq_max(from, conn.lost_ns) + WAIT_NS;
		if (aq_now_ns() >= until_ns)
			return;
		until.tv_sec = (time_t)(until_ns / AQ_NS_PER_S);
		until.tv_nsec = (long)(until_ns % AQ_NS_PER_S);
		(void)pthread_cond_clockwait(&conn.changed, &conn.lock, CLOCK_MONOTONIC, &until);
	}
}

/* Lock held. Return: whether a daemon is there, after the wait that @wait allows. */
static bool wait_for_daemon(bool wait)
{
	uint64_t now = aq_now_ns();

	if (now - conn.lost_ns > WAIT_IF_GONE_NS)
		wait = false;
	if (!conn.helper || conn.robbed) {
		int r;

		file_finish(&conn.socket);
		while ((r = connect_again()) < 0 && wait && r != -EACCES && r != -EBADF &&
		       aq_now_ns() - now < WAIT_NS)
			aq_sleep_until_ns(aq_now_ns() + BACKOFF_FIRST_NS);
	} else if (wait) {
		wait_for_helper();
	}
	return conn.up;
}

/* Lock held. Return: 0; negative errno: the connection is of no use any more. */
static int exchange(const union aq_msg *request, int pass_fd, union aq_msg *reply_msg,
		    enum aq_msg_type reply, int *ret_fd)
{
	uint32_t seq = request->head.seq;
	int r;

	if (!ours(&conn.socket)) {
		conn.robbed = true;
		return -EBADF;
	}
	r = aq_msg_send(conn.socket.fd, request, pass_fd);
	if (r < 0)
		return r;
	r = aq_msg_receive(conn.socket.fd, reply_msg, ret_fd);
	if (r < 0)
		return r;
	if (reply_msg->head.type == reply && reply_msg->head.seq == seq)
		return 0;
	if (ret_fd && *ret_fd >= 0)
		close(*ret_fd);
	return -EBADMSG;
}

int aq__conn_call(union aq_msg *msg, enum aq_msg_type reply, bool wait)
{
	int saved = errno, r = -ENOTCONN, cancel, deaths = 0, silences = 0;
	union aq_msg answer;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&conn.lock);
	while (deaths < MAX_DEATHS && silences < MAX_SILENCES) {
		int failed;

		if (!conn.up && !wait_for_daemon(wait))
			break;
		msg->head.seq = ++conn.seq;
		failed = exchange(msg, -1, &answer, reply, NULL);
		if (!failed) {
			memcpy(msg, &answer, answer.head.size);
			r = 0;
			break;
		}
		lost();
		*(failed == -EAGAIN ? &silences : &deaths) += 1;
	}
	pthread_mutex_unlock(&conn.lock);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
	return r;
}

int aq__conn_pass(union aq_msg *msg, int pass_fd, enum aq_msg_type reply, int *ret_fd)
{
	int saved = errno, r = -ENOTCONN, cancel;
	union aq_msg answer;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&conn.lock);
	if (conn.up || wait_for_daemon(false)) {
		msg->head.seq = ++conn.seq;
		r = exchange(msg, pass_fd, &answer, reply, ret_fd);
		if (r == 0) {
			memcpy(msg, &answer, answer.head.size);
		} else {
			lost();
			r = -EIO;
		}
	}
	pthread_mutex_unlock(&conn.lock);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
	return r;
}

void aq__conn_tell(const union aq_msg *msg)
{
	int saved = errno;

	__atomic_fetch_add(&conn.ringing, 1, __ATOMIC_SEQ_CST);
	if (aq__conn_up() && ours(&conn.socket))
		(void)!send(conn.socket.fd, msg, msg->head.size, MSG_DONTWAIT | MSG_NOSIGNAL);
	__atomic_fetch_sub(&conn.ringing, 1, __ATOMIC_SEQ_CST);
	errno = saved;
}

void aq__conn_bell(uint32_t devices)
{
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_BELL, 0);
	msg.bell.devices = devices;
	aq__conn_tell(&msg);
}

/* The socket and the page are the parent's; sharing them would mix two processes' accounts. */
void aq__conn_forked(void)
{
	conn.lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	conn.changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	set_up(false);
	conn.ringing = 0;
	file_finish(&conn.socket);
	file_finish(&conn.page);
	conn.helper = conn.robbed = conn.orphan = false;
}
