/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the command line of `aliquot bench serve`. Sends nothing. */
#include "serve/options.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/say.h"
#include "take.h"
#include "base/banned.h"

#define LENGTHS_BYTES (64u << 20)
#define HEADERS_BYTES 16384
#define REQUESTS_MOST 100000000ull

enum {
	OPT_TARGET = 1024, OPT_MODEL, OPT_API, OPT_USERS, OPT_THINK, OPT_RATE, OPT_BURSTINESS,
	OPT_ISL, OPT_OSL, OPT_LENGTHS, OPT_DURATION, OPT_REQUESTS, OPT_WARMUP, OPT_WARMUP_REQUESTS,
	OPT_RAMP, OPT_DRAIN, OPT_SEED, OPT_SEARCH, OPT_SEARCH_FROM, OPT_SEARCH_MOST, OPT_PRECISION,
	OPT_TTFT_BOUND, OPT_TPOT_BOUND, OPT_E2E_BOUND, OPT_CONNECT, OPT_FIRST, OPT_STALL,
	OPT_REQUEST, OPT_HEADER, OPT_PLAIN, OPT_STAGGER, OPT_STAMPS, OPT_OUT, OPT_QUIET, OPT_HELP_WORDS,
};

static const struct aq_opt opts[] = {
	{"target", OPT_TARGET, AQ_OPT_VALUE, "[NAME=]URL[,KEY=VALUE...]",
	 "whom to ask; again for more, see below", NULL},
	{"model", OPT_MODEL, AQ_OPT_VALUE, "NAME", "(default: the first that the server lists)",
	 NULL},
	{"api", OPT_API, AQ_OPT_VALUE, "API", "chat (default), completions or embeddings",
	 "chat completions embeddings"},
	{"users", OPT_USERS, AQ_OPT_VALUE, "N[/N@TIME...]",
	 "each asks, waits for the whole answer, asks again", NULL},
	{"think", OPT_THINK, AQ_OPT_VALUE, "TIME", "pause of a user between requests (default 0)",
	 NULL},
	{"rate", OPT_RATE, AQ_OPT_VALUE, "R", "instead of users: requests a second, come what may",
	 NULL},
	{"burstiness", OPT_BURSTINESS, AQ_OPT_VALUE, "B",
	 "of arrivals: 1 Poisson (default), below burstier", NULL},
	{"isl", OPT_ISL, AQ_OPT_VALUE, "LENGTH", "tokens of a prompt (default 512), see below", NULL},
	{"osl", OPT_OSL, AQ_OPT_VALUE, "LENGTH", "tokens of an answer (default 128)", NULL},
	{"lengths", OPT_LENGTHS, AQ_OPT_VALUE, "FILE", "draw both from lines of `ISL,OSL`", NULL},
	{"duration", OPT_DURATION, AQ_OPT_VALUE, "TIME", "measure for so long (default 30s)", NULL},
	{"requests", OPT_REQUESTS, AQ_OPT_VALUE, "N", "measure so many requests", NULL},
	{"warmup", OPT_WARMUP, AQ_OPT_VALUE, "TIME", "before, not counted (default 5s)", NULL},
	{"warmup-requests", OPT_WARMUP_REQUESTS, AQ_OPT_VALUE, "N", "the same as a number", NULL},
	{"ramp", OPT_RAMP, AQ_OPT_VALUE, "TIME", "users begin spread over it (default: the warm-up)",
	 NULL},
	{"stagger", OPT_STAGGER, AQ_OPT_NONE, NULL,
	 "users begin in the middle of an answer: steady sooner", NULL},
	{"drain", OPT_DRAIN, AQ_OPT_VALUE, "TIME",
	 "what is in flight at the end may take so long (10s)", NULL},
	{"seed", OPT_SEED, AQ_OPT_VALUE, "N", "same seed, same requests (default 42)", NULL},
	{"search-users", OPT_SEARCH, AQ_OPT_NONE, NULL, "find the most users within --ttft-bound",
	 NULL},
	{"search-from", OPT_SEARCH_FROM, AQ_OPT_VALUE, "N", "first try (default: the users)", NULL},
	{"search-most", OPT_SEARCH_MOST, AQ_OPT_VALUE, "N", "try no more than these (4096)", NULL},
	{"search-precision", OPT_PRECISION, AQ_OPT_VALUE, "P", "stop that near (default 0.02)", NULL},
	{"ttft-bound", OPT_TTFT_BOUND, AQ_OPT_VALUE, "TIME", "first token of a good request (search: 1s)",
	 NULL},
	{"tpot-bound", OPT_TPOT_BOUND, AQ_OPT_VALUE, "TIME", "time per output token of a good request",
	 NULL},
	{"e2e-bound", OPT_E2E_BOUND, AQ_OPT_VALUE, "TIME", "whole of a good request", NULL},
	{"connect-timeout", OPT_CONNECT, AQ_OPT_VALUE, "TIME", "(default 5s)", NULL},
	{"first-timeout", OPT_FIRST, AQ_OPT_VALUE, "TIME", "until the first token (default 60s)", NULL},
	{"stall-timeout", OPT_STALL, AQ_OPT_VALUE, "TIME", "between two tokens (default 30s)", NULL},
	{"request-timeout", OPT_REQUEST, AQ_OPT_VALUE, "TIME", "of a whole request (default 10m)", NULL},
	{"header", OPT_HEADER, AQ_OPT_VALUE, "LINE", "one more, as in 'X-Key: value'; again for more",
	 NULL},
	{"plain", OPT_PLAIN, AQ_OPT_NONE, NULL, "only fields that OpenAI's own API has", NULL},
	{"stamps", OPT_STAMPS, AQ_OPT_NONE, NULL, NULL, NULL}, /* for bench/serve/timing */
	{"out", OPT_OUT, AQ_OPT_VALUE, "DIR", "write results.json, requests.csv and plots there", NULL},
	AQ_OPT_ROW_JSON,
	{"quiet", OPT_QUIET, AQ_OPT_NONE, NULL, "no progress", NULL},
	{"words", OPT_HELP_WORDS, AQ_OPT_NONE, NULL, NULL, NULL}, /* for completion */
	{0},
};

