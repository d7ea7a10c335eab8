/* SPDX-License-Identifier: Apache-2.0 */
/* The program behind `aliquot bench fractions`: what dividing a device costs and gains. */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "fractions/cases.h"
#include "fractions/replica.h"
#include "fractions/results.h"
#include "base/banned.h"

#define FIRST_GUESS 128u             /* users of a full device */
#define QUICK_NS (165 * AQ_NS_PER_S) /* of all cases; --quick promises three minutes */
#define EXIT_SIGNAL 128

enum {
	OPT_MODEL = 1024, OPT_SIM, OPT_OUT, OPT_QUICK, OPT_ISL, OPT_OSL, OPT_BOUND, OPT_WARMUP,
	OPT_DURATION, OPT_PRECISION, OPT_SEED, OPT_CASE, OPT_WORDS,
};

static const struct aq_verb verb = {
	.name = "bench fractions",
	.operands = "[OPTION...] --out DIR",
	.summary = "users and tokens/s of a GPU, whole and divided",
	.examples = "  aliquot bench fractions --sim h100 --quick --out /tmp/fractions\n"
		    "  aliquot bench fractions --model llama-3.1-8b --out DIR\n",
	.opts = (const struct aq_opt[]){
		{"model", OPT_MODEL, AQ_OPT_VALUE, "MODEL", "what is served (default llama-3.1-8b)",
		 "llama-3.1-8b phi-4-mini qwen3-4b qwen3-8b qwen3-14b"},
		{"sim", OPT_SIM, AQ_OPT_VALUE, "PROFILE", "on a simulated device", NULL},
		{"out", OPT_OUT, AQ_OPT_VALUE, "DIR", "results.json, results.csv, plots, logs", NULL},
		{"quick", OPT_QUICK, AQ_OPT_NONE, NULL, "within three minutes, coarser", NULL},
		{"case", OPT_CASE, AQ_OPT_VALUE, "TEXT", "only cases with this in their name", NULL},
		{"isl", OPT_ISL, AQ_OPT_VALUE, "N", "tokens of a prompt (default 512)", NULL},
		{"osl", OPT_OSL, AQ_OPT_VALUE, "N", "tokens of an answer (128; quick: 64)", NULL},
		{"ttft-bound", OPT_BOUND, AQ_OPT_VALUE, "TIME", "of the first token (default 1s)", NULL},
		{"warmup", OPT_WARMUP, AQ_OPT_VALUE, "TIME", "of each step (10s; quick: 2s)", NULL},
		{"duration", OPT_DURATION, AQ_OPT_VALUE, "TIME", "of each step (20s; quick: 3s)",
		 NULL},
		{"precision", OPT_PRECISION, AQ_OPT_VALUE, "P", "of the users (0.03; quick: 0.15)", NULL},
		{"seed", OPT_SEED, AQ_OPT_VALUE, "N", "same seed, same requests (default 42)", NULL},
		{"words", OPT_WORDS, AQ_OPT_NONE, NULL, NULL, NULL}, /* for completion */
		{0},
	},
	.notes = "Each case starts as many servers of the model as it says (aliquot-llm-server: the\n"
		 "memory, launches and scheduling of a real engine, on random weights), finds the most\n"
		 "users whose TTFT p95 is within the bound on every replica, and ends them. Users and\n"
		 "tokens/s are those of the whole device. `device` is the same number of servers with\n"
		 "no guard between them and the device, which slices its time as it does.\n"
		 "Ctrl-C prints what was measured so far.\n",
};

struct options {
	struct aq_fractions_config config;
	const char *sim, *out, *only; /* NULL: not said */
};

/* A signal that came; also set by loads that one ended. */
static volatile int stop;

static void on_signal(int number)
{
	stop = number;
}

static int bad(const char *option, const char *value, const char *why)
{
	aq_say("bench fractions: --%s '%s': %s", option, value, why);
	return AQ_EXIT_USAGE;
}

static int take_time(const char *option, const char *value, uint64_t *ret_ns)
{
	uint64_t ns;

	if (aq_duration_parse(value, &ns) < 0 || !ns)
		return bad(option, value, "write a time, as 500ms or 30s");
	*ret_ns = ns;
	return -1;
}

static int take_length(const char *option, const char *value, uint32_t *ret_length)
{
	uint64_t n;

	if (aq_uint_parse(value, 1, AQ_LENGTH_MAX, &n) < 0)
		return bad(option, value, "a number of tokens");
	*ret_length = (uint32_t)n;
	return -1;
}

static int take_precision(const char *value, double *ret_precision)
{
	char *end;
	double p = strtod(value, &end);

	if (end == value || *end || !(p > 0) || p > 1)
		return bad("precision", value, "above 0, up to 1");
	*ret_precision = p;
	return -1;
}

static int take_option(struct options *o, int id, const char *value)
{
	struct aq_fractions_config *c = &o->config;

	switch (id) {
	case AQ_OPT_HELP:
		aq_opt_help(&verb, stdout);
		return AQ_EXIT_OK;
	case OPT_WORDS:
		aq_opt_words(&verb, stdout);
		return AQ_EXIT_OK;
	case AQ_OPT_OPERAND:
		return aq_opt_unexpected(&verb, value);
	case OPT_MODEL:
		c->model = value;
		return -1;
	case OPT_SIM:
		o->sim = value;
		return -1;
	case OPT_OUT:
		o->out = value;
		return -1;
	case OPT_CASE:
		o->only = value;
		return -1;
	case OPT_QUICK:
		c->quick = true;
		return -1;
	case OPT_ISL:
		return take_length("isl", value, &c->isl);
	case OPT_OSL:
		return take_length("osl", value, &c->osl);
	case OPT_BOUND:
		return take_time("ttft-bound", value, &c->bound_ns);
	case OPT_WARMUP:
		return take_time("warmup", value, &c->warmup_ns);
	case OPT_DURATION:
		return take_time("duration", value, &c->duration_ns);
	case OPT_PRECISION:
		return take_precision(value, &c->precision);
	default:
		return aq_uint_parse(value, 0, UINT64_MAX, &c->seed)
			       ? bad("seed", value, "a number") : -1;
	}
}

