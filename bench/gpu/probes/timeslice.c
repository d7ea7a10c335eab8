/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the device's own time slicing looks from inside: how long a process stays on the device
 * while others wait for it, how long it is away, and what a switch costs, by kernels that read the
 * device's clock without pause. It changes nothing.
 */
#include "tenants.h"

static int trace_together(struct tenants *ts, int n, enum load load, uint64_t total_ns)
{
	int r = 0, all = ts->n;

	ts->n = n;
	for (int i = 0; i < n; i++)
		tenant_trace_begin(ts, i, total_ns, load);
	for (int i = 0; i < n; i++)
		r = tenant_wait(ts, i, 30) ? -1 : r;
	ts->n = all;
	return r;
}

static void show(struct tenants *ts, int n, const char *name)
{
	struct samples runs = {0}, gaps = {0}, switches = {0};
	int all = ts->n;
	unsigned overlaps;
	char what[96];

	for (int i = 0; i < n; i++) {
		snprintf(what, sizeof(what), "%s.process_%d_interrupted", name, i);
		report_one(what, "times", ts->t[i].trace.n ? ts->t[i].trace.n - 1 : 0,
			   "%llu readings of the clock", (unsigned long long)ts->t[i].trace.turns);
		trace_lengths(&ts->t[i].trace, &runs);
		trace_gaps(&ts->t[i].trace, &gaps);
	}
	if (n < 2)
		return;
	snprintf(what, sizeof(what), "%s.stay", name);
	report(what, "ns", &runs, "on the device without interruption");
	snprintf(what, sizeof(what), "%s.away", name);
	report(what, "ns", &gaps, "between two stays");
	ts->n = n;
	trace_switches(ts, 5 * USEC, &switches, &overlaps);
	ts->n = all;
	snprintf(what, sizeof(what), "%s.switch", name);
	report(what, "ns", &switches,
	       "from the end of one process's stay to the start of another's");
	snprintf(what, sizeof(what), "%s.overlaps", name);
	report_one(what, "", overlaps, "stays of two processes that overlap by more than 5 us");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int n;
		enum load load;
	} cases[] = {
		{"1_alone", 1, LOAD_LIGHT},
		{"2_light", 2, LOAD_LIGHT},
		{"2_heavy", 2, LOAD_HEAVY},
		{"3_light", 3, LOAD_LIGHT},
	};
	uint64_t total_ns;
	struct tenants ts;
	bool computes;

	probe_begin(argc, argv, "timeslice", 60, NULL);
	total_ns = probe_quick() ? 100 * MSEC : 1500 * MSEC;
	if (!device_there(&computes))
		return probe_end();
	if (!computes) {
		report_skipped("stay", "kernels do not compute here");
		return probe_end();
	}
	probe_step("start");
	if (!tenants_start(&ts, 3, NULL))
		return probe_end();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		probe_step(cases[i].name);
		if (trace_together(&ts, cases[i].n, cases[i].load, total_ns))
			break;
		show(&ts, cases[i].n, cases[i].name);
	}
	tenants_stop(&ts);
	return probe_end();
}
