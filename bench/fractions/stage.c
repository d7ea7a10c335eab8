/* SPDX-License-Identifier: Apache-2.0 */
/* Brings up and takes down what is measured. Sends no load. */
#include "fractions/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/timing.h"
#include "cli/say.h"
#include "base/banned.h"

#define DAEMON_NS (20 * AQ_NS_PER_S)
#define READY_NS (90 * AQ_NS_PER_S) /* compiling kernels on a real GPU included */
#define GRACE_NS (5 * AQ_NS_PER_S)
#define SETTLE_NS (AQ_NS_PER_S / 4) /* for a fraction to end behind its last process */
#define LOG_TAIL 65536

/*
 * The same tokens of a step for all sizes of fractions: by themselves engines take fewer on smaller
 * cards, and that would be measured as well. Source: vLLM's for an H100.
 */
#define BATCHED_TOKENS "8192"
#define UTILIZATION 0.9 /* vLLM's default */

static int explain(struct fr_stage *s, int r, const char *what)
{
	snprintf(s->why, sizeof(s->why), "%s: %s", what, strerror(-r));
	return r;
}

static int find_programs(struct fr_stage *s)
{
	const struct {
		char *path;
		const char *name;
	} programs[] = {
		{s->aliquot, "src/cli/aliquot"},
		{s->server, "bench/llm/aliquot-llm-server"},
		{s->generator, "bench/serve/aliquot-bench-serve"},
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(programs); i++) {
		int r = aq_paths_helper(programs[i].path, programs[i].name);

		if (r < 0)
			return explain(s, r, programs[i].name);
	}
	return 0;
}

/* The last line of a log, without its stamp; "" none. */
static void last_words(const char *path, char *buf, size_t size)
{
	AQ_CLEANUP(free) char *log = NULL;
	ssize_t n = aq_file_read(path, LOG_TAIL, &log);
	const char *line, *colon;

	buf[0] = '\0';
	if (n <= 0)
		return;
	while (n > 0 && log[n - 1] == '\n')
		log[--n] = '\0';
	line = strrchr(log, '\n');
	line = line ? line + 1 : log;
	colon = strstr(line, "error: ");
	snprintf(buf, size, "%s", colon ? colon + 7 : line);
}

static int start_daemon(struct fr_stage *s, unsigned int devices)
{
	char daemon[AQ_PATH_BYTES], log[AQ_PATH_BYTES], socket_path[AQ_PATH_BYTES + 32], sim[96];
	char words[FR_WHY - 40];
	const char *argv[] = {daemon, "--foreground", s->config->sim ? "--sim" : NULL, sim, NULL};
	const char *environ[] = {s->rundir_variable, "ALIQUOT_SOCKET", "ALIQUOT_SIM_DIR", NULL};
	uint64_t deadline = aq_now_ns() + DAEMON_NS;
	int r = aq_paths_helper(daemon, "src/daemon/aliquotd");

	snprintf(sim, sizeof(sim), "%s:%u", s->config->sim ? s->config->sim : "", devices);
	if (!r)
		r = aq_paths_join(log, s->directory, "daemon.log");
	if (!r)
		r = fr_proc_start(&s->daemon, argv, environ, log);
	if (r < 0)
		return explain(s, r, "aliquotd");
	snprintf(socket_path, sizeof(socket_path), "%s/aliquot/" AQ_API_SOCKET, s->directory);
	while (!r) {
		int fd = aq_paths_connect(socket_path, SOCK_STREAM);

		if (fd >= 0) {
			close(fd);
			return 0;
		}
		if (fr_proc_ended(&s->daemon))
			r = -ECHILD;
		else if (aq_now_ns() > deadline)
			r = -ETIMEDOUT;
		else
			r = fr_sleep(20 * AQ_NS_PER_MS);
	}
	last_words(log, words, sizeof(words));
	if (!words[0])
		return explain(s, r, "aliquotd does not come up");
	snprintf(s->why, sizeof(s->why), "aliquotd does not come up: %s", words);
	return r;
}

