/* SPDX-License-Identifier: Apache-2.0 */
/* The grant word, alone and with both sides at work at once. */
#include "cm.h"

#include <pthread.h>
#include <stdlib.h>

#include "abi/grant.h"

#define USERS 4
#define ROUNDS 20000

static void test_grant__use_fits_or_changes_nothing(void **state)
{
	_Atomic uint64_t word = 0;
	uint32_t missing = 99;

	assert_false(aq_grant_use(&word, 1, &missing));
	assert_int_equal(missing, 1);
	assert_true(aq_grant_add(&word, 10));
	assert_true(aq_grant_use(&word, 7, &missing));
	assert_false(aq_grant_use(&word, 5, &missing));
	assert_int_equal(missing, 2);
	assert_int_equal(aq_grant_load(&word).granted, 10);
	assert_int_equal(aq_grant_load(&word).used, 7);
}

static void test_grant__release_never_goes_below_zero(void **state)
{
	_Atomic uint64_t word = aq_grant_pack((struct aq_grant){.granted = 5, .used = 3});

	aq_grant_release(&word, 100);
	assert_int_equal(aq_grant_load(&word).used, 0);
	assert_int_equal(aq_grant_load(&word).granted, 5);
}

static void test_grant__revoke_takes_only_what_is_unused(void **state)
{
	_Atomic uint64_t word = aq_grant_pack((struct aq_grant){.granted = 10, .used = 6});

	assert_int_equal(aq_grant_revoke(&word, 3), 3);
	assert_int_equal(aq_grant_revoke(&word, 3), 1);
	assert_int_equal(aq_grant_revoke(&word, 3), 0);
	assert_int_equal(aq_grant_load(&word).granted, 6);
}

static void test_grant__counts_do_not_overflow(void **state)
{
	_Atomic uint64_t word = aq_grant_pack((struct aq_grant){.granted = UINT32_MAX - 1});
	uint32_t grains = 5;

	assert_false(aq_grant_add(&word, 2));
	assert_true(aq_grant_add(&word, 1));
	assert_int_equal(aq_grant_load(&word).granted, UINT32_MAX);
	assert_int_equal(aq_grant_load(&word).used, 0);

	assert_false(aq_grains(UINT64_MAX, &grains));
	assert_false(aq_grains(AQ_GRANT_MAX_BYTES + 1, &grains));
	assert_int_equal(grains, 5);
	assert_true(aq_grains(AQ_GRANT_MAX_BYTES, &grains));
	assert_int_equal(grains, UINT32_MAX);
	assert_true(aq_grains(1, &grains));
	assert_int_equal(grains, 1);
	assert_true(aq_grains(0, &grains));
	assert_int_equal(grains, 0);
}

struct contest {
	_Atomic uint64_t word;
	_Atomic uint32_t running;
	_Atomic uint32_t broken;
};

static void *user(void *arg)
{
	struct contest *c = arg;
	uint32_t missing;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		uint32_t n = i % 7 + 1;
		struct aq_grant g;

		if (!aq_grant_use(&c->word, n, &missing))
			continue;
		g = aq_grant_load(&c->word);
		if (g.used > g.granted || g.used < n)
			__atomic_store_n((uint32_t *)&c->broken, 1, __ATOMIC_RELAXED);
		aq_grant_release(&c->word, n);
	}
	__atomic_sub_fetch((uint32_t *)&c->running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void test_grant__both_sides_at_once_keep_the_books(void **state)
{
	struct contest c = {.running = USERS};
	pthread_t threads[USERS];
	uint32_t outstanding = 0;

	for (unsigned int i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, user, &c), 0);
	while (__atomic_load_n((uint32_t *)&c.running, __ATOMIC_ACQUIRE)) {
		if (outstanding < 20 && aq_grant_add(&c.word, 3))
			outstanding += 3;
		outstanding -= aq_grant_revoke(&c.word, 2);
	}
	for (unsigned int i = 0; i < USERS; i++)
		pthread_join(threads[i], NULL);

	assert_int_equal(c.broken, 0);
	assert_int_equal(aq_grant_load(&c.word).used, 0);
	assert_int_equal(aq_grant_load(&c.word).granted, outstanding);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grant__use_fits_or_changes_nothing),
		cmocka_unit_test(test_grant__release_never_goes_below_zero),
		cmocka_unit_test(test_grant__revoke_takes_only_what_is_unused),
		cmocka_unit_test(test_grant__counts_do_not_overflow),
		cmocka_unit_test(test_grant__both_sides_at_once_keep_the_books),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
