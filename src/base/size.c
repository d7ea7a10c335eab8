/* SPDX-License-Identifier: Apache-2.0 */
/* Parses what people type as numbers with units. Knows no locale, no signs and no exponents. */
#include "base/size.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/timing.h"

#define MAX_DECIMALS 9

/* digits[.digits]: value and fraction in units of 10^-MAX_DECIMALS; advances *text. */
static int parse_decimal(const char **text, uint64_t *ret_whole, uint64_t *ret_billionths)
{
	const char *p = *text;
	uint64_t whole = 0, part = 0;
	unsigned int digits = 0, decimals = 0;

	for (; isdigit((unsigned char)*p); p++, digits++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return -ERANGE;
	if (*p == '.') {
		for (p++; isdigit((unsigned char)*p); p++, decimals++) {
			if (decimals == MAX_DECIMALS)
				return -EINVAL;
			part = part * 10 + (uint64_t)(*p - '0');
		}
		if (!decimals)
			return -EINVAL;
	}
	if (!digits && !decimals)
		return -EINVAL;
	for (unsigned int i = decimals; i < MAX_DECIMALS; i++)
		part *= 10;
	*text = p;
	*ret_whole = whole;
	*ret_billionths = part;
	return 0;
}

static int parse_suffix(const char *s, unsigned int *ret_shift)
{
	static const char letters[] = "KMGT";
	const char *at;

	*ret_shift = 0;
	if (!*s || !strcasecmp(s, "b"))
		return 0;
	at = strchr(letters, toupper((unsigned char)*s));
	if (!at)
		return -EINVAL;
	*ret_shift = 10 * (unsigned int)(at - letters + 1);
	s++;
	return !*s || !strcasecmp(s, "b") || !strcasecmp(s, "ib") ? 0 : -EINVAL;
}

int aq_size_parse(const char *text, uint64_t *ret_bytes)
{
	uint64_t whole, part;
	unsigned int shift;
	unsigned __int128 bytes;
	int r;

	r = parse_decimal(&text, &whole, &part);
	if (r < 0)
		return r;
	r = parse_suffix(text, &shift);
	if (r < 0)
		return r;
	if (part && !shift)
		return -EINVAL; /* half a byte */

	bytes = ((unsigned __int128)whole << shift) +
		(((unsigned __int128)part << shift) / 1000000000u);
	if (bytes > INT64_MAX)
		return -ERANGE;
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

char *aq_size_format(uint64_t bytes, char *buf)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned int unit = 0;
	uint64_t scaled, tenths;

	while (unit + 1 < sizeof(units) / sizeof(units[0]) && bytes >> (10 * (unit + 1)))
		unit++;
	scaled = bytes >> (10 * unit);
	tenths = unit ? ((bytes >> (10 * (unit - 1))) & 1023) * 10 / 1024 : 0;
	if (tenths && scaled < 1000)
		snprintf(buf, AQ_SIZE_TEXT, "%llu.%llu %s", (unsigned long long)scaled,
			 (unsigned long long)tenths, units[unit]);
	else
		snprintf(buf, AQ_SIZE_TEXT, "%llu %s", (unsigned long long)scaled, units[unit]);
	return buf;
}

int aq_share_parse(const char *text, uint32_t *ret_permille)
{
	uint64_t whole, part;
	int r;

	r = parse_decimal(&text, &whole, &part);
	if (r < 0)
		return r;
	if (*text || part % 1000000)
		return -EINVAL;
	if (whole > 1 || (whole == 1 && part) || (!whole && part < 10000000))
		return -ERANGE;
	*ret_permille = (uint32_t)(whole * 1000 + part / 1000000);
	return 0;
}

int aq_duration_parse(const char *text, uint64_t *ret_ns)
{
	static const struct {
		const char *suffix;
		uint64_t ns;
	} units[] = {
		{"", AQ_NS_PER_S},        {"us", AQ_NS_PER_US},      {"ms", AQ_NS_PER_MS},
		{"s", AQ_NS_PER_S},       {"m", 60 * AQ_NS_PER_S},   {"min", 60 * AQ_NS_PER_S},
		{"h", 3600 * AQ_NS_PER_S}, {"d", 86400 * AQ_NS_PER_S},
	};
	uint64_t whole, part;
	int r;

	r = parse_decimal(&text, &whole, &part);
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		unsigned __int128 ns;

		if (strcmp(text, units[i].suffix))
			continue;
		ns = (unsigned __int128)whole * units[i].ns +
		     (unsigned __int128)part * units[i].ns / 1000000000u;
		if (ns > 30ull * 86400 * AQ_NS_PER_S)
			return -ERANGE;
		*ret_ns = (uint64_t)ns;
		return 0;
	}
	return -EINVAL;
}

int aq_uint_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
	uint64_t whole, part;
	const char *end = text;
	int r;

	if (strchr(text, '.'))
		return -EINVAL;
	r = parse_decimal(&end, &whole, &part);
	if (r < 0)
		return r;
	if (*end)
		return -EINVAL;
	if (whole < min || whole > max)
		return -ERANGE;
	*ret_value = whole;
	return 0;
}
