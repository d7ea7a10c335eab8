/* SPDX-License-Identifier: Apache-2.0 */
/* Finds and starts aliquotd as a process of its own. Never stops it: it ends by itself. */
#include "cli/start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/paths.h"
#include "base/timing.h"
#include "cli/api.h"
#include "cli/pathlist.h"
#include "cli/say.h"
#include "base/banned.h"

#define LOG_NAME "aliquotd.log"
#define LOG_READ_BYTES (16u << 20) /* far more than a daemon lets its log grow to */
#define STEP_NS (2 * AQ_NS_PER_MS)
/* Loading the driver's management library alone takes seconds on machines with many GPUs and no
 * persistence mode: while our daemon lives it gets this long. Guess; no figure measured yet. */
#define PATIENCE_NS (60 * AQ_NS_PER_S)
#define SAY_AFTER_NS (2 * AQ_NS_PER_S)

int aq_start_find(char *buf)
{
	static const char *const places[] = {"aliquotd", "../daemon/aliquotd"};
	const char *env = getenv("ALIQUOT_DAEMON");

	if (env && env[0] == '/') {
		if (strlen(env) >= AQ_PATH_BYTES)
			return -ENAMETOOLONG;
		snprintf(buf, AQ_PATH_BYTES, "%s", env);
		return aq_paths_is_program(buf) ? 0 : -ENOENT;
	}
	for (size_t i = 0; i < AQ_ARRAY_SIZE(places); i++)
		if (!aq_paths_beside(buf, places[i], aq_paths_is_program))
			return 0;
	return -ENOENT;
}

static int open_log(const char *rundir)
{
	char path[AQ_PATH_BYTES];
	int fd;

	if (aq_paths_join(path, rundir, LOG_NAME) < 0)
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

/* What the daemon must not inherit from a program that runs in a fraction itself. */
static void clean_environment(const char *rundir)
{
	static const char *const names[] = {
		"ALIQUOT_SOCKET", "ALIQUOT_FRACTION", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD",
	};
	char libdir[AQ_PATH_BYTES] = "/", ours[AQ_PATH_BYTES + 8];
	const char *nothing[] = {NULL}, *drop[] = {libdir, ours, NULL};
	const char *old = getenv("LD_LIBRARY_PATH");
	char *list;

	for (size_t i = 0; i < AQ_ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	if (!old || aq_paths_libdir(libdir) < 0)
		return;
	snprintf(ours, sizeof(ours), "%s/driver", rundir);
	list = aq_pathlist_front(nothing, old, drop);
	if (list && *list)
		setenv("LD_LIBRARY_PATH", list, 1);
	else
		unsetenv("LD_LIBRARY_PATH");
	free(list);
}

/* In the child: only this process's own memory is touched before exec. */
static void __attribute__((noreturn)) become_daemon(const char *rundir, const char *program,
						    int log_fd, const char *sim)
{
	const char *argv[4] = {"aliquotd", sim ? "--sim" : NULL, sim};
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 ||
	    dup2(log_fd, STDERR_FILENO) < 0)
		_exit(AQ_EXIT_RUN_FAILED);
	/* Pipes of the caller's shell must not stay open for as long as the daemon lives. */
	if (syscall(SYS_close_range, 3, ~0U, 0) < 0)
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	clean_environment(rundir);
	execv(program, (char *const *)argv);
	dprintf(STDERR_FILENO, "aliquotd: '%s': %s\n", program, strerror(errno));
	_exit(AQ_EXIT_RUN_FAILED);
}

/*
 * aliquotd goes into the background itself, and its first process, our child, ends when the sockets
 * are there. So the program that `run` becomes has no child that it does not know.
 * Return: its exit status; -ETIMEDOUT; other negative errno
 */
static int spawn(const char *rundir, const char *program, int log_fd, const char *sim,
		 const char *what)
{
	uint64_t started = aq_now_ns(), now;
	bool said = !isatty(STDERR_FILENO);
	int status = 0;
	pid_t child, r;

	child = fork();
	if (child < 0)
		return -errno;
	if (!child)
		become_daemon(rundir, program, log_fd, sim);
	aq_say_debug("started %s", program);
	while (!(r = waitpid(child, &status, WNOHANG)) || (r < 0 && errno == EINTR)) {
		now = aq_now_ns();
		if (now - started > PATIENCE_NS)
			return -ETIMEDOUT;
		if (!said && now - started > SAY_AFTER_NS) {
			aq_say("%s: waiting for the private daemon to start", what);
			said = true;
		}
		aq_sleep_until_ns(now + STEP_NS);
	}
	if (r < 0)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : AQ_EXIT_RUN_FAILED;
}

/* Why it did not start, as it said itself. */
static void say_last_line(const char *rundir)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[AQ_PATH_BYTES], *line;
	ssize_t n;

	if (aq_paths_join(path, rundir, LOG_NAME) < 0)
		return;
	n = aq_file_read(path, LOG_READ_BYTES, &text);
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	if (n <= 0) {
		aq_say("%s is empty: is there room on its disk, and is a limit (ulimit) in force?", path);
		return;
	}
	line = strrchr(text, '\n');
	aq_say("last line of %s: %s", path, line ? line + 1 : text);
}

/* One command at a time starts a daemon: the others wait here and then find it. */
static int take_turn(const char *rundir)
{
	int fd = open(rundir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX) < 0) {
		if (errno == EINTR)
			continue;
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static void complain_no_program(const char *what)
{
	const char *set = getenv("ALIQUOT_DAEMON");

	if (set && set[0] == '/')
		aq_say("%s: no daemon is running, and ALIQUOT_DAEMON '%s' is no program: correct "
		       "or unset it", what, set);
	else
		aq_say("%s: no daemon is running, and aliquotd is not beside this program: "
		       "reinstall aliquot, or set ALIQUOT_DAEMON", what);
}

int aq_start_daemon(const char *rundir, const char *what, const char *sim)
{
	AQ_CLEANUP(close) int turn_fd = -1;
	AQ_CLEANUP(close) int log_fd = -1;
	char program[AQ_PATH_BYTES];
	int r;

	r = aq_start_find(program);
	if (r < 0) {
		complain_no_program(what);
		return r;
	}
	r = aq_paths_make_rundir(rundir);
	if (r < 0) {
		aq_say("%s: '%s': %s", what, rundir, r == -EPERM ?
		       "must be a directory of yours that nobody else may enter (chmod 700)" :
		       r == -ENOENT ? "XDG_RUNTIME_DIR is not there: make it, or unset the variable" :
		       strerror(-r));
		return r;
	}
	turn_fd = take_turn(rundir);
	if (turn_fd >= 0 && !aq_api_listens(rundir, false))
		return 0;
	log_fd = open_log(rundir);
	if (log_fd < 0) {
		aq_say("%s: '%s/" LOG_NAME "': %s", what, rundir, strerror(-log_fd));
		return log_fd;
	}
	r = spawn(rundir, program, log_fd, sim, what);
	if (r == -ETIMEDOUT) {
		aq_say("%s: the private daemon does not listen after %d s: see %s/" LOG_NAME, what,
		       (int)(PATIENCE_NS / AQ_NS_PER_S), rundir);
		return r;
	}
	if (r < 0) {
		aq_say("%s: '%s': %s", what, program, strerror(-r));
		return r;
	}
	/* It also fails when another, started by hand at this moment, serves already. */
	if (!aq_api_listens(rundir, false))
		return 0;
	aq_say("%s: the private daemon did not start", what);
	say_last_line(rundir);
	return -ECHILD;
}
