/* SPDX-License-Identifier: Apache-2.0 */
/* Options, going into the background, and the order in which things are set up and taken down. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/api.h"
#include "daemon/client.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/guard.h"
#include "daemon/loop.h"
#include "daemon/measure.h"
#include "daemon/queue.h"
#include "daemon/rundir.h"
#include "daemon/settings.h"
#include "daemon/state.h"
#include "base/banned.h"

#define EXIT_USAGE 2
#define ERROR_BYTES 320

static const char usage[] =
	"Usage: aliquotd [OPTION...]\n"
	"Shares NVIDIA GPUs, real or simulated, among programs in fractions.\n"
	"\n"
	"  --config FILE           read the configuration from FILE (YAML); SIGHUP reads it again\n"
	"  --socket PATH           guards connect to PATH; everything else lies beside it\n"
	"                          (default: aliquotd.sock in the user's own directory)\n"
	"  --system                serve all users, in " AQ_SYSTEM_RUNDIR "\n"
	"  --sim PROFILE[:COUNT]   make sure that there are simulated devices, e.g. h100:2\n"
	"  --foreground            stay in the foreground, log to stderr, never exit when idle\n"
	"  --help, --version\n"
	"\n"
	"Without --foreground it returns when the sockets are there, and ends some seconds after\n"
	"its last use. Started by hand it is rarely needed: `aliquot run` does that.\n";

struct options {
	const char *config, *socket, *sim;
	bool foreground, system;
};

/* Return: -1 to go on, else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	enum {
		OPT_CONFIG = 256,
		OPT_SOCKET,
		OPT_SIM,
		OPT_SYSTEM,
		OPT_FOREGROUND,
		OPT_HELP,
		OPT_VERSION
	};
	static const struct option longs[] = {
		{"config", required_argument, NULL, OPT_CONFIG},
		{"socket", required_argument, NULL, OPT_SOCKET},
		{"sim", required_argument, NULL, OPT_SIM},
		{"system", no_argument, NULL, OPT_SYSTEM},
		{"foreground", no_argument, NULL, OPT_FOREGROUND},
		{"help", no_argument, NULL, OPT_HELP},
		{"version", no_argument, NULL, OPT_VERSION},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		switch (c) {
		case OPT_CONFIG:
			o->config = optarg;
			break;
		case OPT_SOCKET:
			o->socket = optarg;
			break;
		case OPT_SIM:
			o->sim = optarg;
			break;
		case OPT_SYSTEM:
			o->system = true;
			break;
		case OPT_FOREGROUND:
			o->foreground = true;
			break;
		case OPT_HELP:
			fputs(usage, stdout);
			return 0;
		case OPT_VERSION:
			printf("aliquotd %s (ABI %u)\n", AQ_VERSION, AQ_ABI_VERSION);
			return 0;
		default: /* getopt has said what */
			fputs("Try 'aliquotd --help'.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "aliquotd: unexpected argument '%s'\n", argv[optind]);
		return EXIT_USAGE;
	}
	if (o->system && o->socket) {
		fputs("aliquotd: --system and --socket exclude each other\n", stderr);
		return EXIT_USAGE;
	}
	return -1;
}

static struct aqd *make_daemon(void)
{
	struct aqd *d = calloc(1, sizeof(*d));
	struct aq_list *lists[] = {&d->deferred,  &d->fractions, &d->conns, &d->hellos,
				   &d->measuring, &d->adopting,	 &d->waits};

	if (!d)
		return NULL;
	for (size_t i = 0; i < AQ_ARRAY_SIZE(lists); i++)
		aq_list_init(lists[i]);
	for (uint32_t i = 0; i < AQD_PID_BUCKETS; i++)
		aq_list_init(&d->processes[i]);
	d->lock_fd = d->guard_fd = -1;
	d->started_ns = aq_now_ns();
	aq_ledger_init(&d->ledger, &aqd_client_ledger_ops, d);
	return d;
}

/*
 * Go into the background; the parent stays until the child says how its start went.
 * @ret_ready: where to write one byte when the sockets are there; -1 in the foreground
 */
static int go_background(bool foreground, int *ret_ready)
{
	char byte = 1;
	int pipe_fd[2];
	pid_t child;

	*ret_ready = -1;
	if (foreground)
		return 0;
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	if (child) {
		close(pipe_fd[1]);
		/* Nothing to read: the child died, and has said why on stderr. */
		_exit(read(pipe_fd[0], &byte, 1) == 1 ? 0 : 1);
	}
	close(pipe_fd[0]);
	setsid();
	if (chdir("/") < 0)
		return -errno;
	*ret_ready = pipe_fd[1];
	return 0;
}

