/* SPDX-License-Identifier: Apache-2.0 */
/* Where things go on the screen of `aliquot top`. Pure: no terminal, no daemon. */
#include "cli/top.h"

#include "base/banned.h"

#define EVENTS_MIN 3 /* lines that events get before a long list of fractions does */

static size_t fill(struct aq_top_cell *cells, size_t at, size_t cell_count, size_t n,
		   struct aq_top_cell with)
{
	for (; n && at < cell_count; n--)
		cells[at++] = with;
	return at;
}

/* Bytes to cells, rounded to nearest, but something never to nothing. */
static size_t to_cells(uint64_t bytes, uint64_t total, size_t cell_count)
{
	size_t n;

	if (!total)
		return 0;
	if (bytes > total)
		bytes = total;
	n = (size_t)(((unsigned __int128)bytes * cell_count + total / 2) / total);
	return bytes && !n ? 1 : n;
}

void aq_top_bar(const struct aq_top_part *parts, size_t count, uint64_t device_used_bytes,
		uint64_t total_bytes, struct aq_top_cell *cells, size_t cell_count)
{
	uint64_t ours = 0;
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		const struct aq_top_part *p = &parts[i];
		uint64_t most = p->used_bytes > p->request_bytes ? p->used_bytes : p->request_bytes;
		size_t all = to_cells(most, total_bytes, cell_count);
		size_t used = to_cells(p->used_bytes, total_bytes, cell_count);

		ours += p->used_bytes;
		at = fill(cells, at, cell_count, used,
			  (struct aq_top_cell){AQ_TOP_USED, p->key});
		at = fill(cells, at, cell_count, all - used,
			  (struct aq_top_cell){AQ_TOP_RESERVED, p->key});
	}
	if (device_used_bytes > ours)
		at = fill(cells, at, cell_count,
			  to_cells(device_used_bytes - ours, total_bytes, cell_count),
			  (struct aq_top_cell){AQ_TOP_OTHER, 0});
	fill(cells, at, cell_count, cell_count, (struct aq_top_cell){AQ_TOP_FREE, 0});
}

static int clamp(size_t want, int room)
{
	if (room < 0)
		return 0;
	return want < (size_t)room ? (int)want : room;
}

/* Title, devices, blank, heads, fractions, blank, heads, events, status. */
struct aq_top_layout aq_top_arrange(int rows, size_t devices, size_t fractions)
{
	struct aq_top_layout l = {.devices = 1, .status = rows - 1};
	int at = 1, end = rows - 1;

	l.devices_rows = clamp(devices, rows / 3);
	if (l.devices_rows > end - at)
		l.devices_rows = clamp(devices, end - at);
	at += l.devices_rows;
	at += end - at > 4; /* a blank line, where there is room to waste */
	l.fractions = at + 1;
	l.fractions_rows = clamp(fractions, end - l.fractions - 2 - EVENTS_MIN);
	if (!l.fractions_rows) /* tiny: events give way */
		l.fractions_rows = clamp(fractions, end - l.fractions);
	at = l.fractions + l.fractions_rows;
	at += end - at > 4;
	l.events = at + 1;
	l.events_rows = clamp((size_t)rows, end - l.events);
	return l;
}

size_t aq_top_scroll(size_t count, size_t rows, size_t selected, size_t old)
{
	if (!rows || count <= rows)
		return 0;
	if (old > count - rows)
		old = count - rows;
	if (selected < old)
		return selected;
	if (selected >= old + rows && selected < count)
		return selected - rows + 1;
	return old;
}
