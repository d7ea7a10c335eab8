/* SPDX-License-Identifier: Apache-2.0 */
/* The monotonic clock and an absolute sleep. No wall-clock time. */
#include "base/timing.h"

#include <errno.h>
#include <time.h>

uint64_t aq_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * AQ_NS_PER_S + (uint64_t)ts.tv_nsec;
}

void aq_sleep_until_ns(uint64_t deadline_ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(deadline_ns / AQ_NS_PER_S),
		.tv_nsec = (long)(deadline_ns % AQ_NS_PER_S),
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}
