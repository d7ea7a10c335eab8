/* SPDX-License-Identifier: Apache-2.0 */
/* What OpenAI-compatible servers answer: one event of a stream, or a whole body. Pure. */
#ifndef AQ_SERVE_ANSWER_H
#define AQ_SERVE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AQ_ANSWER_MESSAGE 160

struct aq_answer {
	bool has_text;         /* at least one token became text */
	bool is_error;         /* the server says that something went wrong; see message */
	uint32_t isl, osl;     /* the server's own count of tokens (usage); 0 it did not say */
	uint64_t stamp_ns;     /* `t=NANOSECONDS` in the text, which our own stub sends; 0 none */
	char message[AQ_ANSWER_MESSAGE]; /* of an error, else "" */
};

/**
 * aq_answer_event() - one event of a chat or text completion.
 * Return: 0; -EBADMSG no JSON object, or of another form than the API's
 */
int aq_answer_event(const char *data, size_t size, struct aq_answer *ret_answer);

/**
 * aq_answer_embedding() - the whole body of an embeddings answer; has_text: it has a vector.
 * Return: 0; -EBADMSG
 */
int aq_answer_embedding(const char *data, size_t size, struct aq_answer *ret_answer);

/* What a body that came with an HTTP error says, in one line: its message if it is JSON. */
void aq_answer_complaint(const char *data, size_t size, char message[AQ_ANSWER_MESSAGE]);

/* The first model that /v1/models lists. Return: 0; -EBADMSG; -ENOENT none; -ENAMETOOLONG. */
int aq_answer_model(const char *data, size_t size, char *buf, size_t buf_size);

#endif /* AQ_SERVE_ANSWER_H */