const struct aq_verb aq_serve_verb = {
	.name = "bench serve",
	.operands = "[OPTION...] URL...",
	.summary = "load a server of the OpenAI API and time its answers",
	.examples = "  aliquot bench serve http://127.0.0.1:8000 --users 40\n"
		    "  aliquot bench serve http://127.0.0.1:8000 --search-users --ttft-bound 1s\n"
		    "  aliquot bench serve --target chat=http://gpu1:8000,users=40,isl=512 \\\n"
		    "                      --target embed=http://gpu1:8001,api=embeddings,users=8\n",
	.opts = opts,
	.notes = "A LENGTH is a number, uniform:LOW:HIGH, normal:MEAN:DEVIATION or\n"
		 "lognormal:MEAN:DEVIATION. KEYs of a target: model, api, users, rate, isl, osl;\n"
		 "what a target does not say is taken from the options. --users 4/40@30s: 4, from\n"
		 "30 s on 40. OPENAI_API_KEY is sent, if set. Ctrl-C ends a run with what was\n"
		 "measured so far, exit status 130. Status 1: not a single request succeeded.\n",
};

static int bad(const char *option, const char *value, const char *why)
{
	return aq_take_bad(&aq_serve_verb, option, value, why);
}

static int take_number(const char *option, const char *value, uint64_t min, uint64_t max,
		       uint64_t *ret_value)
{
	return aq_take_number(&aq_serve_verb, option, value, min, max, ret_value);
}

static int take_length(const char *option, const char *value, struct aq_dist *ret_dist)
{
	return aq_dist_parse(value, ret_dist)
		       ? bad(option, value, "not a length: 512, uniform:1:9, normal:9:2, lognormal:9:2")
		       : -1;
}

