/* SPDX-License-Identifier: Apache-2.0 */
/* Formats a line and writes it to stderr in one call. Does not rotate, filter by module or exit. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES 1024

/* Written by aq_log_init() before threads exist, only read after. */
static const char *log_prefix = "aliquot";
static enum aq_log_level log_level = AQ_LOG_INFO;

void aq_log_init(const char *prefix, enum aq_log_level level)
{
	log_prefix = prefix;
	log_level = level;
}

void aq_log(enum aq_log_level level, const char *format, ...)
{
	static const char *const names[] = {"error: ", "warning: ", "", "debug: "};
	char line[LINE_BYTES];
	size_t len = 0;
	int saved = errno;
	va_list ap;
	int n;

	if (level > log_level)
		return;

	if (!isatty(STDERR_FILENO)) {
		struct timespec now;
		struct tm tm;

		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		len += strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
		n = snprintf(line + len, sizeof(line) - len, ".%03ldZ ", now.tv_nsec / 1000000);
		len += (size_t)n;
	}
	n = snprintf(line + len, sizeof(line) - len, "%s: %s", log_prefix, names[level]);
	len += (size_t)n;

	va_start(ap, format);
	n = vsnprintf(line + len, sizeof(line) - len - 1, format, ap);
	va_end(ap);
	if (n > 0)
		len += (size_t)n < sizeof(line) - len - 1 ? (size_t)n : sizeof(line) - len - 2;
	line[len++] = '\n';

	/* A log that cannot be written has nowhere to say so. */
	if (write(STDERR_FILENO, line, len) < 0)
		errno = saved;
	errno = saved;
}
