/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many guards at once: each a process that connects, says HELLO and takes its page, all at the same
 * moment; then they stay idle, and die together. Prints how long attaching took and what the idle
 * daemon costs. Allocates nothing from the daemon.
 *
 * Usage: swarm SOCKET DAEMON_PID CLIENTS IDLE_SECONDS FRACTION...
 * Prints: attached=N p50_us= p99_us= max_us= idle_permille=
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/page.h"
#include "abi/wire.h"
#include "base/name.h"
#include "base/paths.h"
#include "base/timing.h"
#include "base/banned.h"

#define MAX_CLIENTS 4096
#define READY_S 60

static struct shared {
	_Atomic int ready, done;
	struct {
		int result;
		uint64_t ns;
	} client[MAX_CLIENTS];
} * shared;

static int attach(const char *path, const char *fraction)
{
	int fd = aq_paths_connect(path, SOCK_SEQPACKET), page_fd = -1, r;
	struct aq_page *page;
	union aq_msg msg;

	if (fd < 0)
		return fd;
	aq_msg_init(&msg, AQ_MSG_HELLO, 1);
	msg.hello.kind = AQ_HELLO_CLIENT;
	msg.hello.pid = getpid();
	aq_copy_padded(msg.hello.fraction, sizeof(msg.hello.fraction), fraction);
	r = aq_msg_send(fd, &msg, -1);
	if (r == 0)
		r = aq_msg_receive(fd, &msg, &page_fd);
	if (r == 0)
		r = msg.hello_reply.result;
	return r < 0 ? r : aq_page_map(page_fd, &page);
}

/* Starts when the other end of @gate is closed everywhere. */
static void client(int i, int gate, const char *path, const char *fraction)
{
	uint64_t start;
	char byte;

	atomic_fetch_add(&shared->ready, 1);
	while (read(gate, &byte, 1) < 0 && errno == EINTR)
		;
	start = aq_now_ns();
	shared->client[i].result = attach(path, fraction);
	shared->client[i].ns = aq_now_ns() - start;
	atomic_fetch_add(&shared->done, 1);
	for (;;)
		pause();
}

static void wait_until(_Atomic int *counter, int n)
{
	uint64_t end = aq_now_ns() + READY_S * AQ_NS_PER_S;

	while (atomic_load(counter) < n && aq_now_ns() < end)
		usleep(1000);
}

/* User and system time of a process in clock ticks. */
static unsigned long cpu_ticks(const char *pid)
{
	char path[64], text[1024], *p;
	unsigned long user = 0, system = 0;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	p = strrchr(text, ')');
	if (p && sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
			&system) != 2)
		return 0;
	return user + system;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	static uint64_t took[MAX_CLIENTS];
	static pid_t pids[MAX_CLIENTS];
	int n = argc > 5 ? (int)strtol(argv[3], NULL, 10) : 0, attached = 0;
	int gate[2];
	long idle_s = argc > 5 ? strtol(argv[4], NULL, 10) : 0;
	unsigned long ticks;

	if (n < 1 || n > MAX_CLIENTS)
		return 2;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED || pipe(gate) < 0)
		return 1;
	for (int i = 0; i < n; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			close(gate[1]);
			client(i, gate[0], argv[1], argv[5 + i % (argc - 5)]);
		}
	}
	wait_until(&shared->ready, n);
	close(gate[1]);
	wait_until(&shared->done, n);
	for (int i = 0; i < n; i++) {
		took[i] = shared->client[i].ns;
		if (shared->client[i].result == 0)
			attached++;
		else
			fprintf(stderr, "client %d: %s\n", i, strerror(-shared->client[i].result));
	}
	qsort(took, (size_t)n, sizeof(took[0]), by_size);

	sleep(1); /* what attaching left to do is done */
	ticks = cpu_ticks(argv[2]);
	sleep((unsigned int)idle_s);
	ticks = cpu_ticks(argv[2]) - ticks;
	printf("attached=%d p50_us=%llu p99_us=%llu max_us=%llu idle_permille=%lu\n", attached,
	       (unsigned long long)took[n / 2] / 1000,
	       (unsigned long long)took[n * 99 / 100] / 1000,
	       (unsigned long long)took[n - 1] / 1000,
	       idle_s ? ticks * 1000 / (unsigned long)(sysconf(_SC_CLK_TCK) * idle_s) : 0);
	fflush(stdout);
	for (int i = 0; i < n; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	return attached == n ? 0 : 1;
}