/* `Name: value`; nothing in it may end the line. */
static int add_header(struct aq_serve_options *o, const char *line)
{
	const char *colon = strchr(line, ':');
	size_t had = o->headers ? strlen(o->headers) : 0;
	char *more;

	if (!colon || colon == line || strcspn(line, " \t\r\n") < (size_t)(colon - line) ||
	    line[strcspn(line, "\r\n")])
		return bad("header", line, "write 'Name: value'");
	if (had + strlen(line) > HEADERS_BYTES)
		return bad("header", line, "too long");
	if (asprintf(&more, "%s%s\r\n", o->headers ? o->headers : "", line) < 0)
		return AQ_EXIT_FAILED;
	free(o->headers);
	o->headers = more;
	return -1;
}

static int add_key(struct aq_serve_options *o)
{
	const char *key = getenv("OPENAI_API_KEY");
	AQ_CLEANUP(free) char *line = NULL;

	if (!key || !*key)
		return -1;
	if (key[strcspn(key, "\r\n")] || asprintf(&line, "Authorization: Bearer %s", key) < 0) {
		line = NULL;
		aq_say("bench serve: OPENAI_API_KEY: cannot be sent"); /* says nothing of its value */
		return AQ_EXIT_USAGE;
	}
	return add_header(o, line);
}

static int read_lengths(struct aq_serve_options *o, const char *path)
{
	AQ_CLEANUP(free) char *text = NULL;
	ssize_t n = aq_file_read(path, LENGTHS_BYTES, &text);
	char why[64];
	size_t line = 0;
	int r;

	if (n < 0)
		return bad("lengths", path, strerror((int)-n));
	aq_lengths_finish(&o->lengths);
	r = aq_lengths_parse(text, &o->lengths, &line);
	if (!r) {
		o->load.lengths = &o->lengths;
		return -1;
	}
	snprintf(why, sizeof(why), r == -ENODATA ? "no line of ISL,OSL in it"
						 : "line %zu is not ISL,OSL", line);
	return bad("lengths", path, why);
}

static int take_fraction(const char *option, const char *value, double most, double *ret_value)
{
	char *end;
	double v = strtod(value, &end);

	if (!*value || value[strspn(value, "0123456789.")] || *end || !(v > 0) || v > most)
		return bad(option, value, "not a number in range");
	*ret_value = v;
	return -1;
}

/* What describes all targets that do not say otherwise. */
static int take_default(struct aq_target *t, int id, const char *value)
{
	int api;

	switch (id) {
	case OPT_MODEL:
		if (!*value || strlen(value) >= sizeof(t->model))
			return bad("model", value, "empty or too long");
		snprintf(t->model, sizeof(t->model), "%s", value);
		return -1;
	case OPT_API:
		api = aq_target_api_parse(value);
		if (api < 0)
			return bad("api", value, "chat, completions or embeddings");
		t->api = (enum aq_serve_api)api;
		return -1;
	case OPT_USERS:
		return aq_target_plan(value, t) ? bad("users", value, "write 40, or 4/40@30s") : -1;
	case OPT_RATE:
		return aq_target_rate(value, &t->rate)
			       ? bad("rate", value, "requests a second, above 0") : -1;
	case OPT_ISL:
		return take_length("isl", value, &t->isl);
	default:
		return take_length("osl", value, &t->osl);
	}
}

static int take_time_option(struct aq_serve_options *o, int id, const char *value)
{
	struct aq_load_config *c = &o->load;
	const struct {
		int id;
		const char *name;
		uint64_t least_ns, *to;
	} times[] = {
		{OPT_THINK, "think", 0, &c->think_ns},
		{OPT_DURATION, "duration", 1, &c->duration_ns},
		{OPT_WARMUP, "warmup", 0, &c->warmup_ns},
		{OPT_RAMP, "ramp", 0, &c->ramp_ns},
		{OPT_DRAIN, "drain", 0, &c->drain_ns},
		{OPT_TTFT_BOUND, "ttft-bound", 1, &o->bounds.ttft_ns},
		{OPT_TPOT_BOUND, "tpot-bound", 1, &o->bounds.tpot_ns},
		{OPT_E2E_BOUND, "e2e-bound", 1, &o->bounds.e2e_ns},
		{OPT_CONNECT, "connect-timeout", 1, &c->limits.connect_ns},
		{OPT_FIRST, "first-timeout", 1, &c->limits.first_ns},
		{OPT_STALL, "stall-timeout", 1, &c->limits.stall_ns},
		{OPT_REQUEST, "request-timeout", 1, &c->limits.request_ns},
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(times); i++)
		if (times[i].id == id)
			return aq_take_time(&aq_serve_verb, times[i].name, value, times[i].least_ns,
					    times[i].to);
	return AQ_EXIT_USAGE;
}

