/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options, time limit, samples and records of a probe. It knows nothing of CUDA.
 */
#include "probe.h"
#include "probe_internal.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_OPTIONS 32
#define MAX_LINE 4096

struct probe_state probe_state;

static struct {
	const char *name, *value;
} options[MAX_OPTIONS];
static int n_options;
static char limit_line[512]; /* made beforehand: the signal handler only writes it */
static char step_name[96];
static uint64_t deadline_ns;

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}

uint64_t probe_clock_cost_ns(void)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		uint64_t t = now_ns();
		uint64_t d = now_ns() - t;

		if (d < best)
			best = d;
	}
	return best;
}

void sleep_ns(uint64_t ns)
{
	struct timespec t = {(time_t)(ns / SEC), (long)(ns % SEC)};

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* Options. */

const char *probe_option(const char *name, const char *otherwise)
{
	for (int i = 0; i < n_options; i++)
		if (!strcmp(options[i].name, name))
			return options[i].value;
	return otherwise;
}

uint64_t probe_number_option(const char *name, uint64_t otherwise)
{
	const char *text = probe_option(name, NULL);
	char *end;
	uint64_t value;

	if (!text)
		return otherwise;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-') {
		fprintf(stderr, "%s: --%s: '%s' is not a number\n", probe_state.name, name, text);
		exit(2);
	}
	return value;
}

bool probe_quick(void)
{
	return probe_number_option("quick", 0) != 0;
}

int probe_device(void)
{
	return (int)probe_number_option("device", 0);
}

double probe_left_s(void)
{
	return ((double)deadline_ns - (double)now_ns()) / 1e9;
}

static bool listed(const char *list, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = list; at && (at = strstr(at, name)); at += n)
		if ((at == list || at[-1] == ',') && (at[n] == ',' || !at[n]))
			return true;
	return false;
}

static void read_options(int argc, char **argv, const char *own)
{
	for (int i = 1; i < argc; i++) {
		char *name = argv[i], *value;

		if (strncmp(name, "--", 2) || !(value = strchr(name, '=')) ||
		    n_options == MAX_OPTIONS) {
			fprintf(stderr, "%s: '%s' is not --name=value\n", probe_state.name, name);
			exit(2);
		}
		*value++ = '\0';
		name += 2;
		if (!listed("device,mode,quick,limit", name) && !listed(own, name)) {
			fprintf(stderr, "%s: there is no option --%s\n", probe_state.name, name);
			exit(2);
		}
		options[n_options].name = name;
		options[n_options++].value = value;
	}
}

/* Time limit. */

static void on_alarm(int sig)
{
	ssize_t r = write(STDOUT_FILENO, limit_line, strlen(limit_line));

	(void)sig;
	(void)r;
	_exit(124);
}

void probe_begin(int argc, char **argv, const char *name, unsigned limit_s, const char *own)
{
	probe_state.name = name;
	probe_state.pid = getpid();
	read_options(argc, argv, own ? own : "");
	limit_s = (unsigned)probe_number_option("limit", limit_s);
	deadline_ns = now_ns() + limit_s * SEC;
	probe_step("run");
	/* NVML and CUDA then number devices alike. */
	setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 0);
	probe_nvml_open();
	snprintf(limit_line, sizeof(limit_line),
		 "{\"probe\": \"%s.time_limit\", \"result\": \"failed\", \"mode\": \"%s\", "
		 "\"note\": \"stopped after %u s\"}\n",
		 name, probe_option("mode", "bare"), limit_s);
	signal(SIGALRM, on_alarm);
	alarm(limit_s);
}

int probe_end(void)
{
	alarm(0);
	if (atomic_load(&probe_state.failed))
		return 1;
	return probe_state.no_device ? 77 : 0;
}

/* Samples. */

void samples_add(struct samples *s, double v)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 256;
		double *more = realloc(s->v, cap * sizeof(*more));

		if (!more)
			return; /* fewer samples, and n says so */
		s->v = more;
		s->cap = cap;
	}
	s->v[s->n++] = v;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double samples_quantile(struct samples *s, double q)
{
	size_t rank;

	if (!s->n)
		return NAN;
	qsort(s->v, s->n, sizeof(*s->v), by_value);
	rank = (size_t)ceil(q * (double)s->n);
	return s->v[rank ? rank - 1 : 0];
}

void samples_finish(struct samples *s)
{
	free(s->v);
	*s = (struct samples){0};
}

/* Records. */

