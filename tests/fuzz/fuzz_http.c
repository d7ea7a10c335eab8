/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: the reader of HTTP answers, whole and byte by byte: both must say the same.
 * Needs: src/cli/http.c
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cli/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
	uint64_t bytes, hash;
};

static int hear(void *arg, const char *bytes, size_t size)
{
	struct sum *s = arg;

	for (size_t i = 0; i < size; i++)
		s->hash = (s->hash ^ (unsigned char)bytes[i]) * 1099511628211u;
	s->bytes += size;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sum whole_sum = {0}, single_sum = {0};
	struct aq_http_reader whole, single;
	int a, b = 0;

	aq_http_reader_init(&whole, hear, &whole_sum);
	a = aq_http_feed(&whole, (const char *)data, size);
	aq_http_reader_init(&single, hear, &single_sum);
	for (size_t i = 0; i < size && !b; i++)
		b = aq_http_feed(&single, (const char *)data + i, 1);
	if (a != b || whole.state != single.state || whole_sum.bytes != single_sum.bytes ||
	    whole_sum.hash != single_sum.hash || whole_sum.bytes > size)
		__builtin_trap();
	if (!a && whole.state != AQ_HTTP_STATUS && (whole.status < 200 || whole.status > 599))
		__builtin_trap();
	return 0;
}
