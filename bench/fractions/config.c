/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the command line of `aliquot bench fractions`. Starts nothing. */
#include "fractions/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/say.h"
#include "take.h"
#include "base/banned.h"

/* Source: vLLM's --max-num-seqs on most cards (1024 from 70 GiB on), TensorRT-LLM's on most models.
 */
#define SEQUENCES 256
#define WARMUP_LEAST (3 * AQ_NS_PER_S / 2)
#define WARMUP_MOST (5 * AQ_NS_PER_S)
#define QUICK_LIMIT_NS (165 * AQ_NS_PER_S) /* of three minutes; the rest is to end in */

enum {
	OPT_MODEL = 1024,
	OPT_SMALL,
	OPT_EMBEDDING,
	OPT_QUICK,
	OPT_OUT,
	OPT_CASES,
	OPT_ISL,
	OPT_OSL,
	OPT_BOUND,
	OPT_WINDOW,
	OPT_STEPS,
	OPT_SEQUENCES,
	OPT_FIRST,
	OPT_LIMIT,
	OPT_SEED,
	OPT_SHARED,
	OPT_QUIET,
	OPT_HELP_WORDS,
};

static const struct aq_opt opts[] = {
	{"model", OPT_MODEL, AQ_OPT_VALUE, "NAME", "of aliquot-llm-server --list (llama-3.1-8b)",
	 "llama-3.1-8b phi-4-mini qwen3-4b qwen3-8b qwen3-14b"},
	{"small-model", OPT_SMALL, AQ_OPT_VALUE, "NAME", "for small fractions (phi-4-mini)",
	 "phi-4-mini qwen3-4b"},
	{"embedding-model", OPT_EMBEDDING, AQ_OPT_VALUE, "NAME", "(qwen3-embedding-0.6b)", NULL},
	{"sim", AQ_OPT_SIM, AQ_OPT_VALUE, "PROFILE",
	 "on a simulated device (default: without a GPU, h100)",
	 "h100 h100-nvl h200 a100-40 a100-80 b200 l40s rtx4090"},
	{"quick", OPT_QUICK, AQ_OPT_NONE, NULL,
	 "fewer cases and short windows: within three minutes", NULL},
	{"out", OPT_OUT, AQ_OPT_VALUE, "DIR", "results.json, .csv, steps.json, report.txt, plots",
	 NULL},
	{"cases", OPT_CASES, AQ_OPT_VALUE, "A,B...", "only these, see below", NULL},
	{"isl", OPT_ISL, AQ_OPT_VALUE, "N", "tokens of a prompt (default 512)", NULL},
	{"osl", OPT_OSL, AQ_OPT_VALUE, "N", "tokens of an answer (default 128)", NULL},
	{"ttft-bound", OPT_BOUND, AQ_OPT_VALUE, "TIME", "of every first token (default 1s)", NULL},
	{"window", OPT_WINDOW, AQ_OPT_VALUE, "TIME", "of a step (default 20s, quick 4s)", NULL},
	{"steps", OPT_STEPS, AQ_OPT_VALUE, "N", "of a search at most (default 5, quick 3)", NULL},
	{"first-users", OPT_FIRST, AQ_OPT_VALUE, "N", "first try on a whole GPU", NULL},
	{"max-num-seqs", OPT_SEQUENCES, AQ_OPT_VALUE, "N",
	 "that an engine runs at once (default 256)", NULL},
	{"limit", OPT_LIMIT, AQ_OPT_VALUE, "TIME", "of all; leaves out what would pass it", NULL},
	{"seed", OPT_SEED, AQ_OPT_VALUE, "N", "(default 42)", NULL},
	{"shared-daemon", OPT_SHARED, AQ_OPT_NONE, NULL,
	 "use the aliquotd that is there, not one of our own", NULL},
	{"quiet", OPT_QUIET, AQ_OPT_NONE, NULL, "no line for each step", NULL},
	{"words", OPT_HELP_WORDS, AQ_OPT_NONE, NULL, NULL, NULL}, /* for completion */
	{0},
};

const struct aq_verb fr_verb = {
	.name = "bench fractions",
	.operands = "[OPTION...]",
	.summary = "how many users a GPU serves, whole and in fractions",
	.examples = "  aliquot bench fractions --model llama-3.1-8b --quick --out results\n"
		    "  aliquot bench fractions --sim a100-40 --model qwen3-4b --out results\n"
		    "  aliquot bench fractions --cases full,halves,plain-halves --out results\n",
	.opts = opts,
	.notes =
		"Users are a closed loop, and all of them begin at once; a count is within the\n"
		"bound when every request's first token comes in time and none fails.\n"
		"Cases: full, plain-full, half, halves, plain-halves, quarters, plain-quarters,\n"
		"eighths, small-full, small-quarters, plain-small-quarters, small-eighths,\n"
		"plain-small-eighths, mixed, shift, scale-out, resident (two models with as many\n"
		"requests as one, steady, on the card and by the lengths that Dynamo used);\n"
		"steady-full, steady-small-full, steady-small-quarters, steady-embeddings,\n"
		"steady-mixed: users begin one after the other, and only what they ask later\n"
		"counts. plain-: the hardware's own time slicing, without Aliquot. A row of which\n"
		"the host was the bound is marked. All of it takes 40 minutes. What is measured\n"
		"is written after each case; Ctrl-C ends with it, exit status 130. Status 1: a\n"
		"case could not be measured, or nothing at all was.\n",
};

