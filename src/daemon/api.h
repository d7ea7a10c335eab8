/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP API on api.sock: listening, routing, answers. */
#ifndef AQ_DAEMON_API_H
#define AQ_DAEMON_API_H

#include <jansson.h>

#include "daemon/daemon.h"

/* Return: 0 or negative errno. */
int aqd_api_init(struct aqd *d);
void aqd_api_finish(struct aqd *d);

/* Between turns: see who has connected. */
void aqd_api_settle(struct aqd *d);

/* Does somebody follow events? (Who waits for a fraction is in the queue.) */
bool aqd_api_in_use(const struct aqd *d);

/* One request under way, as handlers see it. */
struct aqd_call {
	struct aqd *daemon;
	struct evhttp_request *request;
	const char *name;  /* the fraction in the path, or NULL */
	const char *query; /* behind the `?`, or NULL */
	json_t *body;	   /* an object; empty when none was sent */
	uid_t uid;
};

/* Send what is in the request's output buffer; to a HEAD, only how much that is. */
void aqd_api_send(struct evhttp_request *request, int code, const char *type);

/* Answer with @value, whose reference is taken. */
void aqd_api_reply(struct evhttp_request *request, int code, json_t *value);

/* Answer with an error; @numbers (taken, may be NULL) are added to it. */
void aqd_api_error(struct evhttp_request *request, int code, const char *reason, json_t *numbers,
		   const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The peer's descriptor. */
int aqd_api_peer_fd(struct evhttp_request *request);

/*
 * Somebody whose answer takes time. evhttp does not read from a connection meanwhile, so it does
 * not see the peer leave: this does.
 */
struct aqd_api_patient {
	struct evhttp_request *request;
	struct event *hangup;
	void (*left)(struct aqd_api_patient *self); /* the request is gone when this is called */
};

/* Watch for the peer to leave. Return: 0 or -ENOMEM. */
int aqd_api_await(struct aqd *d, struct aqd_api_patient *p, struct evhttp_request *request,
		  void (*left)(struct aqd_api_patient *self));

/* Stop watching: the answer is about to be sent. */
void aqd_api_awaited(struct aqd_api_patient *p);

/* Stop watching and drop the connection. */
void aqd_api_hang_up(struct aqd_api_patient *p);

/* Handlers of api_fraction.c. */
void aqd_api_create(struct aqd_call *call);
void aqd_api_resize(struct aqd_call *call);
void aqd_api_kill(struct aqd_call *call);

/* Read the body, see aqd_input_read(). Return: false when it was answered with an error. */
struct aqd_input;
bool aqd_api_read(struct aqd_call *call, const struct aqd_input *inputs, size_t count);

/* The fraction of the path, if the caller may change it. NULL: answered with an error. */
struct aqd_fraction *aqd_api_own_fraction(struct aqd_call *call);

/* errno of creating or resizing into an answer, with what is free on the @allowed devices. */
struct aq_refusal;
void aqd_api_refusal(struct aqd *d, struct evhttp_request *request, int error, uint64_t allowed,
		     const struct aq_refusal *why, const char *name);

/* api_resize.c: change it and answer, at once or when room was made. */
struct aqd_fraction_change;
void aqd_api_resize_to(struct aqd_call *call, struct aqd_fraction *f,
		       const struct aqd_fraction_change *change);

/* Try again those that wait. Return: somebody waits still. */
bool aqd_api_resizes_turn(struct aqd *d);
/* Devices on which room is being made for a larger request of somebody but @except. */
uint64_t aqd_api_resizes_claimed(const struct aqd *d, const struct aqd_fraction *except);
/* Nobody waits for this fraction any more; NULL: for any. */
void aqd_api_resizes_end(struct aqd *d, const struct aqd_fraction *f);

/* api_residency.c */
void aqd_api_park(struct aqd_call *call);
void aqd_api_resume(struct aqd_call *call);

/* api_event.c */
void aqd_api_events(struct aqd_call *call);
void aqd_api_events_finish(struct aqd *d);
uint32_t aqd_api_followers(const struct aqd *d);

/* metrics.c */
void aqd_api_metrics(struct aqd_call *call);

#endif /* AQ_DAEMON_API_H */
