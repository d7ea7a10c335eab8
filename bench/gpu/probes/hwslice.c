/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Can the time slices of channel groups be set with effect on this device and driver, by whom, and
 * what commits them? In stages, by risk; each is a run of its own:
 *
 *   --stage=read        the driver's own calls are recorded; then reading controls only
 *   --stage=own         a process's own unprivileged controls on its own groups
 *   --stage=outside     the same through a duplicate of the process's file, held by another one
 *   --stage=privileged  controls that need CAP_SYS_NICE; only with --privileged=1
 *
 * --short=1 ends a stage when it is known what has an effect, before ranges and shares.
 *
 * Judged by how long tenants stay on the device and what they get done, never by what a call
 * returned. Every slice lies between 200 us and 50 ms, lasts about a second and is put back. On any
 * surprise a stage says so and tries nothing more. Left out because it would outlive a process,
 * concern the whole device or is not known to be safe: interleave levels, real-time groups, the
 * scheduling policy of runlists, compute policy, stopping or resetting channels, slices of 0 or 1
 * us, handles of other processes, sharing and duplicating objects between clients.
 */
#include "slicelab.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct commit no_commit = {"nothing", OP_SURVEY, CAPS_AS_THEY_ARE, false};

/* Stage "read". */

static void report_log(const struct rm_record *r)
{
	uint32_t n = atomic_load(&r->calls), counts[256] = {0};
	unsigned sets = 0;

	for (uint32_t i = 0; i < n && i < RM_LOG; i++) {
		const struct rm_call *c = &r->log[i];

		counts[c->nr & 255]++;
		if (c->nr == RM_CONTROL && c->what == RM_GROUP_SET_TIMESLICE) {
			report_fact("log.own_set_timeslice",
				    "the driver library sets %llu us on object %#x: status %#x",
				    (unsigned long long)c->value, c->object, c->status);
			sets++;
		}
		if (c->nr == RM_CONTROL && c->what == RM_SET_PREEMPTION_MODE)
			report_fact("log.own_preemption_mode",
				    "the driver library sets compute mode %llu: status %#x",
				    (unsigned long long)c->value, c->status);
	}
	report_fact("log.calls",
		    "%u in all, %u not understood; alloc %u control %u free %u dup %u "
		    "share %u register_fd %u transfer-wrapped %u; own SET_TIMESLICE %u",
		    n, atomic_load(&r->odd), counts[RM_ALLOC], counts[RM_CONTROL], counts[RM_FREE],
		    counts[RM_DUP], counts[RM_SHARE], counts[RM_REGISTER_FD], counts[RM_TRANSFER],
		    sets);
}

static void report_objects(const struct rm_record *r)
{
	for (uint32_t i = 0; i < r->n_objects; i++) {
		const struct rm_object *o = &r->objects[i];
		unsigned channels[64];

		if (o->live && o->class_id == RM_CLASS_GROUP)
			report_fact("log.group",
				    "fd %d client %#x handle %#x parent %#x engine %#x channels %u",
				    o->fd, o->client, o->handle, o->parent, o->engine,
				    rm_channels(r, o, channels, ARRAY_LEN(channels)));
		else if (o->live && (o->class_id & 0xff) == 0x6f && o->class_id != 0xa06f)
			report_fact("log.channel", "class %#x parent %#x handle %#x engine %#x",
				    o->class_id, o->parent, o->handle, o->engine);
		else if (o->live && ((o->class_id & 0xff) == 0xc0 || (o->class_id & 0xff) == 0xb5))
			report_fact("log.engine_object", "class %#x parent %#x", o->class_id,
				    o->parent);
	}
}

static void read_controls(struct tenants *ts)
{
	static const struct {
		const char *name;
		enum rm_op op;
		const char *meaning;
	} reads[] = {
		{"get_info", OP_GET_INFO, "hardware number of the group"},
		{"get_slice", OP_GET_SLICE, "us, by the driver's bookkeeping"},
		{"default_slice", OP_DEFAULT_SLICE, "us, the driver's default"},
		{"switch_modes", OP_SWITCH_MODES,
		 "compute preemption: 0 wait, 1 block, 2 instruction"},
		{"fresh_open", OP_FRESH_OPEN,
		 "through a file that does not own the client: must be "
		 "refused (0x23)"},
	};
	char what[64];

	for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
		rmops_ask(ts, 0, reads[i].op, 0, CAPS_AS_THEY_ARE);
		snprintf(what, sizeof(what), "read.%s", reads[i].name);
		report_fact(what, "%s; value %llu (%s); took %llu ns", rmops_said(&ts->t[0]),
			    (unsigned long long)ts->t[0].extra[X_VALUE], reads[i].meaning,
			    (unsigned long long)ts->t[0].extra[X_NS]);
	}
}

