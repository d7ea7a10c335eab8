/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which share of a device do processes get that all have work without end, and what is lost in
 * total, when nothing but the hardware divides it? Kernels are fixed amounts of work that fill the
 * device; rates are compared with the same process alone, in the same run.
 *
 * --between=COMMAND runs a command (sh -c) in the middle and measures before and after it, two
 * processes with kernels of --size=NAME; --env0=NAME=VALUE and --env1= are put into the environment
 * of one process each. With these two it says what a control of somebody else's does.
 */
#include "tenants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PARTS 8 /* of a measurement, each evaluated by itself, for the spread */

struct size {
	const char *name;
	uint64_t kernel_ns;
	unsigned nodes;
	double seconds;
};

static const struct size sizes[] = {
	{"10us", 10 * USEC, 0, 1.2},	       {"1ms", MSEC, 0, 1.2},
	{"10ms", 10 * MSEC, 0, 1.5},	       {"100ms", 100 * MSEC, 0, 4},
	{"graph_64x10us", 10 * USEC, 64, 1.2},
};
#define N_SIZES ARRAY_LEN(sizes)

static double alone[N_SIZES]; /* windows a second */

static unsigned window(const struct size *z)
{
	uint64_t launch_ns = z->kernel_ns * (z->nodes ? z->nodes : 1);

	return launch_ns >= 2 * MSEC ? 1 : (unsigned)(2 * MSEC / launch_ns);
}

static void make_order(struct tenants *ts, const struct size *z, uint64_t start, double seconds,
		       struct work_order *w)
{
	memset(w, 0, sizeof(*w));
	w->iters = ts->t[0].iters_per_ms * z->kernel_ns / MSEC;
	w->nodes = z->nodes;
	w->window = window(z);
	w->start = start;
	w->end = start + (uint64_t)(seconds * 1e9);
}

/* Everyone with an order begins at the same moment. */
static int run_orders(struct tenants *ts, const struct work_order *orders, uint32_t who)
{
	int r = 0;

	for (int i = 0; i < ts->n; i++)
		if (who & 1u << i)
			tenant_work_begin(ts, i, &orders[i]);
	for (int i = 0; i < ts->n; i++)
		if (who & 1u << i && tenant_wait(ts, i, 60))
			r = -1;
	return r;
}

static double seconds_of(const struct size *z)
{
	return probe_quick() ? 0.3 : z->seconds;
}

/* Rate in each part, relative to alone; also into @sum, part by part. */
static void parts(const struct work_order *w, const struct ticks *t, double full,
		  struct samples *share, double *sum)
{
	uint64_t length = w->end - w->start;
	uint64_t from = w->start + length / 10; /* the start is uneven */

	length = w->end - from;
	for (unsigned i = 0; i < PARTS; i++) {
		double rate =
			ticks_rate(t, from + length * i / PARTS, from + length * (i + 1) / PARTS);

		if (rate > 0 && full > 0) {
			samples_add(share, rate / full);
			sum[i] += rate / full;
		} else {
			sum[i] = NAN;
		}
	}
}

/* For kernels so long that a part holds too few: one number over the whole time. */
static double whole(const struct work_order *w, const struct ticks *t, double full)
{
	uint64_t from = w->start + (w->end - w->start) / 10;
	double rate = ticks_rate(t, from, w->end);

	return full > 0 ? rate / full : NAN;
}

