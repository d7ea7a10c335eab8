/* SPDX-License-Identifier: Apache-2.0 */
/* Finds and starts aliquotd as a process of its own. Never stops it: it ends by itself. */
#include "cli/start.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/paths.h"
#include "base/timing.h"
#include "cli/api.h"
#include "cli/say.h"
#include "base/banned.h"

#define LOG_NAME "aliquotd.log"
#define LOG_MAX_BYTES (1 << 20) /* a log found larger than this is begun anew */
#define PID_NAME "aliquotd.pid"
#define STEP_MS 5
/* Loading the driver's management library alone takes seconds on machines with many GPUs and no
 * persistence mode: while our daemon lives it gets this long. Guess; no figure measured yet. */
#define PATIENCE_NS (60 * AQ_NS_PER_S)
#define SAY_AFTER_NS (2 * AQ_NS_PER_S)
/* Ours ended and no other is known to be starting: what is left for one that holds the lock but has
 * not written its pid yet. */
#define AFTER_DEATH_NS (1 * AQ_NS_PER_S)

int aq_start_find(char *buf)
{
	static const char *const beside[] = {"aliquotd", "../daemon/aliquotd"};
	const char *env = getenv("ALIQUOT_DAEMON");
	char exe[AQ_PATH_BYTES];
	ssize_t n;

	if (env && env[0] == '/') {
		if (strlen(env) >= AQ_PATH_BYTES)
			return -ENAMETOOLONG;
		snprintf(buf, AQ_PATH_BYTES, "%s", env);
		return access(buf, X_OK) ? -ENOENT : 0;
	}
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	if (n < 0)
		return -errno;
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	for (size_t i = 0; i < AQ_ARRAY_SIZE(beside); i++)
		if (!aq_paths_join(buf, exe, beside[i]) && !access(buf, X_OK))
			return 0;
	return -ENOENT;
}

static int open_log(const char *rundir)
{
	char path[AQ_PATH_BYTES];
	struct stat st;
	int fd;

	if (aq_paths_join(path, rundir, LOG_NAME) < 0)
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && st.st_size > LOG_MAX_BYTES && ftruncate(fd, 0) < 0)
		aq_say_debug("log '%s': %s", path, strerror(errno));
	return fd;
}

/* What the daemon must not inherit from a program that runs in a fraction itself. */
static void clean_environment(void)
{
	static const char *const names[] = {
		"ALIQUOT_SOCKET", "ALIQUOT_FRACTION", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD",
	};
	const char *path = getenv("LD_LIBRARY_PATH");

	for (size_t i = 0; i < AQ_ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	if (path && strstr(path, "/guard"))
		unsetenv("LD_LIBRARY_PATH");
}

/* In the grandchild: only this process's own memory is touched before exec. */
static void __attribute__((noreturn)) become_daemon(const char *program, int log_fd,
						    const char *sim)
{
	const char *argv[8] = {"aliquotd", "--private", "--foreground"};
	int n = 3, null_fd;
	sigset_t none;

	if (sim) {
		argv[n++] = "--sim";
		argv[n++] = sim;
	}
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 ||
	    dup2(log_fd, STDERR_FILENO) < 0 || chdir("/") < 0)
		_exit(AQ_EXIT_RUN_FAILED);
	/* Pipes of the caller's shell must not stay open for as long as the daemon lives. */
	if (syscall(SYS_close_range, 3, ~0U, 0) < 0)
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
	umask(077);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	clean_environment();
	execv(program, (char *const *)argv);
	dprintf(STDERR_FILENO, "aliquotd: '%s': %s\n", program, strerror(errno));
	_exit(AQ_EXIT_RUN_FAILED);
}