static bool is_wanted(const struct options *o, const struct aq_case *c)
{
	return (!o->config.quick || c->quick) && (!o->only || strstr(c->name, o->only));
}

static size_t cases_wanted(const struct options *o)
{
	size_t n = 0;

	for (size_t i = 0; i < aq_case_count; i++)
		n += is_wanted(o, &aq_cases[i]);
	return n;
}

/* What nobody said. */
static int settle(struct options *o)
{
	struct aq_fractions_config *c = &o->config;

	if (!o->out || !*o->out) {
		aq_say("bench fractions: --out: name a directory for the results");
		return AQ_EXIT_USAGE;
	}
	if (!c->osl)
		c->osl = c->quick ? 64 : 128;
	if (!c->warmup_ns)
		c->warmup_ns = c->quick ? 2 * AQ_NS_PER_S : 10 * AQ_NS_PER_S;
	if (!c->duration_ns)
		c->duration_ns = c->quick ? 3 * AQ_NS_PER_S : 20 * AQ_NS_PER_S;
	if (!(c->precision > 0))
		c->precision = c->quick ? 0.15 : 0.03;
	c->every = !c->quick;
	if (!cases_wanted(o)) {
		aq_say("bench fractions: --case '%s': no case has that in its name", o->only);
		return AQ_EXIT_USAGE;
	}
	if (mkdir(o->out, 0777) < 0 && errno != EEXIST)
		return bad("out", o->out, strerror(errno));
	return -1;
}

static int parse(struct options *o, int argc, char **argv)
{
	struct aq_opt_scan scan;
	const char *value;
	int id, r = -1;

	*o = (struct options){.config = {.model = "llama-3.1-8b",
					 .isl = 512,
					 .bound_ns = AQ_NS_PER_S,
					 .seed = 42}};
	aq_opt_start(&scan, &verb, argc, argv);
	while (r < 0 && (id = aq_opt_next(&scan, &value)) > 0)
		r = take_option(o, id, value);
	if (r < 0 && id < 0)
		r = AQ_EXIT_USAGE;
	return r < 0 ? settle(o) : r;
}

/* Begin where the last case of this kind ended: divided, a device serves about as many. */
static uint32_t guess_from(const struct aq_case_result *results, size_t count)
{
	for (size_t i = count; i-- > 0;)
		if (results[i].users)
			return results[i].users;
	return FIRST_GUESS;
}

static void run_cases(struct options *o, const struct aq_stage *stage,
		      struct aq_fractions_results *results, struct aq_case_result *cases)
{
	uint64_t until = aq_now_ns() + QUICK_NS;
	size_t wanted = cases_wanted(o);

	for (size_t i = 0; i < aq_case_count && !stop; i++) {
		struct aq_case_result *result = &cases[results->count];
		uint64_t now = aq_now_ns();

		if (!is_wanted(o, &aq_cases[i]))
			continue;
		/* What a case leaves of its time is for those behind it; a step may run over it. */
		if (o->config.quick)
			o->config.case_ns = now >= until ? 1
				: (until - now) / (wanted - results->count) -
				  (until - now) / (wanted - results->count) / 3;
		fprintf(stderr, "%s, %s:\n", aq_cases[i].name,
			aq_cases[i].guarded ? "aliquot" : "device's own slices");
		aq_case_run(stage, &o->config, &aq_cases[i], guess_from(cases, results->count),
			    &stop, result);
		if (result->error == -ENOSPC)
			fprintf(stderr, "  did not start: its log is in %s\n", o->out);
		else if (result->error && result->error != -EINTR)
			fprintf(stderr, "  %s\n", strerror(-result->error));
		results->count += result->error != -EINTR;
	}
}

static int measure(struct options *o)
{
	struct aq_case_result *cases = calloc(aq_case_count, sizeof(*cases));
	struct aq_fractions_results results = {.config = &o->config, .cases = cases,
					       .simulated = o->sim, .profile = o->sim};
	struct aq_stage stage = {.sim = NULL};
	int status = AQ_EXIT_OK, r;

	r = cases ? aq_stage_init(&stage, o->sim, o->out) : -ENOMEM;
	if (r < 0) {
		aq_say("bench fractions: %s", strerror(-r));
		free(cases);
		return AQ_EXIT_FAILED;
	}
	run_cases(o, &stage, &results, cases);
	aq_stage_finish(&stage);
	if (aq_fractions_print(&results, stdout) < 0 || aq_fractions_save(&results, o->out) < 0)
		status = AQ_EXIT_FAILED;
	if (!results.count)
		status = AQ_EXIT_FAILED;
	free(cases);
	return stop ? EXIT_SIGNAL + stop : status;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	struct options o;
	int status;

	if (aq_fds_standard() < 0)
		return AQ_EXIT_FAILED;
	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_IGN);
	status = parse(&o, argc, argv);
	if (status >= 0)
		return aq_say_finish(status);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return aq_say_finish(measure(&o));
}
