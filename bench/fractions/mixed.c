/* SPDX-License-Identifier: Apache-2.0 */
/* Measures three models that share a GPU. Compares nothing: that is the report's. */
#include "fractions/mixed.h"

#include <stdio.h>

#include "fractions/step.h"
#include "base/banned.h"

#define MODELS 3

static struct fr_setup one_gpu(const struct fr_config *c, const char *name)
{
	return (struct fr_setup){.name = name,
				 .count = MODELS,
				 .parts = {{.model = c->model, .permille = 500},
					   {.model = c->small_model, .permille = 250},
					   {.model = c->embedding_model, .permille = 125}},
				 .weight = {1, 1, 0.5},
				 .role = {"chat", "small-chat", "embeddings"},
				 .embeddings = {false, false, true}};
}

/* Each on a GPU of its own, one step. */
static int measure_apart(struct fr_run *run, struct fr_setup *s, const char *name, uint32_t users)
{
	struct fr_step step;
	int r;

	s->name = name;
	r = fr_step_measure(run, s, users, &step);
	return r ? r : fr_setup_answer(run, s, run->steps.count - MODELS - 1);
}

/* As many users on each model as on the shared GPU, then as many on each GPU. */
static int compare_apart(struct fr_run *run, struct fr_setup *s, uint32_t users, uint32_t together)
{
	int r;

	for (size_t i = 0; i < MODELS; i++) {
		s->parts[i].permille = 1000;
		s->parts[i].device = (unsigned int)i;
	}
	r = fr_setup_start(run, s);
	if (!r)
		r = measure_apart(run, s, "mixed-apart", users);
	for (size_t i = 0; i < MODELS; i++)
		s->weight[i] = 1;
	if (!r && fr_run_seconds_left(run) >= fr_step_seconds(run, false))
		r = measure_apart(run, s, "mixed-apart-gpu", together);
	fr_stage_clear(&run->stage);
	return r;
}

int fr_mixed_measure(struct fr_run *run, uint32_t first, double precision)
{
	struct fr_setup s = one_gpu(run->config, "mixed");
	const struct fr_row *chat, *all;
	int r = fr_setup_start(run, &s);

	if (!r)
		r = fr_setup_search(run, &s, first, precision);
	fr_stage_clear(&run->stage);
	chat = fr_rows_find(&run->answers, "mixed/chat");
	all = fr_rows_find(&run->answers, "mixed");
	if (r || !chat || !all)
		return r;
	if (run->config->sim)
		return compare_apart(run, &s, chat->users, all->users);
	fr_notes_add(&run->notes, "mixed-apart: one model per GPU takes three GPUs, which are "
				  "only looked for on simulated devices");
	return 0;
}

/* What a whole GPU serves of each model, times the fraction. Return: false not all is known. */
static bool own_weights(const struct fr_run *run, struct fr_setup *s)
{
	static const char *const wholes[MODELS] = {"steady-full", "steady-small-full",
						   "steady-embeddings"};
	double users[MODELS];

	for (size_t i = 0; i < MODELS; i++) {
		const struct fr_row *row = fr_rows_find(&run->answers, wholes[i]);

		if (!row || !row->within)
			return false;
		users[i] = (double)row->users * s->parts[i].permille;
	}
	for (size_t i = 0; i < MODELS; i++)
		s->weight[i] = users[i] / users[0];
	return true;
}

int fr_mixed_measure_steady(struct fr_run *run, uint32_t first, double precision)
{
	struct fr_setup s = one_gpu(run->config, "steady-mixed");
	int r;

	s.steady = true;
	if (!own_weights(run, &s))
		fr_notes_add(&run->notes, "steady-mixed: users of the models 2 to 2 to 1, since "
					  "what a whole GPU serves of each was not measured");
	r = fr_setup_start(run, &s);
	if (!r)
		r = fr_setup_search(run, &s, first, precision);
	fr_stage_clear(&run->stage);
	return r;
}