static void evaluate(struct tenants *ts, const char *name, const struct work_order *orders,
		     const size_t *which, uint32_t who)
{
	double sum[PARTS] = {0}, total = 0;
	struct samples s = {0};
	char what[96];
	bool coarse = false;

	for (int i = 0; i < ts->n; i++)
		coarse = coarse || (who & 1u << i && sizes[which[i]].kernel_ns >= 10 * MSEC);
	for (int i = 0; i < ts->n; i++) {
		double full = alone[which[i]];

		if (!(who & 1u << i))
			continue;
		snprintf(what, sizeof(what), "%s.process_%d", name, i);
		total += whole(&orders[i], &ts->t[i].ticks, full);
		parts(&orders[i], &ts->t[i].ticks, full, &s, sum);
		if (coarse) {
			samples_finish(&s);
			report_one(what, "of alone", whole(&orders[i], &ts->t[i].ticks, full),
				   "kernels of %s, over the whole time", sizes[which[i]].name);
		} else {
			report(what, "of alone", &s, "kernels of %s, by eighths of the time",
			       sizes[which[i]].name);
		}
	}
	snprintf(what, sizeof(what), "%s.total", name);
	for (unsigned i = 0; i < PARTS && !coarse; i++)
		if (!isnan(sum[i]))
			samples_add(&s, sum[i]);
	if (coarse)
		report_one(what, "of alone", total, "sum of the processes");
	else
		report(what, "of alone", &s, "sum of the processes; 1 is nothing lost");
}

static int measure_alone(struct tenants *ts)
{
	for (size_t z = 0; z < N_SIZES; z++) {
		struct work_order w;
		char what[64];

		snprintf(what, sizeof(what), "alone_%s", sizes[z].name);
		probe_step(what);
		make_order(ts, &sizes[z], now_ns() + 5 * MSEC, seconds_of(&sizes[z]) / 2, &w);
		if (run_orders(ts, &w, 1))
			return -1;
		alone[z] = ticks_rate(&ts->t[0].ticks, w.start, w.end);
		report_one(what, "launches/s", alone[z] * w.window, "%llu iterations a kernel",
			   (unsigned long long)w.iters);
	}
	return 0;
}

static int together(struct tenants *ts, const char *name, const size_t *which, uint32_t who,
		    uint64_t pause_ns)
{
	struct work_order orders[TENANTS_MAX];
	uint64_t start = now_ns() + 20 * MSEC; /* graphs are made before it */
	double seconds = 0;

	probe_step(name);
	for (int i = 0; i < ts->n; i++)
		if (who & 1u << i && seconds_of(&sizes[which[i]]) > seconds)
			seconds = seconds_of(&sizes[which[i]]);
	for (int i = 0; i < ts->n; i++)
		make_order(ts, &sizes[which[i]], start, seconds, &orders[i]);
	if (pause_ns) {
		orders[1].pause_ns = pause_ns;
		orders[1].window = 1;
	}
	if (run_orders(ts, orders, who))
		return -1;
	if (pause_ns) {
		report_one("idle_half.saturating", "of alone",
			   whole(&orders[0], &ts->t[0].ticks, alone[which[0]]),
			   "beside a process that runs one kernel of 1 ms and then sleeps 1 ms");
		return 0;
	}
	evaluate(ts, name, orders, which, who);
	return 0;
}

/*
 * What one short kernel now and then has to wait, from before its launch until its end is seen,
 * alone and beside a process that is never idle.
 */
static int latencies(struct tenants *ts)
{
	for (size_t beside = 0; beside <= N_SIZES && probe_left_s() > 10; beside++) {
		bool alone_now = beside == N_SIZES;
		struct work_order orders[TENANTS_MAX];
		uint64_t start = now_ns() + 20 * MSEC;
		struct samples s = {0};
		char what[64];

		snprintf(what, sizeof(what), "latency_of_10us.%s%s",
			 alone_now ? "alone" : "beside_", alone_now ? "" : sizes[beside].name);
		probe_step(what);
		make_order(ts, &sizes[alone_now ? 0 : beside], start, seconds_of(&sizes[0]),
			   &orders[0]);
		make_order(ts, &sizes[0], start, seconds_of(&sizes[0]), &orders[1]);
		orders[1].window = 1;
		orders[1].pause_ns = 2 * MSEC + 137 * USEC; /* in step with no slice */
		if (run_orders(ts, orders, alone_now ? 2 : 3))
			return -1;
		for (uint32_t i = 1; i < ts->t[1].ticks.n; i++)
			samples_add(&s, (double)ts->t[1].ticks.took[i]);
		report(what, "ns", &s, "launch and wait for a kernel of 10 us, one in 2 ms");
	}
	return 0;
}

