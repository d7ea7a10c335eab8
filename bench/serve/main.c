/* SPDX-License-Identifier: Apache-2.0 */
/* The program behind `aliquot bench serve`: one run, or a search for the most users. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/timing.h"
#include "cli/say.h"
#include "cli/text.h"
#include "serve/options.h"
#include "serve/report.h"
#include "serve/spread.h"
#include "base/banned.h"

#define ASK_NS (10 * AQ_NS_PER_S)
#define STEPS_MOST 64 /* of a search; doubling and halving take two dozen */
#define EXIT_SIGNAL 128

/* A signal that came while no load ran to hear it; written by its handler, during a search only. */
static volatile sig_atomic_t between_steps;

/* One line that is written over, on a terminal only. */
static void show_progress(void *arg, const struct aq_load_progress *p)
{
	double window = (double)p->window_ns / (double)AQ_NS_PER_S;
	char whole[32] = "", line[200];

	if (p->whole_ns)
		snprintf(whole, sizeof(whole), " of %.0f", (double)p->whole_ns / (double)AQ_NS_PER_S);
	if (!p->warm)
		snprintf(line, sizeof(line), "%.0f%s s  warm-up  %u in flight",
			 (double)p->since_ns / (double)AQ_NS_PER_S, whole, p->in_flight);
	else
		snprintf(line, sizeof(line),
			 "%.0f%s s  %u in flight  %" PRIu64 " done  %.1f req/s  %.0f tok/s  TTFT p50 "
			 "%.0f p95 %.0f ms  %" PRIu64 " failed",
			 (double)p->since_ns / (double)AQ_NS_PER_S, whole, p->in_flight, p->finished,
			 window > 0 ? (double)p->finished / window : 0,
			 window > 0 ? (double)p->tokens / window : 0,
			 (double)aq_hist_percentile(p->ttft, 50) / (double)AQ_NS_PER_MS,
			 (double)aq_hist_percentile(p->ttft, 95) / (double)AQ_NS_PER_MS, p->failed);
	fprintf(stderr, "\r%.*s\033[K", (int)aq_text_terminal(stderr) - 1, line);
}

static void end_progress(const struct aq_serve_options *o)
{
	if (o->load.progress)
		fputs("\r\033[K", stderr);
}

/* Models that nobody named. Return: -1 to go on, else an exit status. */
static int ask_models(struct aq_serve_options *o)
{
	for (size_t i = 0; i < o->load.target_count; i++) {
		struct aq_target *t = &o->targets[i];
		int r = aq_target_ask_model(t, o->load.headers, ASK_NS);

		if (!r)
			continue;
		aq_say("bench serve: %s: cannot ask http://%s:%u%s/models which model it has: %s",
		       t->name, t->host, t->port, t->path,
		       r == -ECONNREFUSED ? "nothing listens there" :
		       r == -ENOENT ? "no answer with a model: name it by --model" : strerror(-r));
		return AQ_EXIT_FAILED;
	}
	return -1;
}

static FILE *open_result(const struct aq_serve_options *o, const char *name)
{
	AQ_CLEANUP(free) char *path = NULL;
	FILE *f = NULL;

	if (asprintf(&path, "%s/%s", o->out, name) < 0)
		path = NULL;
	else
		f = fopen(path, "we");
	if (!f)
		aq_say("bench serve: %s/%s: %s", o->out, name, strerror(errno));
	return f;
}

static int make_directory(const struct aq_serve_options *o)
{
	AQ_CLEANUP(close) int fd = -1;

	if (!o->out)
		return -1;
	/* Now, and not after all that is to be written was measured. */
	if ((!mkdir(o->out, 0777) || errno == EEXIST) &&
	    (fd = open(o->out, O_DIRECTORY | O_CLOEXEC)) >= 0 && !faccessat(fd, ".", W_OK, AT_EACCESS))
		return -1;
	aq_say("bench serve: --out '%s': %s", o->out, strerror(errno));
	return AQ_EXIT_FAILED;
}

/* To stdout and to DIR/results.json, as asked; takes @json. Return: an exit status. */
static int write_json(const struct aq_serve_options *o, json_t *json)
{
	size_t flags = JSON_INDENT(1) | JSON_REAL_PRECISION(12);
	AQ_CLEANUP(fclose) FILE *f = NULL;
	int status = AQ_EXIT_OK;

	if (!json) {
		aq_say("bench serve: out of memory");
		return AQ_EXIT_FAILED;
	}
	if (o->json && (json_dumpf(json, stdout, flags) || putchar('\n') == EOF))
		status = AQ_EXIT_FAILED;
	if (o->out) {
		f = open_result(o, "results.json");
		if (!f || json_dumpf(json, f, flags) || fputc('\n', f) == EOF || fflush(f))
			status = AQ_EXIT_FAILED;
	}
	json_decref(json);
	return status;
}