/* Double fork: the daemon is nobody's child, so the program that `run` becomes never sees it. */
static int spawn(const char *program, int log_fd, const char *sim, pid_t *ret_pid)
{
	AQ_CLEANUP(close) int from_child = -1;
	AQ_CLEANUP(close) int to_parent = -1;
	int fds[2], status;
	pid_t child, daemon_pid = -1;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	from_child = fds[0];
	to_parent = fds[1];
	child = fork();
	if (child < 0)
		return -errno;
	if (!child) {
		setsid();
		daemon_pid = fork();
		if (!daemon_pid)
			become_daemon(program, log_fd, sim);
		if (write(to_parent, &daemon_pid, sizeof(daemon_pid)) < 0)
			_exit(1);
		_exit(0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	close(aq_steal_fd(&to_parent));
	if (read(from_child, &daemon_pid, sizeof(daemon_pid)) != sizeof(daemon_pid) ||
	    daemon_pid < 0)
		return -EAGAIN;
	*ret_pid = daemon_pid;
	return 0;
}

/* A daemon that won the race against ours: its pid is in the lock file, and it lives. */
static bool other_lives(const char *rundir, pid_t ours)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[AQ_PATH_BYTES];
	long pid;

	if (aq_paths_join(path, rundir, PID_NAME) < 0 || aq_file_read(path, 64, &text) < 0)
		return false;
	pid = strtol(text, NULL, 10);
	return pid > 0 && pid != ours && (!kill((pid_t)pid, 0) || errno == EPERM);
}

static void say_last_line(const char *rundir)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[AQ_PATH_BYTES], *line;
	ssize_t n;

	if (aq_paths_join(path, rundir, LOG_NAME) < 0)
		return;
	n = aq_file_read(path, 2 * LOG_MAX_BYTES, &text);
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	if (n <= 0)
		return;
	line = strrchr(text, '\n');
	aq_say("its last words in %s: %s", path, line ? line + 1 : text);
}

static int wait_until_listening(const char *rundir, const char *what, pid_t pid)
{
	AQ_CLEANUP(close) int pidfd = aq_pidfd_open(pid);
	uint64_t started = aq_now_ns(), died = 0, now;
	bool said = !isatty(STDERR_FILENO);

	for (;;) {
		struct pollfd p = {.fd = pidfd, .events = POLLIN};

		if (!aq_api_listens(rundir, false))
			return 0;
		now = aq_now_ns();
		if (!died && (pidfd < 0 ? kill(pid, 0) < 0 : poll(&p, 1, 0) > 0))
			died = now;
		if (died && now - died > AFTER_DEATH_NS && !other_lives(rundir, pid)) {
			aq_say("%s: the private daemon ended at once", what);
			say_last_line(rundir);
			return -ECHILD;
		}
		if (now - started > PATIENCE_NS) {
			aq_say("%s: the private daemon does not listen after %d s: see %s/" LOG_NAME,
			       what, (int)(PATIENCE_NS / AQ_NS_PER_S), rundir);
			return -ETIMEDOUT;
		}
		if (!said && now - started > SAY_AFTER_NS) {
			aq_say("%s: waiting for the private daemon to start", what);
			said = true;
		}
		aq_sleep_until_ns(now + STEP_MS * AQ_NS_PER_MS);
	}
}

int aq_start_daemon(const char *rundir, const char *what, const char *sim)
{
	AQ_CLEANUP(close) int log_fd = -1;
	char program[AQ_PATH_BYTES];
	pid_t pid = -1;
	int r;

	r = aq_start_find(program);
	if (r < 0) {
		aq_say("%s: no daemon listens, and aliquotd is not beside this program", what);
		return r;
	}
	r = aq_paths_make_rundir(rundir);
	if (r < 0) {
		aq_say("%s: '%s': %s", what, rundir, r == -EPERM ?
		       "must be a directory of yours that nobody else may enter (chmod 700)" :
		       strerror(-r));
		return r;
	}
	log_fd = open_log(rundir);
	if (log_fd < 0) {
		aq_say("%s: '%s/" LOG_NAME "': %s", what, rundir, strerror(-log_fd));
		return log_fd;
	}
	r = spawn(program, log_fd, sim, &pid);
	if (r < 0) {
		aq_say("%s: '%s': %s", what, program, strerror(-r));
		return r;
	}
	aq_say_debug("started %s as pid %d", program, (int)pid);
	return wait_until_listening(rundir, what, pid);
}
