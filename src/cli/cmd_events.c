/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot events`: what happened, and what happens. The daemon keeps them; we do not. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/name.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/api.h"
#include "cli/event.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/request.h"
#include "cli/say.h"
#include "base/banned.h"

#define FOLLOW_LAST 10
#define LOOK_AGAIN_NS (AQ_NS_PER_S / 5)

struct events {
	bool json, follow;
	bool has_count;
	uint64_t count;
	uint64_t since_seq;
	char since_time[AQ_EVENT_TIME]; /* empty: from the first one kept */
	const char *fraction;           /* NULL: all */
	uint64_t last_seq;              /* seen so far */
};

static int take_since(const char *value, struct events *e)
{
	uint64_t ns;

	if (!aq_uint_parse(value, 0, INT64_MAX, &e->since_seq))
		return 0;
	if (!aq_duration_parse(value, &ns)) {
		aq_event_time_before(ns, e->since_time);
		return 0;
	}
	aq_say("events: --since '%s': write 30s, 10m, 2h (so long ago), or a sequence number of "
	       "--json", value);
	return -EINVAL;
}

static bool wanted(const struct events *e, const json_t *event)
{
	if (e->since_time[0] && strcmp(aq_json_text(event, "time", ""), e->since_time) < 0)
		return false;
	return !e->fraction || !strcmp(aq_json_text(event, "fraction", ""), e->fraction);
}

static void print_event(const struct events *e, const json_t *event)
{
	char line[AQ_EVENT_LINE];

	if (e->json) {
		json_dumpf(event, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		puts(aq_event_line(event, line));
	}
}

/* Those that are kept, as far as wanted. NULL after one line on stderr. */
static json_t *get_kept(struct aq_api *api, struct events *e)
{
	json_t *all, *some, *event;
	char path[128];
	size_t i, skip = 0;

	snprintf(path, sizeof(path), "/v1/events?since=%llu&limit=%u",
		 (unsigned long long)e->since_seq, AQ_EVENT_MAX);
	all = aq_api_get(api, path, "events");
	if (!all)
		return NULL;
	some = json_array();
	json_array_foreach(all, i, event) {
		e->last_seq = aq_json_uint(event, "seq");
		if (wanted(e, event))
			json_array_append(some, event);
	}
	json_decref(all);
	if (e->has_count && json_array_size(some) > e->count)
		skip = json_array_size(some) - e->count;
	while (skip--)
		json_array_remove(some, 0);
	return some;
}

static int heard(void *arg, json_t *event)
{
	struct events *e = arg;

	e->last_seq = aq_json_uint(event, "seq");
	if (wanted(e, event))
		print_event(e, event);
	return fflush(stdout) ? 1 : 0;
}

/* Which daemon this is; 0 if it does not say. */
static uint64_t identity(struct aq_api *api)
{
	json_t *version = aq_api_get(api, "/v1/version", "events");
	uint64_t started = aq_json_uint(version, "started_ns");

	json_decref(version);
	return started;
}

/*
 * What is kept, then what comes. A daemon that is another than @known numbers its events anew.
 * Return: 0 the daemon ended; negative errno after one line on stderr; 1 nobody reads any more
 */
static int follow_one(struct aq_api *api, struct events *e, uint64_t *known)
{
	uint64_t now = identity(api);
	json_t *kept, *event;
	char path[128];
	size_t i;
	int r;

	if (now != *known) {
		if (*known) {
			e->since_seq = e->last_seq = 0;
			e->has_count = false;
		}
		*known = now;
		kept = get_kept(api, e);
		if (!kept)
			return -EIO;
		json_array_foreach(kept, i, event)
			print_event(e, event);
		json_decref(kept);
	}
	if (fflush(stdout))
		return 1;
	snprintf(path, sizeof(path), "/v1/events?follow=1&since=%llu",
		 (unsigned long long)e->last_seq);
	r = aq_api_stream(api, path, heard, e);
	if (ferror(stdout))
		return 1;
	if (!r || r == -ECONNREFUSED || r == -ENOENT || r == -ECONNRESET)
		return 0;
	aq_api_complain_silence(api, "events", NULL, r);
	return r;
}

/* Private daemons come and go: waits for the next one, until interrupted. */
static int follow(struct events *e)
{
	uint64_t known = 0;
	bool said = false;

	for (;;) {
		struct aq_api api;
		int r = aq_api_open(&api, AQ_API_RUNNING, "events", NULL);

		if (!r) {
			said = false;
			r = follow_one(&api, e, &known);
			if (r)
				return AQ_EXIT_FAILED;
		} else if (r != -ECONNREFUSED) {
			return AQ_EXIT_FAILED;
		} else if (!said) {
			aq_say("events: no daemon is running: waiting for one");
			said = true;
		}
		aq_sleep_until_ns(aq_now_ns() + LOOK_AGAIN_NS);
	}
}

static int print_kept(struct events *e)
{
	json_t *kept = NULL, *event;
	struct aq_api api;
	size_t i;
	int r;

	r = aq_api_open(&api, AQ_API_RUNNING, "events", NULL);
	if (r == -ECONNREFUSED) {
		aq_say("events: no daemon is running, and events live as long as one");
		kept = json_array();
	} else if (!r) {
		kept = get_kept(&api, e);
	}
	if (!kept)
		return AQ_EXIT_FAILED;
	r = AQ_EXIT_OK;
	if (e->json) {
		r = aq_json_print(kept);
	} else {
		json_array_foreach(kept, i, event)
			print_event(e, event);
		if (e->fraction && !json_array_size(kept) && !e->has_count && !e->since_seq &&
		    !e->since_time[0])
			aq_say("events: there is none of '%s', in what this daemon has kept",
			       e->fraction);
	}
	json_decref(kept);
	return r;
}

static int run_events(const struct aq_verb *verb, int argc, char **argv)
{
	struct events e = {0};
	struct aq_opt_scan scan;
	const char *value;
	int id;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		switch (id) {
		case AQ_OPT_OPERAND:
			if (e.fraction)
				return aq_opt_unexpected(verb, value);
			if (aq_request_check_name("events", value) < 0)
				return AQ_EXIT_USAGE;
			e.fraction = value;
			break;
		case AQ_OPT_HELP:
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		case AQ_OPT_JSON:
			e.json = true;
			break;
		case 'f':
			e.follow = true;
			break;
		case 'n':
			e.has_count = true;
			if (aq_uint_parse(value, 0, AQ_EVENT_MAX, &e.count) < 0) {
				aq_say("events: --lines '%s': not a number from 0 to %u", value,
				       AQ_EVENT_MAX);
				return AQ_EXIT_USAGE;
			}
			break;
		case AQ_OPT_SINCE:
			if (take_since(value, &e) < 0)
				return AQ_EXIT_USAGE;
			break;
		}
	}
	if (id < 0)
		return AQ_EXIT_USAGE;
	if (!e.follow)
		return print_kept(&e);
	if (!e.has_count && !e.since_seq && !e.since_time[0]) {
		e.has_count = true;
		e.count = FOLLOW_LAST;
	}
	return follow(&e);
}

const struct aq_verb aq_verb_events = {
	.name = "events",
	.operands = "[NAME] [OPTION...]",
	.summary = "what happened: starts, ends, denied memory, with the reasons",
	.examples = "  aliquot events --since 10m\n"
		    "  aliquot events chat --follow\n"
		    "  aliquot events --json | jq '.[] | select(.type == \"denied\")'\n",
	.opts = (const struct aq_opt[]){
		{"follow", 'f', AQ_OPT_NONE, NULL, "go on with new ones as they come", NULL},
		{"lines", 'n', AQ_OPT_VALUE, "N", "the last N only (--follow alone: 10)", NULL},
		{"since", AQ_OPT_SINCE, AQ_OPT_VALUE, "WHEN",
		 "30s, 10m, 2h ago, or after a sequence number", NULL},
		{"json", AQ_OPT_JSON, AQ_OPT_NONE, NULL,
		 "print JSON; with --follow one object a line", NULL},
		{0},
	},
	.run = run_events,
};