static void stage_read(void)
{
	static const struct plan p = {.name = "read"};
	const char *words = "";
	struct tenants ts;
	bool good = lab_open(&ts, &p, &words);

	report_log(lab_record(0));
	report_objects(lab_record(0));
	if (!good) {
		report_fact("declined", "%s", words);
		return;
	}
	report_fact("survey", "%llu groups of %llu clients, %llu channels in the first",
		    (unsigned long long)ts.t[0].extra[X_GROUPS],
		    (unsigned long long)ts.t[0].extra[X_CLIENTS],
		    (unsigned long long)ts.t[0].extra[X_CHANNELS]);
	read_controls(&ts);
	lab_close(&ts);
}

/* Experiments in a row, until one surprises. */

static bool run_plan(const struct plan *p, struct outcome *o)
{
	const char *words = "";

	if (probe_left_s() < 12) {
		report_skipped(p->name, "no time left");
		return false;
	}
	if (lab_run(p, o, &words))
		return true;
	report_fact("declined", "after %s: %s; nothing further is tried", p->name, words);
	return false;
}

/*
 * Each commit by itself and after setting slices, in fresh processes. The first that makes slices
 * take effect is returned; NULL when none does, with *ret_go_on false when the stage must end.
 */
static const struct commit *try_commits(const struct commit *commits, size_t n, bool *ret_go_on)
{
	const struct commit *works = NULL;
	struct outcome o;
	char name[64];

	*ret_go_on = false;
	for (size_t i = 0; i < n; i++) {
		struct plan p = {.slice_us = {8000, 2000},
				 .set_caps = CAPS_NONE,
				 .commit = commits[i],
				 .name = name};

		snprintf(name, sizeof(name), "commit_%s", commits[i].name);
		if (!run_plan(&p, &o))
			return works;
		if (!works && o.effect[PART_SET] == EFFECT_AS_ASKED)
			works = &no_commit;
		else if (!works && o.effect[PART_COMMITTED] == EFFECT_AS_ASKED)
			works = &commits[i];
		snprintf(name, sizeof(name), "control_%s", commits[i].name);
		p.no_set = true;
		if (!run_plan(&p, &o))
			return works;
	}
	*ret_go_on = true;
	return works;
}

/* Twice more what worked once: three of three, or it does not count. */
static bool confirm(const struct commit *c)
{
	bool good = true;
	char name[64];

	for (int i = 2; i <= 3; i++) {
		struct plan p = {.slice_us = {2000, 8000},
				 .set_caps = CAPS_NONE,
				 .commit = *c,
				 .name = name};
		struct outcome o;

		snprintf(name, sizeof(name), "again_%d", i);
		if (!run_plan(&p, &o))
			return false;
		good = good && o.effect[PART_COMMITTED] == EFFECT_AS_ASKED;
	}
	report_fact("confirmed", "%s", good ? "three times of three" : "no");
	return good;
}

/* What a slice may be, and what short ones cost. */
static bool try_range(const struct commit *c)
{
	static const uint64_t values[] = {200, 500, 2000, 10000, 50000};
	struct outcome o;
	char name[64];

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct plan p = {.slice_us = {values[i], values[i]},
				 .set_caps = CAPS_NONE,
				 .commit = *c,
				 .name = name};

		snprintf(name, sizeof(name), "range_%lluus", (unsigned long long)values[i]);
		if (!run_plan(&p, &o))
			return false;
	}
	return true;
}

/* How long the control takes, at ten a second, while both tenants run. */
static bool time_the_control(void)
{
	struct samples set = {0}, get = {0};
	struct plan p = {.name = "control_time", .set_caps = CAPS_NONE};
	const char *words = "";
	struct tenants ts;
	bool good = true;

	if (!lab_open(&ts, &p, &words)) {
		report_fact("declined", "%s", words);
		return false;
	}
	for (int i = 0; i < 2; i++)
		tenant_trace_begin(&ts, i, 8 * SEC, LOAD_LIGHT);
	for (int k = 0; k < 20 && good; k++) {
		good = rmops_ask(&ts, 0, OP_SET_SLICE, lab_saved_us(0), CAPS_NONE);
		samples_add(&set, (double)ts.t[0].extra[X_NS]);
		rmops_ask(&ts, 0, OP_GET_SLICE, 0, CAPS_AS_THEY_ARE);
		samples_add(&get, (double)ts.t[0].extra[X_NS]);
		sleep_ns(100 * MSEC);
	}
	for (int i = 0; i < 2; i++)
		tenant_trace_stop(&ts, i);
	for (int i = 0; i < 2; i++)
		good = tenant_wait(&ts, i, 20) == 0 && good;
	report("control_time.set", "ns", &set, "SET_TIMESLICE to the value it has");
	report("control_time.get", "ns", &get, "GET_TIMESLICE");
	lab_close(&ts);
	return good;
}

