/* SPDX-License-Identifier: Apache-2.0 */
/* The program behind `aliquot bench fractions`: measures, then writes what it found. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/paths.h"
#include "cli/say.h"
#include "fractions/cases.h"
#include "fractions/report.h"
#include "base/banned.h"

#define EXIT_SIGNAL 128

static FILE *create(const struct fr_config *c, const char *name)
{
	char path[AQ_PATH_BYTES];
	FILE *f = NULL;
	int r = aq_paths_join(path, c->out, name);

	if (!r)
		f = fopen(path, "we");
	if (!f)
		aq_say("bench fractions: %s/%s: %s", c->out, name, strerror(r ? -r : errno));
	return f;
}

static int write_json(const struct fr_config *c, const char *name, json_t *json)
{
	AQ_CLEANUP(fclose) FILE *f = create(c, name);
	int r = -EIO;

	if (f && json && !json_dumpf(json, f, JSON_INDENT(1) | JSON_REAL_PRECISION(12)) &&
	    fputc('\n', f) != EOF && !fflush(f))
		r = 0;
	json_decref(json);
	return r;
}

static int write_all(const struct fr_run *run)
{
	const struct fr_config *c = run->config;
	AQ_CLEANUP(fclose) FILE *csv = create(c, "results.csv");
	AQ_CLEANUP(fclose) FILE *report = create(c, "report.txt");
	int r = write_json(c, "results.json", fr_rows_json(&run->answers, c, false));

	r |= write_json(c, "steps.json", fr_rows_json(&run->steps, c, true));
	r |= csv ? fr_rows_csv(&run->answers, c, csv) : -EIO;
	r |= report ? fr_report_print(run, report) : -EIO;
	r |= fr_report_plots(run);
	if (!c->quiet)
		putchar('\n');
	r |= fr_report_print(run, stdout);
	if (r)
		aq_say("bench fractions: not everything could be written to '%s'", c->out);
	return r ? AQ_EXIT_FAILED : AQ_EXIT_OK;
}

static int check(const struct fr_config *c)
{
	if (!fr_cases_known(c->cases)) {
		aq_say("bench fractions: --cases '%s': not all of them exist, see --help",
		       c->cases);
		return AQ_EXIT_USAGE;
	}
	if (mkdir(c->out, 0777) < 0 && errno != EEXIST) {
		aq_say("bench fractions: --out '%s': %s", c->out, strerror(errno));
		return AQ_EXIT_FAILED;
	}
	return -1;
}

static int run_all(const struct fr_config *c)
{
	struct fr_run run;
	int r, status;

	fr_catch_signals();
	r = fr_run_cases(&run, c);
	if (r < 0 && r != -EINTR)
		aq_say("bench fractions: %s", run.stage.why[0] ? run.stage.why : strerror(-r));
	if (r == -EINTR)
		fr_notes_add(&run.notes, "interrupted: what is not here was not measured");
	status = write_all(&run);
	if (run.failed || (r < 0 && r != -EINTR) || !run.answers.count)
		status = AQ_EXIT_FAILED;
	if (r == -EINTR)
		status = EXIT_SIGNAL + fr_stopping();
	fr_run_finish(&run);
	return status;
}

int main(int argc, char **argv)
{
	struct fr_config c;
	int status;

	if (aq_fds_standard() < 0)
		return AQ_EXIT_FAILED;
	setlocale(LC_CTYPE, "");
	status = fr_config_parse(argc, argv, &c);
	if (status < 0)
		status = check(&c);
	if (status < 0)
		status = run_all(&c);
	return aq_say_finish(status);
}
