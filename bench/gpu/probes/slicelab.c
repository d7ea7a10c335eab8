/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Experiments on time slices. See rmops.h for what is done to a tenant and what never is.
 */
#include "slicelab.h"

#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEAR 0.1 /* of a length: the same */
#define SETTLE_NS (30 * MSEC)

static struct rm_record *records[TENANTS_MAX];
static int sockets[2] = {-1, -1}; /* [0] is ours, [1] tenant 0's */
static int outside_fd = -1;
static const struct plan *plan; /* of the tenants that are being started */
static uint64_t saved_us[TENANTS_MAX];

double lab_expected_ns(uint64_t us)
{
	return (double)us * 1024;
}

struct rm_record *lab_record(int index)
{
	return records[index];
}

uint64_t lab_saved_us(int index)
{
	return saved_us[index];
}

int lab_outside_fd(void)
{
	return outside_fd;
}

void lab_forget_outside_fd(void)
{
	if (outside_fd >= 0)
		close(outside_fd);
	outside_fd = -1;
}

/* Versions whose interface was compared. Source: open-gpu-kernel-modules, tags 535 to 595. */
const char *lab_refusal(void)
{
	static const int majors[] = {535, 550, 570, 575, 580, 590, 595};
	static char text[128];
	const char *how;
	bool known = false;

	for (size_t i = 0; i < ARRAY_LEN(majors); i++)
		known = known || driver_major() == majors[i];
	if (!known) {
		snprintf(text, sizeof(text), "driver %d is not one whose interface was compared",
			 driver_major());
		return text;
	}
	if (nvml_divided(&how)) {
		snprintf(text, sizeof(text), "the device is divided (%s)", how);
		return text;
	}
	for (int i = 0; i < 20; i++) { /* our own, just ended, may still be listed */
		if (nvml_process_count() <= 0)
			return NULL;
		sleep_ns(100 * MSEC);
	}
	return "other processes use the device";
}

/* In the tenants. */

static int prepare(int index)
{
	if (plan->lower && !index && geteuid() == 0) {
		if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
			return -1;
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user clears it */
	}
	rmops_prepare(records[index], index ? -1 : sockets[1]);
	return 0;
}

static int opened(int index, struct tenant *t)
{
	if (!plan->at_open)
		return 0;
	t->extra[X_OP] = OP_GET_SLICE;
	t->extra[X_CAPS] = plan->set_caps;
	if (rmops_control(index, t))
		return -1;
	t->extra[X_SAVED] = t->extra[X_VALUE];
	t->extra[X_OP] = OP_SET_SLICE;
	t->extra[X_ARGUMENT] = plan->slice_us[index];
	return rmops_control(index, t);
}

static const struct tenant_hooks hooks = {prepare, opened, rmops_control};

/* In the first process. */

static bool survey(struct tenants *ts, int i, const char **words)
{
	struct tenant *t = &ts->t[i];

	rmops_ask(ts, i, OP_SURVEY, 0, CAPS_AS_THEY_ARE);
	if (!t->extra[X_GROUPS])
		*words = "no group of channels for compute was seen";
	else if (t->extra[X_CLIENTS] != 1)
		*words = "more than one client owns compute groups";
	else if (!t->extra[X_CHANNELS])
		*words = "the compute group has no channel that was seen";
	else if (!rmops_ask(ts, i, OP_GET_INFO, 0, CAPS_AS_THEY_ARE))
		*words = "reading the group's number was refused";
	else if (!rmops_ask(ts, i, OP_GET_SLICE, 0, CAPS_AS_THEY_ARE))
		*words = "reading the slice was refused";
	else if (t->extra[X_VALUE] < 100 || t->extra[X_VALUE] > 1000000)
		*words = "the slice read is not plausible";
	else
		return true;
	return false;
}

