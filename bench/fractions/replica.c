/* SPDX-License-Identifier: Apache-2.0 */
/* Starts and ends servers. Sends them nothing. */
#include "fractions/replica.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/timing.h"
#include "cli/say.h"
#include "base/banned.h"

#define READY_NS (120 * AQ_NS_PER_S) /* a real model's weights take a while */
#define END_NS (10 * AQ_NS_PER_S)
#define STEP_NS (20 * AQ_NS_PER_MS)
#define LINE_BYTES 4096
#define SHM_PREFIX "/dev/shm/aliquot-sim-"
#define UTILIZATION 0.9 /* of what a server is given; vLLM's own default */

static int find_program(char *buf, const char *name)
{
	int r = aq_paths_helper(buf, name);

	if (r < 0)
		aq_say("bench fractions: the program '%s': %s", name, strerror(-r));
	return r;
}

int aq_stage_init(struct aq_stage *s, const char *sim, const char *logs)
{
	char template[] = "/tmp/aliquot-bench-XXXXXX";
	int r;

	*s = (struct aq_stage){.sim = sim, .logs = logs};
	r = find_program(s->aliquot, "src/cli/aliquot");
	if (r >= 0)
		r = find_program(s->server, "bench/llm/aliquot-llm-server");
	if (r >= 0)
		r = aq_paths_libdir(s->libdir);
	if (r < 0 || !sim)
		return r;
	if (!mkdtemp(template))
		return -errno;
	snprintf(s->directory, sizeof(s->directory), "%s", template);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	remove(path);
	return 0;
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The simulator's memory lies where the file `machine` leads to. */
static void remove_machine(const struct aq_stage *s)
{
	AQ_CLEANUP(free) char *real = NULL;
	char path[AQ_PATH_BYTES + 16];

	snprintf(path, sizeof(path), "%s/bare/machine", s->directory);
	real = realpath(path, NULL);
	if (!real || strncmp(real, SHM_PREFIX, strlen(SHM_PREFIX)))
		return;
	*strrchr(real, '/') = '\0';
	if (strlen(real) > strlen("/dev/shm/"))
		remove_tree(real);
}

/* Ours by its place: nobody else's daemon writes there. */
static void end_daemon(const struct aq_stage *s)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[AQ_PATH_BYTES + 32];
	uint64_t until = aq_now_ns() + END_NS;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/aliquot/aliquotd.pid", s->directory);
	if (aq_file_read(path, 64, &text) <= 0)
		return;
	pid = (pid_t)strtol(text, NULL, 10);
	if (pid <= 1 || kill(pid, SIGTERM) < 0)
		return;
	while (aq_now_ns() < until && !kill(pid, 0))
		aq_sleep_until_ns(aq_now_ns() + STEP_NS);
}

void aq_stage_finish(struct aq_stage *s)
{
	if (!s->directory[0])
		return;
	end_daemon(s);
	remove_machine(s);
	remove_tree(s->directory);
	s->directory[0] = '\0';
}

