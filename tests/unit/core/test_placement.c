/* SPDX-License-Identifier: Apache-2.0 */
/* Which device is chosen, what a share comes to there, and what is said when none will do. */
#include "../cm.h"

#include <errno.h>

#include "base/size.h"
#include "core/placement.h"

#define ALL UINT64_MAX

static const struct aq_placement_ask nothing = {
	.allowed = ALL,
	.device_count = 1,
	.gpu_permille = AQ_ANY_PERMILLE,
	.memory_request_bytes = AQ_ANY_BYTES,
	.memory_limit_bytes = AQ_ANY_BYTES,
	.compute_request_permille = AQ_ANY_PERMILLE,
	.compute_limit_permille = AQ_ANY_PERMILLE,
	.priority = AQ_PRIORITY_NORMAL,
};

static const struct aq_ledger_ops ops; /* no client: never called */

static void test_placement__terms(void **state)
{
	struct aq_placement_ask ask = nothing;
	struct aq_ledger_spec s;

	assert_int_equal(aq_placement_terms(&ask, 80 * AQ_GIB, &s), 0);
	assert_int_equal(s.share[0].request_bytes, 80 * AQ_GIB);
	assert_int_equal(s.share[0].limit_bytes, 80 * AQ_GIB);
	assert_int_equal(s.compute_request_permille, 1000);

	ask.gpu_permille = 333; /* rounded down to whole blocks */
	assert_int_equal(aq_placement_terms(&ask, 80 * AQ_GIB, &s), 0);
	assert_int_equal(s.share[0].limit_bytes, 27278ull * AQ_MIB);
	assert_int_equal(s.compute_request_permille, 333);
	assert_int_equal(s.compute_limit_permille, 1000);

	ask.compute_limit_permille = 200; /* the request does not exceed it by default */
	assert_int_equal(aq_placement_terms(&ask, 80 * AQ_GIB, &s), 0);
	assert_int_equal(s.compute_request_permille, 200);
	ask.compute_request_permille = 201;
	assert_int_equal(aq_placement_terms(&ask, 80 * AQ_GIB, &s), -EINVAL);

	ask = nothing;
	ask.memory_request_bytes = AQ_LEDGER_MAX_BYTES; /* more than there is: whole compute */
	assert_int_equal(aq_placement_terms(&ask, 80 * AQ_GIB, &s), 0);
	assert_int_equal(s.compute_request_permille, 1000);
	ask.memory_request_bytes = 1; /* a trace of compute at least */
	assert_int_equal(aq_placement_terms(&ask, 80 * AQ_GIB, &s), 0);
	assert_int_equal(s.compute_request_permille, 1);
	ask.memory_request_bytes = AQ_GIB;
	ask.memory_limit_bytes = AQ_GIB - 1;
	assert_int_equal(aq_placement_terms(&ask, 80 * AQ_GIB, &s), -EINVAL);
}

static void test_placement__best_fit(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction f[8] = {0};
	struct aq_placement_ask ask = nothing;
	struct aq_ledger_spec s;
	struct aq_refusal why;

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, 80 * AQ_GIB);
	aq_ledger_add_device(&l, 48 * AQ_GIB);
	aq_ledger_add_device(&l, 80 * AQ_GIB);
	ask.memory_request_bytes = 40 * AQ_GIB;
	ask.compute_request_permille = 100;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), 0);
	assert_int_equal(s.share[0].device, 1); /* 8 GiB left over there, 40 elsewhere */
	assert_int_equal(aq_ledger_create(&l, &f[0], &s, &why), 0);
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), 0);
	assert_int_equal(s.share[0].device, 0); /* ties: the lower one */
	ask.allowed = 1u << 1;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -ENOSPC);
	assert_int_equal(why.reason, AQ_REFUSED_DEVICE);
	assert_int_equal(why.free_bytes, 8 * AQ_GIB);
	ask.memory_request_bytes = 49 * AQ_GIB;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -E2BIG);
	assert_int_equal(why.reason, AQ_REFUSED_TOO_LARGE);
	ask.allowed = 0;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -ENODEV);
	ask.allowed = ALL;
	ask.device_count = 2;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), 0);
	assert_int_equal(s.share_count, 2);
	assert_int_equal(s.share[0].device, 0);
	assert_int_equal(s.share[1].device, 2);
	ask.device_count = 3; /* two could, one never can */
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -E2BIG);
	ask.device_count = 4;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -ENODEV);
	ask.device_count = 0;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -EINVAL);
	ask.device_count = AQ_MAX_DEVICES + 1;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -EINVAL);
}

static void test_placement__compute_is_scarce_too(void **state)
{
	struct aq_ledger l;
	struct aq_ledger_fraction f[2] = {0};
	struct aq_placement_ask ask = nothing;
	struct aq_ledger_spec s;
	struct aq_refusal why;

	aq_ledger_init(&l, &ops, NULL);
	aq_ledger_add_device(&l, 80 * AQ_GIB);
	ask.memory_request_bytes = AQ_GIB;
	ask.compute_request_permille = 900;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), 0);
	assert_int_equal(aq_ledger_create(&l, &f[0], &s, &why), 0);
	ask.compute_request_permille = 101;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), -ENOSPC);
	assert_int_equal(why.reason, AQ_REFUSED_COMPUTE);
	assert_int_equal(why.free_permille, 100);
	ask.compute_request_permille = 100;
	assert_int_equal(aq_placement_choose(&l, &ask, &s, &why), 0);
	assert_int_equal(aq_ledger_create(&l, &f[1], &s, &why), 0);
	assert_int_equal(aq_ledger_check(&l), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_placement__terms),
		cmocka_unit_test(test_placement__best_fit),
		cmocka_unit_test(test_placement__compute_is_scarce_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
