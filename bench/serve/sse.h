/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events, as they come in. Pure. Only the data of events is handed on: names, ids and
 * retry times are read over, as OpenAI's API gives them no meaning.
 * Source: HTML living standard, 9.2.6 "Interpreting an event stream".
 */
#ifndef AQ_SERVE_SSE_H
#define AQ_SERVE_SSE_H

#include <stdbool.h>
#include <stddef.h>

#define AQ_SSE_EVENT_BYTES (1u << 20) /* longest line and longest data of one event */

/**
 * One event's data, its lines joined by newlines, NUL behind it; not empty.
 * Valid during the call. Return: 0; anything else ends aq_sse_feed() and is its result.
 */
typedef int (*aq_sse_take)(void *arg, const char *data, size_t size);

struct aq_sse {
	aq_sse_take take;
	void *arg;
	char *line, *data;
	size_t line_size, line_room, data_size, data_room;
	bool has_data;  /* a data field was seen since the last event */
	bool was_cr;    /* the last byte ended a line as CR: a LF behind it is part of that end */
	bool begun;     /* the first line is behind us: no byte order mark may come */
};

void aq_sse_init(struct aq_sse *s, aq_sse_take take, void *arg);
void aq_sse_finish(struct aq_sse *s);

/* Ready for the next stream; keeps memory. */
void aq_sse_reset(struct aq_sse *s);

/* Return: 0; -EMSGSIZE longer than AQ_SSE_EVENT_BYTES; -ENOMEM; what aq_sse_take returned. */
int aq_sse_feed(struct aq_sse *s, const char *bytes, size_t size);

/* Ended in the middle of an event, which the standard throws away? */
bool aq_sse_torn(const struct aq_sse *s);

#endif /* AQ_SERVE_SSE_H */
