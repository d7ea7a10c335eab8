/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two models on one GPU against one, with the same requests resident on the GPU: what Dynamo's
 * "many-model serving" measured, with its model, card, lengths and limits. No search: 2, 4, 8, 16
 * and 32 requests, steady.
 */
#ifndef AQ_FRACTIONS_RESIDENT_H
#define AQ_FRACTIONS_RESIDENT_H

#include "fractions/cases.h"

/**
 * fr_resident_measure() - on a daemon and, where devices are simulated, on a card of its own.
 * Answers are `resident-one/N`, `resident-leases/N`, `resident-plain/N`, for N requests.
 * Return: as fr_step_measure()
 */
int fr_resident_measure(struct fr_run *run);

/* Seconds that it takes. */
double fr_resident_seconds(const struct fr_run *run);

#endif /* AQ_FRACTIONS_RESIDENT_H */
