/* SPDX-License-Identifier: Apache-2.0 */
/* Counts of durations in constant memory: for every token of a run, however long it lasts. */
#ifndef AQ_SERVE_HIST_H
#define AQ_SERVE_HIST_H

#include <stddef.h>
#include <stdint.h>

#define AQ_HIST_BITS 8  /* 256 classes for each doubling: percentiles are off by 0.2 % at most */
#define AQ_HIST_TOP 43  /* bits of the largest value: 2.4 hours in ns; more is counted as that */
#define AQ_HIST_CLASSES ((AQ_HIST_TOP - AQ_HIST_BITS + 1) << AQ_HIST_BITS)

struct aq_hist {
	uint64_t count, sum_ns, min_ns, max_ns; /* exact */
	uint64_t n[AQ_HIST_CLASSES];
};

void aq_hist_add(struct aq_hist *h, uint64_t ns);
void aq_hist_merge(struct aq_hist *h, const struct aq_hist *other);

/* The value that @percent of all are at most. 0 when there are none; exact at 0 and 100. */
uint64_t aq_hist_percentile(const struct aq_hist *h, double percent);

/**
 * aq_percentile() - nearest rank: the smallest of @sorted that @percent of them do not exceed.
 * @sorted: ascending; 0 is returned when @count is 0
 */
double aq_percentile(const double *sorted, size_t count, double percent);

/* For qsort(3). */
int aq_compare_doubles(const void *a, const void *b);

#endif /* AQ_SERVE_HIST_H */
