/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot resize`: change a fraction while its programs run. */
#include <errno.h>
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

#define TIMEOUT_MS 60000u /* others may have to move first */

struct change {
	const char *what;
	char before[AQ_TEXT_CELL], after[AQ_TEXT_CELL];
};

/* What is asked for and shown is for each device; the fraction's own members are sums. */
static const json_t *one_device(const json_t *f)
{
	const json_t *device = json_array_get(json_object_get(f, "devices"), 0);

	return json_object_get(device, "memory_limit_bytes") ? device : f;
}

static void describe_memory(const json_t *f, char *buf)
{
	size_t devices = json_array_size(json_object_get(f, "devices"));
	uint64_t request = aq_json_uint(one_device(f), "memory_request_bytes");
	uint64_t limit = aq_json_uint(one_device(f), "memory_limit_bytes");
	char from[AQ_SIZE_TEXT], to[AQ_SIZE_TEXT], on[48] = "";

	if (devices > 1)
		snprintf(on, sizeof(on), " on each of %zu", devices);
	aq_size_format(limit, to);
	if (request == limit)
		snprintf(buf, AQ_TEXT_CELL, "%s%s", to, on);
	else
		snprintf(buf, AQ_TEXT_CELL, "%s to %s%s", aq_size_format(request, from), to, on);
}

static void describe_compute(const json_t *f, char *buf)
{
	aq_text_shares(aq_json_uint(f, "compute_request_permille"),
		       aq_json_uint(f, "compute_limit_permille"), buf);
}

static void print_change(const json_t *before, const json_t *after)
{
	struct change changes[] = {{"memory"}, {"compute"}, {"priority"}};
	bool any = false;

	describe_memory(before, changes[0].before);
	describe_memory(after, changes[0].after);
	describe_compute(before, changes[1].before);
	describe_compute(after, changes[1].after);
	snprintf(changes[2].before, AQ_TEXT_CELL, "%s", aq_json_text(before, "priority", "?"));
	snprintf(changes[2].after, AQ_TEXT_CELL, "%s", aq_json_text(after, "priority", "?"));

	for (size_t i = 0; i < AQ_ARRAY_SIZE(changes); i++) {
		struct change *c = &changes[i];

		if (!strcmp(c->before, c->after))
			continue;
		printf("%-10s%s -> %s\n", c->what, c->before, c->after);
		any = true;
	}
	if (!any)
		puts("nothing changed");
}

/* `--memory` alone moves both ends of a fraction that has no room between them. */
static void follow_limit(struct aq_request *q, const json_t *before)
{
	uint64_t request = aq_json_uint(one_device(before), "memory_request_bytes");
	uint64_t limit = aq_json_uint(one_device(before), "memory_limit_bytes");

	if (q->has_memory && !q->has_memory_limit && !q->has_gpu &&
	    (request == limit || limit < q->memory_bytes) && q->memory_bytes) {
		q->has_memory_limit = true;
		q->memory_limit_bytes = q->memory_bytes;
	}
}

static int resize(struct aq_api *api, const char *name, struct aq_request *q)
{
	struct aq_api_reply before = {0}, after = {0};
	int status = AQ_EXIT_FAILED;
	json_t *body = NULL;
	char path[128];
	int r;

	snprintf(path, sizeof(path), "/v1/fractions/%s", name);
	r = aq_api_call(api, "GET", path, NULL, TIMEOUT_MS, NULL, NULL, &before);
	if (r < 0) {
		aq_api_complain_silence(api, "resize", name, r);
		return status;
	}
	if (before.status != 200) {
		aq_api_complain("resize", name, &before);
		goto out;
	}
	follow_limit(q, before.body);
	body = aq_request_json(q);
	r = !body ? -ENOMEM : aq_api_call(api, "PATCH", path, body, TIMEOUT_MS, NULL, NULL, &after);
	if (r < 0) {
		aq_api_complain_silence(api, "resize", name, r);
	} else if (after.status != 200) {
		status = aq_api_exit_status(after.status);
		aq_api_complain("resize", name, &after);
	} else {
		status = AQ_EXIT_OK;
		print_change(before.body, after.body);
	}
out:
	json_decref(body);
	aq_api_reply_finish(&before);
	aq_api_reply_finish(&after);
	return status;
}

static int run_resize(const struct aq_verb *verb, int argc, char **argv)
{
	struct aq_request q = {0};
	struct aq_opt_scan scan;
	const char *value, *name = NULL;
	struct aq_api api;
	int id, r;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		if (id == AQ_OPT_HELP) {
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		}
		if (id == AQ_OPT_FORCE_PARK) {
			q.force_park = true;
			continue;
		}
		if (id != AQ_OPT_OPERAND) {
			if (aq_request_take(&q, "resize", id, value) < 0)
				return AQ_EXIT_USAGE;
			continue;
		}
		if (name)
			return aq_opt_unexpected(verb, value);
		if (aq_request_check_name("resize", value) < 0)
			return AQ_EXIT_USAGE;
		name = value;
	}
	if (id < 0 || aq_request_check(&q, "resize") < 0)
		return AQ_EXIT_USAGE;
	if (!name) {
		aq_say("resize: which fraction? 'aliquot ps' lists their names");
		return AQ_EXIT_USAGE;
	}
	if (aq_request_empty(&q)) {
		aq_say("resize '%s': to what? Give --gpu, --memory, --memory-limit, --compute, "
		       "--compute-limit or --priority", name);
		return AQ_EXIT_USAGE;
	}

	r = aq_api_open(&api, AQ_API_RUNNING, "resize", NULL);
	if (r == -ECONNREFUSED)
		aq_say("resize '%s': no such fraction: nothing is running", name);
	if (r < 0)
		return AQ_EXIT_FAILED;
	r = resize(&api, name, &q);
	return r;
}

const struct aq_verb aq_verb_resize = {
	.name = "resize",
	.operands = "NAME OPTION...",
	.summary = "change a fraction while its programs run",
	.examples = "  aliquot resize chat --memory 30G\n"
		    "  aliquot resize chat --gpu 0.25           memory and compute\n"
		    "  aliquot resize batch --priority low\n",
	.opts = (const struct aq_opt[]){
		{"gpu", AQ_OPT_GPU, AQ_OPT_VALUE, "F", "this share of memory and compute",
		 NULL},
		{"memory", AQ_OPT_MEMORY, AQ_OPT_VALUE, "SIZE", "guaranteed memory: 20G, 512M",
		 NULL},
		{"memory-limit", AQ_OPT_MEMORY_LIMIT, AQ_OPT_VALUE, "SIZE",
		 "at most this much, while nobody else needs it", NULL},
		{"compute", AQ_OPT_COMPUTE, AQ_OPT_VALUE, "F", "guaranteed share of compute", NULL},
		{"compute-limit", AQ_OPT_COMPUTE_LIMIT, AQ_OPT_VALUE, "F",
		 "at most this share, even when alone", NULL},
		{"force-park", AQ_OPT_FORCE_PARK, AQ_OPT_NONE, NULL,
		 "below what is in use: move it to the host", NULL},
		{"priority", AQ_OPT_PRIORITY, AQ_OPT_VALUE, "P", "low, normal or high",
		 "low normal high"},
		{0},
	},
	.notes = "--memory alone moves the limit too when both are equal. A limit below what is\n"
		 "in use, or more than the device has left, is refused and nothing changes.\n",
	.run = run_resize,
};
