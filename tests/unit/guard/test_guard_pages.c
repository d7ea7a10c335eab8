/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of arenas by itself, against a plain model: no page in two allocations, none lost.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/unit/cm.h"

#include "guard/pages.h"
#include "guard/small.h"

#define PAGES 512u
#define ROUNDS 20000
#define HELD 64

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* A chunk of @n pages, the first @use of them allocated. Return: its first page. */
static uint32_t make(struct aq__pages *p, uint32_t n, uint32_t use)
{
	uint32_t first = aq__pages_take_bare(p, n);

	if (first != AQ__NO_PAGE)
		aq__pages_chunk_made(p, first, n, first + 1, use);
	return first;
}

static void test_pages__holes_join_and_are_used_tightest_first(void **state)
{
	struct aq__pages p;
	uint32_t a, b, c;

	assert_true(aq__pages_init(&p, PAGES));
	a = make(&p, 8, 0);
	assert_int_equal(p.empty_pages, 8);
	b = aq__pages_take(&p, 3);
	c = aq__pages_take(&p, 5);
	assert_int_equal(b, a);
	assert_int_equal(c, a + 3);
	assert_int_equal(p.empty_pages, 0);
	assert_int_equal(aq__pages_take(&p, 1), AQ__NO_PAGE);
	aq__pages_give(&p, b);
	assert_int_equal(aq__pages_take(&p, 4), AQ__NO_PAGE);
	aq__pages_give(&p, c);
	assert_int_equal(p.empty_pages, 8);
	assert_int_equal(aq__pages_take(&p, 8), a);
	aq__pages_finish(&p);
}

static void test_pages__an_allocation_may_reach_over_chunks(void **state)
{
	struct aq__pages p;
	uint32_t a, b, c;

	assert_true(aq__pages_init(&p, PAGES));
	a = make(&p, 4, 2);
	b = make(&p, 4, 0);
	assert_int_equal(b, a + 4);
	c = aq__pages_take(&p, 5);
	assert_int_equal(c, a + 2);
	assert_int_equal(p.page[a].chunk_used, 4);
	assert_int_equal(p.page[b].chunk_used, 3);
	aq__pages_give(&p, c);
	assert_int_equal(p.empty_pages, 4);
	assert_int_equal(aq__pages_take_empty(&p), b);
	assert_int_equal(aq__pages_take_empty(&p), AQ__NO_PAGE);
	aq__pages_bare(&p, b, 4);
	assert_int_equal(aq__pages_chunk_from(&p, 0), a);
	assert_int_equal(aq__pages_chunk_from(&p, a + 4), AQ__NO_PAGE);
	aq__pages_finish(&p);
}

static void test_pages__what_could_not_be_given_back_is_there_again(void **state)
{
	struct aq__pages p;
	uint32_t a;

	assert_true(aq__pages_init(&p, PAGES));
	a = make(&p, 4, 0);
	assert_int_equal(aq__pages_take_empty(&p), a);
	assert_int_equal(aq__pages_take(&p, 1), AQ__NO_PAGE);
	aq__pages_keep_empty(&p, a);
	assert_int_equal(aq__pages_take(&p, 4), a);
	aq__pages_finish(&p);
}

struct held {
	uint32_t head, n;
};

static void mark(uint8_t *model, const struct held *h, uint8_t from, uint8_t to)
{
	for (uint32_t i = h->head; i < h->head + h->n; i++) {
		assert_int_equal(model[i], from);
		model[i] = to;
	}
}

/* Nothing is counted that the model does not have. */
static void compare(const struct aq__pages *p, const uint8_t *model)
{
	uint32_t used = 0, chunks = 0;

	for (uint32_t i = 0; i < PAGES; i++) {
		used += model[i];
		if (model[i])
			assert_int_equal(p->page[i].state, AQ__PAGE_USED);
	}
	for (uint32_t at = 0; (at = aq__pages_chunk_from(p, at)) != AQ__NO_PAGE;
	     at += p->page[at].chunk_pages)
		chunks += p->page[at].chunk_pages;
	assert_int_equal(used, p->used_pages);
	assert_int_equal(chunks, p->used_pages + p->hole_pages);
	assert_true(p->empty_pages <= p->hole_pages);
}

