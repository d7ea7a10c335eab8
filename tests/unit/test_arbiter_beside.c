/* SPDX-License-Identifier: Apache-2.0 */
/* The arbiter beside plain round robin and stride scheduling, on the same traces. */
#include "cm.h"

#include <stdlib.h>

#include "arbiter_world.h"

/* What a policy makes of a trace: shares of the time that was used, and waits. */
struct outcome {
	double error;	  /* largest difference from what a program is entitled to */
	double shortfall; /* largest lack of a backlogged one in any second, of its request */
	double wake_ms;	  /* longest wait of the high priority */
};

static struct outcome judge(const struct world *w)
{
	struct outcome o = {0};
	double sum = 0, least, most, off;

	for (unsigned int i = 0; i < w->count; i++)
		sum += (double)w->p[i].total_ns;
	for (unsigned int i = 0; i < w->count; i++) {
		const struct program *p = &w->p[i];
		double request = p->c.terms.request_permille / 1000.0;

		if (p->c.terms.priority == 2) {
			o.wake_ms = (double)p->worst_wake_ns / (double)MS;
			continue;
		}
		off = (double)p->total_ns / sum - request;
		o.error = off > o.error ? off : -off > o.error ? -off : o.error;
		seconds(p, 0, 4 * S, &least, &most);
		o.shortfall = request - least > o.shortfall ? request - least : o.shortfall;
	}
	return o;
}

static void saturating(struct world *w)
{
	add(w, 100, 1000, 1, 10 * MS);
	add(w, 200, 1000, 1, 100 * US);
	add(w, 300, 1000, 1, MS);
	add(w, 400, 1000, 1, 10 * US);
}

static void pausing(struct world *w)
{
	struct program *p = add(w, 700, 1000, 1, 2 * MS);

	p->busy_ns = 2 * MS;
	p->idle_ns = 100 * US;
	add(w, 300, 1000, 1, 100 * US);
}

static void interactive(struct world *w)
{
	struct program *p = add(w, 300, 1000, 2, 200 * US);

	p->busy_ns = MS;
	p->idle_ns = 30 * MS;
	add(w, 350, 1000, 0, 500 * US);
	add(w, 350, 1000, 0, 500 * US);
}

static void test_arbiter__beside_stride_and_round_robin(void **state)
{
	static void (*const traces[])(struct world *) = {saturating, pausing, interactive};
	static const char *const names[] = {"saturating", "pausing", "interactive"};
	struct outcome o[3][POLICIES];

	print_message("%-12s %-12s %8s %10s %8s\n", "trace", "policy", "error", "shortfall",
		      "wake ms");
	for (unsigned int t = 0; t < 3; t++)
		for (unsigned int p = 0; p < POLICIES; p++) {
			static const char *const policies[] = {"arbiter", "stride", "round robin"};
			struct world *w = world_new(11);

			w->policy = (enum policy)p;
			traces[t](w);
			run(w, 4 * S);
			o[t][p] = judge(w);
			print_message("%-12s %-12s %8.4f %10.4f %8.3f\n", names[t], policies[p],
				      o[t][p].error, o[t][p].shortfall, o[t][p].wake_ms);
			free(w);
		}
	/* All have work: stride is as good, and round robin knows no shares. */
	assert_true(o[0][ARBITER].error < 0.01);
	assert_true(o[0][ARBITER].error <= o[0][STRIDE].error + 0.003);
	assert_true(o[0][STRIDE].error < o[0][ROUND_ROBIN].error / 4);
	assert_true(o[0][ARBITER].shortfall <= o[0][STRIDE].shortfall + 0.01);
	/* Pauses: only the arbiter remembers who is owed. */
	assert_true(o[1][ARBITER].error < o[1][STRIDE].error / 2);
	assert_true(o[1][ARBITER].error < o[1][ROUND_ROBIN].error / 2);
	/* A kernel in flight and a hand-over, not somebody's quantum. */
	assert_true(o[2][ARBITER].wake_ms < 0.7);
	assert_true(o[2][ARBITER].wake_ms < o[2][STRIDE].wake_ms / 4);
	assert_true(o[2][ARBITER].wake_ms < o[2][ROUND_ROBIN].wake_ms / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arbiter__beside_stride_and_round_robin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
