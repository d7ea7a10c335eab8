/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler, step by step, and under random load. */
#include "../cm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/llm/scheduler.h"

static struct llm_sched sched;
static uint32_t n_tokens_given, n_ended;

static void progress(void *arg, struct llm_seq *q)
{
	n_tokens_given++;
	if (q->state == LLM_SEQ_DONE)
		n_ended++;
}

static void begin(uint32_t n_blocks, uint32_t max_seqs, uint32_t budget)
{
	n_tokens_given = n_ended = 0;
	assert_int_equal(llm_sched_init(&sched, n_blocks, max_seqs, budget), 0);
}

static struct llm_seq *add(uint32_t prompt, uint32_t wanted)
{
	struct llm_seq *q = llm_seq_create(prompt, wanted, NULL);

	assert_non_null(q);
	assert_int_equal(llm_sched_add(&sched, q), 0);
	return q;
}

static uint32_t step(void)
{
	uint32_t n = llm_sched_next(&sched);

	llm_sched_complete(&sched, progress, NULL);
	return n;
}

/* Tokens of @q in the step that was just scheduled. */
static uint32_t share(const struct llm_seq *q)
{
	for (uint32_t i = 0; i < sched.step.n; i++)
		if (sched.step.items[i].seq == q)
			return sched.step.items[i].n_new;
	return 0;
}

static void test_llm_scheduler__prompt_then_one_token_a_step(void **state)
{
	struct llm_seq *q;

	begin(100, 8, 64);
	q = add(10, 3);
	assert_int_equal(llm_sched_next(&sched), 1);
	assert_int_equal(share(q), 10);
	assert_true(sched.step.prefill);
	assert_int_equal(sched.step.n_samples, 1);
	llm_sched_complete(&sched, progress, NULL);
	assert_int_equal(q->generated, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(llm_sched_next(&sched), 1);
		assert_int_equal(share(q), 1);
		assert_false(sched.step.prefill);
		llm_sched_complete(&sched, progress, NULL);
	}
	assert_int_equal(q->state, LLM_SEQ_DONE);
	assert_int_equal(q->generated, 3);
	assert_int_equal(sched.blocks.n_free, 100);
	assert_int_equal(llm_sched_next(&sched), 0);
	llm_seq_free(q);
	llm_sched_finish(&sched);
}

/* A long prompt fills what decoding leaves of the budget, and delays no token. */
static void test_llm_scheduler__decoding_goes_before_prompts(void **state)
{
	struct llm_seq *a, *b, *c;

	begin(1000, 8, 64);
	a = add(10, 100);
	b = add(10, 100);
	step();
	c = add(150, 1);
	for (uint32_t left = 150; left;) {
		uint32_t want = left < 62 ? left : 62;

		assert_int_equal(llm_sched_next(&sched), 3);
		assert_int_equal(share(a), 1);
		assert_int_equal(share(b), 1);
		assert_int_equal(share(c), want);
		assert_true(sched.step.n_tokens <= 64);
		assert_int_equal(sched.step.n_samples, left == want ? 3 : 2);
		llm_sched_complete(&sched, progress, NULL);
		left -= want;
	}
	assert_int_equal(c->state, LLM_SEQ_DONE);
	assert_int_equal(a->generated, 4);
	llm_seq_free(c);
	llm_sched_remove(&sched, a);
	llm_sched_remove(&sched, b);
	llm_seq_free(a);
	llm_seq_free(b);
	assert_int_equal(sched.blocks.n_free, 1000);
	llm_sched_finish(&sched);
}

static void test_llm_scheduler__places_are_limited(void **state)
{
	struct llm_seq *q[5];

	begin(100, 3, 64);
	for (int i = 0; i < 5; i++)
		q[i] = add(4, i == 0 ? 1 : 50);
	assert_int_equal(step(), 3);
	assert_int_equal(sched.n_running, 2); /* the first is done */
	assert_int_equal(sched.n_waiting, 2);
	assert_int_equal(step(), 3);
	assert_int_equal(q[3]->state, LLM_SEQ_RUNNING);
	assert_int_equal(q[4]->state, LLM_SEQ_WAITING);
	for (int i = 0; i < 5; i++) {
		if (q[i]->state != LLM_SEQ_DONE)
			llm_sched_remove(&sched, q[i]);
		llm_seq_free(q[i]);
	}
	assert_int_equal(sched.n_running + sched.n_waiting, 0);
	assert_int_equal(sched.blocks.n_free, 100);
	llm_sched_finish(&sched);
}

/* Without a free block the last one goes, is computed again from the start, and loses no token. */
static void test_llm_scheduler__last_admitted_is_preempted(void **state)
{
	struct llm_seq *a, *b;

	begin(4, 8, 64); /* 64 tokens */
	a = add(30, 30); /* 2 blocks, 3 from token 33 on, 4 from 49 */
	b = add(30, 30);
	for (int i = 0; i < 3; i++)
		step(); /* 33 tokens each: both are at the end of what they have */
	assert_int_equal(a->generated, 3);
	assert_int_equal(b->generated, 3);
	assert_int_equal(llm_sched_next(&sched), 1);
	assert_int_equal(share(a), 1);
	assert_int_equal(sched.step.n_preempted, 1);
	assert_int_equal(b->state, LLM_SEQ_WAITING);
	assert_int_equal(b->computed, 0);
	assert_int_equal(b->n_blocks, 0);
	llm_sched_complete(&sched, progress, NULL);
	while (a->state != LLM_SEQ_DONE)
		step();
	assert_int_equal(b->generated, 3);
	assert_int_equal(llm_sched_next(&sched), 1);
	assert_int_equal(share(b), 33); /* prompt and what was generated */
	llm_sched_complete(&sched, progress, NULL);
	assert_int_equal(b->generated, 4);
	while (b->state != LLM_SEQ_DONE)
		step();
	assert_int_equal(b->generated, 30);
	assert_int_equal(n_tokens_given, 60);
	assert_int_equal(sched.blocks.n_free, 4);
	llm_seq_free(a);
	llm_seq_free(b);
	llm_sched_finish(&sched);
}