bool lab_open(struct tenants *ts, const struct plan *p, const char **words)
{
	plan = p;
	for (int i = 0; i < 2; i++) {
		if (!records[i])
			records[i] = shared_alloc(sizeof(*records[i]));
		memset(records[i], 0, sizeof(*records[i]));
	}
	if (sockets[0] < 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) {
		*words = "no socket pair";
		return false;
	}
	if (!tenants_start(ts, 2, &hooks)) {
		*words = p->at_open ? "the tenants did not start, or could not set a slice at once"
				    : "the tenants did not start";
		return false;
	}
	for (int i = 0; i < 2; i++) {
		if (!survey(ts, i, words))
			goto fail;
		saved_us[i] = ts->t[i].extra[p->at_open ? X_SAVED : X_VALUE];
	}
	*words = "a tenant could not calibrate";
	if (tenant_calibrate(ts, 0) || tenant_calibrate(ts, 1))
		goto fail;
	if (!p->outside)
		return true;
	*words = "the file could not be passed on";
	if (rmops_ask(ts, 0, OP_SEND_FD, 0, CAPS_AS_THEY_ARE))
		outside_fd = rmops_receive_fd(sockets[0]);
	if (outside_fd >= 0)
		return true;
fail:
	tenants_stop(ts);
	return false;
}

void lab_close(struct tenants *ts)
{
	lab_forget_outside_fd();
	tenants_stop(ts);
}

/* A control on tenant 0's group or channel by this process; the answer goes where a tenant's would.
 */
static bool from_outside(struct tenant *t, uint64_t object, enum rm_command command, void *params,
			 uint32_t bytes)
{
	struct rm_answer a = rm_control(outside_fd, (uint32_t)t->extra[X_CLIENT], (uint32_t)object,
					command, params, bytes);

	t->extra[X_RET] = (uint64_t)(int64_t)a.ret;
	t->extra[X_ERROR] = (uint64_t)a.error;
	t->extra[X_STATUS] = a.status;
	t->extra[X_NS] = a.ns;
	return rm_good(a);
}

bool lab_set(struct tenants *ts, const struct plan *p, const uint64_t us[2])
{
	bool good = true;

	for (int i = 0; i < 2; i++) {
		uint64_t *x = ts->t[i].extra;
		char what[96];

		if (p->outside && !i) {
			uint64_t value = us[0];

			good = from_outside(&ts->t[0], x[X_GROUP], RM_GROUP_SET_TIMESLICE, &value,
					    sizeof(value)) &&
			       good;
		} else {
			good = rmops_ask(ts, i, OP_SET_SLICE, us[i], p->set_caps) && good;
		}
		snprintf(what, sizeof(what), "%s.set_%c", p->name, 'a' + i);
		report_one(what, "ns", (double)x[X_NS], "set %llu us: %s",
			   (unsigned long long)us[i], rmops_said(&ts->t[i]));
	}
	return good;
}

static int make_and_end_context(int index, void *arg)
{
	struct gpu g;

	(void)index;
	(void)arg;
	if (gpu_open_context(&g))
		return 1;
	gpu_close(&g);
	return 0;
}

bool lab_commit(struct tenants *ts, const struct plan *p)
{
	const struct commit *c = &p->commit;
	bool good = true;
	char what[96];

	if (c->scratch)
		return join_one(spawn(make_and_end_context, 0, NULL), 10) == 0;
	for (int i = 0; i < 2 && c->op != OP_SURVEY; i++) {
		/* A restart is of the runlist, not of a group: once is enough. */
		if (i && c->op == OP_RESTART)
			break;
		if (p->outside && c->op == OP_RESTART) {
			uint8_t force_and_wait[2] = {1, 0};

			good = from_outside(&ts->t[0], ts->t[0].extra[X_CHANNEL],
					    RM_CHANNEL_RESTART_RUNLIST, force_and_wait,
					    sizeof(force_and_wait));
		} else {
			good = rmops_ask(ts, i, c->op, 0, c->caps) && good;
		}
		snprintf(what, sizeof(what), "%s.commit_%c", p->name, 'a' + i);
		report_one(what, "ns", (double)ts->t[i].extra[X_NS], "%s: %s", c->name,
			   rmops_said(&ts->t[i]));
	}
	return good;
}

static void sleep_until(uint64_t t)
{
	uint64_t now = now_ns();

	if (t > now)
		sleep_ns(t - now);
}

