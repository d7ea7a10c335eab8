/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guard by hand, without any memory behind it: attaches to a fraction, takes and gives room in
 * its page, and carries out orders to park and to come back, well or badly, as it is told line by
 * line. Lets the daemon's half of residency be tested by itself. Device 0 of the fraction only.
 *
 * Usage: mover SOCKET FRACTION
 * Commands, each answered by one line `verb code=N key=value ...`:
 *   alloc N, fixed N, free N    movable room, immovable room, give movable room back
 *   run                         submit once: waits as long as the gate is closed for parking
 *   busy 0|1                    submit all the time, in the background
 *   fail E                      answer orders with -E from now on (0: carry them out)
 *   slow MS                     orders take so long
 *   deaf 0|1                    leave orders alone
 *   claim N                     the next parking says that N bytes were parked, whatever was
 *   state                       everything
 *   back                        come back to a new daemon with the page
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/grant.h"
#include "abi/page.h"
#include "abi/wire.h"
#include "base/name.h"
#include "base/paths.h"
#include "base/timing.h"
#include "base/banned.h"

#define LOOK_US 1000
#define WANT_TRIES_US 10000
#define BACK_TRIES 100
#define OUT_OF_MEMORY 2 /* CUDA_ERROR_OUT_OF_MEMORY */

static struct aq_page *page;
static struct aq_page_device *dev;
static int page_fd = -1;
static const char *path, *fraction;

/* Which socket: replaced by `back` only, and read by all threads. */
static _Atomic int sock = -1;

/* What is where. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t movable, fixed, parked;

static _Atomic int fail_with, slow_ms, deaf, busy;
static _Atomic uint64_t claim, ran, orders_done;

static void bell(void)
{
	union aq_msg msg;

	aq_msg_init(&msg, AQ_MSG_BELL, 0);
	msg.bell.devices = 1;
	aq_msg_send(sock, &msg, -1);
}

static int attach(bool again)
{
	union aq_msg msg;
	int fd = aq_paths_connect(path, SOCK_SEQPACKET), r;

	if (fd < 0)
		return fd;
	aq_msg_init(&msg, AQ_MSG_HELLO, 1);
	msg.hello.kind = AQ_HELLO_CLIENT;
	msg.hello.has_page = again;
	msg.hello.pid = getpid();
	aq_copy_padded(msg.hello.fraction, sizeof(msg.hello.fraction), fraction);
	r = aq_msg_send(fd, &msg, again ? page_fd : -1);
	if (r == 0)
		r = aq_msg_receive(fd, &msg, again ? NULL : &page_fd);
	if (r == 0)
		r = msg.hello_reply.result;
	if (r < 0) {
		close(fd);
		return r;
	}
	if (sock >= 0)
		close(sock);
	sock = fd;
	return again ? 0 : aq_page_map(page_fd, &page);
}

/* Return: 0; OUT_OF_MEMORY; negative errno. */
static int grow(uint64_t need, bool moves)
{
	union aq_msg msg;
	int r;

	aq_msg_init(&msg, AQ_MSG_GROW, 7);
	msg.grow.movable = moves;
	msg.grow.need_bytes = need;
	msg.grow.call_bytes = need;
	aq_copy_padded(msg.grow.api, sizeof(msg.grow.api), "cuMemAlloc_v2");
	r = aq_msg_send(sock, &msg, -1);
	if (r == 0)
		r = aq_msg_receive(sock, &msg, NULL);
	if (r < 0)
		return r;
	return msg.grow_reply.result < 0 ? OUT_OF_MEMORY : 0;
}

static int take(uint64_t bytes, uint64_t *counter)
{
	uint32_t grains, missing;
	int r;

	if (!aq_grains(bytes, &grains))
		return -EINVAL;
	for (;;) {
		pthread_mutex_lock(&lock);
		if (aq_grant_use(&dev->grant, grains, &missing)) {
			*counter += bytes;
			dev->movable_bytes = movable;
			dev->changes++;
			pthread_mutex_unlock(&lock);
			return 0;
		}
		pthread_mutex_unlock(&lock);
		r = grow(aq_grain_bytes(missing), counter == &movable);
		if (r)
			return r;
	}
}

