/* SPDX-License-Identifier: Apache-2.0 */
/* Reads requests; see ask.h. Options that change no cost (temperature, ...) are not looked at. */
#include "bench/llm/ask.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/banned.h"

#define DEFAULT_TOKENS 16u /* of a completion. Source: OpenAI API reference, max_tokens */

static int refuse(struct llm_ask_error *error, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct llm_ask_error *error, int status, const char *format, ...)
{
	va_list ap;

	error->status = status;
	va_start(ap, format);
	vsnprintf(error->text, sizeof(error->text), format, ap);
	va_end(ap);
	return -EINVAL;
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

uint32_t llm_words(const char *text)
{
	uint32_t n = 0;
	bool inside = false;

	for (; *text; text++) {
		bool word = !is_blank(*text);

		n += word && !inside && n < UINT32_MAX;
		inside = word;
	}
	return n;
}

/* Tokens of a text, or of an array of their numbers; 0: neither. */
static uint32_t tokens_of(const json_t *value)
{
	const char *text = json_string_value(value);
	const json_t *item;
	size_t i;

	if (text)
		return llm_words(text);
	json_array_foreach(value, i, item) if (!json_is_integer(item) ||
					       json_integer_value(item) < 0) return 0;
	return json_array_size(value) < UINT32_MAX ? (uint32_t)json_array_size(value) : 0;
}

/* One text, one array of numbers, or an array of such. */
static int read_inputs(const json_t *value, const char *name, uint32_t max_inputs,
		       struct llm_ask *a, struct llm_ask_error *error)
{
	const json_t *first = json_array_get(value, 0), *item;
	size_t i;

	if (!value)
		return refuse(error, 400, "'%s' is missing", name);
	if (!first || json_is_integer(first)) {
		a->n_inputs = 1;
		a->prompts[0] = tokens_of(value);
	} else {
		if (json_array_size(value) > max_inputs)
			return refuse(error, 400, "'%s' may have at most %u texts", name,
				      max_inputs);
		a->n_inputs = (uint32_t)json_array_size(value);
		json_array_foreach(value, i, item) a->prompts[i] = tokens_of(item);
	}
	for (i = 0; i < a->n_inputs; i++)
		if (!a->prompts[i])
			return refuse(error, 400,
				      "'%s' must be text with at least one word, or token numbers",
				      name);
	return 0;
}

/* The content of a message is a text, or a list of parts of which those of text count. */
static uint32_t content_words(const json_t *content)
{
	const char *text = json_string_value(content);
	const json_t *part;
	uint32_t n = text ? llm_words(text) : 0;
	size_t i;

	json_array_foreach(content, i, part)
	{
		text = json_string_value(json_object_get(part, "text"));
		n += text ? llm_words(text) : 0;
	}
	return n;
}

static int read_messages(const json_t *messages, struct llm_ask *a, struct llm_ask_error *error)
{
	const json_t *message;
	uint64_t n = 0;
	size_t i;

	if (!json_array_size(messages))
		return refuse(error, 400, "'messages' must be a list of at least one message");
	json_array_foreach(messages, i, message)
	{
		if (!json_is_string(json_object_get(message, "role")))
			return refuse(error, 400, "message %zu has no 'role'", i);
		n += content_words(json_object_get(message, "content"));
	}
	if (!n || n > UINT32_MAX)
		return refuse(error, 400, "'messages' must have text");
	a->n_inputs = 1;
	a->prompts[0] = (uint32_t)n;
	return 0;
}

static int read_bool(const json_t *o, const char *name, bool *ret, struct llm_ask_error *error)
{
	const json_t *v = json_object_get(o, name);

	*ret = json_is_true(v);
	if (v && !json_is_boolean(v) && !json_is_null(v))
		return refuse(error, 400, "'%s' must be true or false", name);
	return 0;
}

/* Only one answer is given. */
static int check_one(const json_t *o, const char *name, struct llm_ask_error *error)
{
	const json_t *v = json_object_get(o, name);

	if (v && !json_is_null(v) && json_integer_value(v) != 1)
		return refuse(error, 400, "'%s' must be 1", name);
	return 0;
}

static int read_max_tokens(const json_t *o, const struct llm_ask_limits *limits, struct llm_ask *a,
			   struct llm_ask_error *error)
{
	const json_t *v = json_object_get(o, "max_completion_tokens");
	uint32_t left = limits->max_tokens - a->prompts[0];
	json_int_t asked;

	if (!v || json_is_null(v))
		v = json_object_get(o, "max_tokens");
	if (!v || json_is_null(v)) {
		a->max_tokens =
			a->kind == LLM_ASK_CHAT || left < DEFAULT_TOKENS ? left : DEFAULT_TOKENS;
		return 0;
	}
	if (!json_is_integer(v) || json_integer_value(v) < 1)
		return refuse(error, 400, "'max_tokens' must be a whole number of at least 1");
	asked = json_integer_value(v);
	if (asked > left)
		return refuse(error, 400,
			      "This model's maximum context length is %u tokens; you asked for "
			      "%llu (%u of the prompt, %lld to generate)",
			      limits->max_tokens, (unsigned long long)asked + a->prompts[0],
			      a->prompts[0], (long long)asked);
	a->max_tokens = (uint32_t)asked;
	return 0;
}

static int read_model(const json_t *o, const struct llm_ask_limits *limits,
		      struct llm_ask_error *error)
{
	const json_t *v = json_object_get(o, "model");
	const char *name = json_string_value(v);

	if (!v || json_is_null(v))
		return 0;
	if (!name)
		return refuse(error, 400, "'model' must be text");
	if (strcmp(name, limits->model) && strcmp(name, limits->hf))
		return refuse(error, 404, "The model `%.100s` does not exist.", name);
	return 0;
}

static int check_prompts(const struct llm_ask_limits *limits, struct llm_ask *a,
			 struct llm_ask_error *error)
{
	uint32_t needed = limits->embedding ? 0 : 1; /* a token has to follow */

	for (uint32_t i = 0; i < a->n_inputs; i++)
		if ((uint64_t)a->prompts[i] + needed > limits->max_tokens)
			return refuse(error, 400,
				      "This model's maximum context length is %u tokens; the "
				      "prompt has %u",
				      limits->max_tokens, a->prompts[i]);
	return 0;
}

static int read_generation(const json_t *o, const struct llm_ask_limits *limits, struct llm_ask *a,
			   struct llm_ask_error *error)
{
	const json_t *options = json_object_get(o, "stream_options");
	int r = read_max_tokens(o, limits, a, error);

	if (r == 0)
		r = read_bool(o, "stream", &a->stream, error);
	if (r == 0)
		r = read_bool(o, "ignore_eos", &a->ignore_eos, error);
	if (r == 0)
		r = check_one(o, "n", error);
	if (r == 0)
		r = check_one(o, "best_of", error);
	if (r == 0 && options && !json_is_object(options) && !json_is_null(options))
		r = refuse(error, 400, "'stream_options' must be an object");
	if (r == 0)
		r = read_bool(options, "include_usage", &a->include_usage, error);
	return r;
}

static int read_object(const json_t *o, const struct llm_ask_limits *limits, struct llm_ask *a,
		       struct llm_ask_error *error)
{
	int r;

	if (!json_is_object(o))
		return refuse(error, 400, "the body must be a JSON object");
	if (limits->embedding != (a->kind == LLM_ASK_EMBEDDING))
		return refuse(error, 400, "%s does not support this API", limits->model);
	r = read_model(o, limits, error);
	if (r < 0)
		return r;
	if (a->kind == LLM_ASK_CHAT)
		r = read_messages(json_object_get(o, "messages"), a, error);
	else if (a->kind == LLM_ASK_EMBEDDING)
		r = read_inputs(json_object_get(o, "input"), "input", LLM_MAX_INPUTS, a, error);
	else
		r = read_inputs(json_object_get(o, "prompt"), "prompt", 1, a, error);
	if (r == 0)
		r = check_prompts(limits, a, error);
	if (r == 0 && a->kind != LLM_ASK_EMBEDDING)
		r = read_generation(o, limits, a, error);
	return r;
}

int llm_ask_parse(enum llm_ask_kind kind, const char *body, size_t bytes,
		  const struct llm_ask_limits *limits, struct llm_ask *ret,
		  struct llm_ask_error *error)
{
	json_error_t why;
	json_t *o = json_loadb(body ? body : "", body ? bytes : 0, JSON_REJECT_DUPLICATES, &why);
	int r;

	*ret = (struct llm_ask){.kind = kind};
	if (!o)
		return refuse(error, 400, "the body is not JSON: %s", why.text);
	r = read_object(o, limits, ret, error);
	json_decref(o);
	return r;
}
