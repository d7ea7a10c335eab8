/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens of PTX text: splits it, and knows no directive. */
#ifndef AQ_SIM_PTX_LEX_H
#define AQ_SIM_PTX_LEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_token {
	SIM_TOK_END,
	SIM_TOK_WORD, /* name, number, directive with its dot, or whole instruction mnemonic */
	SIM_TOK_STRING,
	SIM_TOK_CHAR,
};

/* Part of the text; not terminated. */
struct sim_span {
	const char *at;
	size_t len;
};

struct sim_lex {
	const char *at, *end;
	uint32_t line; /* of @at, from 1 */
	enum sim_token tok;
	struct sim_span word; /* text of the token */
};

/* Reads the next token into @l->tok and @l->word; at the end again and again SIM_TOK_END. */
void sim_lex_next(struct sim_lex *l);

/* Whether the present token is @text. */
bool sim_lex_is(const struct sim_lex *l, const char *text);

bool sim_span_is(struct sim_span s, const char *text);

/* Value of an integer literal: decimal, 0x, 0b, 0 (octal), with an optional U. -EINVAL for others.
 */
int sim_lex_u64(struct sim_span s, uint64_t *ret_value);

#endif /* AQ_SIM_PTX_LEX_H */
