/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `aliquot run`: get a fraction, then become the program.
 *
 * The process that asked the daemon is the one that executes the program, so the fraction's life,
 * the terminal, signals and the exit code are the program's own. Nothing of ours stays behind.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/paths.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/api.h"
#include "cli/driver.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/pathlist.h"
#include "cli/request.h"
#include "cli/say.h"
#include "cli/text.h"
#include "base/banned.h"

#define POST_TIMEOUT_MS 60000L
#define SAY_WAITING_AFTER_NS (AQ_NS_PER_S / 2)

struct run {
	struct aq_request request;
	char libdir[AQ_PATH_BYTES];
	char **program; /* NULL-terminated */
};

struct waiting {
	uint64_t since;
	bool said;
};

/* `--wait 30s -- prog`: the value of an optional argument must be glued on. */
static int complain_wait_value(const char *operand)
{
	aq_say("run: '%s' behind --wait: write --wait=%s", operand, operand);
	return AQ_EXIT_USAGE;
}

/* Return: -1 to go on, else an exit status. */
static int parse(const struct aq_verb *verb, int argc, char **argv, struct run *run)
{
	bool wait_was_last = false;
	struct aq_opt_scan scan;
	const char *value;
	uint64_t ns;
	int id;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0 && id != AQ_OPT_OPERAND) {
		if (id == AQ_OPT_HELP) {
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		}
		if (id == AQ_OPT_VERBOSE)
			aq_say_verbose(true);
		else if (aq_request_take(&run->request, "run", id, value) < 0)
			return AQ_EXIT_USAGE;
		wait_was_last = id == AQ_OPT_WAIT && !value;
	}
	if (id < 0)
		return AQ_EXIT_USAGE;
	if (id == AQ_OPT_END) {
		aq_say("run: no program: write it behind '--', as in: aliquot run --gpu 0.5 -- "
		       "python serve.py");
		return AQ_EXIT_USAGE;
	}
	if (wait_was_last && !scan.operands_only && !aq_duration_parse(value, &ns))
		return complain_wait_value(value);
	run->program = argv + scan.at - 1;
	return aq_request_check(&run->request, "run") < 0 ? AQ_EXIT_USAGE : -1;
}

/* What can be seen to fail later fails now, before anything is changed. Return: -1 to go on. */
static int check_before(struct run *run)
{
	const char *name = run->program[0];
	int r = aq_pathlist_find(name, getenv("PATH"));

	if (r == -EACCES) {
		aq_say("run '%s': not an executable file", name);
		return AQ_EXIT_NOT_EXECUTABLE;
	}
	if (r < 0) {
		aq_say("run '%s': %s", name, strchr(name, '/') ? "no such file" : "not in PATH");
		return AQ_EXIT_NOT_FOUND;
	}
	r = aq_paths_libdir(run->libdir);
	if (r < 0) {
		aq_say("run: the guard (guard/libcuda.so.1) is not installed beside this program: "
		       "install aliquot again, or set ALIQUOT_LIBDIR");
		return AQ_EXIT_RUN_FAILED;
	}
	return -1;
}

static int say_waiting(void *arg)
{
	struct waiting *w = arg;

	if (!w->said && aq_now_ns() - w->since > SAY_WAITING_AFTER_NS) {
		w->said = true;
		aq_say("waiting for room on a device; Ctrl-C gives up");
	}
	return 0;
}

static int post(struct aq_api *api, const struct run *run, struct aq_api_reply *reply)
{
	const struct aq_request *q = &run->request;
	struct waiting waiting = {.since = aq_now_ns()};
	char command[AQ_REQUEST_COMMAND];
	json_t *body = aq_request_json(q);
	long timeout = POST_TIMEOUT_MS;
	int r;

	json_object_set_new(body, "command",
			    json_string(aq_request_command(run->program, command)));
	if (q->has_wait)
		timeout = q->wait_ms < 0 ? 0 : q->wait_ms + POST_TIMEOUT_MS;
	r = aq_api_call(api, "POST", "/v1/fractions", body, timeout,
			q->has_wait && isatty(STDERR_FILENO) ? say_waiting : NULL, &waiting, reply);
	json_decref(body);
	return r;
}

/*
 * Ask for the fraction. A private daemon that was about to end of idleness when we found it is
 * started again, once.
 */
static int get_fraction(struct aq_api *api, const struct run *run, json_t **ret_fraction)
{
	const char *object = run->request.name;
	struct aq_api_reply reply = {0};
	int r, status;

	for (int attempt = 0;; attempt++) {
		if (aq_api_open(api, AQ_API_START, "run", NULL) < 0)
			return AQ_EXIT_RUN_FAILED;
		r = post(api, run, &reply);
		if (!r)
			break;
		if (attempt || api->system ||
		    (r != -ECONNRESET && r != -ECONNREFUSED && r != -ENOENT)) {
			aq_api_complain_silence(api, "run", object, r);
			return AQ_EXIT_RUN_FAILED;
		}
		aq_api_reply_finish(&reply);
		aq_api_finish(api);
	}
	if (reply.status >= 200 && reply.status < 300 && json_is_object(reply.body)) {
		*ret_fraction = reply.body;
		return -1;
	}
	aq_api_complain("run", object, &reply);
	status = reply.status == 400 ? AQ_EXIT_USAGE : AQ_EXIT_RUN_FAILED;
	aq_api_reply_finish(&reply);
	return status;
}

static void say_fraction(const json_t *f)
{
	char bytes[AQ_SIZE_TEXT], from[AQ_TEXT_SHORT], to[AQ_TEXT_SHORT];

	aq_say_debug("fraction '%s': %s on %s, compute %s to %s", aq_json_text(f, "name", "?"),
		     aq_size_format(aq_json_uint(f, "memory_limit_bytes"), bytes),
		     aq_json_text(f, "cuda_visible_devices", "?"),
		     aq_text_share(aq_json_uint(f, "compute_request_permille"), from),
		     aq_text_share(aq_json_uint(f, "compute_limit_permille"), to));
}

