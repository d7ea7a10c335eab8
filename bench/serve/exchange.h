/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request after another over one connection, and when their tokens arrived. One thread.
 *
 * A token's time is the kernel's: the moment at which its packet was received (SO_TIMESTAMPNS), not
 * the one at which this process came to read it. So a server that sends a token to each of 1,000
 * users at once is timed rightly, although the last of them is read milliseconds later. That is why
 * these are plain events and not bufferevents, which would throw the stamps away.
 */
#ifndef AQ_SERVE_EXCHANGE_H
#define AQ_SERVE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "cli/http.h"
#include "serve/answer.h"
#include "serve/failure.h"
#include "serve/hist.h"
#include "serve/sse.h"
#include "serve/target.h"

#define AQ_BODY_BYTES (16u << 20) /* longest answer that is no stream */

struct aq_limits {
	uint64_t connect_ns, first_ns, stall_ns, request_ns; /* none is 0: nothing waits for ever */
};

/* What the exchanges of a loop share. */
struct aq_wire {
	struct event_base *base;
	struct aq_limits limits;
	char *read_bytes;
	int64_t realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
	struct aq_hist *lag;        /* arrival until read here */
	uint64_t unstamped;         /* reads that the kernel gave no time for: taken as now */
	uint64_t reconnects;        /* idle connections that a server had closed */
};

/* Return: 0 or -ENOMEM. Owns: aq_wire_finish(); @base stays the caller's. */
int aq_wire_init(struct aq_wire *w, struct event_base *base, const struct aq_limits *limits);
void aq_wire_finish(struct aq_wire *w);

/* Look at both clocks again; to be called some times a second. */
void aq_wire_tick(struct aq_wire *w);

enum aq_exchange_state {
	AQ_EXCHANGE_IDLE, /* perhaps connected */
	AQ_EXCHANGE_CONNECTING,
	AQ_EXCHANGE_WAITING,   /* for the first token */
	AQ_EXCHANGE_STREAMING,
	AQ_EXCHANGE_TAIL,      /* [DONE] was there, the end of the body not yet */
};

struct aq_exchange;

struct aq_exchange_ops {
	/* Text arrived, or the server's counts, or both. */
	void (*answer)(struct aq_exchange *x, const struct aq_answer *a, uint64_t arrival_ns);
	/**
	 * The request is over, at @now_ns; the exchange is idle and may be started again.
	 * @why: for a failure what the server or system said, else ""
	 */
	void (*end)(struct aq_exchange *x, enum aq_end end, uint64_t now_ns, const char *why);
};

struct aq_exchange {
	struct aq_wire *wire;
	const struct aq_target *target;
	const struct aq_exchange_ops *ops;
	void *arg; /* the owner's */
	enum aq_exchange_state state;
	int fd;
	struct event readable, writable;
	bool reused;        /* the connection has served a request before */
	bool done;          /* [DONE] was seen */
	char *out;          /* the request, kept until it is over */
	size_t out_size, out_at;
	char *body;         /* of an answer that is no stream */
	size_t body_size, body_room;
	uint32_t osl, chunks; /* tokens asked for; events with text */
	uint64_t start_ns;   /* of the request, or of its second try */
	uint64_t last_ns;    /* last token */
	uint64_t arrival_ns; /* what is being read */
	uint64_t done_ns;    /* [DONE] */
	uint64_t received;   /* bytes of this answer */
	struct aq_http_reader http;
	struct aq_sse sse;
	char why[AQ_ANSWER_MESSAGE];
};

void aq_exchange_init(struct aq_exchange *x, struct aq_wire *wire, const struct aq_target *target,
		      const struct aq_exchange_ops *ops, void *arg);
void aq_exchange_finish(struct aq_exchange *x);

/**
 * aq_exchange_start() - send a request; the exchange is idle. May call ops->end before it returns.
 * @text: of aq_prompt_make(); taken over
 * @osl: tokens that it asks for
 */
void aq_exchange_start(struct aq_exchange *x, char *text, size_t size, uint32_t osl,
		       uint64_t now_ns);

/* End it if one of the limits is over; to be called some times a second. */
void aq_exchange_sweep(struct aq_exchange *x, uint64_t now_ns);

/* The run is over: end a request with AQ_END_CUT, and the connection. */
void aq_exchange_cut(struct aq_exchange *x, uint64_t now_ns);

#endif /* AQ_SERVE_EXCHANGE_H */
