/* SPDX-License-Identifier: Apache-2.0 */
/* Options and going into the background. What a daemon is made of is in server.c. */
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
#include "base/fd.h"
#include "base/log.h"
#include "daemon/loop.h"
#include "daemon/rundir.h"
#include "daemon/server.h"
#include "base/banned.h"

#define EXIT_USAGE 2

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
	struct aqd_server_options server;
	const char *sim;
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
			o->server.config = optarg;
			break;
		case OPT_SOCKET:
			o->server.socket = optarg;
			break;
		case OPT_SIM:
			o->sim = optarg;
			break;
		case OPT_SYSTEM:
			o->server.system = true;
			break;
		case OPT_FOREGROUND:
			o->server.foreground = true;
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
	if (o->server.system && o->server.socket) {
		fputs("aliquotd: --system and --socket exclude each other\n", stderr);
		return EXIT_USAGE;
	}
	return -1;
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

int main(int argc, char **argv)
{
	struct options o = {0};
	struct aqd *d;
	int r, ready = -1, status;

	status = parse_options(argc, argv, &o);
	if (status >= 0)
		return status;
	if (aq_fds_standard() < 0)
		return 1;
	aq_log_init("aliquotd", AQ_LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit of the caller's shell: writing fails, and is told */
	umask(022);
	d = aqd_server_create();
	if (!d)
		return 1;
	r = aqd_server_configure(d, &o.server);
	if (r < 0) {
		aqd_server_free(d);
		return EXIT_USAGE;
	}
	r = go_background(o.server.foreground, &ready);
	if (r < 0)
		aq_error("cannot go into the background: %s", strerror(-r));
	else
		r = aqd_server_start(d, o.sim);
	if (r == 0 && ready >= 0) {
		r = aqd_rundir_log(d);
		if (r < 0)
			aq_error("log in '%s': %s", d->rundir, strerror(-r));
		else if (write(ready, "", 1) != 1)
			aq_debug("who started this daemon is gone"); /* so be it */
		close(ready);
	}
	if (r == 0)
		aqd_loop_run(d);
	status = r < 0 ? 1 : d->exit_status;
	aqd_server_free(d);
	return status;
}
