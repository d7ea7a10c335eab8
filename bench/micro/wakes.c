/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waking up costs on this host, now: beside other measurements, so that a reader sees which
 * part of a figure is the host's. Knows nothing of Aliquot and needs no device.
 *
 * Three processes do what is the least in handing a lease over: the first sleeps until an instant
 * (the end of a lease) and sends a datagram, the second receives it and wakes the third by a
 * futex. Printed is how long after the instant the first ran (`timer`) and the third (`chain`).
 *
 *   wakes [--every US] [--slice US]     until a line, or the end, comes on standard input
 *
 * --slice: the first two ask the scheduler for short turns, as the guard's thread and the daemon
 * do; the third stands for a thread of the program. Output: a line of JSON: {"n", "timer_us":
 * {"p50", "p90", "p99", "max"}, "chain_us": {...}}.
 */
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/slice.h"
#include "base/timing.h"

#define MAX_SAMPLES 200000u

struct shared {
	_Atomic uint32_t word;
	uint64_t due_ns;
	uint32_t n;
	uint32_t timer_us[MAX_SAMPLES], chain_us[MAX_SAMPLES];
};

static uint64_t slice_ns;

static pid_t child(void)
{
	pid_t pid = fork();

	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static void relay(struct shared *s, int fd)
{
	char byte;

	if (slice_ns)
		(void)aq_slice_ask(slice_ns);
	while (recv(fd, &byte, 1, 0) == 1) {
		__atomic_fetch_add((uint32_t *)&s->word, 1, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &s->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	}
	_exit(0);
}

static void note(struct shared *s)
{
	uint32_t seen = 0;

	for (;;) {
		while (__atomic_load_n((uint32_t *)&s->word, __ATOMIC_SEQ_CST) == seen)
			syscall(SYS_futex, &s->word, FUTEX_WAIT, seen, NULL, NULL, 0);
		seen++;
		s->chain_us[s->n] = (uint32_t)((aq_now_ns() - s->due_ns) / AQ_NS_PER_US);
		__atomic_store_n(&s->n, s->n + 1, __ATOMIC_RELEASE);
	}
}

static void sleep_until(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / AQ_NS_PER_S), (long)(ns % AQ_NS_PER_S)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void measure(struct shared *s, int fd, uint64_t every_ns)
{
	struct pollfd in = {.fd = 0, .events = POLLIN};
	uint64_t due = aq_now_ns();

	for (uint32_t i = 0; i < MAX_SAMPLES - 1 && poll(&in, 1, 0) == 0; i++) {
		due += every_ns;
		if (due < aq_now_ns()) /* the last one was later than this */
			due = aq_now_ns() + every_ns;
		s->due_ns = due;
		sleep_until(due);
		s->timer_us[i] = (uint32_t)((aq_now_ns() - due) / AQ_NS_PER_US);
		if (send(fd, "", 1, 0) != 1)
			break;
		while (__atomic_load_n(&s->n, __ATOMIC_ACQUIRE) <= i)
			sleep_until(aq_now_ns() + 100 * AQ_NS_PER_US);
	}
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void print(const char *name, uint32_t *us, uint32_t n)
{
	qsort(us, n, sizeof(*us), compare);
	printf(",\"%s\":{\"p50\":%u,\"p90\":%u,\"p99\":%u,\"max\":%u}", name, us[n / 2],
	       us[n - 1 - n / 10], us[n - 1 - n / 100], us[n - 1]);
}

int main(int argc, char **argv)
{
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t every_ns = 4 * AQ_NS_PER_MS;
	pid_t second, third;
	int fd[2];

	for (int i = 1; i + 1 < argc; i += 2) {
		uint64_t ns = strtoull(argv[i + 1], NULL, 10) * AQ_NS_PER_US;

		if (!strcmp(argv[i], "--every") && ns)
			every_ns = ns;
		else if (!strcmp(argv[i], "--slice"))
			slice_ns = ns;
		else
			return 2;
	}
	if (s == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd))
		return 1;
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	second = child();
	if (!second)
		relay(s, fd[1]);
	third = child();
	if (!third)
		note(s);
	if (second < 0 || third < 0)
		return 1;
	if (slice_ns)
		(void)aq_slice_ask(slice_ns);
	measure(s, fd[0], every_ns);
	kill(second, SIGKILL);
	kill(third, SIGKILL);
	while (wait(NULL) > 0)
		;
	if (!s->n)
		return 1;
	printf("{\"n\":%u", (unsigned int)s->n);
	print("timer_us", s->timer_us, s->n);
	print("chain_us", s->chain_us, s->n);
	printf("}\n");
	return 0;
}