static void test_pages__a_storm_loses_and_shares_nothing(void **state)
{
	struct held held[HELD];
	uint8_t model[PAGES] = {0};
	uint32_t seed = 7, n = 0;
	struct aq__pages p;

	assert_true(aq__pages_init(&p, PAGES));
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t what = next_random(&seed) % 8, size = next_random(&seed) % 12 + 1;

		if (what < 4 && n < HELD) {
			struct held h = {.head = aq__pages_take(&p, size), .n = size};

			if (h.head == AQ__NO_PAGE)
				h.head = make(&p, size + next_random(&seed) % 5, size);
			if (h.head != AQ__NO_PAGE) {
				mark(model, &h, 0, 1);
				held[n++] = h;
			}
		} else if (what < 7 && n) {
			uint32_t i = next_random(&seed) % n;

			mark(model, &held[i], 1, 0);
			aq__pages_give(&p, held[i].head);
			held[i] = held[--n];
		} else {
			uint32_t chunk = aq__pages_take_empty(&p);

			if (chunk != AQ__NO_PAGE)
				aq__pages_bare(&p, chunk, p.page[chunk].chunk_pages);
		}
		if (round % 64 == 0)
			compare(&p, model);
	}
	while (n)
		aq__pages_give(&p, held[--n].head);
	while ((n = aq__pages_take_empty(&p)) != AQ__NO_PAGE)
		aq__pages_bare(&p, n, p.page[n].chunk_pages);
	assert_int_equal(p.used_pages + p.hole_pages, 0);
	assert_int_equal(make(&p, PAGES, PAGES), 0); /* all of it in one piece again */
	aq__pages_finish(&p);
}

/* ---- small pieces ---- */

static void test_small__a_page_is_filled_to_the_grain(void **state)
{
	struct aq__small s;
	uint32_t page, grain;

	assert_true(aq__small_init(&s, 4));
	aq__small_add(&s, 2);
	for (uint32_t i = 0; i < AQ__SMALL_GRAINS; i++) {
		assert_true(aq__small_take(&s, 1, &page, &grain));
		assert_int_equal(page, 2);
		assert_int_equal(grain, i);
	}
	assert_false(aq__small_take(&s, 1, &page, &grain));
	assert_false(aq__small_give(&s, 2, 100));
	assert_false(aq__small_give(&s, 2, 102));
	assert_false(aq__small_take(&s, 2, &page, &grain));
	assert_false(aq__small_give(&s, 2, 101));
	assert_true(aq__small_take(&s, 3, &page, &grain));
	assert_int_equal(grain, 100);
	aq__small_finish(&s);
}

static void test_small__an_address_inside_is_found(void **state)
{
	struct aq__small s;
	uint32_t page, grain, first;

	assert_true(aq__small_init(&s, 1));
	aq__small_add(&s, 0);
	assert_true(aq__small_take(&s, 200, &page, &grain));
	assert_true(aq__small_take(&s, 70, &page, &grain));
	assert_true(aq__small_find(&s, 0, 199, &first));
	assert_int_equal(first, 0);
	assert_true(aq__small_find(&s, 0, 269, &first));
	assert_int_equal(first, 200);
	assert_false(aq__small_find(&s, 0, 270, &first));
	assert_false(aq__small_give(&s, 0, 0));
	assert_false(aq__small_find(&s, 0, 199, &first));
	assert_true(aq__small_give(&s, 0, 200));
	aq__small_finish(&s);
}

static void test_small__a_storm_loses_and_shares_nothing(void **state)
{
	static uint8_t model[2][AQ__SMALL_GRAINS];
	struct {
		uint32_t page, grain, n;
	} held[512];
	uint32_t seed = 3, n = 0;
	struct aq__small s;

	assert_true(aq__small_init(&s, 2));
	aq__small_add(&s, 0);
	aq__small_add(&s, 1);
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t size = next_random(&seed) % 90 + 1, i;

		if (n < 512 && next_random(&seed) % 2) {
			if (!aq__small_take(&s, size, &held[n].page, &held[n].grain))
				continue;
			held[n].n = size;
			for (i = 0; i < size; i++)
				assert_int_equal(model[held[n].page][held[n].grain + i]++, 0);
			n++;
		} else if (n) {
			i = next_random(&seed) % n;
			memset(&model[held[i].page][held[i].grain], 0, held[i].n);
			if (aq__small_give(&s, held[i].page, held[i].grain))
				aq__small_add(&s, held[i].page);
			held[i] = held[--n];
		}
	}
	for (uint32_t page = 0; page < 2; page++) {
		for (uint32_t i = 0; i < AQ__SMALL_GRAINS; i++) {
			uint32_t first;

			assert_int_equal(aq__small_find(&s, page, i, &first), model[page][i]);
		}
	}
	aq__small_finish(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages__holes_join_and_are_used_tightest_first),
		cmocka_unit_test(test_pages__an_allocation_may_reach_over_chunks),
		cmocka_unit_test(test_pages__what_could_not_be_given_back_is_there_again),
		cmocka_unit_test(test_pages__a_storm_loses_and_shares_nothing),
		cmocka_unit_test(test_small__a_page_is_filled_to_the_grain),
		cmocka_unit_test(test_small__an_address_inside_is_found),
		cmocka_unit_test(test_small__a_storm_loses_and_shares_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