/* Evaluation. */

struct span {
	uint64_t from, to; /* host time */
};

/*
 * Time on the device within the span, part stays included, since long slices have few whole ones;
 * lengths of whole stays only.
 */
static double read_part(const struct tenant *t, const struct span *span, struct samples *stays,
			double *ret_longest_away)
{
	uint64_t from = span->from + (uint64_t)t->clock_offset_ns;
	uint64_t to = span->to + (uint64_t)t->clock_offset_ns;
	double there = 0;

	*ret_longest_away = 0;
	for (uint32_t i = 0; i < t->trace.n; i++) {
		const uint64_t *run = t->trace.runs[i];
		uint64_t first = run[0] > from ? run[0] : from, last = run[1] < to ? run[1] : to;

		if (run[1] <= from || run[0] >= to)
			continue;
		there += (double)(last - first);
		if (i && run[0] >= from) {
			double away = (double)(run[0] - t->trace.runs[i - 1][1]);

			*ret_longest_away = away > *ret_longest_away ? away : *ret_longest_away;
		}
		if (run[0] >= from && run[1] <= to)
			samples_add(stays, (double)(run[1] - run[0]));
	}
	return there;
}

static bool near(double x, double y)
{
	return y > 0 && x > y * (1 - NEAR) && x < y * (1 + NEAR);
}

/* Absolute, or in proportion to the stay before, which a constant loss at each switch shortens. */
static bool as_asked(const struct plan *p, const struct outcome *o, enum part part, int i)
{
	double now = o->stay_ns[part][i], before = o->stay_ns[PART_BEFORE][i];

	if (near(now, lab_expected_ns(p->slice_us[i])))
		return true;
	return !p->at_open && saved_us[i] &&
	       near(now, before * (double)p->slice_us[i] / (double)saved_us[i]);
}

static bool unchanged(const struct plan *p, const struct outcome *o, enum part part, int i)
{
	return near(o->stay_ns[part][i],
		    p->at_open ? lab_expected_ns(saved_us[i]) : o->stay_ns[PART_BEFORE][i]);
}

static enum effect judge(const struct plan *p, const struct outcome *o, enum part part)
{
	if (!(o->stay_ns[part][0] > 0) || !(o->stay_ns[part][1] > 0))
		return EFFECT_UNKNOWN;
	if (as_asked(p, o, part, 0) && as_asked(p, o, part, 1))
		return EFFECT_AS_ASKED;
	if (unchanged(p, o, part, 0) && unchanged(p, o, part, 1))
		return EFFECT_NONE;
	return EFFECT_OTHER;
}

static const char *const part_names[] = {"before", "set", "committed", "restored"};
static const char *const effect_names[] = {"no effect", "as asked", "something else", "unknown"};

static void evaluate_part(const struct plan *p, struct tenants *ts, enum part part,
			  const struct span *span, struct outcome *o)
{
	double there[2], away[2], length = (double)(span->to - span->from);
	char what[96];

	for (int i = 0; i < 2; i++) {
		struct samples stays = {0};

		there[i] = read_part(&ts->t[i], span, &stays, &away[i]);
		o->stay_ns[part][i] = samples_quantile(&stays, 0.5);
		snprintf(what, sizeof(what), "%s.%s.stay_%c", p->name, part_names[part], 'a' + i);
		report(what, "ns", &stays,
		       "on the device without interruption; longest away %.0f ns", away[i]);
	}
	o->busy[part] = (there[0] + there[1]) / length;
	snprintf(what, sizeof(what), "%s.%s.share_a", p->name, part_names[part]);
	report_one(what, "", there[0] / (there[0] + there[1]),
		   "of the time that one of the two was on the device, which is %.4f of all",
		   o->busy[part]);
	if (part != PART_BEFORE || p->at_open)
		o->effect[part] = judge(p, o, part);
}