/* Return: 0, or negative errno after one line on stderr. */
static int set_environment(const struct aq_api *api, const struct run *run, const json_t *f)
{
	const char *name = aq_json_text(f, "name", NULL);
	const char *socket_path = aq_json_text(f, "socket", NULL);
	const char *visible = aq_json_text(f, "cuda_visible_devices", NULL);
	AQ_CLEANUP(free) char *libraries = NULL;
	char guard[AQ_PATH_BYTES], driver[AQ_PATH_BYTES];
	const char *dirs[] = {guard, driver, NULL};
	int r;

	if (!name || !socket_path || !visible) {
		aq_say("run: the daemon's answer lacks name, socket or cuda_visible_devices");
		return -EPROTO;
	}
	r = aq_paths_join(guard, run->libdir, "guard");
	if (!r)
		r = aq_driver_dir(api, run->libdir, aq_json_true(f, "simulated"), driver);
	if (r < 0)
		return r;
	libraries = aq_pathlist_front(dirs, getenv("LD_LIBRARY_PATH"), NULL);
	if (!libraries || setenv("LD_LIBRARY_PATH", libraries, 1) < 0 ||
	    setenv("ALIQUOT_SOCKET", socket_path, 1) < 0 || setenv("ALIQUOT_FRACTION", name, 1) < 0 ||
	    setenv("CUDA_VISIBLE_DEVICES", visible, 1) < 0) {
		aq_say("run: out of memory");
		return -ENOMEM;
	}
	aq_say_debug("LD_LIBRARY_PATH=%s", libraries);
	return 0;
}

static int run_run(const struct aq_verb *verb, int argc, char **argv)
{
	json_t *fraction = NULL;
	struct run run = {0};
	struct aq_api api = {0};
	int status, r;

	status = parse(verb, argc, argv, &run);
	if (status < 0)
		status = check_before(&run);
	if (status < 0)
		status = get_fraction(&api, &run, &fraction);
	if (status >= 0) {
		aq_api_finish(&api);
		return status;
	}
	say_fraction(fraction);
	r = set_environment(&api, &run, fraction);
	json_decref(fraction);
	aq_api_finish(&api);
	if (r < 0)
		return AQ_EXIT_RUN_FAILED;

	execvp(run.program[0], run.program);
	r = errno;
	aq_say("run '%s': %s", run.program[0], strerror(r));
	return r == ENOENT ? AQ_EXIT_NOT_FOUND : AQ_EXIT_NOT_EXECUTABLE;
}

const struct aq_verb aq_verb_run = {
	.name = "run",
	.operands = "[OPTION...] -- PROGRAM [ARG...]",
	.summary = "run a program in a fraction of a GPU",
	.examples = "  aliquot run --gpu 0.5 -- python serve.py\n"
		    "  aliquot run --memory 20G --memory-limit 40G --priority high -- vllm serve M\n"
		    "  aliquot run --gpus 2 --gpu 0.25 -- torchrun train.py     a quarter of two\n"
		    "  aliquot run --sim h100 --gpu 0.25 -- ./prog              without a GPU\n",
	.opts = (const struct aq_opt[]){
		{"gpu", AQ_OPT_GPU, AQ_OPT_VALUE, "F",
		 "share of a device, 0.01 to 1: memory and compute", NULL},
		{"gpus", AQ_OPT_GPUS, AQ_OPT_VALUE, "N", "on so many devices (default 1)", NULL},
		{"memory", AQ_OPT_MEMORY, AQ_OPT_VALUE, "SIZE",
		 "guaranteed memory on each: 20G, 512M", NULL},
		{"memory-limit", AQ_OPT_MEMORY_LIMIT, AQ_OPT_VALUE, "SIZE",
		 "up to this while nobody else needs it", NULL},
		{"compute", AQ_OPT_COMPUTE, AQ_OPT_VALUE, "F", "guaranteed share of compute", NULL},
		{"compute-limit", AQ_OPT_COMPUTE_LIMIT, AQ_OPT_VALUE, "F",
		 "at most this share, even when alone", NULL},
		{"priority", AQ_OPT_PRIORITY, AQ_OPT_VALUE, "P", "low, normal (default) or high",
		 "low normal high"},
		{"name", AQ_OPT_NAME, AQ_OPT_VALUE, "NAME", "default: that of the program", NULL},
		{"project", AQ_OPT_PROJECT, AQ_OPT_VALUE, "NAME", "who it is for, in reports", NULL},
		{"device", AQ_OPT_DEVICE, AQ_OPT_VALUE, "DEVICE", "UUID, index or auto (default)",
		 "auto"},
		{"sim", AQ_OPT_SIM, AQ_OPT_VALUE, "PROFILE[:COUNT]",
		 "on simulated devices, added if there are none", aq_request_profiles},
		{"wait", AQ_OPT_WAIT, AQ_OPT_MAYBE, "DUR",
		 "wait for room, for ever or at most 30s, 5m", NULL},
		{"verbose", AQ_OPT_VERBOSE, AQ_OPT_NONE, NULL, "say what is done", NULL},
		{0},
	},
	.notes = "--gpu F is that share of the memory exactly, that share of compute at least, and\n"
		 "whatever compute nobody else wants; other options override. Without any of them:\n"
		 "all of one device.\n\n"
		 "The exit status is the program's own, or: 2 wrong usage, 125 there is no room or\n"
		 "aliquot failed, 126 the program cannot be executed, 127 it is not found.\n",
	.run = run_run,
};
