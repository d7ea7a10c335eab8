/* SPDX-License-Identifier: Apache-2.0 */
/* Reading members of JSON objects that may lack them, and printing what --json prints. */
#ifndef AQ_CLI_JSON_H
#define AQ_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <jansson.h>

/* Absent, null or of another type reads as 0; so does a negative number as unsigned. */
static inline int64_t aq_json_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static inline uint64_t aq_json_uint(const json_t *object, const char *key)
{
	int64_t value = aq_json_int(object, key);

	return value < 0 ? 0 : (uint64_t)value;
}

static inline const char *aq_json_text(const json_t *object, const char *key, const char *otherwise)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : otherwise;
}

static inline bool aq_json_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* Of a fraction, for people: the API calls one that is only kept for a while "running" still. */
static inline const char *aq_json_state(const json_t *fraction)
{
	const char *state = aq_json_text(fraction, "state", "?");

	if (strcmp(state, "running") || aq_json_int(fraction, "holder_pid") ||
	    json_array_size(json_object_get(fraction, "clients")))
		return state;
	return "ended";
}

/* Pretty, members in the order in which they came, with a newline. Return: an exit status. */
static inline int aq_json_print(const json_t *value)
{
	int r = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);

	return putchar('\n') == EOF || r < 0;
}

#endif /* AQ_CLI_JSON_H */