/* From the call until the first stay of tenant 0 that is half as long again, or half as long. */
static void time_to_effect(const struct plan *p, struct tenants *ts, uint64_t since,
			   const struct outcome *o)
{
	const struct tenant *t = &ts->t[0];
	uint64_t from = since + (uint64_t)t->clock_offset_ns;
	double before = o->stay_ns[PART_BEFORE][0];
	char what[96];

	for (uint32_t i = 0; i + 1 < t->trace.n; i++) {
		const uint64_t *run = t->trace.runs[i];
		double length = (double)(run[1] - run[0]);

		if (run[0] < from || (length < before * 1.5 && length > before / 2))
			continue;
		snprintf(what, sizeof(what), "%s.time_to_effect", p->name);
		report_one(
			what, "ns", (double)(run[0] - from),
			"from the control's call to the start of the first stay of another length");
		return;
	}
}

static void evaluate(const struct plan *p, struct tenants *ts, const struct span *spans,
		     struct outcome *o)
{
	char what[96];

	for (enum part part = 0; part < PART_COUNT; part++)
		if (spans[part].to > spans[part].from)
			evaluate_part(p, ts, part, &spans[part], o);
	if (p->at_open)
		; /* it was set before there was anything to see */
	else if (o->effect[PART_SET] == EFFECT_AS_ASKED)
		time_to_effect(p, ts, spans[PART_BEFORE].to, o);
	else if (o->effect[PART_COMMITTED] == EFFECT_AS_ASKED)
		time_to_effect(p, ts, spans[PART_SET].to, o);
	snprintf(what, sizeof(what), "%s.verdict", p->name);
	report_fact(what, "asked %llu and %llu us; after setting: %s; after %s: %s; restored: %s",
		    (unsigned long long)p->slice_us[0], (unsigned long long)p->slice_us[1],
		    effect_names[o->effect[PART_SET]], p->commit.name ? p->commit.name : "nothing",
		    effect_names[o->effect[PART_COMMITTED]],
		    near(o->stay_ns[PART_RESTORED][0], lab_expected_ns(saved_us[0])) ? "yes"
										     : "no");
}

bool lab_run(const struct plan *p, struct outcome *o, const char **words)
{
	uint64_t part_ns = probe_quick() ? 200 * MSEC : 600 * MSEC, total;
	struct span spans[PART_COUNT] = {{0, 0}};
	struct tenants ts;
	bool good = true;

	memset(o, 0, sizeof(*o));
	for (int i = 0; i < PART_COUNT; i++)
		o->effect[i] = EFFECT_UNKNOWN;
	probe_step(p->name);
	if (!lab_open(&ts, p, words))
		return false;
	total = 4 * part_ns + (p->commit.scratch ? 8 * SEC : 2 * SEC);
	for (int i = 0; i < 2; i++)
		tenant_trace_begin(&ts, i, total, LOAD_LIGHT);
	sleep_ns(100 * MSEC);
#define PART(part)                                                                                 \
	do {                                                                                       \
		spans[part].from = now_ns() + (part == PART_BEFORE ? 0 : SETTLE_NS);               \
		sleep_until(now_ns() + part_ns);                                                   \
		spans[part].to = now_ns();                                                         \
	} while (0)
	PART(PART_BEFORE);
	if (!p->no_set && !p->at_open)
		good = lab_set(&ts, p, p->slice_us);
	PART(PART_SET);
	if (good && (p->commit.op != OP_SURVEY || p->commit.scratch))
		lab_commit(&ts, p); /* a refusal is an answer; the traces say the rest */
	PART(PART_COMMITTED);
	if (!p->no_set && !lab_set(&ts, p, saved_us))
		good = false;
	if (!p->no_set && good && (p->commit.op != OP_SURVEY || p->commit.scratch))
		lab_commit(&ts, p);
	PART(PART_RESTORED);
#undef PART
	*words = good ? "a tenant failed" : "setting a slice was refused";
	for (int i = 0; i < 2; i++)
		tenant_trace_stop(&ts, i);
	for (int i = 0; i < 2; i++)
		good = tenant_wait(&ts, i, 30) == 0 && good;
	if (good)
		evaluate(p, &ts, spans, o);
	lab_close(&ts);
	return good;
}
