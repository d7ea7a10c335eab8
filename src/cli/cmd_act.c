/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot park`, `resume` and `kill`: one request about one fraction each. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/api.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/request.h"
#include "cli/say.h"
#include "base/banned.h"

#define ASK_TIMEOUT_MS 1000u
#define SAY_SLOW_AFTER_NS (3 * AQ_NS_PER_S)
#define TIMEOUT_MS 600000u /* parking moves gigabytes */

/* `TERM`, `SIGTERM`, `15`. Return: the number; -EINVAL. */
static int parse_signal(const char *text)
{
	uint64_t number;

	if (!aq_uint_parse(text, 1, SIGRTMAX, &number))
		return (int)number;
	if (!strncmp(text, "SIG", 3))
		text += 3;
	for (int s = 1; s < NSIG; s++) {
		const char *name = sigabbrev_np(s);

		if (name && !strcmp(name, text))
			return s;
	}
	return -EINVAL;
}

struct act {
	const char *name;
	int signo; /* 0: not given */
	bool hold, no_wait;
};

/* Parse `NAME` and options. Return: -1 to go on, else an exit status. */
static int parse(const struct aq_verb *verb, int argc, char **argv, struct act *act)
{
	struct aq_opt_scan scan;
	const char *value;
	int id;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		switch (id) {
		case AQ_OPT_OPERAND:
			if (act->name)
				return aq_opt_unexpected(verb, value);
			if (aq_request_check_name(verb->name, value) < 0)
				return AQ_EXIT_USAGE;
			act->name = value;
			break;
		case AQ_OPT_HELP:
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		case AQ_OPT_HOLD:
			act->hold = true;
			break;
		case AQ_OPT_NO_WAIT:
			act->no_wait = true;
			break;
		case 's':
			act->signo = parse_signal(value);
			if (act->signo >= 0)
				break;
			aq_say("%s: --signal '%s': not a signal: write TERM, INT, KILL or a number",
			       verb->name, value);
			return AQ_EXIT_USAGE;
		}
	}
	if (id < 0)
		return AQ_EXIT_USAGE;
	if (act->name)
		return -1;
	aq_say("%s: which fraction? 'aliquot ps' lists their names", verb->name);
	return AQ_EXIT_USAGE;
}

struct slow {
	struct aq_api *api;
	const char *verb, *name;
	uint64_t since_ns;
	bool said;
};

/* Return: a process of the fraction that is stopped, and so moves nothing; 0 if there is none. */
static pid_t find_stopped(struct slow *s)
{
	const json_t *client;
	struct aq_api_reply reply;
	pid_t pid, found = 0;
	char path[160];
	size_t i;

	snprintf(path, sizeof(path), "/v1/fractions/%s", s->name);
	if (aq_api_call(s->api, "GET", path, NULL, ASK_TIMEOUT_MS, NULL, NULL, &reply) < 0)
		return 0;
	json_array_foreach(json_object_get(reply.body, "clients"), i, client) {
		pid = (pid_t)aq_json_int(client, "pid");
		if (!found && pid > 0 && aq_api_is_stopped(pid))
			found = pid;
	}
	aq_api_reply_finish(&reply);
	return found;
}

static int say_slow(void *arg)
{
	struct slow *s = arg;
	pid_t pid;

	if (s->said || aq_now_ns() - s->since_ns < SAY_SLOW_AFTER_NS)
		return 0;
	s->said = true;
	pid = find_stopped(s);
	if (pid)
		aq_say("%s '%s': its process %d is stopped: 'kill -CONT %d' lets it go on; waiting "
		       "for it", s->verb, s->name, (int)pid, (int)pid);
	else
		aq_say("%s '%s': waiting; Ctrl-C ends the waiting, not the move", s->verb, s->name);
	return 0;
}

static int run_act(const struct aq_verb *verb, int argc, char **argv)
{
	struct aq_api_reply reply;
	struct act act = {0};
	struct aq_api api;
	struct slow slow = {.api = &api, .verb = verb->name, .since_ns = aq_now_ns()};
	json_t *body = json_object();
	char path[160];
	int status, r;

	status = parse(verb, argc, argv, &act);
	if (status >= 0) {
		json_decref(body);
		return status;
	}

	r = aq_api_open(&api, AQ_API_RUNNING, verb->name, NULL);
	if (r == -ECONNREFUSED)
		aq_say("%s '%s': no such fraction: nothing is running", verb->name, act.name);
	if (r < 0) {
		json_decref(body);
		return AQ_EXIT_FAILED;
	}
	if (act.signo)
		json_object_set_new(body, "signal", json_integer(act.signo));
	if (act.hold)
		json_object_set_new(body, "hold", json_true());
	if (act.no_wait)
		json_object_set_new(body, "wait_ms", json_integer(0));
	slow.name = act.name;
	snprintf(path, sizeof(path), "/v1/fractions/%s/%s", act.name, verb->name);
	r = aq_api_call(&api, "POST", path, body, TIMEOUT_MS, say_slow, &slow, &reply);
	json_decref(body);
	status = AQ_EXIT_FAILED;
	if (r < 0) {
		aq_api_complain_silence(&api, verb->name, act.name, r);
	} else {
		status = aq_api_exit_status(reply.status);
		if (status)
			aq_api_complain(verb->name, act.name, &reply);
		aq_api_reply_finish(&reply);
	}
	return status;
}

const struct aq_verb aq_verb_kill = {
	.name = "kill",
	.operands = "NAME [-s SIGNAL]",
	.summary = "end a fraction and its programs",
	.examples = "  aliquot kill chat\n"
		    "  aliquot kill chat -s INT    as if Ctrl-C had been typed\n",
	.opts = (const struct aq_opt[]){
		{"signal", 's', AQ_OPT_VALUE, "SIGNAL", "send this instead of TERM",
		 "TERM INT HUP QUIT KILL USR1 USR2"},
		{0},
	},
	.notes = "Programs that have not ended five seconds after the signal are killed.\n",
	.run = run_act,
};

static const struct aq_opt park_opts[] = {
	{"hold", AQ_OPT_HOLD, AQ_OPT_NONE, NULL, "stay parked until `resume`, whatever it does", NULL},
	{"no-wait", AQ_OPT_NO_WAIT, AQ_OPT_NONE, NULL, "return at once, do not wait until it is there", NULL},
	{0},
};

const struct aq_verb aq_verb_park = {
	.name = "park",
	.operands = "NAME [--hold] [--no-wait]",
	.summary = "move a fraction's memory to the host and free the device",
	.examples = "  aliquot park chat\n"
		    "  aliquot park chat --hold    until `aliquot resume chat`\n",
	.opts = park_opts,
	.notes = "The program goes on where it was; its next work on the GPU brings the memory\n"
		 "back under the same addresses, unless it is held. What cannot move stays.\n",
	.run = run_act,
};

const struct aq_verb aq_verb_resume = {
	.name = "resume",
	.operands = "NAME [--no-wait]",
	.summary = "move a parked fraction's memory back to the device",
	.examples = "  aliquot resume chat\n",
	.opts = park_opts + 1,
	.notes = "Waits until there is room and everything is back.\n",
	.run = run_act,
};