static int write_run(const struct aq_serve_options *o, const struct aq_load_result *result)
{
	int status = AQ_EXIT_OK, r;

	if (!o->json && aq_report_print(&o->load, &o->bounds, result, stdout) < 0)
		status = AQ_EXIT_FAILED;
	if (o->json || o->out)
		status |= write_json(o, aq_report_json(&o->load, &o->bounds, result));
	if (o->out) {
		AQ_CLEANUP(fclose) FILE *csv = open_result(o, "requests.csv");

		if (!csv || aq_report_csv(&o->load, result, csv) < 0)
			status = AQ_EXIT_FAILED;
		r = aq_report_plots(&o->load, &o->bounds, result, o->out);
		if (r < 0) {
			aq_say("bench serve: plots in '%s': %s", o->out, strerror(-r));
			status = AQ_EXIT_FAILED;
		}
	}
	return status;
}

static uint64_t succeeded(const struct aq_load_result *r)
{
	uint64_t ok = 0;

	for (size_t i = 0; i < r->target_count; i++)
		ok += r->targets[i].ends[AQ_END_OK];
	return ok;
}

static int run_once(struct aq_serve_options *o)
{
	struct aq_load_result result;
	int r = aq_load_run(&o->load, &result), status;

	end_progress(o);
	if (r < 0) {
		aq_say("bench serve: %s", strerror(-r));
		return AQ_EXIT_FAILED;
	}
	status = write_run(o, &result);
	if (result.signal)
		status = EXIT_SIGNAL + result.signal;
	else if (!succeeded(&result))
		status = AQ_EXIT_FAILED;
	aq_load_result_finish(&result);
	return status;
}

/* One step of a search. Return: a signal that ended it, 0, negative errno. */
static int try_users(struct aq_serve_options *o, uint32_t users, struct aq_search_row *row)
{
	struct aq_load_result result;
	int r;

	aq_spread_users(o->targets, o->load.target_count, users);
	r = aq_load_run(&o->load, &result);
	end_progress(o);
	if (r < 0)
		return r;
	r = aq_search_measure(&result, &o->bounds, users, row);
	if (!r)
		r = result.signal;
	aq_load_result_finish(&result);
	return r;
}

static void on_signal(int number)
{
	between_steps = number;
}

static int search_steps(struct aq_serve_options *o, struct aq_search_report *s)
{
	const struct sigaction action = {.sa_handler = on_signal};
	struct aq_search_step steps[STEPS_MOST];
	uint32_t users;
	int r = 0;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	while (s->count < STEPS_MOST && (users = aq_search_next(&o->limits, steps, s->count))) {
		struct aq_search_row *row = &s->rows[s->count];

		r = between_steps ? between_steps : try_users(o, users, row);
		if (r)
			break;
		steps[s->count++] = row->step;
		if (!o->json && !o->quiet)
			aq_report_search_line(row, s, stdout);
		fflush(stdout);
	}
	s->finished = !r;
	for (int by = 0; by < AQ_SEARCH_BYS; by++)
		s->best[by] = aq_search_best(steps, s->count, (enum aq_search_by)by);
	s->at_most = s->best[AQ_SEARCH_P95] == o->limits.most;
	return r;
}

static int search(struct aq_serve_options *o)
{
	struct aq_search_row *rows = calloc(STEPS_MOST, sizeof(*rows));
	struct aq_search_report s = {
		.rows = rows, .bound_ns = o->bounds.ttft_ns, .every = o->limits.every};
	char conditions[256], subtitle[320];
	int r = rows ? search_steps(o, &s) : -ENOMEM, status = AQ_EXIT_OK;

	if (r < 0) {
		aq_say("bench serve: %s", strerror(-r));
		status = AQ_EXIT_FAILED;
	} else {
		if (!o->json)
			aq_report_search_print(&s, stdout);
		if (o->json || o->out)
			status = write_json(o, aq_report_search_json(&s));
		aq_report_conditions(&o->load, conditions);
		snprintf(subtitle, sizeof(subtitle), "last step: %s", conditions);
		if (o->out && s.count && aq_report_search_plot(&s, subtitle, o->out) < 0)
			status = AQ_EXIT_FAILED;
	}
	free(rows);
	return r > 0 ? EXIT_SIGNAL + r : status;
}

int main(int argc, char **argv)
{
	struct aq_serve_options *o;
	int status;

	if (aq_fds_standard() < 0)
		return AQ_EXIT_FAILED;
	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_IGN); /* a reader that left is told by the write */
	o = malloc(sizeof(*o));
	if (!o)
		return AQ_EXIT_FAILED;
	status = aq_serve_options_parse(argc, argv, o);
	if (status < 0 && !o->quiet && isatty(STDERR_FILENO))
		o->load.progress = show_progress;
	if (status < 0)
		status = make_directory(o);
	if (status < 0)
		status = ask_models(o);
	if (status < 0)
		status = o->search ? search(o) : run_once(o);
	aq_serve_options_finish(o);
	free(o);
	return aq_say_finish(status);
}
