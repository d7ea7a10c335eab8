/* SPDX-License-Identifier: Apache-2.0 */
/* How long the scheduler lets a thread run at a time. */
#ifndef AQ_BASE_SLICE_H
#define AQ_BASE_SLICE_H

#include <stdint.h>

/**
 * aq_slice_ask() - ask for short turns on the processor, for the calling thread.
 * It gets no more of it, nor less, but it gets it sooner when it wakes up: good for a thread that
 * works for microseconds at a time and is waited for. Needs no privilege.
 * Source: Linux 6.12, sched_setattr(): sched_runtime of SCHED_OTHER, 0.1 to 100 ms.
 * Return: 0; -ENOTSUP a thread of another policy, or a kernel before that; other negative errno
 */
int aq_slice_ask(uint64_t slice_ns);

#endif /* AQ_BASE_SLICE_H */
