/* SPDX-License-Identifier: Apache-2.0 */
/* The program behind `aliquot bench fractions`: measures, then writes what it found. */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/paths.h"
#include "cli/say.h"
#include "fractions/cases.h"
#include "fractions/report.h"
#include "base/banned.h"

#define EXIT_SIGNAL 128
#define JSON_FLAGS (JSON_INDENT(1) | JSON_REAL_PRECISION(12))

/* What is to be at DIR/NAME is written beside it first: a run that is killed leaves old or new. */
static FILE *create(const struct fr_config *c, const char *name, char path[AQ_PATH_BYTES])
{
	FILE *f = NULL;
	int r = aq_paths_join(path, c->out, name);

	if (!r)
		f = fopen(path, "we");
	if (!f)
		aq_say("bench fractions: %s/%s: %s", c->out, name, strerror(r ? -r : errno));
	return f;
}

static int write_json(const struct fr_run *run, FILE *f)
{
	json_t *json = fr_rows_json(&run->answers, false);
	int r = json && !json_dumpf(json, f, JSON_FLAGS) && fputc('\n', f) != EOF ? 0 : -EIO;

	json_decref(json);
	return r;
}

static int write_steps(const struct fr_run *run, FILE *f)
{
	json_t *json = fr_rows_json(&run->steps, true);
	int r = json && !json_dumpf(json, f, JSON_FLAGS) && fputc('\n', f) != EOF ? 0 : -EIO;

	json_decref(json);
	return r;
}

static int write_csv(const struct fr_run *run, FILE *f)
{
	return fr_rows_csv(&run->answers, f);
}

static const struct {
	const char *name, *part;
	int (*write)(const struct fr_run *run, FILE *f);
} files[] = {
	{"results.json", "results.json.part", write_json},
	{"steps.json", "steps.json.part", write_steps},
	{"results.csv", "results.csv.part", write_csv},
	{"report.txt", "report.txt.part", fr_report_print},
};

static int write_file(const struct fr_run *run, size_t i)
{
	char path[AQ_PATH_BYTES], part[AQ_PATH_BYTES];
	FILE *f = create(run->config, files[i].part, part);
	int r;

	if (!f)
		return -EIO;
	errno = 0;
	r = files[i].write(run, f);
	if (r == -EIO && errno)
		r = -errno;
	if (fclose(f) && !r)
		r = -errno;
	if (!r)
		r = aq_paths_join(path, run->config->out, files[i].name);
	if (!r && rename(part, path) < 0)
		r = -errno;
	if (r)
		aq_say("bench fractions: %s/%s: %s", run->config->out, files[i].name, strerror(-r));
	if (r)
		unlink(part);
	return r;
}

static int write_files(const struct fr_run *run)
{
	int r = 0;

	for (size_t i = 0; i < AQ_ARRAY_SIZE(files); i++)
		r |= write_file(run, i);
	return r;
}

/* What cannot be written now may be at the end. */
static void keep(const struct fr_run *run)
{
	write_files(run);
}

static int write_all(const struct fr_run *run)
{
	const struct fr_config *c = run->config;
	int r = write_files(run);

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
	/* Now, and not after all that is to be written was measured. */
	return write_files(&(struct fr_run){.config = c}) ? AQ_EXIT_FAILED : -1;
}

static int run_all(const struct fr_config *c)
{
	struct fr_run run;
	int r, status;

	fr_catch_signals();
	r = fr_run_cases(&run, c, keep);
	if (r < 0 && r != -EINTR && !run.steps.count) {
		aq_say("bench fractions: %s", run.stage.why[0] ? run.stage.why : strerror(-r));
		fr_run_finish(&run);
		return AQ_EXIT_FAILED;
	}
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
