/* SPDX-License-Identifier: Apache-2.0 */
/* Events as lines for people. Pure but for the clock. */
#ifndef AQ_CLI_EVENT_H
#define AQ_CLI_EVENT_H

#include <stdint.h>

#include <jansson.h>

#define AQ_EVENT_TIME 40
#define AQ_EVENT_LINE 512
#define AQ_EVENT_MAX 4096u /* as many as a daemon keeps */

/* `Jan 02 03:04:05  denied     chat  why`, in local time, without control bytes. Returns @buf. */
char *aq_event_line(const json_t *event, char *buf);

/* The time @ns ago as the API writes times; these compare by strcmp(3). Returns @buf. */
char *aq_event_time_before(uint64_t ns, char *buf);

#endif /* AQ_CLI_EVENT_H */