static int take_option(struct aq_serve_options *o, int id, const char *value)
{
	struct aq_load_config *c = &o->load;
	uint64_t number;
	int r;

	switch (id) {
	case OPT_LENGTHS:
		return read_lengths(o, value);
	case OPT_REQUESTS:
		return take_number("requests", value, 1, REQUESTS_MOST, &c->requests);
	case OPT_WARMUP_REQUESTS:
		return take_number("warmup-requests", value, 0, REQUESTS_MOST, &c->warmup_requests);
	case OPT_SEED:
		return take_number("seed", value, 0, UINT64_MAX, &c->seed);
	case OPT_BURSTINESS:
		return take_fraction("burstiness", value, 1000, &c->burstiness);
	case OPT_PRECISION:
		return take_fraction("search-precision", value, 1, &o->limits.precision);
	case OPT_SEARCH_FROM:
	case OPT_SEARCH_MOST:
		r = take_number(id == OPT_SEARCH_FROM ? "search-from" : "search-most", value, 1,
				AQ_USERS_MAX, &number);
		*(id == OPT_SEARCH_FROM ? &o->limits.first : &o->limits.most) = (uint32_t)number;
		return r;
	case OPT_SEARCH:
		o->search = true;
		return -1;
	case OPT_HEADER:
		return add_header(o, value);
	case OPT_STAGGER:
		c->stagger = true;
		return -1;
	case OPT_PLAIN:
		c->plain = true;
		return -1;
	case OPT_STAMPS:
		c->stamps = true;
		return -1;
	case OPT_OUT:
		o->out = value;
		return *value ? -1 : bad("out", value, "no directory");
	case AQ_OPT_JSON:
		o->json = true;
		return -1;
	case OPT_QUIET:
		o->quiet = true;
		return -1;
	default:
		return take_time_option(o, id, value);
	}
}

static int add_target(struct aq_serve_options *o, const struct aq_target *defaults,
		      const char *text)
{
	struct aq_target *t = &o->targets[o->load.target_count];
	const char *why;
	int r;

	if (o->load.target_count == AQ_TARGETS_MAX)
		return bad("target", text, "too many");
	if (aq_target_parse(text, defaults, (unsigned int)o->load.target_count + 1, t, &why) < 0)
		return bad("target", text, why);
	for (size_t i = 0; i < o->load.target_count; i++)
		if (!strcmp(o->targets[i].name, t->name))
			return bad("target", text, "its name is taken: write NAME=URL");
	r = aq_target_resolve(t);
	if (r)
		return bad("target", t->host, gai_strerror(r));
	o->load.target_count++;
	return -1;
}

/* What depends on several options. */
static int settle(struct aq_serve_options *o, bool has_warmup, bool has_ramp)
{
	struct aq_load_config *c = &o->load;

	if (!c->target_count) {
		aq_say("bench serve: no server: write its URL, as in 'aliquot bench serve "
		       "http://127.0.0.1:8000'");
		return AQ_EXIT_USAGE;
	}
	if (!c->duration_ns && !c->requests)
		c->duration_ns = 30 * AQ_NS_PER_S;
	if (c->warmup_requests && has_warmup && c->warmup_ns) {
		aq_say("bench serve: --warmup and --warmup-requests: one of them");
		return AQ_EXIT_USAGE;
	}
	if (c->warmup_requests)
		c->warmup_ns = 0;
	if (!has_ramp)
		c->ramp_ns = c->warmup_ns;
	if (!o->search)
		return -1;
	if (!o->bounds.ttft_ns)
		o->bounds.ttft_ns = AQ_NS_PER_S;
	if (!o->limits.first)
		o->limits.first = c->targets[0].steps ? aq_target_users_most(&c->targets[0]) : 1;
	if (o->limits.first < c->target_count)
		o->limits.first = (uint32_t)c->target_count;
	if (o->limits.most < o->limits.first) {
		aq_say("bench serve: --search-most: below the first try of %u", o->limits.first);
		return AQ_EXIT_USAGE;
	}
	for (size_t i = 0; i < c->target_count; i++)
		if (c->targets[i].rate > 0) {
			aq_say("bench serve: --search-users: looks for users, not for a --rate");
			return AQ_EXIT_USAGE;
		}
	return -1;
}

