/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot devices`: the GPUs there are, real and simulated. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "cli/api.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/request.h"
#include "cli/say.h"
#include "cli/text.h"
#include "base/banned.h"

#define BAR_CELLS 10

enum { INDEX, NAME, USED, BAR, RESERVED, COMPUTE, MECHANISM, UUID };

static const struct aq_column columns[] = {
	[INDEX] = {.head = "GPU"},
	[NAME] = {.head = "NAME"},
	[USED] = {.head = "MEMORY USED", .right = true},
	[BAR] = {.head = "", .optional = true},
	[RESERVED] = {.head = "RESERVED", .right = true},
	[COMPUTE] = {.head = "COMPUTE RESERVED"},
	[MECHANISM] = {.head = "MECHANISM", .optional = true},
	[UUID] = {.head = "UUID"},
};

static int print_table(const json_t *devices)
{
	unsigned int width = aq_text_terminal(stdout);
	char text[AQ_TEXT_CELL];
	const json_t *d;
	struct aq_table t;
	size_t i;

	if (!json_array_size(devices)) {
		puts("no devices: 'aliquot doctor' says why, 'aliquot devices --sim h100' "
		     "simulates one");
		return AQ_EXIT_OK;
	}
	aq_table_init(&t, columns, AQ_ARRAY_SIZE(columns));
	t.column[BAR].hidden = !width;
	json_array_foreach(devices, i, d) {
		uint64_t used = aq_json_uint(d, "memory_used_bytes");
		uint64_t total = aq_json_uint(d, "memory_total_bytes");

		if (aq_table_row(&t) < 0)
			return AQ_EXIT_FAILED;
		aq_table_cell(&t, "%lld", (long long)aq_json_int(d, "index"));
		aq_table_cell(&t, "%s%s", aq_json_text(d, "name", "?"),
			      aq_json_true(d, "simulated") ? " (simulated)" : "");
		aq_table_cell(&t, "%s", aq_text_part(used, total, text));
		aq_table_cell(&t, "%s", aq_text_bar(used, total, BAR_CELLS, aq_text_utf8(), text));
		aq_table_cell(&t, "%s",
			      aq_size_format(aq_json_uint(d, "memory_reserved_bytes"), text));
		aq_table_cell(&t, "%s",
			      aq_text_share(aq_json_uint(d, "compute_reserved_permille"), text));
		aq_table_cell(&t, "%s", aq_json_text(d, "mechanism", "-"));
		aq_table_cell(&t, "%s", aq_json_text(d, "uuid", "?"));
	}
	aq_table_print(&t, stdout, width);
	aq_table_finish(&t);
	return AQ_EXIT_OK;
}

static bool has_simulated(const json_t *devices)
{
	const json_t *d;
	size_t i;

	json_array_foreach(devices, i, d)
		if (aq_json_true(d, "simulated"))
			return true;
	return false;
}

static int run_devices(const struct aq_verb *verb, int argc, char **argv)
{
	int (*print)(const json_t *) = print_table;
	const char *value, *sim = NULL;
	json_t *devices = NULL;
	struct aq_opt_scan scan;
	struct aq_api api;
	int id, r;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		switch (id) {
		case AQ_OPT_OPERAND:
			return aq_opt_unexpected(verb, value);
		case AQ_OPT_HELP:
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		case AQ_OPT_JSON:
			print = aq_json_print;
			break;
		case AQ_OPT_SIM:
			if (aq_request_check_sim("devices", value) < 0)
				return AQ_EXIT_USAGE;
			sim = value;
			break;
		}
	}
	if (id < 0)
		return AQ_EXIT_USAGE;

	r = aq_api_open(&api, AQ_API_START, "devices", sim);
	if (!r)
		devices = aq_api_get(&api, "/v1/devices", "devices");
	if (devices && sim && !api.started && !has_simulated(devices)) {
		aq_say("devices: --sim '%s': the running daemon has no simulated devices: "
		       "'aliquot run --sim %s' adds them", sim, sim);
		json_decref(devices);
		devices = NULL;
	}
	r = devices ? print(devices) : AQ_EXIT_FAILED;
	json_decref(devices);
	return r;
}

const struct aq_verb aq_verb_devices = {
	.name = "devices",
	.operands = "[--json] [--sim PROFILE[:COUNT]]",
	.summary = "the GPUs there are, and how much of each is taken",
	.examples = "  aliquot devices\n"
		    "  aliquot devices --json | jq -r '.[].uuid'\n"
		    "  aliquot devices --sim h100:2     simulate two, where there is no GPU\n",
	.opts = (const struct aq_opt[]){
		AQ_OPT_ROW_JSON,
		{"sim", AQ_OPT_SIM, AQ_OPT_VALUE, "PROFILE[:COUNT]",
		 "simulated ones, if no daemon is running yet", aq_request_profiles},
		{0},
	},
	.notes = "RESERVED is the sum of what fractions are guaranteed. Starts a private daemon\n"
		 "when none is running: only a daemon looks at devices.\n",
	.run = run_devices,
};
