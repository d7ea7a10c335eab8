/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's objects as JSON, with the names of the contract. */
#ifndef AQ_DAEMON_JSON_H
#define AQ_DAEMON_JSON_H

#include <jansson.h>

#include "daemon/daemon.h"
#include "daemon/queue.h"

/* Each returns a new reference, or NULL when memory is out. */
json_t *aqd_json_device(struct aqd *d, struct aqd_device *dev);
json_t *aqd_json_devices(struct aqd *d);
json_t *aqd_json_fraction(struct aqd *d, const struct aqd_fraction *f);
json_t *aqd_json_waiting(struct aqd *d, const struct aqd_wait *w);
json_t *aqd_json_fractions(struct aqd *d);
json_t *aqd_json_status(struct aqd *d);

/* "low", "normal", "high" and back. */
const char *aqd_priority_word(enum aq_priority priority);
int aqd_priority_parse(const char *word, enum aq_priority *ret);

#endif /* AQ_DAEMON_JSON_H */
