/* SPDX-License-Identifier: Apache-2.0 */
/* Starts, reads and ends programs. Knows nothing of what they are. */
#include "fractions/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/timing.h"
#include "base/banned.h"

#define LOOK_NS (20 * AQ_NS_PER_MS) /* between two looks whether a process has ended */
#define READ_BYTES 65536

static volatile sig_atomic_t stopping;

static void note_signal(int number)
{
	stopping = number;
}

int fr_stopping(void)
{
	return stopping;
}

void fr_catch_signals(void)
{
	struct sigaction action = {.sa_handler = note_signal};

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int fr_sleep(uint64_t ns)
{
	uint64_t until = aq_now_ns() + ns, now;

	while (!stopping && (now = aq_now_ns()) < until) {
		uint64_t left = (until - now) / AQ_NS_PER_MS + 1;

		poll(NULL, 0,
		     left > 100 ? 100 : (int)left); /* the flag may be set just before it */
	}
	return stopping ? -EINTR : 0;
}

static void set_environment(const char *const *environ)
{
	for (; environ && *environ; environ++) {
		if (strchr(*environ, '='))
			putenv((char *)*environ);
		else
			unsetenv(*environ);
	}
}

__attribute__((noreturn)) static void become(const char *const *argv, const char *const *environ,
					     const char *log, int out, int report)
{
	int error, in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int err = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	signal(SIGPIPE, SIG_DFL);
	setpgid(0, 0);
	if (in >= 0 && err >= 0 && dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(err, 2) >= 0) {
		set_environment(environ);
		execv(argv[0], (char *const *)argv);
	}
	error = errno;
	_exit(write(report, &error, sizeof(error)) < 0 ? 126 : 127);
}

int fr_proc_start(struct fr_proc *p, const char *const *argv, const char *const *environ,
		  const char *log)
{
	pid_t parent = getpid();
	int out[2], report[2], error = 0;

	*p = FR_PROC_NONE;
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(report, O_CLOEXEC) < 0) {
		error = errno;
		close(out[0]);
		close(out[1]);
		return -error;
	}
	p->pid = fork();
	if (!p->pid) {
		/* TERM, not KILL: a fraction's program may have children of its own to end. */
		if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != parent)
			_exit(127);
		become(argv, environ, log, out[1], report[1]);
	}
	if (p->pid < 0)
		error = errno;
	close(out[1]);
	close(report[1]);
	if (p->pid > 0 && read(report[0], &error, sizeof(error)) > 0)
		waitpid(p->pid, NULL, 0);
	close(report[0]);
	if (error) {
		close(out[0]);
		*p = FR_PROC_NONE;
		return -error;
	}
	p->out = out[0];
	return 0;
}

/* Wait until there is output. Return: 0; -ETIMEDOUT; -EINTR; other negative errno. */
static int await(struct fr_proc *p, uint64_t deadline_ns)
{
	struct pollfd fd = {.fd = p->out, .events = POLLIN};

	for (;;) {
		uint64_t now = aq_now_ns();
		int n;

		if (stopping)
			return -EINTR;
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		n = poll(&fd, 1,
			 deadline_ns - now > AQ_NS_PER_S / 10
				 ? 100
				 : (int)((deadline_ns - now) / AQ_NS_PER_MS) + 1);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int fr_proc_line(struct fr_proc *p, char *buf, size_t size, uint64_t deadline_ns)
{
	size_t used = 0;

	for (;;) {
		int r = await(p, deadline_ns);
		char c;

		if (r < 0)
			return r;
		if (read(p->out, &c, 1) != 1)
			return -ENODATA;
		if (c == '\n')
			break;
		if (used + 1 < size)
			buf[used++] = c;
	}
	buf[used] = '\0';
	return 0;
}

int fr_proc_output(struct fr_proc *p, size_t max, uint64_t deadline_ns, char **ret_text)
{
	AQ_CLEANUP(free) char *text = malloc(READ_BYTES + 1);
	size_t used = 0, room = READ_BYTES;

	if (!text)
		return -ENOMEM;
	for (;;) {
		int r = await(p, deadline_ns);
		ssize_t n;

		if (r < 0)
			return r;
		n = read(p->out, text + used, room - used);
		if (n < 0)
			return -errno;
		if (!n)
			break;
		used += (size_t)n;
		if (used > max)
			return -EFBIG;
		if (used == room) {
			char *more = realloc(text, 2 * room + 1);

			if (!more)
				return -ENOMEM;
			text = more;
			room *= 2;
		}
	}
	text[used] = '\0';
	*ret_text = AQ_STEAL(text);
	return 0;
}

static uint64_t time_ns(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * AQ_NS_PER_S + (uint64_t)t->tv_usec * AQ_NS_PER_US;
}

/* See its end, if there is one. @options: of waitpid(2) */
static void reap(struct fr_proc *p, int options)
{
	struct rusage used;

	if (p->pid <= 0 || wait4(p->pid, &p->status, options, &used) != p->pid)
		return;
	p->cpu_ns = time_ns(&used.ru_utime) + time_ns(&used.ru_stime);
	p->pid = 0;
}

bool fr_proc_ended(struct fr_proc *p)
{
	reap(p, WNOHANG);
	return p->pid <= 0;
}

void fr_proc_end(struct fr_proc *const *p, size_t count, uint64_t grace_ns)
{
	uint64_t deadline = aq_now_ns() + grace_ns;
	size_t left = 0;

	for (size_t i = 0; i < count; i++)
		if (!fr_proc_ended(p[i]))
			kill(p[i]->pid, SIGTERM);
	do {
		left = 0;
		for (size_t i = 0; i < count; i++)
			left += !fr_proc_ended(p[i]);
		if (left)
			aq_sleep_until_ns(aq_now_ns() + LOOK_NS);
	} while (left && aq_now_ns() < deadline);
	for (size_t i = 0; i < count; i++) {
		if (!fr_proc_ended(p[i])) {
			kill(-p[i]->pid, SIGKILL);
			reap(p[i], 0);
			p[i]->pid = 0;
		}
		if (p[i]->out >= 0)
			close(p[i]->out);
		p[i]->out = -1;
	}
}
