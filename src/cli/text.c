/* SPDX-License-Identifier: Apache-2.0 */
/* Formats numbers, bars and aligned tables. Does not know what they stand for. */
#include "cli/text.h"

#include <errno.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/size.h"
#include "base/timing.h"
#include "cli/say.h"
#include "base/banned.h"

#define GAP 2
#define BAR_MAX_CELLS 40

char *aq_text_share(uint64_t permille, char *buf)
{
	int n = snprintf(buf, AQ_TEXT_SHORT, "%llu.%03u", (unsigned long long)(permille / 1000),
			 (unsigned int)(permille % 1000));

	while (buf[n - 1] == '0')
		buf[--n] = '\0';
	if (buf[n - 1] == '.')
		buf[n - 1] = '\0';
	return buf;
}

char *aq_text_shares(uint64_t from_permille, uint64_t to_permille, char *buf)
{
	char from[AQ_TEXT_SHORT], to[AQ_TEXT_SHORT];

	aq_text_share(from_permille, from);
	if (from_permille == to_permille)
		snprintf(buf, AQ_TEXT_CELL, "%s", from);
	else
		snprintf(buf, AQ_TEXT_CELL, "%s to %s", from, aq_text_share(to_permille, to));
	return buf;
}

char *aq_text_time(uint64_t ns, char *buf)
{
	uint64_t s = ns / AQ_NS_PER_S;
	unsigned int tenths = (unsigned int)(ns % AQ_NS_PER_S / (100 * AQ_NS_PER_MS));

	if (!ns)
		snprintf(buf, AQ_TEXT_SHORT, "0 s");
	else if (s < 60)
		snprintf(buf, AQ_TEXT_SHORT, "%u.%u s", (unsigned int)s, tenths);
	else if (s < 3600)
		snprintf(buf, AQ_TEXT_SHORT, "%um%02us", (unsigned int)(s / 60),
			 (unsigned int)(s % 60));
	else if (s < 86400)
		snprintf(buf, AQ_TEXT_SHORT, "%uh%02um", (unsigned int)(s / 3600),
			 (unsigned int)(s / 60 % 60));
	else
		snprintf(buf, AQ_TEXT_SHORT, "%llud%02uh", (unsigned long long)(s / 86400),
			 (unsigned int)(s / 3600 % 24));
	return buf;
}

char *aq_text_part(uint64_t part, uint64_t total, char *buf)
{
	char of[AQ_SIZE_TEXT];
	const char *unit;
	unsigned int shift = 0;
	uint64_t tenths;

	aq_size_format(total, of);
	unit = strchr(of, ' ') + 1;
	while (total >> (shift + 10))
		shift += 10;
	tenths = shift ? ((part >> (shift - 10)) & 1023) * 10 / 1024 : 0;
	snprintf(buf, AQ_TEXT_CELL, "%llu.%llu of %s", (unsigned long long)(part >> shift),
		 (unsigned long long)tenths, of);
	if (!shift || !part)
		snprintf(buf, AQ_TEXT_CELL, "%llu of %s", (unsigned long long)(part >> shift), of);
	/* Something is never shown as nothing. */
	else if (!(part >> shift) && !tenths)
		snprintf(buf, AQ_TEXT_CELL, "<0.1 of %.*s %s", (int)(unit - of - 1), of, unit);
	return buf;
}

char *aq_text_bar(uint64_t part, uint64_t total, unsigned int cells, bool utf8, char *buf)
{
	const char *full = utf8 ? "\xe2\x96\x88" : "#", *empty = utf8 ? "\xe2\x96\x91" : ".";
	unsigned int filled;
	size_t n = 0;

	if (cells > BAR_MAX_CELLS)
		cells = BAR_MAX_CELLS;
	if (part > total)
		part = total;
	filled = total ? (unsigned int)((unsigned __int128)part * cells / total) : 0;
	if (part && !filled)
		filled = 1;
	for (unsigned int i = 0; i < cells; i++)
		n += (size_t)snprintf(buf + n, AQ_TEXT_CELL - n, "%s", i < filled ? full : empty);
	buf[n] = '\0';
	return buf;
}

size_t aq_text_columns(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void aq_table_init(struct aq_table *t, const struct aq_column *columns, unsigned int count)
{
	*t = (struct aq_table){.columns = count};
	memcpy(t->column, columns, count * sizeof(*columns));
}

void aq_table_finish(struct aq_table *t)
{
	free(t->cell);
	t->cell = NULL;
}

int aq_table_row(struct aq_table *t)
{
	if (t->rows == t->rows_allocated) {
		size_t rows = t->rows ? t->rows * 2 : 16;
		void *cell = reallocarray(t->cell, rows * t->columns, sizeof(*t->cell));

		if (!cell)
			return -ENOMEM;
		t->cell = cell;
		t->rows_allocated = rows;
	}
	memset(t->cell + t->rows * t->columns, 0, t->columns * sizeof(*t->cell));
	t->rows++;
	t->at = 0;
	return 0;
}

void aq_table_cell(struct aq_table *t, const char *format, ...)
{
	char *cell = t->cell[(t->rows - 1) * t->columns + t->at++];
	va_list ap;

	va_start(ap, format);
	vsnprintf(cell, AQ_TEXT_CELL, format, ap);
	va_end(ap);
	aq_say_scrub(cell);
}

static void print_line(const struct aq_table *t, FILE *out, const size_t *widths, size_t row)
{
	size_t owed = 0; /* blanks to print before the next text, so that none trail */

	for (unsigned int c = 0; c < t->columns; c++) {
		const char *text = row ? t->cell[(row - 1) * t->columns + c] : t->column[c].head;
		size_t pad;

		if (!widths[c])
			continue;
		pad = widths[c] - aq_text_columns(text);
		if (t->column[c].right) {
			owed += pad;
			pad = 0;
		}
		if (*text) {
			fprintf(out, "%*s%s", (int)owed, "", text);
			owed = 0;
		} else {
			pad = t->column[c].right ? 0 : widths[c];
		}
		owed += pad + GAP;
	}
	fputc('\n', out);
}

void aq_table_print(const struct aq_table *t, FILE *out, unsigned int width)
{
	size_t widths[AQ_TABLE_COLUMNS] = {0};
	size_t all = 0;

	for (unsigned int c = 0; c < t->columns; c++) {
		if (t->column[c].hidden)
			continue;
		widths[c] = aq_text_columns(t->column[c].head);
		for (size_t r = 0; r < t->rows; r++) {
			size_t w = aq_text_columns(t->cell[r * t->columns + c]);

			if (w > widths[c])
				widths[c] = w;
		}
		all += widths[c] + GAP;
	}
	for (unsigned int c = t->columns; width && c-- > 0 && all > width + GAP;) {
		if (!t->column[c].optional || !widths[c])
			continue;
		all -= widths[c] + GAP;
		widths[c] = 0;
	}
	for (size_t r = 0; r <= t->rows; r++)
		print_line(t, out, widths, r);
}

unsigned int aq_text_terminal(FILE *out)
{
	struct winsize size;

	if (!isatty(fileno(out)))
		return 0;
	if (ioctl(fileno(out), TIOCGWINSZ, &size) < 0 || !size.ws_col)
		return 80;
	return size.ws_col;
}

bool aq_text_utf8(void)
{
	return !strcmp(nl_langinfo(CODESET), "UTF-8");
}
