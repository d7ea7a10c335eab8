/* SPDX-License-Identifier: Apache-2.0 */
/* Understands answers' JSON. Knows no time and no connection. */
#include "serve/answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/banned.h"

static uint32_t count_of(const json_t *usage, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(usage, key));

	return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static void take_usage(const json_t *root, struct aq_answer *a)
{
	const json_t *usage = json_object_get(root, "usage"); /* null in most events */

	a->isl = count_of(usage, "prompt_tokens");
	a->osl = count_of(usage, "completion_tokens");
}

/* One line, whatever is in it. */
static void set_message(char message[AQ_ANSWER_MESSAGE], const char *text, size_t size)
{
	size_t n = size < AQ_ANSWER_MESSAGE - 1 ? size : AQ_ANSWER_MESSAGE - 1;

	for (size_t i = 0; i < n; i++)
		message[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
	message[n] = '\0';
}

/* {"error": {"message": "..."}}, {"error": "..."}, {"message": "..."}, {"detail": "..."} */
static const char *message_of(const json_t *root)
{
	static const char *const keys[] = {"error", "message", "detail", NULL};
	const json_t *error = json_object_get(root, "error");

	if (json_is_object(error))
		root = error;
	for (size_t i = 0; keys[i]; i++) {
		const char *text = json_string_value(json_object_get(root, keys[i]));

		if (text)
			return text;
	}
	return NULL;
}

static bool take_error(const json_t *root, struct aq_answer *a)
{
	const json_t *error = json_object_get(root, "error");
	const char *text;

	if (!error || json_is_null(error))
		return false;
	text = message_of(root);
	a->is_error = true;
	if (text)
		set_message(a->message, text, strlen(text));
	return true;
}

/* delta.content, delta.reasoning_content or text of a choice; NULL none, which is no fault. */
static const char *text_of(const json_t *choice)
{
	const json_t *delta = json_object_get(choice, "delta");
	const char *text = json_string_value(json_object_get(choice, "text"));

	if (!text || !*text)
		text = json_string_value(json_object_get(delta, "content"));
	if (!text || !*text)
		text = json_string_value(json_object_get(delta, "reasoning_content"));
	return text;
}

static int take_event(const json_t *root, struct aq_answer *a)
{
	const json_t *choices = json_object_get(root, "choices");
	const char *text;

	if (!json_is_object(root))
		return -EBADMSG;
	if (take_error(root, a))
		return 0;
	if (!json_is_array(choices))
		return -EBADMSG;
	text = text_of(json_array_get(choices, 0));
	a->has_text = text && *text;
	if (a->has_text && text[0] == 't' && text[1] == '=')
		a->stamp_ns = strtoull(text + 2, NULL, 10);
	take_usage(root, a);
	return 0;
}

int aq_answer_event(const char *data, size_t size, struct aq_answer *ret_answer)
{
	struct aq_answer a = {.has_text = false};
	json_t *root = json_loadb(data, size, 0, NULL);
	int r = take_event(root, &a);

	json_decref(root);
	if (!r)
		*ret_answer = a;
	return r;
}

static int take_embedding(const json_t *root, struct aq_answer *a)
{
	const json_t *first = json_array_get(json_object_get(root, "data"), 0);
	const json_t *vector = json_object_get(first, "embedding");

	if (!json_is_object(root))
		return -EBADMSG;
	if (take_error(root, a))
		return 0;
	/* A string is base64, which servers choose for short. */
	a->has_text = json_array_size(vector) || json_string_length(vector);
	take_usage(root, a);
	return a->has_text ? 0 : -EBADMSG;
}

int aq_answer_embedding(const char *data, size_t size, struct aq_answer *ret_answer)
{
	struct aq_answer a = {.has_text = false};
	json_t *root = json_loadb(data, size, 0, NULL);
	int r = take_embedding(root, &a);

	json_decref(root);
	if (!r)
		*ret_answer = a;
	return r;
}

void aq_answer_complaint(const char *data, size_t size, char message[AQ_ANSWER_MESSAGE])
{
	json_t *root = json_loadb(data, size, 0, NULL);
	const char *text = message_of(root);

	set_message(message, text ? text : data, text ? strlen(text) : size);
	json_decref(root);
}

int aq_answer_model(const char *data, size_t size, char *buf, size_t buf_size)
{
	json_t *root = json_loadb(data, size, 0, NULL);
	const json_t *models = json_object_get(root, "data");
	const char *id = json_string_value(json_object_get(json_array_get(models, 0), "id"));
	int r = 0;

	if (!json_is_array(models))
		r = -EBADMSG;
	else if (!id)
		r = -ENOENT;
	else if ((size_t)snprintf(buf, buf_size, "%s", id) >= buf_size)
		r = -ENAMETOOLONG;
	json_decref(root);
	return r;
}
