/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for people on stderr. Adds no time and no level: this is a command, not a log. */
#include "cli/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/banned.h"

#define LINE_BYTES 2048

/* Written by aq_say_verbose() while options are read, only read after. */
static bool verbose;

/* Written by aq_say_redirect(). */
static void (*taker)(const char *line);

char *aq_say_scrub(char *text)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			*p = '?';
	return text;
}

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list ap)
{
	char line[LINE_BYTES] = "aliquot: ";
	size_t head = strlen(line);
	int saved = errno;
	int n;

	n = vsnprintf(line + head, sizeof(line) - head - 1, format, ap);
	if (n < 0)
		return;
	aq_say_scrub(line);
	if (taker) {
		taker(line + head);
		return;
	}
	head = strlen(line);
	line[head++] = '\n';
	/* One write, so that lines of several commands on one terminal stay whole. */
	if (write(STDERR_FILENO, line, head) < 0)
		errno = saved; /* stderr that cannot be written has nowhere to say so */
	errno = saved;
}

void aq_say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	say(format, ap);
	va_end(ap);
}

void aq_say_debug(const char *format, ...)
{
	va_list ap;

	if (!verbose)
		return;
	va_start(ap, format);
	say(format, ap);
	va_end(ap);
}

void aq_say_redirect(void (*take)(const char *line))
{
	taker = take;
}

void aq_say_verbose(bool on)
{
	verbose = on;
}

int aq_say_finish(int status)
{
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	if (errno == EPIPE)
		return status ? status : AQ_EXIT_FAILED; /* `aliquot events | head` is no news */
	aq_say("standard output: %s", errno ? strerror(errno) : "write failed");
	return status ? status : AQ_EXIT_FAILED;
}
