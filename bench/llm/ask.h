/* SPDX-License-Identifier: Apache-2.0 */
/* What a client asks for: bodies of OpenAI's API, checked against limits. Pure. */
#ifndef AQ_BENCH_LLM_ASK_H
#define AQ_BENCH_LLM_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LLM_MAX_INPUTS 256u /* texts in one request for embeddings */

enum llm_ask_kind { LLM_ASK_COMPLETION, LLM_ASK_CHAT, LLM_ASK_EMBEDDING };

struct llm_ask {
	enum llm_ask_kind kind;
	uint32_t n_inputs;		  /* 1 but for embeddings */
	uint32_t prompts[LLM_MAX_INPUTS]; /* tokens of each, at least 1 */
	uint32_t max_tokens;		  /* to generate; prompt + max_tokens fit into the limit */
	bool stream;
	bool include_usage;
	bool ignore_eos;
};

struct llm_ask_limits {
	const char *model, *hf; /* names that are served */
	uint32_t max_tokens;	/* prompt and generated */
	bool embedding;		/* serves embeddings, and nothing else */
};

struct llm_ask_error {
	int status; /* of HTTP: 400, 404 */
	char text[256];
};

/**
 * llm_ask_parse() - read a body.
 * A prompt is as long as it has words, or, given as numbers of tokens, as there are numbers.
 * @ret: filled whatever happens; valid on success
 * Return: 0; -EINVAL: @error is filled
 */
int llm_ask_parse(enum llm_ask_kind kind, const char *body, size_t bytes,
		  const struct llm_ask_limits *limits, struct llm_ask *ret,
		  struct llm_ask_error *error);

/* Words between blanks, at most UINT32_MAX. */
uint32_t llm_words(const char *text);

#endif /* AQ_BENCH_LLM_ASK_H */