/* Shares that slices give, by what gets done: kernels of fixed work, and graphs of them. */

struct kind {
	const char *name;
	uint64_t kernel_ns;
	unsigned nodes, window;
	double seconds;
};

static const struct kind kinds[] = {
	{"10us", 10 * USEC, 0, 200, 1.0},
	{"1ms", MSEC, 0, 2, 1.0},
	{"100ms", 100 * MSEC, 0, 1, 4.0},
	{"graph_64x10us", 10 * USEC, 64, 3, 1.0},
};

static int work(struct tenants *ts, const struct kind *k, bool both, double rates[2])
{
	struct work_order w = {
		.iters = ts->t[0].iters_per_ms * k->kernel_ns / MSEC,
		.nodes = k->nodes,
		.window = k->window,
		.start = now_ns() + 30 * MSEC,
	};
	int r;

	w.end = w.start + (uint64_t)(k->seconds * 1e9);
	for (int i = 0; i <= both; i++)
		tenant_work_begin(ts, i, &w);
	r = tenant_wait(ts, 0, 30);
	if (both && tenant_wait(ts, 1, 30))
		r = -1;
	for (int i = 0; i <= both; i++)
		rates[i] = ticks_rate(&ts->t[i].ticks, w.start + (w.end - w.start) / 10, w.end);
	return r;
}

static bool shares_of(struct tenants *ts, const struct plan *p, const double alone[])
{
	double total_us = (double)(p->slice_us[0] + p->slice_us[1]);
	char what[128];

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		double rates[2];

		if (work(ts, &kinds[k], true, rates))
			return false;
		snprintf(what, sizeof(what), "%s.%s.share_a", p->name, kinds[k].name);
		report_one(what, "", rates[0] / (rates[0] + rates[1]),
			   "of what both get done; asked %.3f", (double)p->slice_us[0] / total_us);
		snprintf(what, sizeof(what), "%s.%s.total", p->name, kinds[k].name);
		report_one(what, "of alone", (rates[0] + rates[1]) / alone[k], "1 is nothing lost");
	}
	return true;
}

static bool try_shares(const struct commit *c)
{
	static const struct {
		unsigned percent, round_ms;
	} cases[] = {{50, 10}, {25, 10}, {10, 10}, {25, 2}, {25, 30}};
	double alone[ARRAY_LEN(kinds)], rates[2];
	const char *words = "";
	struct tenants ts;
	bool good = true;
	char name[64];

	for (size_t i = 0; i < ARRAY_LEN(cases) && good && probe_left_s() > 25; i++) {
		uint64_t a = cases[i].round_ms * 10ull * cases[i].percent;
		struct plan p = {.slice_us = {a, cases[i].round_ms * 1000ull - a},
				 .set_caps = CAPS_NONE,
				 .commit = *c,
				 .name = name};

		snprintf(name, sizeof(name), "share_%u_of_%ums", cases[i].percent,
			 cases[i].round_ms);
		probe_step(name);
		if (!lab_open(&ts, &p, &words)) {
			report_fact("declined", "%s", words);
			return false;
		}
		for (size_t k = 0; k < ARRAY_LEN(kinds) && !i && good; k++) {
			good = work(&ts, &kinds[k], false, rates) == 0;
			alone[k] = rates[0];
		}
		good = good && lab_set(&ts, &p, p.slice_us);
		if (good)
			lab_commit(&ts, &p);
		good = good && shares_of(&ts, &p, alone);
		lab_close(&ts); /* the groups end with their processes */
	}
	if (!good)
		report_fact("declined", "a share could not be measured");
	return good;
}

static void go_further(const struct commit *works)
{
	if (probe_number_option("short", 0))
		return;
	if (confirm(works) && try_range(works))
		try_shares(works);
}

static void stage_own(void)
{
	static const struct commit commits[] = {
		{"nothing", OP_SURVEY, CAPS_AS_THEY_ARE, false},
		{"scratch_context", OP_SURVEY, CAPS_AS_THEY_ARE, true},
		{"reschedule", OP_RESCHEDULE, CAPS_NONE, false},
		{"preempt", OP_PREEMPT, CAPS_NONE, false},
		{"off_and_on", OP_OFF_AND_ON, CAPS_NONE, false},
	};
	struct plan early = {.name = "at_open",
			     .slice_us = {4000, 1024},
			     .at_open = true,
			     .set_caps = CAPS_NONE,
			     .commit = no_commit};
	const struct commit *works;
	struct outcome o;
	bool go_on;

	if (!run_plan(&early, &o) || !time_the_control())
		return;
	works = try_commits(commits, probe_quick() ? 1 : ARRAY_LEN(commits), &go_on);
	report_fact("own.commit", "%s", works ? works->name : "none of those tried has an effect");
	if (works && go_on)
		go_further(works);
}

