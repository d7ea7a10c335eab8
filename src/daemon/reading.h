/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readings: what NVML counts for a client on a device, less what its page says is used. A reading
 * begins before the device is read and ends after it; what it says is counted in one of three ways.
 */
#ifndef AQ_DAEMON_READING_H
#define AQ_DAEMON_READING_H

#include "daemon/daemon.h"

/* Right before the device is read: note what the page says. */
void aqd_reading_begin(struct aqd *d, struct aqd_client *c, uint32_t share);

/**
 * aqd_reading_end() - right after the device was read: what it comes to.
 * @again: the reading before was broken, and this one follows it: the lesser of the two counts
 * Return: true when nothing changed in between, or nobody tells: once more would be no better
 */
bool aqd_reading_end(struct aqd *d, struct aqd_client *c, uint32_t share, bool again);

/* Count the last reading as it is: something was unmade, or nothing was known. Return: false when
 * the driver told nothing. */
bool aqd_reading_count(struct aqd *d, struct aqd_client *c, uint32_t share);

/* Count it after something was made: there cannot be less than before. Return: as above. */
bool aqd_reading_count_more(struct aqd *d, struct aqd_client *c, uint32_t share);

/* Count @bytes where nobody tells. */
void aqd_reading_assume(struct aqd *d, struct aqd_client *c, uint32_t share, uint64_t bytes);

/* Count one of the periodic ones, of which nobody knows what it came between. */
void aqd_reading_count_periodic(struct aqd *d, struct aqd_client *c, uint32_t share);

#endif /* AQ_DAEMON_READING_H */
