/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_daemon.h. */
#include "fake_daemon.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "abi/grant.h"
#include "abi/page.h"
#include "abi/wire.h"

#define MAX_PEERS 16

struct fake_daemon fake_daemon = {.chunk = 8 << 20, .devices = 1};

/* One borrower; `shared` is of all of it. */
static struct {
	pthread_mutex_t lock;
	uint8_t token[AQ_TOKEN_BYTES];
	uint64_t loan, at, back; /* back: the loan that is given back, not told yet; 0 none */
	bool wanted, lent;
	struct aq_msg_piece piece;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

static char dir[64], path[96];
static pthread_t thread;
static int stop_pipe[2];
static int listener;

static uint64_t limit(int index)
{
	if (fake_daemon.limit)
		return fake_daemon.limit;
	return index ? FAKE_LIMIT_1 : FAKE_LIMIT;
}

uint64_t fake_daemon_used(int index)
{
	return aq_grain_bytes(aq_grant_load(&fake_daemon.page->device[index].grant).used);
}

uint64_t fake_daemon_granted(int index)
{
	return aq_grain_bytes(aq_grant_load(&fake_daemon.page->device[index].grant).granted);
}

static uint64_t avail(int index)
{
	uint64_t held = fake_daemon_granted(index) + fake_daemon.overhead[index];

	return held < limit(index) ? limit(index) - held : 0;
}

static void hello(int fd, union aq_msg *m, int page_fd)
{
	uint32_t seq = m->head.seq, has_page = m->hello.has_page, kind = m->hello.kind;
	struct aq_page *page;
	int new_fd = -1;

	fake_daemon.hellos++;
	aq_msg_init(m, AQ_MSG_HELLO_REPLY, seq);
	m->hello_reply.result = fake_daemon.refuse_hello;
	m->hello_reply.abi = AQ_ABI_VERSION;
	m->hello_reply.device_count = fake_daemon.devices;
	snprintf(m->hello_reply.fraction, sizeof(m->hello_reply.fraction), "test");
	if (fake_daemon.refuse_hello) {
		snprintf(m->hello_reply.text, sizeof(m->hello_reply.text), "not today");
	} else if (has_page) {
		aq_page_unmap(fake_daemon.page);
		if (aq_page_map(page_fd, &page))
			abort();
		fake_daemon.page = page;
		fake_daemon.adoptions++;
	} else if (kind == AQ_HELLO_BACK) {
		fake_daemon.adoptions++;
	} else {
		if (aq_page_create(fake_daemon.devices, "test", &new_fd, &page))
			abort();
		for (uint32_t i = 0; i < fake_daemon.devices; i++) {
			if (fake_daemon.uuids)
				memcpy(page->device[i].uuid, fake_daemon.uuids[i], 16);
			else
				memset(page->device[i].uuid, (int)i + 1, 16);
			page->device[i].limit_bytes = limit((int)i);
			page->device[i].context_bytes = FAKE_CONTEXT_BYTES;
		}
		fake_daemon.page = page;
	}
	aq_msg_send(fd, m, new_fd);
	if (new_fd >= 0)
		close(new_fd);
	if (page_fd >= 0)
		close(page_fd);
}

static void grow(int fd, union aq_msg *m)
{
	struct aq_msg_grow ask = m->grow;
	uint64_t need = ask.need_bytes, give;

	aq_msg_init(m, AQ_MSG_GROW_REPLY, ask.head.seq);
	give = need > fake_daemon.chunk ? need : fake_daemon.chunk;
	if (give > avail((int)ask.device))
		give = need;
	if (need > avail((int)ask.device)) {
		m->grow_reply.result = -ENOMEM;
		fake_daemon.refusals++;
	} else {
		aq_grant_add(&fake_daemon.page->device[ask.device].grant,
			     (uint32_t)((give + 511) / 512));
		m->grow_reply.granted_bytes = give;
		fake_daemon.grows++;
	}
	aq_msg_send(fd, m, -1);
}

static void cost(int fd, union aq_msg *m)
{
	struct aq_msg_cost c = m->cost;
	int r = 0;

	fake_daemon.costs++;
	aq_msg_init(m, AQ_MSG_COST_REPLY, c.head.seq);
	if (c.phase == AQ_COST_BEGIN) {
		aq_grant_revoke(&fake_daemon.page->device[c.device].grant, UINT32_MAX);
		if (c.estimate_bytes > avail((int)c.device))
			r = -ENOMEM;
		else
			fake_daemon.overhead[c.device] += c.estimate_bytes;
	} else {
		fake_daemon.overhead[c.device] = 0;
		if (fake_daemon.contexts)
			fake_daemon.overhead[c.device] =
				__atomic_load_n(&fake_daemon.contexts[c.device], __ATOMIC_SEQ_CST) *
				FAKE_CONTEXT_BYTES;
		if (c.phase == AQ_COST_END && fake_daemon.refuse_measured)
			r = -ENOMEM;
	}
	m->cost_reply.result = r;
	aq_msg_send(fd, m, -1);
}

static void query(int fd, union aq_msg *m)
{
	struct aq_msg_query q = m->query;
	uint64_t held = fake_daemon_used((int)q.device) + fake_daemon.overhead[q.device];

	fake_daemon.queries++;
	aq_msg_init(m, AQ_MSG_QUERY_REPLY, q.head.seq);
	m->query_reply.limit_bytes = limit((int)q.device);
	m->query_reply.free_bytes = limit((int)q.device) - held;
	aq_msg_send(fd, m, -1);
}

/* ---- sharing ---- */

static void tell_exporter(void)
{
	__atomic_fetch_add((uint32_t *)&fake_daemon.page->shares, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &fake_daemon.page->shares, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void fake_daemon_borrow(uint64_t at)
{
	pthread_mutex_lock(&shared.lock);
	shared.loan++;
	shared.at = at;
	shared.wanted = true;
	shared.lent = false;
	pthread_mutex_unlock(&shared.lock);
	tell_exporter();
}

int fake_daemon_lent(uint64_t *ret_loan, uint64_t *ret_span)
{
	bool lent = false;

	for (int i = 0; i < 10000 && !lent; i++) {
		pthread_mutex_lock(&shared.lock);
		lent = shared.lent;
		pthread_mutex_unlock(&shared.lock);
		if (!lent)
			usleep(1000);
	}
	*ret_loan = shared.loan;
	*ret_span = shared.piece.span_bytes;
	return lent ? shared.piece.result : -ETIMEDOUT;
}

void fake_daemon_give_back(uint64_t loan)
{
	pthread_mutex_lock(&shared.lock);
	shared.back = loan;
	pthread_mutex_unlock(&shared.lock);
	tell_exporter();
}

static void ask(union aq_msg *m)
{
	aq_msg_init(m, AQ_MSG_ASK_REPLY, m->head.seq);
	if (shared.wanted) {
		shared.wanted = false;
		m->ask_reply.what = AQ_ASK_WANTED;
		m->ask_reply.loan = shared.loan;
		m->ask_reply.at = shared.at;
		memcpy(m->ask_reply.token, shared.token, sizeof(shared.token));
	} else if (shared.back) {
		m->ask_reply.what = AQ_ASK_CLOSED;
		m->ask_reply.loan = shared.back;
		shared.back = 0;
	}
}

/* Return: false when it is none of these. */
static bool serve_sharing(int fd, union aq_msg *m, int passed)
{
	uint32_t seq = m->head.seq;
	bool ours = true;

	pthread_mutex_lock(&shared.lock);
	if (m->head.type == AQ_MSG_EXPORT) {
		memcpy(shared.token, m->export.token, sizeof(shared.token));
		aq_msg_init(m, AQ_MSG_SHARE_REPLY, seq);
	} else if (m->head.type == AQ_MSG_ASK) {
		ask(m);
	} else if (m->head.type == AQ_MSG_LEND) {
		shared.piece = m->piece;
		shared.lent = true;
		if ((m->piece.result == 0) != (passed >= 0))
			abort();
		aq_msg_init(m, AQ_MSG_SHARE_REPLY, seq);
	} else {
		ours = false;
	}
	pthread_mutex_unlock(&shared.lock);
	if (ours)
		aq_msg_send(fd, m, -1);
	return ours;
}

/* Return: false when the peer is gone. */
static bool serve(int fd)
{
	union aq_msg m;
	int page_fd = -1;

	if (aq_msg_receive(fd, &m, &page_fd))
		return false;
	if (m.head.type == AQ_MSG_HELLO)
		hello(fd, &m, page_fd);
	else if (m.head.type == AQ_MSG_GROW)
		grow(fd, &m);
	else if (m.head.type == AQ_MSG_COST)
		cost(fd, &m);
	else if (m.head.type == AQ_MSG_QUERY)
		query(fd, &m);
	else if (m.head.type == AQ_MSG_BELL)
		fake_daemon.bells++;
	else if (m.head.type == AQ_MSG_WITHDRAW)
		fake_daemon.withdrawals++;
	else if (serve_sharing(fd, &m, page_fd) && page_fd >= 0)
		close(page_fd);
	return true;
}

static void *run(void *arg)
{
	struct pollfd p[2 + MAX_PEERS] = {{.fd = stop_pipe[0], .events = POLLIN},
					  {.fd = listener, .events = POLLIN}};
	nfds_t n = 2;

	for (;;) {
		poll(p, n, -1);
		if (p[0].revents)
			break;
		for (nfds_t i = 2; i < n; i++) {
			if (p[i].revents && !serve(p[i].fd)) {
				close(p[i].fd);
				p[i--] = p[--n];
			}
		}
		if (p[1].revents && n < 2 + MAX_PEERS) {
			p[n] = (struct pollfd){.fd = accept(listener, NULL, NULL),
					       .events = POLLIN};
			n++;
		}
	}
	for (nfds_t i = 2; i < n; i++)
		close(p[i].fd);
	return NULL;
}

void fake_daemon_prepare(void)
{
	snprintf(dir, sizeof(dir), "/tmp/aliquot-test-XXXXXX");
	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/aliquotd.sock", dir);
	setenv("ALIQUOT_SOCKET", path, 1);
	setenv("ALIQUOT_FRACTION", "test", 1);
}

void fake_daemon_start(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 16) ||
	    pipe(stop_pipe) || pthread_create(&thread, NULL, run, NULL))
		abort();
}

void fake_daemon_stop(void)
{
	if (write(stop_pipe[1], "x", 1) != 1)
		abort();
	pthread_join(thread, NULL);
	close(listener);
	close(stop_pipe[0]);
	close(stop_pipe[1]);
}

void fake_daemon_clean(void)
{
	unlink(path);
	rmdir(dir);
}