/* What remains of a killed tenant while another process holds a duplicate of its file. */
static void kill_while_held(void)
{
	struct plan p = {.name = "kill_while_held", .outside = true};
	int64_t with, killed, closed;
	const char *words = "";
	struct tenants ts;

	probe_step(p.name);
	if (!lab_open(&ts, &p, &words)) {
		report_fact("declined", "%s", words);
		return;
	}
	with = nvml_device_used();
	kill(ts.pids[0], SIGKILL);
	join_one(ts.pids[0], 10);
	ts.pids[0] = 0;
	sleep_ns(500 * MSEC);
	killed = nvml_device_used();
	lab_forget_outside_fd();
	sleep_ns(500 * MSEC);
	closed = nvml_device_used();
	report_fact(
		"kill_while_held.memory",
		"bytes in use: %lld with both tenants, %lld after one was killed, %lld after the "
		"duplicate was closed",
		(long long)with, (long long)killed, (long long)closed);
	lab_close(&ts);
}

/* The owner's file by pidfd_getfd(2), which needs the right to trace the tenant. */
static void get_file_by_pidfd(void)
{
	struct plan p = {.name = "pidfd_getfd"};
	const char *words = "";
	struct tenants ts;
	uint32_t id = 0;
	int pidfd, fd;

	probe_step(p.name);
	if (!lab_open(&ts, &p, &words)) {
		report_fact("declined", "%s", words);
		return;
	}
	pidfd = (int)syscall(SYS_pidfd_open, ts.pids[0], 0);
	fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, (int)ts.t[0].extra[X_FD], 0);
	if (fd < 0) {
		report_fact("pidfd_getfd.read", "the file cannot be had: %m");
	} else {
		struct rm_answer a = rm_control(fd, (uint32_t)ts.t[0].extra[X_CLIENT],
						(uint32_t)ts.t[0].extra[X_GROUP], RM_GROUP_GET_INFO,
						&id, sizeof(id));

		report_fact("pidfd_getfd.read", "reading through it: ret %d status %#x", a.ret,
			    a.status);
		close(fd);
	}
	if (pidfd >= 0)
		close(pidfd);
	lab_close(&ts);
}

static void stage_outside(void)
{
	static const struct plan plans[] = {
		{.name = "outside_same_user", .slice_us = {8000, 2000}, .outside = true},
		{.name = "outside_other_user",
		 .slice_us = {8000, 2000},
		 .outside = true,
		 .lower = true},
	};
	struct outcome o;

	get_file_by_pidfd();
	for (size_t i = 0; i < ARRAY_LEN(plans); i++)
		if (!run_plan(&plans[i], &o))
			return;
	kill_while_held();
}

static void stage_privileged(void)
{
	static const struct commit commits[] = {
		{"restart_without_capability", OP_RESTART, CAPS_NONE, false},
		{"restart_with_nice", OP_RESTART, CAPS_NICE, false},
		{"restart_as_we_are", OP_RESTART, CAPS_AS_THEY_ARE, false},
	};
	/* A privileged holder of an unprivileged tenant's file: what a daemon would be. */
	static const struct plan daemon = {
		.name = "daemon_restart",
		.slice_us = {8000, 2000},
		.outside = true,
		.lower = true,
		.commit = {"restart_from_outside", OP_RESTART, CAPS_AS_THEY_ARE, false}};
	const struct commit *works;
	struct outcome o;
	bool go_on;

	works = try_commits(commits, ARRAY_LEN(commits), &go_on);
	report_fact("privileged.commit", "%s",
		    works ? works->name : "none of those tried has an effect");
	if (!go_on || !run_plan(&daemon, &o))
		return;
	if (works)
		go_further(works);
}

int main(int argc, char **argv)
{
	const char *stage, *refusal;
	bool computes;

	probe_begin(argc, argv, "hwslice", 240, "stage,privileged,short");
	stage = probe_option("stage", "read");
	if (!device_there(&computes))
		return probe_end();
	refusal = !computes ? "kernels do not compute here" : lab_refusal();
	if (refusal && (strcmp(stage, "read") || !computes)) {
		report_fact("declined", "%s", refusal);
		return probe_end();
	}
	if (!strcmp(stage, "read"))
		stage_read();
	else if (!strcmp(stage, "own"))
		stage_own();
	else if (!strcmp(stage, "outside"))
		stage_outside();
	else if (!strcmp(stage, "privileged") && probe_number_option("privileged", 0))
		stage_privileged();
	else
		report_skipped("stage", "'%s' is none, or needs --privileged=1", stage);
	return probe_end();
}
