/* SPDX-License-Identifier: Apache-2.0 */
/* A step of a search over several targets: users handed out, and the verdict. Pure. */
#ifndef AQ_SERVE_SPREAD_H
#define AQ_SERVE_SPREAD_H

#include <stddef.h>
#include <stdint.h>

#include "serve/report.h"
#include "serve/target.h"

/* Plan @users over the targets as evenly as whole users go; from the beginning on. */
void aq_spread_users(struct aq_target *targets, size_t count, uint32_t users);

/**
 * aq_search_measure() - what a step measured, and whether it was within bounds->ttft_ns.
 * A failed request, and one without its first token, is not within; nor is a step without any.
 * The 95th percentile is that of every target alone, for one that starves must not hide.
 * Return: 0 or -ENOMEM
 */
int aq_search_measure(const struct aq_load_result *result, const struct aq_bounds *bounds,
		      uint32_t users, struct aq_search_row *ret_row);

#endif /* AQ_SERVE_SPREAD_H */
