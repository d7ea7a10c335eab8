/* SPDX-License-Identifier: Apache-2.0 */
/* Scale-out: replicas join on one GPU while those that are there go on serving. */
#ifndef AQ_FRACTIONS_SCALE_H
#define AQ_FRACTIONS_SCALE_H

#include "fractions/cases.h"

/**
 * fr_scale_measure() - from one quarter to four, each new one with users of its own: what a load
 * balancer would send it. Fills @run->scale.
 * @users: of each replica
 * Return: as fr_step_measure()
 */
int fr_scale_measure(struct fr_run *run, uint32_t users);

/**
 * fr_scale_read() - the requests of one generator, from its requests.csv.
 * @offset_s: when it began
 * Return: 0; -EPROTO not that file; -ENOMEM
 */
int fr_scale_read(struct fr_scale *s, char *csv, unsigned int replica, double offset_s);

#endif /* AQ_FRACTIONS_SCALE_H */
