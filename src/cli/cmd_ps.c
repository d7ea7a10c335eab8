/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot ps`: the fractions there are. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/api.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/text.h"
#include "base/banned.h"

#define BAR_CELLS 10
#define DEFAULT_PROJECT "default" /* the daemon's; a column full of it says nothing */

enum { NAME, PROJECT, PRIORITY, STATE, GPU, MEMORY, BAR, COMPUTE, TIME, PIDS };

static const struct aq_column columns[] = {
	[NAME] = {.head = "NAME"},
	[PROJECT] = {.head = "PROJECT"},
	[PRIORITY] = {.head = "PRIORITY", .optional = true},
	[STATE] = {.head = "STATE"},
	[GPU] = {.head = "GPU"},
	[MEMORY] = {.head = "MEMORY", .right = true},
	[BAR] = {.head = "", .optional = true},
	[COMPUTE] = {.head = "COMPUTE"},
	[TIME] = {.head = "GPU TIME", .right = true, .optional = true},
	[PIDS] = {.head = "PIDS"},
};

static void cell_gpus(struct aq_table *t, const json_t *fraction)
{
	const json_t *device;
	char text[AQ_TEXT_CELL] = "-";
	size_t i, n = 0;

	json_array_foreach(json_object_get(fraction, "devices"), i, device)
		if (n < sizeof(text))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%lld", i ? "," : "",
					      (long long)aq_json_int(device, "index"));
	aq_table_cell(t, "%s", text);
}

static void cell_pids(struct aq_table *t, const json_t *fraction)
{
	const json_t *clients = json_object_get(fraction, "clients"), *client;
	size_t i, n = 0, count = json_array_size(clients);
	char text[AQ_TEXT_CELL] = "-";

	if (!count && aq_json_int(fraction, "holder_pid")) /* has not used the device yet */
		snprintf(text, sizeof(text), "(%lld)",
			 (long long)aq_json_int(fraction, "holder_pid"));

	json_array_foreach(clients, i, client) {
		if (i == 3 && count > 4) {
			snprintf(text + n, sizeof(text) - n, " and %zu more", count - i);
			break;
		}
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%lld", i ? " " : "",
				      (long long)aq_json_int(client, "pid"));
	}
	aq_table_cell(t, "%s", text);
}

static void cell_memory(struct aq_table *t, const json_t *fraction)
{
	uint64_t used = aq_json_uint(fraction, "memory_used_bytes");
	uint64_t limit = aq_json_uint(fraction, "memory_limit_bytes");
	char text[AQ_TEXT_CELL];

	aq_table_cell(t, "%s", aq_text_part(used, limit, text));
	aq_table_cell(t, "%s", aq_text_bar(used, limit, BAR_CELLS, aq_text_utf8(), text));
}

static int print_table(const json_t *fractions)
{
	unsigned int width = aq_text_terminal(stdout);
	char text[AQ_TEXT_CELL];
	const json_t *f;
	struct aq_table t;
	bool projects = false;
	size_t i;

	if (!json_array_size(fractions)) {
		puts("nothing is running");
		return AQ_EXIT_OK;
	}
	aq_table_init(&t, columns, AQ_ARRAY_SIZE(columns));
	t.column[BAR].hidden = !width;
	json_array_foreach(fractions, i, f) {
		const char *project = aq_json_text(f, "project", DEFAULT_PROJECT);

		if (aq_table_row(&t) < 0)
			return AQ_EXIT_FAILED;
		projects |= strcmp(project, DEFAULT_PROJECT) != 0;
		aq_table_cell(&t, "%s", aq_json_text(f, "name", "?"));
		aq_table_cell(&t, "%s", project);
		aq_table_cell(&t, "%s", aq_json_text(f, "priority", "?"));
		aq_table_cell(&t, "%s", aq_json_state(f));
		cell_gpus(&t, f);
		cell_memory(&t, f);
		aq_table_cell(&t, "%s",
			      aq_text_shares(aq_json_uint(f, "compute_request_permille"),
					     aq_json_uint(f, "compute_limit_permille"), text));
		aq_table_cell(&t, "%s", aq_text_time(aq_json_uint(f, "gpu_time_ns"), text));
		cell_pids(&t, f);
	}
	t.column[PROJECT].hidden = !projects;
	aq_table_print(&t, stdout, width);
	aq_table_finish(&t);
	return AQ_EXIT_OK;
}

static int print_names(const json_t *fractions)
{
	const json_t *f;
	size_t i;

	json_array_foreach(fractions, i, f)
		puts(aq_json_text(f, "name", "?"));
	return AQ_EXIT_OK;
}

static int run_ps(const struct aq_verb *verb, int argc, char **argv)
{
	int (*print)(const json_t *) = print_table;
	json_t *fractions = NULL;
	struct aq_opt_scan scan;
	struct aq_api api;
	const char *value;
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
		default:
			print = print_names;
		}
	}
	if (id < 0)
		return AQ_EXIT_USAGE;

	r = aq_api_open(&api, AQ_API_RUNNING, "ps", NULL);
	if (r == -ECONNREFUSED) /* private daemons come and go: without one, nothing runs */
		fractions = json_array();
	else if (!r)
		fractions = aq_api_get(&api, "/v1/fractions", "ps");
	r = fractions ? print(fractions) : AQ_EXIT_FAILED;
	json_decref(fractions);
	return r;
}

const struct aq_verb aq_verb_ps = {
	.name = "ps",
	.operands = "[--json | -q]",
	.summary = "the fractions there are, and who uses them",
	.examples = "  aliquot ps\n"
		    "  aliquot ps --json | jq '.[] | {name, memory_used_bytes}'\n"
		    "  aliquot ps -q | xargs -n1 aliquot kill    end them all\n",
	.opts = (const struct aq_opt[]){
		AQ_OPT_ROW_JSON,
		{"quiet", 'q', AQ_OPT_NONE, NULL, "print names only", NULL},
		{0},
	},
	.notes = "MEMORY is what the fraction uses of its limit. COMPUTE goes from the share it\n"
		 "is guaranteed to the share it is capped at. A process in brackets has not used\n"
		 "a device yet. \"ended\": no process is left; it goes in a moment, or as soon as\n"
		 "somebody wants its room.\n",
	.run = run_ps,
};
