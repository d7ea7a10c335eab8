/* SPDX-License-Identifier: Apache-2.0 */
/* Demand that moves from one model to another in the middle of a run. */
#ifndef AQ_FRACTIONS_SHIFT_H
#define AQ_FRACTIONS_SHIFT_H

#include "fractions/cases.h"

/**
 * fr_shift_measure() - two models in half a GPU each; all users ask first the one, then the other.
 * Three times: fractions that never have more than their half, fractions that have at least their
 * half, and the same with the first at high priority.
 * @whole: users that a whole GPU serves within the bound; seven tenths of them ask
 * Return: as fr_step_measure()
 */
int fr_shift_measure(struct fr_run *run, uint32_t whole);

#endif /* AQ_FRACTIONS_SHIFT_H */
