/* SPDX-License-Identifier: Apache-2.0 */
/* Splits PTX text into tokens, without comments; see ptx_lex.h. */
#include "ptx_lex.h"

#include <errno.h>
#include <string.h>

#include "base/banned.h"

static bool is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '$' || c == '%' || c == '.';
}

static void skip_space(struct sim_lex *l)
{
	while (l->at < l->end) {
		char c = *l->at;

		if (c == '\n') {
			l->line++;
			l->at++;
		} else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
			l->at++;
		} else if (c == '/' && l->end - l->at > 1 && l->at[1] == '/') {
			while (l->at < l->end && *l->at != '\n')
				l->at++;
		} else if (c == '/' && l->end - l->at > 1 && l->at[1] == '*') {
			l->at += 2;
			while (l->at < l->end &&
			       !(l->end - l->at > 1 && l->at[0] == '*' && l->at[1] == '/')) {
				if (*l->at == '\n')
					l->line++;
				l->at++;
			}
			l->at = l->end - l->at > 1 ? l->at + 2 : l->end;
		} else {
			return;
		}
	}
}

void sim_lex_next(struct sim_lex *l)
{
	skip_space(l);
	l->word.at = l->at;
	l->word.len = 0;
	if (l->at >= l->end) {
		l->tok = SIM_TOK_END;
		return;
	}

	if (is_word_char(*l->at)) {
		while (l->at < l->end && is_word_char(*l->at))
			l->at++;
		l->tok = SIM_TOK_WORD;
	} else if (*l->at == '"') {
		l->at++;
		while (l->at < l->end && *l->at != '"' && *l->at != '\n')
			l->at++;
		if (l->at < l->end && *l->at == '"')
			l->at++;
		l->tok = SIM_TOK_STRING;
	} else {
		l->at++;
		l->tok = SIM_TOK_CHAR;
	}
	l->word.len = (size_t)(l->at - l->word.at);
}

bool sim_span_is(struct sim_span s, const char *text)
{
	return s.len == strlen(text) && !memcmp(s.at, text, s.len);
}

bool sim_lex_is(const struct sim_lex *l, const char *text)
{
	return l->tok != SIM_TOK_END && sim_span_is(l->word, text);
}

int sim_lex_u64(struct sim_span s, uint64_t *ret_value)
{
	unsigned int base = 10, digit;
	uint64_t value = 0;
	size_t i = 0;

	if (s.len && (s.at[s.len - 1] == 'U'))
		s.len--;
	if (s.len > 2 && s.at[0] == '0' && (s.at[1] == 'x' || s.at[1] == 'X')) {
		base = 16;
		i = 2;
	} else if (s.len > 2 && s.at[0] == '0' && (s.at[1] == 'b' || s.at[1] == 'B')) {
		base = 2;
		i = 2;
	} else if (s.len > 1 && s.at[0] == '0') {
		base = 8;
		i = 1;
	}
	if (i >= s.len)
		return -EINVAL;
	for (; i < s.len; i++) {
		char c = s.at[i];

		if (c >= '0' && c <= '9')
			digit = (unsigned int)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			digit = (unsigned int)((c | 32) - 'a' + 10);
		else
			return -EINVAL;
		if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
		    __builtin_add_overflow(value, digit, &value))
			return -EINVAL;
	}
	*ret_value = value;
	return 0;
}
