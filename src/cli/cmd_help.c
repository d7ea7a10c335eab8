/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot help` and `aliquot version`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <aliquot/abi.h>

#include "cli/api.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/verbs.h"
#include "base/banned.h"

static int run_help(const struct aq_verb *verb, int argc, char **argv)
{
	const struct aq_verb *about = NULL;
	struct aq_opt_scan scan;
	const char *value;
	bool words = false;
	int id;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		if (id == AQ_OPT_WORDS) {
			words = true;
		} else if (id == AQ_OPT_OPERAND && !about) {
			about = aq_verb_find(value);
			if (!about)
				return aq_verb_unknown(value);
		} else if (id == AQ_OPT_OPERAND) {
			return aq_opt_unexpected(verb, value);
		} else {
			about = verb;
		}
	}
	if (id < 0)
		return AQ_EXIT_USAGE;
	if (!words && about)
		aq_opt_help(about, stdout);
	else if (!words)
		aq_verb_overview(stdout);
	else if (about)
		aq_opt_words(about, stdout);
	else
		for (size_t i = 0; aq_verbs[i]; i++)
			puts(aq_verbs[i]->name);
	return AQ_EXIT_OK;
}

const struct aq_verb aq_verb_help = {
	.name = "help",
	.operands = "[VERB]",
	.summary = "explain a verb",
	.examples = "  aliquot help run\n",
	.opts = (const struct aq_opt[]){
		{"words", AQ_OPT_WORDS, AQ_OPT_NONE, NULL, NULL, NULL}, /* for completion */
		{0},
	},
	.run = run_help,
};

static int run_version(const struct aq_verb *verb, int argc, char **argv)
{
	json_t *all, *theirs = NULL;
	struct aq_opt_scan scan;
	struct aq_api api;
	const char *value;
	bool json = false;
	int id, status = AQ_EXIT_OK;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		if (id == AQ_OPT_OPERAND)
			return aq_opt_unexpected(verb, value);
		if (id == AQ_OPT_HELP) {
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		}
		json = true;
	}
	if (id < 0)
		return AQ_EXIT_USAGE;

	id = aq_api_open(&api, AQ_API_RUNNING, "version", NULL);
	if (!id)
		theirs = aq_api_get(&api, "/v1/version", "version");
	else if (id != -ECONNREFUSED)
		status = AQ_EXIT_FAILED;
	if (json) {
		all = json_pack("{s:s, s:i, s:o?}", "version", AQ_VERSION, "abi",
				(int)AQ_ABI_VERSION, "daemon", json_incref(theirs));
		status |= aq_json_print(all);
		json_decref(all);
	} else {
		printf("aliquot %s (abi %u)\n", AQ_VERSION, AQ_ABI_VERSION);
		if (theirs)
			printf("aliquotd %s (abi %lld), %s, pid %lld, %s\n",
			       aq_json_text(theirs, "version", "?"),
			       (long long)aq_json_int(theirs, "abi"),
			       aq_json_true(theirs, "system") ? "system" : "private",
			       (long long)aq_json_int(theirs, "pid"), api.rundir);
	}
	json_decref(theirs);
	return status;
}

const struct aq_verb aq_verb_version = {
	.name = "version",
	.operands = "[--json]",
	.summary = "versions of this program and of the daemon that listens",
	.opts = (const struct aq_opt[]){AQ_OPT_ROW_JSON, {0}},
	.run = run_version,
};