static struct aq_target standard_target(void)
{
	return (struct aq_target){
		.api = AQ_SERVE_CHAT,
		.plan = {{.users = 1}},
		.steps = 1,
		.isl = {.kind = AQ_DIST_FIXED, .a = 512},
		.osl = {.kind = AQ_DIST_FIXED, .a = 128},
	};
}

/* Targets are read after all options, which they may refine. */
static int add_targets(struct aq_serve_options *o, const struct aq_target *defaults, int argc,
		       char **argv)
{
	struct aq_opt_scan scan;
	const char *value;
	int id, r = -1;

	aq_opt_start(&scan, &aq_serve_verb, argc, argv);
	while (r < 0 && (id = aq_opt_next(&scan, &value)) > 0)
		if (id == OPT_TARGET || id == AQ_OPT_OPERAND)
			r = add_target(o, defaults, value);
	return r;
}

static int scan_options(struct aq_serve_options *o, struct aq_target *defaults, int argc,
			char **argv)
{
	bool has_warmup = false, has_ramp = false;
	struct aq_opt_scan scan;
	const char *value;
	int id, r = -1;

	aq_opt_start(&scan, &aq_serve_verb, argc, argv);
	while (r < 0 && (id = aq_opt_next(&scan, &value)) > 0) {
		has_warmup |= id == OPT_WARMUP;
		has_ramp |= id == OPT_RAMP;
		if (id == AQ_OPT_HELP) {
			aq_opt_help(&aq_serve_verb, stdout);
			r = AQ_EXIT_OK;
		} else if (id == OPT_HELP_WORDS) {
			aq_opt_words(&aq_serve_verb, stdout);
			r = AQ_EXIT_OK;
		} else if (id >= OPT_MODEL && id <= OPT_OSL && id != OPT_THINK &&
			   id != OPT_BURSTINESS) {
			r = take_default(defaults, id, value);
		} else if (id != OPT_TARGET && id != AQ_OPT_OPERAND) {
			r = take_option(o, id, value);
		}
	}
	if (r >= 0 || id < 0)
		return r >= 0 ? r : AQ_EXIT_USAGE;
	r = add_key(o);
	if (r < 0)
		r = add_targets(o, defaults, argc, argv);
	return r < 0 ? settle(o, has_warmup, has_ramp) : r;
}

int aq_serve_options_parse(int argc, char **argv, struct aq_serve_options *ret_options)
{
	struct aq_serve_options *o = ret_options;
	struct aq_target defaults = standard_target();
	int r;

	*o = (struct aq_serve_options){
		.load = {.warmup_ns = 5 * AQ_NS_PER_S,
			 .drain_ns = 10 * AQ_NS_PER_S,
			 .burstiness = 1,
			 .seed = 42,
			 .limits = {.connect_ns = 5 * AQ_NS_PER_S,
				    .first_ns = 60 * AQ_NS_PER_S,
				    .stall_ns = 30 * AQ_NS_PER_S,
				    .request_ns = 600 * AQ_NS_PER_S}},
		.limits = {.most = 4096, .precision = 0.02, .every = true},
	};
	o->load.targets = o->targets;
	r = scan_options(o, &defaults, argc, argv);
	o->load.headers = o->headers ? o->headers : "";
	return r;
}

void aq_serve_options_finish(struct aq_serve_options *o)
{
	aq_lengths_finish(&o->lengths);
	free(o->headers);
	o->headers = NULL;
}
