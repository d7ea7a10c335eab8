/* SPDX-License-Identifier: Apache-2.0 */
/* Checks names and converts UUIDs. Does not know which names exist. */
#include "base/name.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NAME_MAX_CHARS 63

bool aq_name_valid(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++) {
		unsigned char c = (unsigned char)name[n];

		if (n == NAME_MAX_CHARS || c >= 0x80)
			return false;
		if (!isalnum(c) && (!n || !strchr("._-", c)))
			return false;
	}
	return n > 0;
}

char *aq_uuid_format(const uint8_t u[16], char *buf)
{
	snprintf(buf, AQ_UUID_TEXT,
		 "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
		 u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
		 u[14], u[15]);
	return buf;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int aq_uuid_parse(const char *text, uint8_t ret_uuid[16])
{
	uint8_t uuid[16];
	unsigned int nibble = 0;

	if (!strncasecmp(text, "GPU-", 4))
		text += 4;
	for (unsigned int i = 0; i < 36; i++) {
		int v;

		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return -EINVAL;
			continue;
		}
		v = hex_value(text[i]);
		if (v < 0)
			return -EINVAL;
		if (nibble % 2)
			uuid[nibble / 2] = (uint8_t)(uuid[nibble / 2] | v);
		else
			uuid[nibble / 2] = (uint8_t)(v << 4);
		nibble++;
	}
	if (text[36])
		return -EINVAL;
	memcpy(ret_uuid, uuid, sizeof(uuid));
	return 0;
}

void aq_copy_padded(char *dst, size_t size, const char *src)
{
	size_t n = strnlen(src, size - 1);

	memcpy(dst, src, n);
	memset(dst + n, 0, size - n);
}
