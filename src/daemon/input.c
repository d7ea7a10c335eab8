/* SPDX-License-Identifier: Apache-2.0 */
/* One table-driven reader for what comes in as JSON. Knows no meaning. */
#include "daemon/input.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <aliquot/abi.h>

#include "base/name.h"
#include "base/banned.h"

static int read_text(const struct aqd_input *in, json_t *value, char *error, size_t size)
{
	size_t room = (size_t)in->max, length = json_string_length(value);
	const char *text = json_string_value(value);

	if (!text || strlen(text) != length) {
		snprintf(error, size, "'%s' must be a string", in->field);
		return -EINVAL;
	}
	if (length >= room) {
		snprintf(error, size, "'%s' must be shorter than %zu bytes", in->field, room);
		return -EINVAL;
	}
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
			snprintf(error, size, "'%s' must have no control characters", in->field);
			return -EINVAL;
		}
	memcpy(in->to, text, length + 1);
	return 0;
}

static int read_name(const struct aqd_input *in, json_t *value, char *error, size_t size)
{
	const char *text = json_string_value(value);

	if (!text || strlen(text) != json_string_length(value) || !aq_name_valid(text)) {
		snprintf(error, size,
			 "'%s' must be 1 to 63 letters, digits, '.', '_' or '-', the first a "
			 "letter or digit",
			 in->field);
		return -EINVAL;
	}
	snprintf(in->to, AQ_NAME_BYTES, "%s", text);
	return 0;
}

static int read_field(const struct aqd_input *in, json_t *value, char *error, size_t size)
{
	switch (in->kind) {
	case AQD_INPUT_INT:
		if (!json_is_integer(value) || json_integer_value(value) < in->min ||
		    json_integer_value(value) > in->max) {
			snprintf(error, size,
				 "'%s' must be a whole number from %" PRId64 " to %" PRId64,
				 in->field, in->min, in->max);
			return -EINVAL;
		}
		*(int64_t *)in->to = json_integer_value(value);
		return 0;
	case AQD_INPUT_BOOL:
		if (!json_is_boolean(value)) {
			snprintf(error, size, "'%s' must be true or false", in->field);
			return -EINVAL;
		}
		*(bool *)in->to = json_is_true(value);
		return 0;
	case AQD_INPUT_TEXT:
		return read_text(in, value, error, size);
	case AQD_INPUT_NAME:
		return read_name(in, value, error, size);
	}
	return -EINVAL;
}

int aqd_input_read(json_t *object, const struct aqd_input *inputs, size_t count, char *error,
		   size_t size)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		size_t i;
		int r;

		for (i = 0; i < count; i++)
			if (!strcmp(key, inputs[i].field))
				break;
		if (i == count) {
			snprintf(error, size, "unknown field '%.40s'", key);
			return -EINVAL;
		}
		r = read_field(&inputs[i], value, error, size);
		if (r < 0)
			return r;
	}
	return 0;
}
