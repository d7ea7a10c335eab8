/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as people read them, and tables of them. No I/O but to the FILE that is handed in. */
#ifndef AQ_CLI_TEXT_H
#define AQ_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define AQ_TEXT_CELL 160 /* longest text of one cell, with NUL; longer is cut */
#define AQ_TEXT_SHORT 32 /* what the functions below need */

/* 500 -> `0.5`, 1000 -> `1`, 0 -> `0`. @buf of AQ_TEXT_SHORT. Returns @buf. */
char *aq_text_share(uint64_t permille, char *buf);

/* A guaranteed share and a cap: `0.25 to 1`, or `0.5` when they are one. @buf of AQ_TEXT_CELL. */
char *aq_text_shares(uint64_t from_permille, uint64_t to_permille, char *buf);

/* Nanoseconds as `0 s`, `12.3 s`, `4m05s`, `2h03m`, `3d04h`. */
char *aq_text_time(uint64_t ns, char *buf);

/* `18.2 of 40 GiB`: both in the unit of @total. @buf of AQ_TEXT_CELL. */
char *aq_text_part(uint64_t part, uint64_t total, char *buf);

/* @cells characters that show part/total; block characters if @utf8, else `#` and `.`. */
char *aq_text_bar(uint64_t part, uint64_t total, unsigned int cells, bool utf8, char *buf);

/* Columns that UTF-8 @text takes; wide characters count as one. */
size_t aq_text_columns(const char *text);

struct aq_column {
	const char *head;
	bool right;    /* numbers */
	bool optional; /* dropped when the terminal is too narrow, last one first */
	bool hidden;   /* set by the caller when the whole column would be empty */
};

#define AQ_TABLE_COLUMNS 12

struct aq_table {
	struct aq_column column[AQ_TABLE_COLUMNS];
	unsigned int columns;
	char (*cell)[AQ_TEXT_CELL]; /* rows * columns */
	size_t rows, rows_allocated;
	unsigned int at; /* next cell of the last row */
};

void aq_table_init(struct aq_table *t, const struct aq_column *columns, unsigned int count);
void aq_table_finish(struct aq_table *t);

/* Begin a row of empty cells. Return: 0 or -ENOMEM. */
int aq_table_row(struct aq_table *t);

/* Fill the row's next cell; control bytes become `?`. */
void aq_table_cell(struct aq_table *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * aq_table_print() - heads and rows, two blanks between columns, nothing behind the last.
 * @width: columns of the terminal; 0 no limit. The table may stay wider than that.
 */
void aq_table_print(const struct aq_table *t, FILE *out, unsigned int width);

/* Columns of the terminal behind @out (80 if it does not say), 0 if it is none. */
unsigned int aq_text_terminal(FILE *out);

/* True when the locale writes UTF-8. */
bool aq_text_utf8(void);

#endif /* AQ_CLI_TEXT_H */