static void test_llm_scheduler__what_never_fits_is_refused(void **state)
{
	struct llm_seq *q = llm_seq_create(60, 5, NULL); /* 65 tokens */

	begin(4, 8, 64);
	assert_int_equal(llm_sched_add(&sched, q), -E2BIG);
	assert_int_equal(sched.n_waiting, 0);
	llm_seq_free(q);
	q = add(60, 4);
	while (step())
		;
	assert_int_equal(q->state, LLM_SEQ_DONE);
	llm_seq_free(q);
	llm_sched_finish(&sched);
}

static void test_llm_scheduler__embeddings_end_with_the_prompt(void **state)
{
	struct llm_seq *q;

	begin(100, 8, 64);
	q = add(100, 0);
	step();
	assert_int_equal(n_tokens_given, 0);
	step();
	assert_int_equal(n_tokens_given, 1);
	assert_int_equal(q->generated, 0);
	assert_int_equal(q->state, LLM_SEQ_DONE);
	assert_int_equal(sched.blocks.n_free, 100);
	llm_seq_free(q);
	llm_sched_finish(&sched);
}

static void test_llm_scheduler__removal_anywhere_gives_all_back(void **state)
{
	struct llm_seq *a, *b, *c;

	begin(100, 2, 64);
	a = add(40, 9);
	b = add(40, 9);
	c = add(40, 9);
	step(); /* a whole, b in part, c not */
	llm_sched_remove(&sched, b);
	llm_sched_remove(&sched, c);
	assert_int_equal(sched.n_waiting, 0);
	assert_int_equal(sched.n_running, 1);
	assert_int_equal(sched.blocks.n_free, 97);
	step();
	assert_int_equal(a->generated, 2);
	llm_sched_remove(&sched, a);
	assert_int_equal(sched.blocks.n_free, 100);
	llm_seq_free(a);
	llm_seq_free(b);
	llm_seq_free(c);
	llm_sched_finish(&sched);
}

static void test_llm_scheduler__bad_configurations(void **state)
{
	struct llm_sched s;

	assert_int_equal(llm_sched_init(&s, 10, 0, 64), -EINVAL);
	assert_int_equal(llm_sched_init(&s, 10, LLM_MAX_SEQS + 1, LLM_MAX_BUDGET), -EINVAL);
	assert_int_equal(llm_sched_init(&s, 10, 65, 64), -EINVAL);
	assert_int_equal(llm_sched_init(&s, 10, 1, LLM_MAX_BUDGET + 1), -EINVAL);
}

/* What holds for every step of every history. */
static void check_step(void)
{
	uint32_t sum = 0, blocks = 0;

	for (uint32_t i = 0; i < sched.step.n; i++) {
		const struct llm_item *item = &sched.step.items[i];

		assert_true(item->n_new > 0);
		assert_true(llm_blocks_for(item->seq->computed + item->n_new) <=
			    item->seq->n_blocks);
		assert_true(item->seq->computed + item->n_new <= llm_seq_tokens(item->seq));
		assert_int_equal(item->seq->state, LLM_SEQ_RUNNING);
		sum += item->n_new;
		for (uint32_t j = 0; j < i; j++)
			assert_ptr_not_equal(sched.step.items[j].seq, item->seq);
	}
	assert_int_equal(sum, sched.step.n_tokens);
	assert_true(sum <= sched.budget);
	assert_true(sched.n_running <= sched.max_seqs);
	for (struct aq_list *l = sched.running.next; l != &sched.running; l = l->next)
		blocks += aq_container_of(l, struct llm_seq, link)->n_blocks;
	assert_int_equal(blocks + sched.blocks.n_free, sched.blocks.total);
}

static void test_llm_scheduler__random_load_ends_with_every_token(void **state)
{
	struct llm_seq *q[200];
	uint32_t wanted = 0, empty = 0;

	srand(7);
	begin(120, 16, 96);
	for (int i = 0; i < 200; i++) {
		uint32_t prompt = 1 + (uint32_t)rand() % 500, n = 1 + (uint32_t)rand() % 200;

		q[i] = add(prompt, n);
		wanted += n;
	}
	for (int i = 0; n_ended < 200; i++) {
		assert_in_range(i, 0, 100000);
		/* Nothing may be scheduled once, after a preemption, and not again. */
		if (llm_sched_next(&sched))
			empty = 0;
		else
			assert_int_equal(empty++, 0);
		check_step();
		llm_sched_complete(&sched, progress, NULL);
	}
	assert_int_equal(n_tokens_given, wanted);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(q[i]->generated, q[i]->wanted);
		llm_seq_free(q[i]);
	}
	assert_int_equal(sched.blocks.n_free, 120);
	llm_sched_finish(&sched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llm_scheduler__prompt_then_one_token_a_step),
		cmocka_unit_test(test_llm_scheduler__decoding_goes_before_prompts),
		cmocka_unit_test(test_llm_scheduler__places_are_limited),
		cmocka_unit_test(test_llm_scheduler__last_admitted_is_preempted),
		cmocka_unit_test(test_llm_scheduler__what_never_fits_is_refused),
		cmocka_unit_test(test_llm_scheduler__embeddings_end_with_the_prompt),
		cmocka_unit_test(test_llm_scheduler__removal_anywhere_gives_all_back),
		cmocka_unit_test(test_llm_scheduler__bad_configurations),
		cmocka_unit_test(test_llm_scheduler__random_load_ends_with_every_token),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