struct line {
	char text[MAX_LINE];
	size_t n;
};

static void put(struct line *l, const char *format, ...) PROBE_PRINTF(2, 3);
static void put(struct line *l, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(l->text + l->n, sizeof(l->text) - l->n, format, args);
	va_end(args);
	if (n > 0)
		l->n += (size_t)n < sizeof(l->text) - l->n ? (size_t)n : sizeof(l->text) - l->n - 1;
}

static void put_string(struct line *l, const char *key, const char *text)
{
	put(l, ", \"%s\": \"", key);
	for (; *text && l->n < sizeof(l->text) - 64; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			put(l, "\\%c", c);
		else if (c < 0x20)
			put(l, "\\u%04x", c);
		else
			put(l, "%c", c);
	}
	put(l, "\"");
}

/* JSON has no NAN and no infinity. */
static void put_number(struct line *l, const char *key, double v)
{
	if (isfinite(v))
		put(l, ", \"%s\": %.10g", key, v);
	else
		put(l, ", \"%s\": null", key);
}

static void put_head(struct line *l, const char *what, const char *result)
{
	int sm_mhz = 0, mem_mhz = 0;

	put(l, "{\"probe\": \"%s.%s\"", probe_state.name, what ? what : step_name);
	put_string(l, "result", result);
	put_string(l, "mode", probe_option("mode", "bare"));
	put_string(l, "device", probe_state.device_name);
	put_string(l, "driver", probe_state.driver_version);
	if (probe_state.simulated)
		put(l, ", \"simulated\": true");
	/* Asked for in the first process only: NVML is not carried over a fork. */
	if (getpid() == probe_state.pid && probe_nvml_clocks(&sm_mhz, &mem_mhz))
		put(l, ", \"clocks\": {\"sm_mhz\": %d, \"mem_mhz\": %d}", sm_mhz, mem_mhz);
}

static void put_end(struct line *l, const char *note, va_list args)
{
	char text[1024];

	if (note) {
		vsnprintf(text, sizeof(text), note, args);
		put_string(l, "note", text);
	}
	put(l, "}\n");
	if (write(STDOUT_FILENO, l->text, l->n) != (ssize_t)l->n)
		_exit(3); /* nowhere to report to */
}

void report(const char *what, const char *unit, struct samples *s, const char *note, ...)
{
	struct line l = {.n = 0};
	double sum = 0;
	va_list args;

	if (!s->n) {
		report_skipped(what, "no samples");
		return;
	}
	for (size_t i = 0; i < s->n; i++)
		sum += s->v[i];
	put_head(&l, what, "measured");
	put(&l, ", \"n\": %zu", s->n);
	put_string(&l, "unit", unit);
	put_number(&l, "min", samples_quantile(s, 0));
	put_number(&l, "median", samples_quantile(s, 0.5));
	put_number(&l, "p90", samples_quantile(s, 0.9));
	put_number(&l, "p99", samples_quantile(s, 0.99));
	put_number(&l, "max", samples_quantile(s, 1));
	put_number(&l, "mean", sum / (double)s->n);
	va_start(args, note);
	put_end(&l, note, args);
	va_end(args);
	samples_finish(s);
}

void report_one(const char *what, const char *unit, double value, const char *note, ...)
{
	struct line l = {.n = 0};
	va_list args;

	put_head(&l, what, "measured");
	put(&l, ", \"n\": 1");
	put_string(&l, "unit", unit);
	put_number(&l, "median", value);
	va_start(args, note);
	put_end(&l, note, args);
	va_end(args);
}

void report_fact(const char *what, const char *value, ...)
{
	struct line l = {.n = 0};
	char text[1024];
	va_list args;

	put_head(&l, what, "fact");
	va_start(args, value);
	vsnprintf(text, sizeof(text), value, args);
	put_string(&l, "value", text);
	put_end(&l, NULL, args);
	va_end(args);
}

void report_skipped(const char *what, const char *why, ...)
{
	struct line l = {.n = 0};
	va_list args;

	put_head(&l, what, "skipped");
	va_start(args, why);
	put_end(&l, why, args);
	va_end(args);
}

void report_failed(const char *what, const char *why, ...)
{
	struct line l = {.n = 0};
	va_list args;

	atomic_store(&probe_state.failed, true);
	put_head(&l, what, "failed");
	va_start(args, why);
	put_end(&l, why, args);
	va_end(args);
}

void probe_step(const char *what)
{
	snprintf(step_name, sizeof(step_name), "%s", what);
}
