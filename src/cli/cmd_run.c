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
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "base/paths.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/api.h"
#include "cli/driver.h"
#include "cli/isolate.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/pathlist.h"
#include "cli/request.h"
#include "cli/say.h"
#include "cli/text.h"
#include "base/banned.h"

#define POST_TIMEOUT_MS 60000u
#define SAY_WAITING_AFTER_NS (AQ_NS_PER_S / 2)

struct run {
	struct aq_request request;
	int isolate; /* enum aq_isolate */
	bool isolated; /* is in a namespace of its own */
	const char *move; /* ALIQUOT_MOVE of the program; NULL: as its environment has it */
	char libdir[AQ_PATH_BYTES], guard_dir[AQ_PATH_BYTES];
	char own_rundir[AQ_PATH_BYTES];
	char **program; /* NULL-terminated */
};

#define LOOK_AGAIN_NS (200 * AQ_NS_PER_MS)

struct waiting {
	uint64_t since;
	bool said, said_gone;
};

/* `--wait 30s -- prog`: the value of an optional argument must be glued on. */
static int complain_wait_value(const char *operand)
{
	aq_say("run: '%s' after --wait: write --wait=%s", operand, operand);
	return AQ_EXIT_USAGE;
}

static int take_option(struct run *run, int id, const char *value)
{
	if (id == AQ_OPT_VERBOSE) {
		aq_say_verbose(true);
		return 0;
	}
	if (id == AQ_OPT_MOVABLE || id == AQ_OPT_NO_MOVABLE) {
		run->move = id == AQ_OPT_MOVABLE ? "1" : "0";
		return 0;
	}
	if (id != AQ_OPT_MOUNT_NAMESPACE)
		return aq_request_take(&run->request, "run", id, value);
	run->isolate = aq_isolate_parse(value);
	if (run->isolate < 0)
		aq_say("run: --mount-namespace '%s': not auto, yes or no", value);
	return run->isolate;
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
		if (take_option(run, id, value) < 0)
			return AQ_EXIT_USAGE;
		wait_was_last = id == AQ_OPT_WAIT && !value;
	}
	if (id < 0)
		return AQ_EXIT_USAGE;
	if (id == AQ_OPT_END) {
		aq_say("run: no program: write it after '--', as in: aliquot run --gpu 0.5 -- "
		       "python serve.py");
		return AQ_EXIT_USAGE;
	}
	if (wait_was_last && !scan.operands_only && !aq_duration_parse(value, &ns))
		return complain_wait_value(value);
	run->program = argv + scan.at - 1;
	if (run->request.has_park_idle && run->move && run->move[0] == '0') {
		aq_say("run: --park-idle needs memory that can be parked: leave out --no-movable");
		return AQ_EXIT_USAGE;
	}
	return aq_request_check(&run->request, "run") < 0 ? AQ_EXIT_USAGE : -1;
}

/* The loader ends a directory of LD_LIBRARY_PATH there, or reads on with another one: the program
 * would run on whatever driver it finds elsewhere, without a guard. Source: ld.so(8) */
static int check_library_dir(const char *dir)
{
	size_t at = strcspn(dir, ":;$");

	if (!dir[at])
		return 0;
	aq_say("run: '%s': there may be no '%c' in the name of a directory of libraries: move it",
	       dir, dir[at]);
	return -EINVAL;
}

static void complain_no_guard(void)
{
	const char *set = getenv("ALIQUOT_LIBDIR");

	if (set && set[0] == '/')
		aq_say("run: ALIQUOT_LIBDIR '%s': there is no guard/libcuda.so.1 in it: correct or "
		       "unset it", set);
	else if (access("/proc/self/exe", F_OK) < 0)
		aq_say("run: cannot tell where this program is: /proc is not mounted");
	else
		aq_say("run: the guard (guard/libcuda.so.1) is not installed beside this program: "
		       "reinstall aliquot, or set ALIQUOT_LIBDIR");
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
		complain_no_guard();
		return AQ_EXIT_RUN_FAILED;
	}
	if (aq_paths_join(run->guard_dir, run->libdir, "guard") < 0 ||
	    aq_paths_rundir_user(run->own_rundir) < 0) {
		aq_say("run: ALIQUOT_LIBDIR or XDG_RUNTIME_DIR is too long");
		return AQ_EXIT_RUN_FAILED;
	}
	return check_library_dir(run->libdir) < 0 ? AQ_EXIT_RUN_FAILED : -1;
}

