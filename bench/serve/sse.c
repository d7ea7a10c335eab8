/* SPDX-License-Identifier: Apache-2.0 */
/* Reads server-sent events. Knows no JSON and no HTTP. */
#include "serve/sse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define FIRST_BYTES 1024

void aq_sse_init(struct aq_sse *s, aq_sse_take take, void *arg)
{
	*s = (struct aq_sse){.take = take, .arg = arg};
}

void aq_sse_finish(struct aq_sse *s)
{
	free(s->line);
	free(s->data);
	s->line = s->data = NULL;
}

void aq_sse_reset(struct aq_sse *s)
{
	s->line_size = s->data_size = 0;
	s->has_data = s->was_cr = s->begun = false;
}

bool aq_sse_torn(const struct aq_sse *s)
{
	return s->line_size || s->has_data;
}

/* Append, and a NUL that is not counted. */
static int append(char **text, size_t *size, size_t *room, const char *bytes, size_t n)
{
	if (n > AQ_SSE_EVENT_BYTES - *size)
		return -EMSGSIZE;
	if (*size + n + 1 > *room) {
		size_t more = *room ? *room : FIRST_BYTES;
		char *bigger;

		while (more < *size + n + 1)
			more *= 2;
		bigger = realloc(*text, more);
		if (!bigger)
			return -ENOMEM;
		*text = bigger;
		*room = more;
	}
	memcpy(*text + *size, bytes, n);
	*size += n;
	(*text)[*size] = '\0';
	return 0;
}

static int dispatch(struct aq_sse *s)
{
	size_t size = s->data_size;

	s->has_data = false;
	s->data_size = 0;
	return size ? s->take(s->arg, s->data, size) : 0;
}

static int take_data(struct aq_sse *s, const char *value, size_t size)
{
	int r = 0;

	if (s->has_data)
		r = append(&s->data, &s->data_size, &s->data_room, "\n", 1);
	s->has_data = true;
	return r ? r : append(&s->data, &s->data_size, &s->data_room, value, size);
}

/* A whole line, without its end. */
static int take_line(struct aq_sse *s, const char *line, size_t size)
{
	if (!s->begun && size >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) {
		line += 3;
		size -= 3;
	}
	s->begun = true;
	if (!size)
		return s->has_data ? dispatch(s) : 0;
	if (size < 4 || memcmp(line, "data", 4) || (size > 4 && line[4] != ':'))
		return 0;
	line += size > 4 ? 5 : 4;
	size -= size > 4 ? 5 : 4;
	if (size && *line == ' ') {
		line++;
		size--;
	}
	return take_data(s, line, size);
}

static const char *find_end(const char *bytes, size_t size)
{
	const char *lf = memchr(bytes, '\n', size);
	const char *cr = memchr(bytes, '\r', lf ? (size_t)(lf - bytes) : size);

	return cr ? cr : lf;
}

int aq_sse_feed(struct aq_sse *s, const char *bytes, size_t size)
{
	while (size) {
		const char *end;
		size_t n;
		int r;

		if (s->was_cr && *bytes == '\n') {
			bytes++;
			size--;
			s->was_cr = false;
			continue;
		}
		s->was_cr = false;
		end = find_end(bytes, size);
		n = end ? (size_t)(end - bytes) : size;
		/* A line that lies whole in @bytes, the usual case, is not copied. */
		if (!end || s->line_size) {
			r = append(&s->line, &s->line_size, &s->line_room, bytes, n);
			if (r || !end)
				return r;
			n = s->line_size;
			s->line_size = 0;
			r = take_line(s, s->line, n);
		} else {
			r = n > AQ_SSE_EVENT_BYTES ? -EMSGSIZE : take_line(s, bytes, n);
		}
		if (r)
			return r;
		s->was_cr = *end == '\r';
		size -= (size_t)(end + 1 - bytes);
		bytes = end + 1;
	}
	return 0;
}
