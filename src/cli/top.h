/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot top`: what it shows, and how that is laid out. */
#ifndef AQ_CLI_TOP_H
#define AQ_CLI_TOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/name.h"
#include "cli/api.h"

#define AQ_TOP_STATUS 256
#define AQ_TOP_BAR_MAX 200 /* cells of the widest bar */
#define AQ_TOP_PARTS 64    /* fractions that one bar tells apart */

/* Everything on the screen. Owned by cmd_top.c; the view only reads. */
struct aq_top {
	struct aq_api api;
	bool connected;
	json_t *devices, *fractions, *events; /* arrays; NULL before the first answer */
	json_t *before;                       /* fractions of the last round, for rates */
	uint64_t now_ns, before_ns;           /* when the two were fetched */
	char selected[64];                    /* name; empty: none */
	char status[AQ_TOP_STATUS];           /* last line, instead of the keys; empty: keys */
	bool utf8;
};

/* --- The pure part: what goes where. --- */

/* One fraction's part of a device's memory. */
struct aq_top_part {
	uint64_t used_bytes, request_bytes;
	unsigned int key; /* index of the fraction in the list */
};

enum aq_top_cell_kind {
	AQ_TOP_FREE,     /* nobody's */
	AQ_TOP_USED,     /* used by fraction `key` */
	AQ_TOP_RESERVED, /* guaranteed to it, not used */
	AQ_TOP_OTHER,    /* used by no fraction */
};

struct aq_top_cell {
	enum aq_top_cell_kind kind;
	unsigned int key;
};

/**
 * aq_top_bar() - a device's memory as @cells cells.
 * Whoever uses or may use anything gets a cell as long as there are any; what is beyond the total
 * is cut off.
 * @device_used_bytes: by everybody
 */
void aq_top_bar(const struct aq_top_part *parts, size_t count, uint64_t device_used_bytes,
		uint64_t total_bytes, struct aq_top_cell *cells, size_t cell_count);

/* First line and number of lines of each part; 0 lines when there is no room. */
struct aq_top_layout {
	int devices, devices_rows;
	int fractions, fractions_rows; /* heads are one line above */
	int events, events_rows;       /* so are theirs */
	int status;                    /* always the last line */
};

struct aq_top_layout aq_top_arrange(int rows, size_t devices, size_t fractions);

/* First line of a list of @count to show in @rows so that @selected is seen; @old: where it was. */
size_t aq_top_scroll(size_t count, size_t rows, size_t selected, size_t old);

/* --- The view (ncurses). --- */

bool aq_top_terminal_known(void);
void aq_top_view_init(void);
void aq_top_draw(const struct aq_top *t);

/* Index of the selected fraction; -1 none. */
int aq_top_selected(const struct aq_top *t);

#endif /* AQ_CLI_TOP_H */