/* Before the fraction is asked for, so that the daemon is told. Return: as check_before(). */
static int isolate(struct run *run)
{
	int r;

	if (run->isolate == AQ_ISOLATE_NO)
		return -1;
	r = aq_isolate_begin();
	run->isolated = !r;
	if (!r)
		return -1;
	if (run->isolate == AQ_ISOLATE_YES) {
		aq_say("run: --mount-namespace 'yes': %s: needs CAP_SYS_ADMIN", strerror(-r));
		return AQ_EXIT_RUN_FAILED;
	}
	aq_say_debug("no mount namespace: %s", strerror(-r));
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

static int post(struct aq_api *api, const struct run *run, struct waiting *waiting,
		struct aq_api_reply *reply)
{
	const struct aq_request *q = &run->request;
	char command[AQ_REQUEST_COMMAND];
	json_t *body = aq_request_json(q);
	uint64_t timeout = POST_TIMEOUT_MS;
	int r;

	aq_request_command(run->program, command);
	if (!body || json_object_set_new(body, "command", json_string(command)) ||
	    (run->isolated && json_object_set_new(body, "mount_namespace", json_true()))) {
		json_decref(body);
		return -ENOMEM;
	}
	if (q->has_wait)
		timeout = q->wait_ms < 0 ? 0 : (uint64_t)q->wait_ms + POST_TIMEOUT_MS;
	r = aq_api_call(api, "POST", "/v1/fractions", body, timeout,
			q->has_wait && isatty(STDERR_FILENO) ? say_waiting : NULL, waiting, reply);
	json_decref(body);
	return r;
}

/* Return: whether it is worth while to ask another daemon; then there is no reply to free. */
static bool is_gone(const struct run *run, int r, struct aq_api_reply *reply)
{
	if (!run->request.has_wait)
		return false;
	if (r < 0)
		return r == -ECONNRESET || r == -ECONNREFUSED || r == -ENOENT || r == -EPIPE;
	if (reply->status != 503) /* it ends, in order */
		return false;
	aq_api_reply_finish(reply);
	return true;
}

/*
 * Whoever waits for room waits for the next daemon, too. A private one is started, but not from
 * inside of the program's own mount namespace, where it would be of no use to others.
 * Return: 0 there is one, and *wait_ms is what is left; negative errno after a line on stderr
 */
static int await_daemon(struct aq_api *api, const struct run *run, struct waiting *w,
			int64_t *wait_ms)
{
	enum aq_api_need need = api->system || run->isolated ? AQ_API_LISTENING : AQ_API_START;
	uint64_t gone_ms;
	int r;

	if (!w->said_gone)
		aq_say("run: the daemon has ended; waiting for the next one%s",
		       need == AQ_API_START || api->system ? "" :
		       " ('aliquot devices' starts it)");
	w->said_gone = true;
	for (;;) {
		aq_sleep_until_ns(aq_now_ns() + LOOK_AGAIN_NS);
		r = aq_api_open(api, need, "run", NULL);
		gone_ms = (aq_now_ns() - w->since) / AQ_NS_PER_MS;
		if (*wait_ms >= 0)
			*wait_ms = (int64_t)aq_minus((uint64_t)run->request.wait_ms, gone_ms);
		if (r != -ECONNREFUSED)
			return r;
		if (!*wait_ms) {
			aq_say("run: no daemon has come");
			return r;
		}
	}
}

static int post_until_answered(struct aq_api *api, const struct run *run,
			       struct aq_api_reply *reply)
{
	struct waiting waiting = {.since = aq_now_ns()};
	struct run now = *run;
	int r = post(api, &now, &waiting, reply);

	while (is_gone(run, r, reply)) {
		if (await_daemon(api, run, &waiting, &now.request.wait_ms) < 0)
			return -ECANCELED;
		r = post(api, &now, &waiting, reply);
	}
	return r;
}

/* Return: -1 to go on, else an exit status. */
static int get_fraction(struct aq_api *api, const struct run *run, json_t **ret_fraction)
{
	const char *object = run->request.name;
	struct aq_api_reply reply = {0};
	int r, status;

	r = post_until_answered(api, run, &reply);
	if (r == -ECANCELED)
		return AQ_EXIT_RUN_FAILED;
	if (r < 0) {
		aq_api_complain_silence(api, "run", object, r);
		return AQ_EXIT_RUN_FAILED;
	}
	if (reply.status >= 200 && reply.status < 300 && json_is_object(reply.body)) {
		*ret_fraction = reply.body;
		return -1;
	}
	aq_api_complain("run", object, &reply);
	/* 404 can only mean a device that does not exist. */
	status = reply.status == 400 || reply.status == 404 ? AQ_EXIT_USAGE : AQ_EXIT_RUN_FAILED;
	aq_api_reply_finish(&reply);
	return status;
}

static void say_fraction(const json_t *f)
{
	char bytes[AQ_SIZE_TEXT], shares[AQ_TEXT_CELL];

	aq_say_debug("fraction '%s': %s on %s, compute %s", aq_json_text(f, "name", "?"),
		     aq_size_format(aq_json_uint(f, "memory_limit_bytes"), bytes),
		     aq_json_text(f, "cuda_visible_devices", "?"),
		     aq_text_shares(aq_json_uint(f, "compute_request_permille"),
				    aq_json_uint(f, "compute_limit_permille"), shares));
}

/*
 * Where the guard's names for the driver are. @files: the real ones, *@ret_cover if the guard
 * should cover them. Return: 0, or negative errno after one line on stderr.
 */
static int find_driver(const struct run *run, bool simulated,
		       char files[AQ_DRIVER_LIBRARIES][AQ_PATH_BYTES], char *ret_dir,
		       bool *ret_cover)
{
	char alias[AQ_PATH_BYTES];
	struct stat st;
	int r;

	*ret_cover = false;
	if (simulated) {
		r = aq_paths_join(ret_dir, run->libdir, "sim-driver");
		if (r < 0)
			aq_say("run: '%s': the path is too long", run->libdir);
		return r;
	}
	r = aq_driver_link(run->own_rundir, files, ret_dir);
	*ret_cover = !r;
	if (r != -ENOENT) {
		if (r < 0)
			aq_say("run: '%s': cannot link the driver: %s", run->own_rundir,
			       strerror(-r));
		return r;
	}
	/* In the namespace of another `run`, where the driver's own names lead to the guard. */
	if (!aq_paths_join(ret_dir, run->own_rundir, AQ_ISOLATE_COVERED_DIR) &&
	    !aq_paths_join(alias, ret_dir, aq_driver_names[AQ_DRIVER_CUDA].alias) &&
	    !stat(alias, &st) && st.st_size)
		return 0;
	aq_say("run: no libcuda.so.1 on this machine: 'aliquot doctor' says more");
	return r;
}

/* Put the guard in front of the driver. Return: 0, or negative errno after one line on stderr. */
static int set_libraries(const struct aq_api *api, const struct run *run, bool simulated)
{
	char files[AQ_DRIVER_LIBRARIES][AQ_PATH_BYTES] = {"", ""};
	char found[AQ_PATH_BYTES], driver[AQ_PATH_BYTES], ours[AQ_PATH_BYTES + 8];
	struct aq_isolate_plan plan = {
		.guard_dir = run->guard_dir,
		.driver_dir = found,
		.rundir = api->rundir,
		.own_rundir = run->own_rundir,
	};
	const char *dirs[] = {run->guard_dir, driver, NULL};
	const char *drop[] = {run->libdir, ours, NULL};
	AQ_CLEANUP(free) char *list = NULL;
	const char *failed;
	bool cover;
	int r;

	r = find_driver(run, simulated, files, found, &cover);
	if (r < 0)
		return r;
	snprintf(driver, sizeof(driver), "%s", found);
	if (cover)
		plan.files = (const char(*)[AQ_PATH_BYTES])files;
	if (run->isolated) {
		r = aq_isolate_arrange(&plan, driver, &failed);
		if (r < 0 && run->isolate == AQ_ISOLATE_YES) {
			aq_say("run: --mount-namespace 'yes': %s: %s", failed, strerror(-r));
			return r;
		}
		if (r < 0)
			aq_say_debug("mount namespace without %s: %s", failed, strerror(-r));
	}
	if (check_library_dir(driver) < 0)
		return -EINVAL;
	snprintf(ours, sizeof(ours), "%s/driver", run->own_rundir);
	list = aq_pathlist_front(dirs, getenv("LD_LIBRARY_PATH"), drop);
	if (!list || setenv("LD_LIBRARY_PATH", list, 1) < 0) {
		aq_say("run: out of memory");
		return -ENOMEM;
	}
	aq_say_debug("LD_LIBRARY_PATH=%s", list);
	return 0;
}

/* Return: 0, or negative errno after one line on stderr. */
static int set_environment(const struct aq_api *api, const struct run *run, const json_t *f)
{
	static const struct {
		const char *variable, *member;
		bool optional;
	} names[] = {
		{"ALIQUOT_SOCKET", "socket", false},
		{"ALIQUOT_FRACTION", "name", false},
		{"CUDA_VISIBLE_DEVICES", "cuda_visible_devices", false},
		{"ALIQUOT_SIM_DIR", "sim_dir", true},
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(names); i++) {
		const char *value = aq_json_text(f, names[i].member, NULL);

		if (!value && names[i].optional)
			continue;
		if (!value) {
			aq_say("run: the daemon's answer lacks '%s'", names[i].member);
			return -EPROTO;
		}
		if (setenv(names[i].variable, value, 1) < 0) {
			aq_say("run: out of memory");
			return -ENOMEM;
		}
	}
	if (run->move && setenv("ALIQUOT_MOVE", run->move, 1) < 0) {
		aq_say("run: out of memory");
		return -ENOMEM;
	}
	return set_libraries(api, run, aq_json_true(f, "simulated"));
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
	if (status >= 0)
		return status;
	if (aq_api_open(&api, AQ_API_START, "run", NULL) < 0)
		return AQ_EXIT_RUN_FAILED;
	status = isolate(&run);
	if (status < 0)
		status = get_fraction(&api, &run, &fraction);
	if (status >= 0)
		return status;
	say_fraction(fraction);
	r = set_environment(&api, &run, fraction);
	json_decref(fraction);
	if (r < 0)
		return AQ_EXIT_RUN_FAILED;

	execvp(run.program[0], run.program);
	r = errno;
	aq_say("run '%s': %s", run.program[0], r == ENOENT ?
	       "what is to run it (after #!, or the loader it was linked for) is not there" :
	       strerror(r));
	return r == ENOENT ? AQ_EXIT_NOT_FOUND : AQ_EXIT_NOT_EXECUTABLE;
}

const struct aq_verb aq_verb_run = {
	.name = "run",
	.operands = "[OPTION...] -- PROGRAM [ARG...]",
	.summary = "run a program in a fraction of a GPU",
	.examples = "  aliquot run --gpu 0.5 -- python serve.py\n"
		    "  aliquot run --memory 20G --memory-limit 40G --priority high -- vllm ...\n"
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
		{"project", AQ_OPT_PROJECT, AQ_OPT_VALUE, "NAME", "who it is for, in reports",
		 NULL},
		{"device", AQ_OPT_DEVICE, AQ_OPT_VALUE, "DEVICE", "UUID, index or auto (default)",
		 "auto"},
		{"sim", AQ_OPT_SIM, AQ_OPT_VALUE, "PROFILE[:COUNT]",
		 "on simulated devices, added if there are fewer", aq_request_profiles},
		{"park-idle", AQ_OPT_PARK_IDLE, AQ_OPT_VALUE, "DUR",
		 "leave the device after so long without work: 30s, 5m", NULL},
		{"movable", AQ_OPT_MOVABLE, AQ_OPT_NONE, NULL,
		 "give memory that can be parked (default)", NULL},
		{"no-movable", AQ_OPT_NO_MOVABLE, AQ_OPT_NONE, NULL,
		 "give the driver's own memory, which stays", NULL},
		{"wait", AQ_OPT_WAIT, AQ_OPT_MAYBE, "DUR",
		 "wait for room, for ever or at most 30s, 5m", NULL},
		{"mount-namespace", AQ_OPT_MOUNT_NAMESPACE, AQ_OPT_VALUE, "MODE",
		 "guard children without environment: auto, yes, no",
		 "auto yes no"},
		{"verbose", AQ_OPT_VERBOSE, AQ_OPT_NONE, NULL, "say what is done", NULL},
		{0},
	},
	.notes = "--gpu F is that share of the memory exactly, that share of compute at least,\n"
		 "and whatever compute nobody else wants; other options override. Without any\n"
		 "of them: all of one device. What nobody needs of its compute goes to others,\n"
		 "the highest priority first.\n\n"
		 "The exit status is the program's own, or: 2 wrong usage, 125 there is no room\n"
		 "or aliquot failed, 126 the program cannot be executed, 127 it is not found.\n",
	.run = run_run,
};
