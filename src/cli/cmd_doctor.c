/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot doctor`: what is there, what is missing, and what to do about it. Changes nothing. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/doctor.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/text.h"
#include "base/banned.h"

#define CHECK_COLUMNS 18
#define DETAIL_COLUMN (6 + CHECK_COLUMNS + 1)
#define DETAIL_MIN_COLUMNS 30 /* a narrower terminal wraps by itself */

static const char *const words[] = {
	[AQ_HEALTH_OK] = "OK",
	[AQ_HEALTH_NA] = "n.a.",
	[AQ_HEALTH_WARN] = "WARN",
	[AQ_HEALTH_FAIL] = "FAIL",
};

static void (*const checks[])(struct aq_doctor *d) = {
	aq_doctor_kernel, aq_doctor_limits, aq_doctor_devices, aq_doctor_driver,
	aq_doctor_sharing, aq_doctor_install, aq_doctor_daemon,
};

void aq_doctor_add(struct aq_doctor *d, const char *check, enum aq_health health,
		   const char *advice, const char *format, ...)
{
	struct aq_finding *f;
	va_list ap;

	if (d->count == d->allocated) {
		size_t n = d->allocated ? d->allocated * 2 : 32;
		void *finding = reallocarray(d->finding, n, sizeof(*d->finding));

		if (!finding)
			return;
		d->finding = finding;
		d->allocated = n;
	}
	f = &d->finding[d->count++];
	*f = (struct aq_finding){.check = check, .health = health};
	va_start(ap, format);
	vsnprintf(f->detail, sizeof(f->detail), format, ap);
	va_end(ap);
	snprintf(f->advice, sizeof(f->advice), "%s", advice ? advice : "");
	aq_say_scrub(f->detail);
}

/* @text behind DETAIL_COLUMN, broken at blanks; 0 for @width: in one line. */
static void print_wrapped(const char *text, unsigned int width)
{
	size_t room = width ? width - DETAIL_COLUMN : strlen(text);

	while (strlen(text) > room) {
		size_t n = room;

		while (n && text[n] != ' ')
			n--;
		if (!n)
			n = strcspn(text, " "); /* a long path */
		if (!text[n])
			break;
		printf("%.*s\n%*s", (int)n, text, DETAIL_COLUMN, "");
		text += n + 1;
	}
	puts(text);
}

static void print_text(const struct aq_doctor *d)
{
	unsigned int counts[AQ_ARRAY_SIZE(words)] = {0};
	unsigned int width = aq_text_terminal(stdout);

	if (width < DETAIL_COLUMN + DETAIL_MIN_COLUMNS)
		width = 0;

	for (size_t i = 0; i < d->count; i++) {
		const struct aq_finding *f = &d->finding[i];

		counts[f->health]++;
		printf("%-5s %-*s ", words[f->health], CHECK_COLUMNS, f->check);
		print_wrapped(f->detail, width);
		if (!f->advice[0])
			continue;
		printf("%*s-> ", DETAIL_COLUMN - 3, "");
		print_wrapped(f->advice, width);
	}
	putchar('\n');
	if (counts[AQ_HEALTH_FAIL])
		printf("%u problem%s to fix first\n", counts[AQ_HEALTH_FAIL],
		       counts[AQ_HEALTH_FAIL] == 1 ? "" : "s");
	else if (d->nodes)
		puts("ready for the GPUs of this machine");
	else
		puts("ready for simulated devices: aliquot run --sim h100 --gpu 0.25 -- PROGRAM");
}

static int print_json(const struct aq_doctor *d)
{
	json_t *all = json_array();
	int r;

	for (size_t i = 0; i < d->count; i++) {
		const struct aq_finding *f = &d->finding[i];
		json_t *detail = json_string(f->detail);

		json_array_append_new(all, json_pack("{s:s, s:s, s:o, s:s?}", "check", f->check,
						     "status", words[f->health], "detail",
						     detail ? detail : json_string("not UTF-8"),
						     "advice", f->advice[0] ? f->advice : NULL));
	}
	r = aq_json_print(all);
	json_decref(all);
	return r;
}

static int run_doctor(const struct aq_verb *verb, int argc, char **argv)
{
	struct aq_doctor d = {0};
	struct aq_opt_scan scan;
	int id, status = AQ_EXIT_OK;
	const char *value;
	bool json = false;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		switch (id) {
		case AQ_OPT_OPERAND:
			return aq_opt_unexpected(verb, value);
		case AQ_OPT_HELP:
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		case AQ_OPT_PROBE:
			return aq_probe_main(value);
		case AQ_OPT_JSON:
			json = true;
			break;
		}
	}
	if (id < 0)
		return AQ_EXIT_USAGE;

	for (size_t i = 0; i < AQ_ARRAY_SIZE(checks); i++)
		checks[i](&d);
	for (size_t i = 0; i < d.count; i++)
		if (d.finding[i].health == AQ_HEALTH_FAIL)
			status = AQ_EXIT_FAILED;
	if (json)
		status |= print_json(&d);
	else
		print_text(&d);
	json_decref(d.nvml);
	free(d.finding);
	return status;
}

const struct aq_verb aq_verb_doctor = {
	.name = "doctor",
	.operands = "[--json]",
	.summary = "what is there, what is missing, what to do about it",
	.examples = "  aliquot doctor\n"
		    "  aliquot doctor --json | jq '.[] | select(.status == \"FAIL\")'\n",
	.opts = (const struct aq_opt[]){
		AQ_OPT_ROW_JSON,
		{"probe", AQ_OPT_PROBE, AQ_OPT_VALUE, "LIBRARY", NULL, NULL}, /* its own child */
		{0},
	},
	.notes = "n.a. is nothing to worry about, WARN works, FAIL does not: exit status 1.\n",
	.run = run_doctor,
};
