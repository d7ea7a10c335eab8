/* SPDX-License-Identifier: Apache-2.0 */
/* Names of fractions and projects, and UUIDs of devices: what is allowed, and how they print. */
#ifndef AQ_BASE_NAME_H
#define AQ_BASE_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AQ_UUID_TEXT 41 /* "GPU-" and 36 characters and NUL */

/* A letter or digit, then letters, digits, `.`, `_`, `-`; 1 to 63 characters. */
bool aq_name_valid(const char *name);

/* Write @uuid as `GPU-8-4-4-4-12` into @buf of AQ_UUID_TEXT. Returns @buf. */
char *aq_uuid_format(const uint8_t uuid[16], char *buf);

/* `GPU-...` or the bare 36 characters, case ignored. Return: 0 or -EINVAL. */
int aq_uuid_parse(const char *text, uint8_t ret_uuid[16]);

/* Copy @src into @dst of @size bytes, cut to fit, padded with NUL to the end (wire and page). */
void aq_copy_padded(char *dst, size_t size, const char *src);

#endif /* AQ_BASE_NAME_H */
