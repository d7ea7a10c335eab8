/* SPDX-License-Identifier: Apache-2.0 */
/* Time as one 64-bit number of nanoseconds. */
#ifndef AQ_BASE_TIMING_H
#define AQ_BASE_TIMING_H

#include <stdint.h>

#define AQ_NS_PER_US 1000ull
#define AQ_NS_PER_MS 1000000ull
#define AQ_NS_PER_S 1000000000ull

/* CLOCK_MONOTONIC in nanoseconds; the same for all processes of the machine. */
uint64_t aq_now_ns(void);

/* Sleep until CLOCK_MONOTONIC reaches @deadline_ns, whatever signals arrive. */
void aq_sleep_until_ns(uint64_t deadline_ns);

#endif /* AQ_BASE_TIMING_H */