static int bad(const char *option, const char *value, const char *why)
{
	return aq_take_bad(&fr_verb, option, value, why);
}

static int take_time(const char *option, const char *value, uint64_t *ret_ns)
{
	return aq_take_time(&fr_verb, option, value, AQ_NS_PER_S / 10, ret_ns);
}

static int take_count(const char *option, const char *value, uint64_t most, uint32_t *ret_count)
{
	uint64_t n = 0;
	int r = aq_take_number(&fr_verb, option, value, 1, most, &n);

	*ret_count = (uint32_t)n;
	return r;
}

static int take_name(const char *option, const char *value, const char **ret_name)
{
	/* It becomes an argument and part of a file's name. */
	if (!*value || strlen(value) > 63 || *value == '-' ||
	    value[strspn(value,
			 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")])
		return bad(option, value, "not a name");
	*ret_name = value;
	return -1;
}

static int take_model(const char *option, const char *value, const char **ret_name)
{
	static const char *const models[] = {
#define LLM_PRESET(id, ...) id,
#include "llm/presets.def"
#undef LLM_PRESET
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(models); i++)
		if (!strcmp(value, models[i]))
			return take_name(option, value, ret_name);
	return bad(option, value, "no such model: aliquot-llm-server --list has them");
}

static int take_option(struct fr_config *c, int id, const char *value)
{
	uint64_t ns = 0;
	int r;

	switch (id) {
	case OPT_MODEL:
		return take_model("model", value, &c->model);
	case OPT_SMALL:
		return take_model("small-model", value, &c->small_model);
	case OPT_EMBEDDING:
		return take_model("embedding-model", value, &c->embedding_model);
	case AQ_OPT_SIM:
		return take_name("sim", value, &c->sim);
	case OPT_OUT:
		c->out = value;
		return *value ? -1 : bad("out", value, "no directory");
	case OPT_CASES:
		c->cases = value;
		return -1;
	case OPT_ISL:
		return take_count("isl", value, 100000, &c->isl);
	case OPT_OSL:
		return take_count("osl", value, 100000, &c->osl);
	case OPT_STEPS:
		return take_count("steps", value, 20, &c->steps_most);
	case OPT_SEQUENCES:
		return take_count("max-num-seqs", value, FR_USERS_MOST, &c->sequences);
	case OPT_FIRST:
		return take_count("first-users", value, FR_USERS_MOST, &c->first_users);
	case OPT_BOUND:
		r = take_time("ttft-bound", value, &ns);
		c->bound_ms = (double)ns / (double)AQ_NS_PER_MS;
		return r;
	case OPT_WINDOW:
		return take_time("window", value, &c->window_ns);
	case OPT_LIMIT:
		return take_time("limit", value, &c->limit_ns);
	case OPT_SEED:
		return aq_take_number(&fr_verb, "seed", value, 0, UINT64_MAX, &c->seed);
	case OPT_QUICK:
		c->quick = true;
		return -1;
	case OPT_SHARED:
		c->shared_daemon = true;
		return -1;
	default:
		c->quiet = true;
		return -1;
	}
}

static int settle(struct fr_config *c)
{
	if (!c->out) {
		aq_say("bench fractions: where to? Write --out DIR");
		return AQ_EXIT_USAGE;
	}
	if (!c->window_ns)
		c->window_ns = (c->quick ? 4 : 20) * AQ_NS_PER_S;
	/* Long enough for users to come one after the other without being a burst. */
	c->warmup_ns = c->window_ns / 4;
	if (c->warmup_ns < WARMUP_LEAST)
		c->warmup_ns = c->window_ns < WARMUP_LEAST ? c->window_ns : WARMUP_LEAST;
	if (c->warmup_ns > WARMUP_MOST)
		c->warmup_ns = WARMUP_MOST;
	if (!c->sequences)
		c->sequences = SEQUENCES;
	if (!c->steps_most)
		c->steps_most = c->quick ? 3 : 5;
	if (!c->limit_ns)
		c->limit_ns = c->quick ? QUICK_LIMIT_NS : UINT64_MAX;
	if (!c->sim && access("/dev/nvidiactl", F_OK) < 0)
		c->sim = "h100";
	return -1;
}

int fr_config_parse(int argc, char **argv, struct fr_config *ret)
{
	struct aq_opt_scan scan;
	const char *value;
	int id, r = -1;

	*ret = (struct fr_config){.model = "llama-3.1-8b",
				  .small_model = "phi-4-mini",
				  .embedding_model = "qwen3-embedding-0.6b",
				  .isl = 512,
				  .osl = 128,
				  .bound_ms = 1000,
				  .seed = 42};
	aq_opt_start(&scan, &fr_verb, argc, argv);
	while (r < 0 && (id = aq_opt_next(&scan, &value)) > 0) {
		if (id == AQ_OPT_HELP) {
			aq_opt_help(&fr_verb, stdout);
			return AQ_EXIT_OK;
		}
		if (id == OPT_HELP_WORDS) {
			aq_opt_words(&fr_verb, stdout);
			return AQ_EXIT_OK;
		}
		r = id == AQ_OPT_OPERAND ? aq_opt_unexpected(&fr_verb, value)
					 : take_option(ret, id, value);
	}
	if (r >= 0)
		return r;
	return id < 0 ? AQ_EXIT_USAGE : settle(ret);
}