static void set_environment(const struct aq_stage *s, const struct aq_replica_plan *plan)
{
	char path[AQ_PATH_BYTES + 16];

	unsetenv("ALIQUOT_SOCKET");
	unsetenv("ALIQUOT_FRACTION");
	if (!s->sim)
		return;
	setenv("XDG_RUNTIME_DIR", s->directory, 1);
	if (plan->guarded)
		return;
	snprintf(path, sizeof(path), "%s/bare", s->directory);
	setenv("ALIQUOT_SIM_DIR", path, 1);
	setenv("ALIQUOT_SIM", s->sim, 1);
	snprintf(path, sizeof(path), "%s/sim", s->libdir);
	setenv("LD_LIBRARY_PATH", path, 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
}

/* In the child: become the server, by way of `aliquot run` or not. */
static void become(const struct aq_stage *s, const struct aq_replica_plan *plan)
{
	char gpu[16], part[16];
	const char *argv[32];
	size_t n = 0;

	snprintf(gpu, sizeof(gpu), "0.%03u", plan->permille);
	if (plan->permille == 1000)
		snprintf(gpu, sizeof(gpu), "1");
	snprintf(part, sizeof(part), "%.4f",
		 plan->guarded ? UTILIZATION : UTILIZATION * plan->permille / 1000);
	if (plan->guarded) {
		argv[n++] = s->aliquot;
		argv[n++] = "run";
		if (s->sim) {
			argv[n++] = "--sim";
			argv[n++] = s->sim;
		}
		argv[n++] = "--gpu";
		argv[n++] = gpu;
		argv[n++] = "--name";
		argv[n++] = plan->name;
		if (plan->priority) {
			argv[n++] = "--priority";
			argv[n++] = plan->priority;
		}
		argv[n++] = "--";
	}
	argv[n++] = s->server;
	argv[n++] = "--model";
	argv[n++] = plan->model;
	argv[n++] = "--port";
	argv[n++] = "0";
	argv[n++] = "--drain";
	argv[n++] = "1";
	argv[n++] = "--gpu-memory-utilization";
	argv[n++] = part;
	argv[n] = NULL;
	set_environment(s, plan);
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

/* Return: pid, and the end of a pipe that has the server's line; negative errno. */
static pid_t spawn(const struct aq_stage *s, const struct aq_replica_plan *plan, int *ret_fd)
{
	char path[AQ_PATH_BYTES * 2];
	int pipes[2], log;
	pid_t pid, parent = getpid();

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	snprintf(path, sizeof(path), "%s/%s.log", s->logs, plan->name);
	log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	pid = log < 0 ? -1 : fork();
	if (!pid) {
		/* Ends with us whatever ends us; exec keeps it. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
		/* A terminal's Ctrl-C is for the run, which then ends its servers. */
		setpgid(0, 0);
		dup2(pipes[1], STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
		become(s, plan);
	}
	if (pid < 0)
		pid = -errno;
	close(pipes[1]);
	if (log >= 0)
		close(log);
	if (pid < 0)
		close(pipes[0]);
	else
		*ret_fd = pipes[0];
	return pid;
}

/* The server's first line. Return: 0; -ENOSPC it ended; -ETIMEDOUT; -EINTR; -EMSGSIZE. */
static int read_line(int fd, const volatile int *stop, char *line)
{
	uint64_t until = aq_now_ns() + READY_NS;
	size_t size = 0;

	while (!memchr(line, '\n', size)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (*stop)
			return -EINTR;
		if (aq_now_ns() > until)
			return -ETIMEDOUT;
		if (size == LINE_BYTES - 1)
			return -EMSGSIZE;
		if (poll(&p, 1, 100) <= 0)
			continue;
		n = read(fd, line + size, LINE_BYTES - 1 - size);
		if (n <= 0)
			return -ENOSPC;
		size += (size_t)n;
	}
	line[size] = '\0';
	return 0;
}

static int take_line(const char *line, struct aq_replica *r)
{
	json_t *root = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
	json_int_t port = json_integer_value(json_object_get(root, "port"));
	json_int_t tokens = json_integer_value(json_object_get(root, "kv_tokens"));
	const char *device = json_string_value(json_object_get(root, "device"));
	bool ready = json_is_true(json_object_get(root, "ready"));

	r->port = (uint16_t)port;
	r->kv_tokens = tokens > 0 ? (uint64_t)tokens : 0;
	snprintf(r->device, sizeof(r->device), "%s", device ? device : "?");
	json_decref(root);
	return ready && port > 0 && port <= UINT16_MAX ? 0 : -EPROTO;
}

int aq_replica_start(const struct aq_stage *s, const struct aq_replica_plan *plan,
		     const volatile int *stop, struct aq_replica *ret_replica)
{
	struct aq_replica r = {.pid = 0};
	char line[LINE_BYTES];
	AQ_CLEANUP(close) int fd = -1;
	int result;

	r.pid = spawn(s, plan, &fd);
	if (r.pid < 0)
		return r.pid;
	result = read_line(fd, stop, line);
	if (!result)
		result = take_line(line, &r);
	if (result)
		aq_replica_stop(&r);
	else
		*ret_replica = r;
	return result;
}

void aq_replica_stop(struct aq_replica *r)
{
	uint64_t until = aq_now_ns() + END_NS;
	int status;

	if (r->pid <= 0)
		return;
	kill(r->pid, SIGTERM);
	while (waitpid(r->pid, &status, WNOHANG) == 0) {
		if (aq_now_ns() > until)
			kill(r->pid, SIGKILL);
		aq_sleep_until_ns(aq_now_ns() + STEP_NS);
	}
	r->pid = 0;
}

int aq_replica_target(const struct aq_replica *r, const struct aq_replica_plan *plan,
		      struct aq_target *t)
{
	*t = (struct aq_target){.host = "127.0.0.1",
				.port = r->port,
				.path = "/v1",
				.api = strstr(plan->model, "embedding") ? AQ_SERVE_EMBEDDINGS
									: AQ_SERVE_COMPLETIONS,
				.plan = {{.users = 1}},
				.steps = 1};
	snprintf(t->name, sizeof(t->name), "%s", plan->name);
	snprintf(t->model, sizeof(t->model), "%s", plan->model);
	return aq_target_resolve(t) ? -EHOSTUNREACH : 0;
}
