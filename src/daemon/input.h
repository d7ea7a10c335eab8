/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the fields of a JSON object into variables, and refuses what is not expected. */
#ifndef AQ_DAEMON_INPUT_H
#define AQ_DAEMON_INPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum aqd_input_kind {
	AQD_INPUT_INT,	/* to int64_t, min..max */
	AQD_INPUT_BOOL, /* to bool */
	AQD_INPUT_TEXT, /* to char[max]; must fit, without control characters */
	AQD_INPUT_NAME, /* to char[AQ_NAME_BYTES], aq_name_valid() */
};

struct aqd_input {
	const char *field;
	enum aqd_input_kind kind;
	void *to; /* untouched when the field is absent */
	int64_t min, max;
};

/**
 * aqd_input_read() - every field of @object must be one of @inputs and be as it says.
 * @error: of @size; one line when it is not
 * Return: 0; -EINVAL
 */
int aqd_input_read(json_t *object, const struct aqd_input *inputs, size_t count, char *error,
		   size_t size);

#endif /* AQ_DAEMON_INPUT_H */
