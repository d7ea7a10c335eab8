/* SPDX-License-Identifier: Apache-2.0 */
/* The requests themselves: prompts of a wanted length that no cache has seen. */
#ifndef AQ_SERVE_PROMPT_H
#define AQ_SERVE_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "serve/target.h"

/* What all requests to a target have in common. */
struct aq_prompt {
	char *head;       /* request line and headers up to the length of the body */
	char *body_head;  /* up to the prompt */
	bool plain;
	enum aq_serve_api api;
};

/**
 * aq_prompt_init() - prepare for @t, whose model is known.
 * @headers: more lines, each ended by CR LF, or ""
 * @plain: only what OpenAI's own API has; else answers are asked not to end before @osl
 *         (`ignore_eos`, `min_tokens`: vLLM, SGLang and others)
 * Return: 0; -ENOMEM. Owns: aq_prompt_finish()
 */
int aq_prompt_init(struct aq_prompt *p, const struct aq_target *t, const char *headers, bool plain);
void aq_prompt_finish(struct aq_prompt *p);

/**
 * aq_prompt_make() - a whole HTTP request.
 * @isl: words in the prompt. Each is a frequent English word, which common tokenizers (of Llama 3,
 *       Qwen, GPT) know as one token; the server's own count, when it says one, is what is reported
 * @seed: of the words; the same seed gives the same bytes
 * @ret_text: caller frees
 * Return: 0; -ENOMEM
 */
int aq_prompt_make(const struct aq_prompt *p, uint32_t isl, uint32_t osl, uint64_t seed,
		   char **ret_text, size_t *ret_size);

#endif /* AQ_SERVE_PROMPT_H */
