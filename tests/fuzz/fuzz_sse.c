/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: streams of events and the JSON in them, whole and byte by byte: both must say the
 * same.
 * Needs: bench/serve/sse.c
 * Needs: bench/serve/answer.c
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "serve/answer.h"
#include "serve/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct sum {
	uint64_t events, hash, answers;
};

static int hear(void *arg, const char *data, size_t size)
{
	struct aq_answer answer;
	struct sum *s = arg;

	if (!size || data[size])
		__builtin_trap();
	for (size_t i = 0; i < size; i++)
		s->hash = (s->hash ^ (unsigned char)data[i]) * 1099511628211u;
	s->events++;
	if (!aq_answer_event(data, size, &answer)) {
		s->answers++;
		if (strlen(answer.message) >= sizeof(answer.message))
			__builtin_trap();
	}
	return size == 6 && !memcmp(data, "[DONE]", 6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sum whole_sum = {0}, single_sum = {0};
	struct aq_sse whole, single;
	int a, b = 0;

	aq_sse_init(&whole, hear, &whole_sum);
	a = aq_sse_feed(&whole, (const char *)data, size);
	aq_sse_init(&single, hear, &single_sum);
	for (size_t i = 0; i < size && !b; i++)
		b = aq_sse_feed(&single, (const char *)data + i, 1);
	if (a != b || memcmp(&whole_sum, &single_sum, sizeof(whole_sum)) ||
	    (!a && aq_sse_torn(&whole) != aq_sse_torn(&single)))
		__builtin_trap();
	aq_sse_finish(&whole);
	aq_sse_finish(&single);
	return 0;
}