static int report(const char *what, const char *which, int error)
{
	aq_error("%s '%s': %s", what, which, strerror(-error));
	return error;
}

static int take_rundir(struct aqd *d)
{
	pid_t other = 0;
	int r = aqd_rundir_make(d);

	if (r < 0)
		return report(r == -EPERM ? "not a private directory of ours:" : "directory",
			      d->rundir, r);
	r = aqd_rundir_lock(d, &other);
	if (r == -EBUSY) {
		aq_error("another daemon (pid %d) serves '%s' already", (int)other, d->rundir);
		return r;
	}
	return r < 0 ? report("lock in", d->rundir, r) : 0;
}

static int set_up(struct aqd *d, const struct options *o)
{
	struct aqd_event_facts facts = aqd_event_none;
	int r = take_rundir(d);

	if (r < 0)
		return r;
	r = aqd_loop_init(d);
	if (r == 0)
		r = aqd_events_create(d);
	if (r < 0)
		return report("event loop", "libevent", r);
	aqd_state_load_sim(d);
	r = aqd_devices_init(d, o->sim);
	if (r < 0)
		return report("simulated devices", o->sim, r);
	aqd_state_load(d);
	r = aqd_guard_init(d);
	if (r < 0)
		return report("socket", d->guard_path, r);
	r = aqd_api_init(d);
	if (r < 0)
		return report("socket", d->api_path, r);
	aqd_event(d, AQD_EVENT_started, &facts, "version %s, %u device(s), pid %d", AQ_VERSION,
		  d->ledger.device_count, (int)getpid());
	return 0;
}

/* Our simulated machine goes with us, unless programs still run on it and shall be adopted. */
static void remove_simulator(struct aqd *d)
{
	int r;

	if (!d->sim_made || !aq_list_empty(&d->fractions) || !d->nvml_sim)
		return;
	r = aq_nvml_sim_remove(d->nvml_sim, d->sim_dir);
	if (r < 0 && r != -ENOENT)
		report("simulated machine", d->sim_dir, r);
	if (rmdir(d->sim_dir) < 0 && errno != ENOENT)
		aq_debug("'%s': %s", d->sim_dir, strerror(errno));
	d->sim_made = false;
}

static void take_down(struct aqd *d)
{
	struct aqd_fraction *f, *next;

	if (d->base && d->events) {
		aqd_queue_finish(d);
		aqd_api_finish(d);
		aqd_guard_finish(d);
		if (d->ledger.fraction_count)
			aq_info("%u fraction(s) go on without a daemon; the next one adopts them",
				d->ledger.fraction_count);
		remove_simulator(d);
		aqd_state_save(d);
		d->taking_down = true;
		AQ_LIST_FOREACH (f, next, &d->fractions, link)
			aqd_fraction_end(d, f, "the daemon ends");
		aqd_measure_finish(d);
	}
	aqd_loop_finish(d);
	aqd_events_free(d);
	aqd_devices_finish(d);
	aqd_rundir_unlock(d);
	free(d);
}

int main(int argc, char **argv)
{
	struct options o = {0};
	char error[ERROR_BYTES];
	struct aqd *d;
	int r, ready = -1, status;

	status = parse_options(argc, argv, &o);
	if (status >= 0)
		return status;
	aq_log_init("aliquotd", AQ_LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	d = make_daemon();
	if (!d)
		return 1;
	d->config_path = o.config ? realpath(o.config, NULL) : NULL;
	d->foreground = o.foreground;
	r = o.config && !d->config_path ? report("configuration", o.config, -errno) : 0;
	if (r == 0) {
		r = aqd_rundir_choose(d, o.socket, o.system);
		if (r < 0)
			report("socket", o.socket ? o.socket : "aliquotd.sock", r);
	}
	if (r == 0) {
		r = aqd_settings_load(d, error, sizeof(error));
		if (r < 0)
			aq_error("%s", error);
	}
	if (r < 0) {
		free(d);
		return EXIT_USAGE;
	}

	r = go_background(o.foreground, &ready);
	if (r == 0)
		r = set_up(d, &o);
	if (r == 0 && ready >= 0) {
		r = aqd_rundir_log(d);
		if (r == 0 && write(ready, "", 1) != 1)
			r = -EPIPE; /* who started us is gone; so be it */
		close(ready);
		r = r == -EPIPE ? 0 : r;
	}
	if (r == 0)
		aqd_loop_run(d);
	status = r < 0 ? 1 : d->exit_status;
	take_down(d);
	return status;
}
