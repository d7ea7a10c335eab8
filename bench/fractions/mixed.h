/* SPDX-License-Identifier: Apache-2.0 */
/* Three different models: on one GPU, and on a GPU each. */
#ifndef AQ_FRACTIONS_MIXED_H
#define AQ_FRACTIONS_MIXED_H

#include "fractions/cases.h"

/**
 * fr_mixed_measure() - the most users of chat in a half, small chat in a quarter, embeddings in an
 * eighth, who all begin at once; then, where there are GPUs enough, each model on one of its own
 * with as many users on each model, and with as many on each GPU, as the shared GPU had.
 * @first: users of the chat to try first
 * Return: as fr_step_measure()
 */
int fr_mixed_measure(struct fr_run *run, uint32_t first, double precision);

/* Likewise on one GPU, users coming one after the other, and each model with users in proportion
 * to what a whole GPU serves of it so (cases steady-*), times its fraction. */
int fr_mixed_measure_steady(struct fr_run *run, uint32_t first, double precision);

#endif /* AQ_FRACTIONS_MIXED_H */