int fr_stage_open(struct fr_stage *s, const struct fr_config *c, unsigned int devices)
{
	char libdir[AQ_PATH_BYTES], directory[] = "/tmp/aliquot-bench-XXXXXX";
	int r;

	*s = (struct fr_stage){.config = c, .daemon = FR_PROC_NONE};
	r = find_programs(s);
	if (r < 0)
		return r;
	r = aq_paths_libdir(libdir);
	if (!r)
		r = aq_paths_join(s->simlib, libdir, "sim");
	if (r < 0)
		return explain(s, r, "the libraries");
	if (!mkdtemp(directory))
		return explain(s, -errno, directory);
	snprintf(s->directory, sizeof(s->directory), "%s", directory);
	snprintf(s->rundir_variable, sizeof(s->rundir_variable), "XDG_RUNTIME_DIR=%s", directory);
	return c->shared_daemon ? 0 : start_daemon(s, devices);
}

/* Arguments with room for the texts that are made for them. */
struct arguments {
	const char *argv[40];
	size_t count;
	char text[8][AQ_PATH_BYTES + 64];
	size_t texts;
};

static void add(struct arguments *a, const char *word)
{
	a->argv[a->count++] = word;
}

static const char *text(struct arguments *a, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static const char *text(struct arguments *a, const char *format, ...)
{
	char *to = a->text[a->texts++];
	va_list ap;

	va_start(ap, format);
	vsnprintf(to, sizeof(a->text[0]), format, ap);
	va_end(ap);
	return to;
}

static void add_run(struct arguments *a, const struct fr_stage *s, const struct fr_replica *r)
{
	const char *share = text(a, "%g", r->part.permille / 1000.0);

	add(a, s->aliquot);
	add(a, "run");
	if (s->config->sim) {
		add(a, "--sim");
		add(a, s->config->sim);
	}
	add(a, "--name");
	add(a, r->name);
	add(a, "--gpu");
	add(a, share);
	add(a, "--device");
	add(a, text(a, "%u", r->part.device));
	if (r->part.capped) {
		add(a, "--compute-limit");
		add(a, share);
	}
	if (r->part.priority) {
		add(a, "--priority");
		add(a, r->part.priority);
	}
	add(a, "--");
}

static void add_server(struct arguments *a, const struct fr_stage *s, const struct fr_replica *r)
{
	add(a, s->server);
	add(a, "--model");
	add(a, r->part.model);
	add(a, "--port");
	add(a, "0");
	add(a, "--drain");
	add(a, "1");
	add(a, "--max-num-batched-tokens");
	add(a, BATCHED_TOKENS);
	add(a, "--max-num-seqs");
	add(a, text(a, "%u", s->config->sequences));
	if (!r->part.plain)
		return;
	/* The share of a whole card that a fraction of the size would have come to. */
	add(a, "--gpu-memory-utilization");
	add(a, text(a, "%g", UTILIZATION * r->part.permille / 1000.0));
	add(a, "--device");
	add(a, text(a, "%u", r->part.device));
}

static int take_facts(struct fr_stage *s, struct fr_replica *r, const char *line)
{
	json_t *facts = json_loads(line, 0, NULL);
	json_int_t port = json_integer_value(json_object_get(facts, "port"));
	const char *device = json_string_value(json_object_get(facts, "device"));

	if (device && device[strcspn(device, "\"\n\r")] == '\0') /* it goes into CSV as it is */
		snprintf(s->device, sizeof(s->device), "%s", device);
	json_decref(facts);
	r->port = port > 0 && port < 65536 ? (uint16_t)port : 0;
	return r->port ? 0 : -EPROTO;
}

static int explain_end(struct fr_stage *s, struct fr_replica *r, const char *log, int error)
{
	char words[FR_WHY - 80];
	struct fr_proc *p = &r->proc;

	fr_proc_end(&p, 1, GRACE_NS);
	last_words(log, words, sizeof(words));
	snprintf(s->why, sizeof(s->why), "%s in %g of a device: %s", r->part.model,
		 r->part.permille / 1000.0, words[0] ? words : strerror(-error));
	if (error != -ENODATA)
		return error;
	/* What `aliquot run` itself refuses says nothing of the model. */
	return WIFEXITED(p->status) && WEXITSTATUS(p->status) == AQ_EXIT_FAILED &&
			       strstr(words, "memory")
		       ? -ENOSPC
		       : -ECHILD;
}

int fr_stage_add(struct fr_stage *s, const struct fr_part *part)
{
	struct fr_replica *r = &s->replicas[s->count];
	struct arguments a = {.count = 0};
	char log[AQ_PATH_BYTES], line[4096], name[48];
	const char *environ[6] = {"CUDA_VISIBLE_DEVICES"};
	size_t n = 1;
	int error;

	if (s->count == FR_REPLICAS_MOST)
		return explain(s, -E2BIG, "replicas");
	*r = (struct fr_replica){.part = *part, .proc = FR_PROC_NONE};
	snprintf(r->name, sizeof(r->name), "bench-%u", ++s->started);
	snprintf(name, sizeof(name), "%s.log", r->name);
	if (aq_paths_join(log, s->directory, name) < 0)
		return explain(s, -ENAMETOOLONG, name);
	if (!s->config->shared_daemon)
		environ[n++] = s->rundir_variable;
	if (part->plain && s->config->sim)
		environ[n++] = text(&a, "LD_LIBRARY_PATH=%s", s->simlib);
	if (part->plain && s->config->sim && !s->config->shared_daemon)
		environ[n++] = text(&a, "ALIQUOT_SIM_DIR=%s/aliquot/sim", s->directory);
	if (!part->plain)
		add_run(&a, s, r);
	add_server(&a, s, r);
	error = fr_proc_start(&r->proc, a.argv, environ, log);
	if (error < 0)
		return explain(s, error, a.argv[0]);
	error = fr_proc_line(&r->proc, line, sizeof(line), aq_now_ns() + READY_NS);
	if (!error)
		error = take_facts(s, r, line);
	if (error < 0)
		return explain_end(s, r, log, error);
	s->count++;
	return 0;
}

void fr_stage_clear(struct fr_stage *s)
{
	struct fr_proc *procs[FR_REPLICAS_MOST] = {NULL};
	bool any = s->count > 0;

	for (size_t i = 0; i < s->count; i++)
		procs[i] = &s->replicas[i].proc;
	fr_proc_end(procs, s->count, GRACE_NS);
	s->count = 0;
	if (any)
		fr_sleep(SETTLE_NS);
}

/* The daemon first. Return: how many, at most FR_REPLICAS_MOST + 1. */
static size_t pids_of(const struct fr_stage *s, pid_t *pids)
{
	pids[0] = s->daemon.pid;
	for (size_t i = 0; i < s->count; i++)
		pids[i + 1] = s->replicas[i].proc.pid;
	return s->count + 1;
}

void fr_stage_probe(const struct fr_stage *s, struct fr_host_probe *p)
{
	pid_t pids[FR_REPLICAS_MOST + 1];

	fr_host_begin(p, pids, pids_of(s, pids));
}

struct fr_host_use fr_stage_host(const struct fr_stage *s, const struct fr_host_probe *p,
				 uint64_t generator_ns, double lag_ms, double bound_ms)
{
	pid_t pids[FR_REPLICAS_MOST + 1];
	struct fr_host_use use = fr_host_end(p, pids, pids_of(s, pids), generator_ns);

	use.late = lag_ms / bound_ms;
	return use;
}

size_t fr_stage_dead(struct fr_stage *s)
{
	size_t dead = 0;

	for (size_t i = 0; i < s->count; i++)
		dead += fr_proc_ended(&s->replicas[i].proc);
	return dead;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	remove(path);
	return 0;
}

void fr_stage_close(struct fr_stage *s)
{
	struct fr_proc *daemon = &s->daemon;

	fr_stage_clear(s);
	fr_proc_end(&daemon, 1, 2 * GRACE_NS);
	if (s->directory[0])
		nftw(s->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	s->directory[0] = '\0';
}