static int all_pairs(struct tenants *ts)
{
	char name[64];

	for (size_t z = 0; z < N_SIZES; z++)
		for (int n = 2; n <= ts->n && probe_left_s() > 10; n++) {
			size_t which[TENANTS_MAX] = {z, z, z, z};

			snprintf(name, sizeof(name), "%d_x_%s", n, sizes[z].name);
			if (together(ts, name, which, (1u << n) - 1, 0))
				return -1;
		}
	if (together(ts, "10us_beside_10ms", (size_t[TENANTS_MAX]){0, 2}, 3, 0) ||
	    together(ts, "graph_beside_1ms", (size_t[TENANTS_MAX]){4, 1}, 3, 0))
		return -1;
	return together(ts, "idle_half", (size_t[TENANTS_MAX]){1, 1}, 3, MSEC) || latencies(ts);
}

/* Rates of two processes before and after the command. */
static int around_a_command(struct tenants *ts, const char *text)
{
	const char *size = probe_option("size", "1ms");
	struct work_order orders[TENANTS_MAX];
	uint64_t start = now_ns() + 20 * MSEC, middle, changed;
	size_t z = 1;
	int code;

	for (size_t i = 0; i < N_SIZES; i++)
		if (!strcmp(sizes[i].name, size))
			z = i;
	for (int i = 0; i < 2; i++) {
		make_order(ts, &sizes[z], start, 3, &orders[i]);
		tenant_work_begin(ts, i, &orders[i]);
	}
	middle = start + SEC;
	while (now_ns() < middle)
		sleep_ns(MSEC);
	code = system(text);
	changed = now_ns() + 200 * MSEC;
	for (int i = 0; i < 2; i++)
		if (tenant_wait(ts, i, 20))
			return -1;
	report_fact("between.exit_code", "%d", code);
	for (int i = 0; i < 2; i++) {
		char what[64];

		snprintf(what, sizeof(what), "between.process_%d_before", i);
		report_one(what, "of alone",
			   ticks_rate(&ts->t[i].ticks, start + 200 * MSEC, middle) / alone[z],
			   "kernels of %s", sizes[z].name);
		snprintf(what, sizeof(what), "between.process_%d_after", i);
		report_one(what, "of alone",
			   ticks_rate(&ts->t[i].ticks, changed, orders[i].end) / alone[z],
			   "from 0.2 s after the command ended");
	}
	return 0;
}

/* --env0=NAME=VALUE */
static int put_environment(int index)
{
	char option[8], copy[256], *value;
	const char *text;

	snprintf(option, sizeof(option), "env%d", index);
	text = probe_option(option, NULL);
	if (!text)
		return 0;
	snprintf(copy, sizeof(copy), "%s", text);
	value = strchr(copy, '=');
	if (!value)
		return -1;
	*value++ = '\0';
	return setenv(copy, value, 1);
}

int main(int argc, char **argv)
{
	static const struct tenant_hooks hooks = {.prepare = put_environment};
	const char *between;
	struct tenants ts;
	int processes;
	bool computes;

	probe_begin(argc, argv, "share", 120, "processes,between,size,env0,env1,env2");
	processes = (int)probe_number_option("processes", 3);
	between = probe_option("between", NULL);
	if (processes < 2 || processes > TENANTS_MAX) {
		fprintf(stderr, "share: --processes is 2 to %d\n", TENANTS_MAX);
		return 2;
	}
	if (!device_there(&computes))
		return probe_end();
	probe_step("start");
	if (!tenants_start(&ts, processes, &hooks))
		return probe_end();
	probe_step("calibrate");
	if (!tenant_calibrate(&ts, 0) && !measure_alone(&ts)) {
		if (between)
			around_a_command(&ts, between);
		else
			all_pairs(&ts);
	}
	tenants_stop(&ts);
	return probe_end();
}