static int give(uint64_t bytes)
{
	int r = -EINVAL;

	pthread_mutex_lock(&lock);
	if (bytes <= movable && bytes % AQ_GRAIN_BYTES == 0) {
		movable -= bytes;
		dev->movable_bytes = movable;
		aq_grant_release(&dev->grant, (uint32_t)(bytes / AQ_GRAIN_BYTES));
		dev->changes++;
		r = 0;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

static int park(void)
{
	if (movable > dev->host_limit_bytes)
		return -ENOSPC;
	parked += movable;
	aq_grant_release(&dev->grant, (uint32_t)(movable / AQ_GRAIN_BYTES));
	movable = 0;
	return 0;
}

static int come_back(void)
{
	uint32_t missing;

	if (!aq_grant_use(&dev->grant, (uint32_t)(parked / AQ_GRAIN_BYTES), &missing))
		return -ENOMEM;
	movable += parked;
	parked = 0;
	return 0;
}

static void carry_out(uint32_t turn)
{
	enum aq_order order = (enum aq_order)dev->order;
	uint64_t say;
	int r = 0;

	usleep((useconds_t)slow_ms * 1000);
	pthread_mutex_lock(&lock);
	if (fail_with)
		r = -fail_with;
	else if (order == AQ_ORDER_PARK)
		r = park();
	else if (parked)
		r = come_back();
	say = claim;
	claim = 0;
	dev->movable_bytes = movable;
	dev->parked_bytes = say ? say : parked;
	dev->changes++;
	dev->order_result = r;
	dev->order_done = turn;
	pthread_mutex_unlock(&lock);
	orders_done++;
	bell();
}

static void *follow_orders(void *unused)
{
	for (;;) {
		uint32_t turn = dev->order_turn;

		if (!deaf && turn != dev->order_done)
			carry_out(turn);
		usleep(LOOK_US);
	}
	return unused;
}

/* What every submit does at the gate; waits while it is closed for parking. */
static void submit(void)
{
	if (page->gates & 1 && dev->gate & AQ_GATE_NOTICE && dev->noticed != dev->notice) {
		dev->noticed = dev->notice;
		bell();
	}
	while (dev->gate & AQ_GATE_PARKED) {
		dev->want = 1;
		bell();
		usleep(WANT_TRIES_US);
	}
	dev->want = 0;
	ran++;
}

static void *keep_busy(void *unused)
{
	for (;;) {
		if (busy)
			submit();
		usleep(LOOK_US);
	}
	return unused;
}

static int back(void)
{
	int r = -ECONNREFUSED;

	for (int i = 0; i < BACK_TRIES && r < 0; i++) {
		r = attach(true);
		if (r < 0)
			usleep(50000);
	}
	return r;
}

static void show(const char *verb, int code, uint64_t took_ns)
{
	struct aq_grant g = aq_grant_load(&dev->grant);

	pthread_mutex_lock(&lock);
	printf("%s code=%d ms=%llu movable=%llu fixed=%llu parked=%llu used=%llu granted=%llu "
	       "gate=%u turn=%u ran=%llu limit=%llu\n",
	       verb, code, (unsigned long long)(took_ns / AQ_NS_PER_MS),
	       (unsigned long long)movable, (unsigned long long)fixed, (unsigned long long)parked,
	       (unsigned long long)aq_grain_bytes(g.used),
	       (unsigned long long)aq_grain_bytes(g.granted), dev->gate, dev->order_turn,
	       (unsigned long long)ran, (unsigned long long)dev->limit_bytes);
	pthread_mutex_unlock(&lock);
	fflush(stdout);
}

static void command(char *line)
{
	char *end, *verb = strtok_r(line, " \n", &end),
		   *word = verb ? strtok_r(NULL, " \n", &end) : NULL;
	uint64_t n = word ? strtoull(word, NULL, 0) : 0, start = aq_now_ns();
	int code = 0;

	if (!verb)
		return;
	if (!strcmp(verb, "alloc"))
		code = take(n, &movable);
	else if (!strcmp(verb, "fixed"))
		code = take(n, &fixed);
	else if (!strcmp(verb, "free"))
		code = give(n);
	else if (!strcmp(verb, "run"))
		submit();
	else if (!strcmp(verb, "busy"))
		busy = (int)n;
	else if (!strcmp(verb, "fail"))
		fail_with = (int)n;
	else if (!strcmp(verb, "slow"))
		slow_ms = (int)n;
	else if (!strcmp(verb, "deaf"))
		deaf = (int)n;
	else if (!strcmp(verb, "claim"))
		claim = n;
	else if (!strcmp(verb, "back"))
		code = back();
	else if (strcmp(verb, "state") != 0)
		code = -ENOSYS;
	show(verb, code, aq_now_ns() - start);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char line[256];
	int r;

	if (argc != 3)
		return 2;
	path = argv[1];
	fraction = argv[2];
	r = attach(false);
	if (r < 0) {
		printf("attach code=%d\n", r);
		return 1;
	}
	dev = &page->device[0];
	page->contexts = 1;
	if (pthread_create(&thread, NULL, follow_orders, NULL) ||
	    pthread_create(&thread, NULL, keep_busy, NULL))
		return 1;
	show("attach", 0, 0);
	while (fgets(line, sizeof(line), stdin))
		command(line);
	return 0;
}
