/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `aliquot bench`: becomes the program of the named benchmark. Those are programs of their own, so
 * that the command, which people wait for, does not load an event loop and a load generator.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/paths.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/verbs.h"
#include "base/banned.h"

/* Name, and program below the build tree. Ends with NULL. What each measures: notes below. */
static const struct bench {
	const char *name, *program;
} benches[] = {
	{"serve", "bench/serve/aliquot-bench-serve"},
	{"fractions", "bench/fractions/aliquot-bench-fractions"},
	{NULL, NULL},
};

static const struct bench *find(const char *name)
{
	for (const struct bench *b = benches; b->name; b++)
		if (!strcmp(b->name, name))
			return b;
	return NULL;
}

static int become(const struct bench *b, char **argv)
{
	char path[AQ_PATH_BYTES];
	int r = aq_paths_helper(path, b->program);

	if (r < 0) {
		aq_say("bench: the program of '%s' is not installed: %s", b->name, strerror(-r));
		return AQ_EXIT_FAILED;
	}
	fflush(stdout);
	execv(path, argv);
	aq_say("bench: %s: %s", path, strerror(errno));
	return AQ_EXIT_FAILED;
}

static int run_bench(const struct aq_verb *verb, int argc, char **argv)
{
	const struct bench *b = argc > 1 ? find(argv[1]) : NULL;
	const char *words[sizeof(benches) / sizeof(benches[0])] = {NULL};
	struct aq_opt_scan scan;
	const char *value, *near;
	int id;

	if (b)
		return become(b, argv + 1);
	for (size_t i = 0; benches[i].name; i++)
		words[i] = benches[i].name;
	aq_opt_start(&scan, verb, argc, argv);
	id = aq_opt_next(&scan, &value);
	if (id < 0)
		return AQ_EXIT_USAGE;
	if (id == AQ_OPT_OPERAND) {
		near = aq_opt_nearest(value, words);
		aq_say("bench: there is no '%s': %s%s", value,
		       near ? "did you mean " : "see 'aliquot bench'", near ? near : "");
		return AQ_EXIT_USAGE;
	}
	aq_opt_help(verb, stdout);
	return AQ_EXIT_OK;
}

const struct aq_verb aq_verb_bench = {
	.name = "bench",
	.operands = "BENCHMARK [OPTION...]",
	.summary = "measure, here and now",
	.examples = "  aliquot bench serve http://127.0.0.1:8000 --users 40\n"
		    "  aliquot bench fractions --sim h100 --quick --out DIR\n"
		    "  aliquot bench serve --help\n",
	.opts = (const struct aq_opt[]){{0}},
	.notes = "Benchmarks:\n"
		 "  serve       load a server of the OpenAI API and time its answers\n"
		 "  fractions   how many users a GPU serves, whole and in fractions\n",
	.run = run_bench,
};
