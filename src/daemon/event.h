/* SPDX-License-Identifier: Apache-2.0 */
/* What happened, kept for people: a ring in memory, and those who follow it. */
#ifndef AQ_DAEMON_EVENT_H
#define AQ_DAEMON_EVENT_H

#include <jansson.h>

#include "daemon/daemon.h"

#define AQD_EVENTS_MAX 4096u
#define AQD_EVENTS_SOURCE_MAX 1024u /* of one fraction: a babbler buries no other's events */
#define AQD_NO_BYTES UINT64_MAX

/* AQD_EVENT(name): every type of event once. */
#define AQD_EVENT_LIST(AQD_EVENT)                                                                  \
	AQD_EVENT(started)    /* the daemon */                                                     \
	AQD_EVENT(configured) /* configuration read again, or refused */                           \
	AQD_EVENT(created)    /* a fraction */                                                     \
	AQD_EVENT(restored)   /* a fraction of an earlier daemon */                                \
	AQD_EVENT(waiting)    /* a fraction queued */                                              \
	AQD_EVENT(refused)    /* a fraction that could not be had */                               \
	AQD_EVENT(resized)                                                                         \
	AQD_EVENT(killed)                                                                          \
	AQD_EVENT(ended)                                                                           \
	AQD_EVENT(attached) /* a client */                                                         \
	AQD_EVENT(adopted)  /* a client of an earlier daemon */                                    \
	AQD_EVENT(detached)                                                                        \
	AQD_EVENT(rejected)   /* a client that may not attach */                                   \
	AQD_EVENT(denied)     /* memory */                                                         \
	AQD_EVENT(over_limit) /* measured or adopted beyond the limit */                           \
	AQD_EVENT(overran)    /* a lease: still busy when others were to go on */                  \
	AQD_EVENT(returned)   /* ... and what it came to, at last */                               \
	AQD_EVENT(lied)	      /* a page or message that cannot be true */                          \
	AQD_EVENT(babbled)    /* a connection that broke the protocol */                           \
	AQD_EVENT(parking)    /* a fraction's memory is ordered to host memory */                  \
	AQD_EVENT(parked)     /* it is there */                                                    \
	AQD_EVENT(park_failed)                                                                     \
	AQD_EVENT(resuming) /* it is ordered back */                                               \
	AQD_EVENT(resumed)                                                                         \
	AQD_EVENT(resume_failed)                                                                   \
	AQD_EVENT(lent)	       /* a parked fraction's request, to others */                        \
	AQD_EVENT(shrink)      /* a program is asked to use less */                                \
	AQD_EVENT(thrash)      /* demand is more than the device */                                \
	AQD_EVENT(reclaim_kill) /* a borrower is ended for a guarantee */                          \
	AQD_EVENT(foreign) /* a process on a device without a fraction for it */

enum aqd_event_type {
#define AQD_EVENT(name) AQD_EVENT_##name,
	AQD_EVENT_LIST(AQD_EVENT)
#undef AQD_EVENT
		AQD_EVENT_TYPES
};

/* What an event says beside its line. Leave out what does not apply: see aqd_event_none. */
struct aqd_event_facts {
	const struct aqd_fraction *fraction;
	const char *name; /* of a fraction, where there is no object */
	pid_t pid;
	const struct aqd_device *device;
	const char *reason; /* short word */
	const char *api;
	uint64_t asked_bytes, used_bytes, limit_bytes, free_bytes; /* AQD_NO_BYTES: none */
};

extern const struct aqd_event_facts aqd_event_none;

int aqd_events_create(struct aqd *d);
void aqd_events_free(struct aqd *d);

/* Record one. @format makes the line for people. Loses the event when memory is out, says so. */
void aqd_event(struct aqd *d, enum aqd_event_type type, const struct aqd_event_facts *facts,
	       const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The last @limit events after @since, oldest first, as a JSON array; NULL when memory is out. */
json_t *aqd_events_json(struct aqd *d, uint64_t since, uint64_t limit);

/* How many of this type there were since the start. */
uint64_t aqd_events_count(const struct aqd *d, enum aqd_event_type type);

const char *aqd_event_word(enum aqd_event_type type);

/* Have @heard called with each later event until unfollowed. */
struct aqd_follower {
	struct aq_list link;
	void (*heard)(struct aqd_follower *self, json_t *event);
};
void aqd_events_follow(struct aqd *d, struct aqd_follower *f);
void aqd_events_unfollow(struct aqd_follower *f);

#endif /* AQ_DAEMON_EVENT_H */
