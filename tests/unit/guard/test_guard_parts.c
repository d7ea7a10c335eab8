/* SPDX-License-Identifier: Apache-2.0 */
/* The guard's table and its ordered ranges against plain models, and without memory. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/cm.h"

#include "guard/guard.h"
#include "guard/ranges.h"
#include "guard/track.h"

/* mmap() (with 64-bit offsets) of the code under test; fails while told to (-Wl,--wrap=mmap64). */
static bool no_memory;
void *__real_mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
	return no_memory ? MAP_FAILED : __real_mmap64(addr, size, prot, flags, fd, offset);
}

static uint64_t seed = 1;

static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 33) % below;
}

#define KEYS 20000

static int fresh(void **state)
{
	aq__track_forked();
	aq__ranges_forked();
	return 0;
}

static void test_track__does_what_an_array_does(void **state)
{
	static uint32_t model[2][KEYS]; /* grains + 1 by class and key, 0 absent */
	struct aq__item item, old;

	memset(model, 0, sizeof(model));
	for (int i = 0; i < 400000; i++) {
		uint32_t c = (uint32_t)draw(2), k = (uint32_t)draw(KEYS);
		enum aq__class class = c ? AQ__ARRAY : AQ__POINTER;
		uint64_t key = ((uint64_t)k + 1) << 21;

		if (draw(2)) {
			item = (struct aq__item){.class = class, .key = key, .grains = (uint32_t)i};
			assert_true(aq__track_put(&item, &old));
			assert_int_equal(old.class != 0, model[c][k] != 0);
			if (old.class)
				assert_int_equal(old.grains + 1, model[c][k]);
			model[c][k] = (uint32_t)i + 1;
		} else {
			bool found = draw(2) ? aq__track_get(class, key, &item)
					     : aq__track_take(class, key, &item);

			assert_int_equal(found, model[c][k] != 0);
			if (found)
				assert_int_equal(item.grains + 1, model[c][k]);
			if (found && !aq__track_get(class, key, &item))
				model[c][k] = 0;
		}
	}
}

static bool is_odd(const struct aq__item *item, void *arg)
{
	unsigned int *count = arg;

	*count += item->owner & 1;
	return item->owner & 1;
}

static void test_track__a_sweep_takes_all_that_match_and_no_other(void **state)
{
	struct aq__item old, item = {.class = AQ__POINTER};
	unsigned int swept = 0;

	for (uint32_t i = 1; i <= KEYS; i++) {
		item.key = (uint64_t)i << 9;
		item.owner = i;
		assert_true(aq__track_put(&item, &old));
	}
	aq__track_sweep(is_odd, &swept);
	assert_int_equal(swept, KEYS / 2);
	for (uint32_t i = 1; i <= KEYS; i++)
		assert_int_equal(aq__track_get(AQ__POINTER, (uint64_t)i << 9, &item), !(i & 1));
}

static void test_track__without_memory_it_refuses_and_loses_nothing(void **state)
{
	struct aq__item old, item = {.class = AQ__POINTER};
	unsigned int entered = 0;
	bool kept[KEYS];

	no_memory = true;
	for (uint32_t i = 0; i < KEYS; i++) {
		item.key = ((uint64_t)i + 1) << 9;
		kept[i] = aq__track_put(&item, &old);
		entered += kept[i];
	}
	no_memory = false;
	assert_true(entered > 1000 && entered < KEYS);
	for (uint32_t i = 0; i < KEYS; i++)
		assert_int_equal(aq__track_get(AQ__POINTER, ((uint64_t)i + 1) << 9, &item),
				 kept[i]);
}

#define UNITS 512

static void test_ranges__do_what_an_array_does(void **state)
{
	uint32_t model[UNITS]; /* value of the range that a unit is in, 0 none */
	struct aq__ranges set = {.root = NULL};
	struct aq__range r;

	memset(model, 0, sizeof(model));
	for (uint32_t i = 1; i < 200000; i++) {
		uint64_t at = draw(UNITS), size = draw(8) + 1, end = at + size;

		if (end > UNITS)
			continue;
		if (draw(2)) {
			bool room = true;

			for (uint64_t u = at; u < end; u++)
				room = room && !model[u];
			if (!room) {
				/* Clear it, whole ranges at a time. */
				while (aq__ranges_take(&set, at, end, true, &r)) {
					assert_true(r.start < end && r.start + r.bytes > at);
					for (uint64_t u = r.start; u < r.start + r.bytes; u++) {
						assert_int_equal(model[u], r.value);
						model[u] = 0;
					}
				}
			}
			r = (struct aq__range){.start = at, .bytes = size, .value = i};
			assert_true(aq__ranges_add(&set, &r));
			for (uint64_t u = at; u < end; u++) {
				assert_int_equal(model[u], 0);
				model[u] = i;
			}
		} else if (draw(2)) {
			bool found = aq__ranges_find(&set, at, &r);

			assert_int_equal(found, model[at] != 0);
			if (found)
				assert_int_equal(r.value, model[at]);
		} else if (aq__ranges_take(&set, at, end, false, &r)) {
			assert_true(r.start >= at && r.start + r.bytes <= end);
			for (uint64_t u = r.start; u < r.start + r.bytes; u++) {
				assert_int_equal(model[u], r.value);
				model[u] = 0;
			}
		}
	}
}

static void test_ranges__without_memory_nothing_is_added(void **state)
{
	struct aq__range r = {.start = 1, .bytes = 1, .value = 1};
	struct aq__ranges set = {.root = NULL};

	no_memory = true;
	assert_false(aq__ranges_add(&set, &r));
	no_memory = false;
	assert_false(aq__ranges_find(&set, 1, &r));
	assert_true(aq__ranges_add(&set, &r));
	/* What is taken out can be added again, memory or not. */
	assert_true(aq__ranges_take(&set, 0, UINT64_MAX, false, &r));
	no_memory = true;
	assert_true(aq__ranges_add(&set, &r));
	no_memory = false;
}

#define T(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_track__does_what_an_array_does),
		T(test_track__a_sweep_takes_all_that_match_and_no_other),
		T(test_track__without_memory_it_refuses_and_loses_nothing),
		T(test_ranges__do_what_an_array_does),
		T(test_ranges__without_memory_nothing_is_added),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
