/* SPDX-License-Identifier: Apache-2.0 */
/* Writes requests. Sends nothing. */
#include "serve/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "serve/random.h"
#include "base/banned.h"

#define WORD_BYTES 8 /* longest word, and the blank behind it */
#define TAIL_BYTES 256

/* 64, so that six random bits choose one. */
static const char *const words[64] = {
	"time",  "year", "way",   "day",   "man",   "thing", "woman", "life",  "child", "world",
	"school", "state", "family", "group", "country", "hand", "part", "place", "case", "week",
	"work",  "point", "home", "water", "room",  "mother", "area", "money", "story", "fact",
	"month", "lot",  "right", "study", "book",  "eye",   "job",   "word",  "issue", "side",
	"kind",  "head", "house", "friend", "father", "power", "hour", "game", "line", "end",
	"member", "law", "car",   "city",  "name",  "team",  "minute", "idea", "kid", "body",
	"back",  "parent", "face", "level",
};

static const char *endpoint_of(enum aq_serve_api api)
{
	static const char *const paths[] = {"/chat/completions", "/completions", "/embeddings"};

	return paths[api];
}

/* Up to where the words begin, inside a string. */
static int make_body_head(struct aq_prompt *p, const struct aq_target *t)
{
	json_t *model = json_string(t->model);
	char *quoted = model ? json_dumps(model, JSON_ENCODE_ANY) : NULL;
	int n = -1;

	json_decref(model);
	if (!quoted)
		return -ENOMEM;
	switch (t->api) {
	case AQ_SERVE_CHAT:
		n = asprintf(&p->body_head,
			     "{\"model\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"",
			     quoted);
		break;
	case AQ_SERVE_COMPLETIONS:
		n = asprintf(&p->body_head, "{\"model\":%s,\"prompt\":\"", quoted);
		break;
	case AQ_SERVE_EMBEDDINGS:
		n = asprintf(&p->body_head, "{\"model\":%s,\"input\":\"", quoted);
		break;
	}
	free(quoted);
	if (n < 0)
		p->body_head = NULL;
	return n < 0 ? -ENOMEM : 0;
}

int aq_prompt_init(struct aq_prompt *p, const struct aq_target *t, const char *headers, bool plain)
{
	bool six = strchr(t->host, ':');

	*p = (struct aq_prompt){.plain = plain, .api = t->api};
	if (asprintf(&p->head,
		     "POST %s%s HTTP/1.1\r\nHost: %s%s%s:%u\r\n"
		     "User-Agent: aliquot-bench/" AQ_VERSION "\r\n"
		     "Content-Type: application/json\r\nAccept: %s\r\n%sContent-Length: ",
		     t->path, endpoint_of(t->api), six ? "[" : "", t->host, six ? "]" : "", t->port,
		     t->api == AQ_SERVE_EMBEDDINGS ? "application/json" : "text/event-stream",
		     headers) < 0) {
		p->head = NULL;
		return -ENOMEM;
	}
	if (make_body_head(p, t) < 0) {
		aq_prompt_finish(p);
		return -ENOMEM;
	}
	return 0;
}

void aq_prompt_finish(struct aq_prompt *p)
{
	free(p->head);
	free(p->body_head);
	p->head = p->body_head = NULL;
}

/* Return: bytes, without NUL. */
static size_t make_words(char *at, uint32_t count, uint64_t seed)
{
	struct aq_random random;
	const char *begin = at;
	uint64_t bits = 0;

	aq_random_seed(&random, seed, 0);
	for (uint32_t i = 0; i < count; i++) {
		size_t n;

		if (i % 10 == 0)
			bits = aq_random_next(&random);
		n = strlen(words[bits & 63]);
		memcpy(at, words[bits & 63], n);
		at += n;
		*at++ = ' ';
		bits >>= 6;
	}
	return (size_t)(at - begin) - (count > 0);
}

static size_t make_tail(const struct aq_prompt *p, char *at, uint32_t osl)
{
	int n;

	if (p->api == AQ_SERVE_EMBEDDINGS)
		return (size_t)snprintf(at, TAIL_BYTES, "\"}");
	n = snprintf(at, TAIL_BYTES,
		     "\"%s,\"max_tokens\":%u,\"temperature\":0,\"stream\":true,"
		     "\"stream_options\":{\"include_usage\":true}",
		     p->api == AQ_SERVE_CHAT ? "}]" : "", osl);
	if (!p->plain)
		n += snprintf(at + n, TAIL_BYTES - (size_t)n,
			      ",\"ignore_eos\":true,\"min_tokens\":%u", osl);
	n += snprintf(at + n, TAIL_BYTES - (size_t)n, "}");
	return (size_t)n;
}

int aq_prompt_make(const struct aq_prompt *p, uint32_t isl, uint32_t osl, uint64_t seed,
		   char **ret_text, size_t *ret_size)
{
	size_t body_head = strlen(p->body_head), size;
	AQ_CLEANUP(free) char *body =
		malloc(body_head + (size_t)isl * WORD_BYTES + TAIL_BYTES);
	char *text;
	int head;

	if (!body)
		return -ENOMEM;
	memcpy(body, p->body_head, body_head);
	size = body_head;
	size += make_words(body + size, isl, seed);
	size += make_tail(p, body + size, osl);

	text = malloc(strlen(p->head) + 32 + size);
	if (!text)
		return -ENOMEM;
	head = snprintf(text, strlen(p->head) + 32, "%s%zu\r\n\r\n", p->head, size);
	memcpy(text + head, body, size);
	*ret_text = text;
	*ret_size = (size_t)head + size;
	return 0;
}
