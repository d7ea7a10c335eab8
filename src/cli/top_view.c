/* SPDX-License-Identifier: Apache-2.0 */
/* Draws `aliquot top`. Reads what was fetched, fetches and changes nothing. */
#include <ncurses.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "cli/event.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cli/text.h"
#include "cli/top.h"
#include "base/banned.h"

#define COLOURS 6
#define LINE_BYTES 512
#define DEVICE_NAME_COLUMNS 20
#define BAR_COLUMN (4 + DEVICE_NAME_COLUMNS + 1)
#define DEVICE_TAIL_COLUMNS 22 /* ` 12.1 of 79.6 GiB 0.75` */

static const char keys[] = "q quit   up/down select   k kill   +/- memory   r refresh";
static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

void aq_top_view_init(void)
{
	static const short colours[COLOURS] = {COLOR_CYAN, COLOR_GREEN, COLOR_YELLOW,
					       COLOR_MAGENTA, COLOR_BLUE, COLOR_RED};

	if (!has_colors())
		return;
	start_color();
	use_default_colors();
	for (short i = 0; i < COLOURS; i++)
		init_pair((short)(i + 1), colours[i], -1);
}

static attr_t colour(unsigned int key)
{
	return has_colors() ? (attr_t)COLOR_PAIR(key % COLOURS + 1) : A_NORMAL;
}

static char letter(unsigned int key)
{
	return letters[key % (sizeof(letters) - 1)];
}

/* One line at @y, cut at the right edge. */
static void put(int y, int x, attr_t attributes, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void put(int y, int x, attr_t attributes, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list ap;

	if (x >= COLS || y >= LINES)
		return;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	attrset(attributes);
	mvaddnstr(y, x, aq_say_scrub(line), COLS - x);
	attrset(A_NORMAL);
}

int aq_top_selected(const struct aq_top *t)
{
	const json_t *f;
	size_t i;

	json_array_foreach(t->fractions, i, f)
		if (!strcmp(aq_json_text(f, "name", ""), t->selected))
			return (int)i;
	return -1;
}

static void draw_title(const struct aq_top *t)
{
	time_t now = time(NULL);
	struct tm local;
	char clock[16];

	localtime_r(&now, &local);
	strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	put(0, 0, A_BOLD, "aliquot");
	if (t->connected)
		put(0, 9, A_NORMAL, "%s daemon, %zu device%s, %zu fraction%s",
		    t->api.system ? "system" : "private", json_array_size(t->devices),
		    json_array_size(t->devices) == 1 ? "" : "s", json_array_size(t->fractions),
		    json_array_size(t->fractions) == 1 ? "" : "s");
	else
		put(0, 9, A_NORMAL, "no daemon is running: 'aliquot run' starts one");
	put(0, COLS - (int)strlen(clock), A_NORMAL, "%s", clock);
}

/* What each fraction has on the device @uuid. Return: number of parts. */
static size_t collect_parts(const struct aq_top *t, const char *uuid, struct aq_top_part *parts)
{
	const json_t *f, *d;
	size_t i, j, n = 0;

	json_array_foreach(t->fractions, i, f) {
		json_array_foreach(json_object_get(f, "devices"), j, d) {
			if (n == AQ_TOP_PARTS || strcmp(aq_json_text(d, "uuid", ""), uuid))
				continue;
			parts[n++] = (struct aq_top_part){
				.used_bytes = aq_json_uint(d, "memory_used_bytes"),
				.request_bytes = aq_json_uint(d, "memory_request_bytes"),
				.key = (unsigned int)i,
			};
		}
	}
	return n;
}

static void draw_bar(const struct aq_top *t, const json_t *device, int y, int width)
{
	struct aq_top_cell cells[AQ_TOP_BAR_MAX];
	struct aq_top_part parts[AQ_TOP_PARTS];
	size_t count, n;

	if (width < 4)
		return;
	n = width > AQ_TOP_BAR_MAX ? AQ_TOP_BAR_MAX : (size_t)width;
	count = collect_parts(t, aq_json_text(device, "uuid", ""), parts);
	aq_top_bar(parts, count, aq_json_uint(device, "memory_used_bytes"),
		   aq_json_uint(device, "memory_total_bytes"), cells, n);
	move(y, BAR_COLUMN);
	for (size_t i = 0; i < n; i++) {
		attr_t with = colour(cells[i].key);

		switch (cells[i].kind) {
		case AQ_TOP_USED:
			addch((chtype)letter(cells[i].key) | with | A_REVERSE);
			break;
		case AQ_TOP_RESERVED:
			addch('-' | with);
			break;
		case AQ_TOP_OTHER:
			addch('#' | A_DIM);
			break;
		case AQ_TOP_FREE:
			addch('.' | A_DIM);
			break;
		}
	}
}

/* `NVIDIA H100 80GB HBM3` -> `H100 80GB HBM3`: everybody knows whose. */
static const char *short_name(const char *name)
{
	return strncmp(name, "NVIDIA ", 7) ? name : name + 7;
}

static void draw_devices(const struct aq_top *t, const struct aq_top_layout *l)
{
	const json_t *d;
	size_t i;

	if (t->connected && !json_array_size(t->devices))
		put(l->devices, 0, A_NORMAL, "no devices: 'aliquot doctor' says why");
	json_array_foreach(t->devices, i, d) {
		int y = l->devices + (int)i;
		char share[AQ_TEXT_SHORT], memory[AQ_TEXT_CELL];

		if ((int)i == l->devices_rows - 1 && json_array_size(t->devices) > i + 1) {
			put(y, 0, A_DIM, "and %zu more devices", json_array_size(t->devices) - i);
			return;
		}
		if ((int)i >= l->devices_rows)
			return;
		put(y, 0, A_BOLD, "%-3lld", (long long)aq_json_int(d, "index"));
		put(y, 4, A_NORMAL, "%.*s", DEVICE_NAME_COLUMNS,
		    short_name(aq_json_text(d, "name", "?")));
		draw_bar(t, d, y, COLS - BAR_COLUMN - DEVICE_TAIL_COLUMNS - 2);
		aq_text_part(aq_json_uint(d, "memory_used_bytes"),
			     aq_json_uint(d, "memory_total_bytes"), memory);
		aq_text_share(aq_json_uint(d, "compute_reserved_permille"), share);
		put(y, COLS - DEVICE_TAIL_COLUMNS, A_NORMAL, "%17.17s %s", memory, share);
	}
}

/* Device time since the last round, in permille of one device; -1 when it cannot be told. */
static int64_t rate_permille(const struct aq_top *t, const json_t *fraction)
{
	const char *name = aq_json_text(fraction, "name", "");
	uint64_t span = t->now_ns - t->before_ns;
	const json_t *f;
	size_t i;

	json_array_foreach(t->before, i, f) {
		int64_t spent;

		if (strcmp(aq_json_text(f, "name", ""), name))
			continue;
		spent = aq_json_int(fraction, "gpu_time_ns") - aq_json_int(f, "gpu_time_ns");
		return spent < 0 || !span ? -1 : (int64_t)((uint64_t)spent * 1000 / span);
	}
	return -1;
}

static void describe_gpus(const json_t *fraction, char *buf, size_t size)
{
	const json_t *d;
	size_t i, n = 0;

	snprintf(buf, size, "-");
	json_array_foreach(json_object_get(fraction, "devices"), i, d)
		if (n < size)
			n += (size_t)snprintf(buf + n, size - n, "%s%lld", i ? "," : "",
					      (long long)aq_json_int(d, "index"));
}

static void draw_fraction(const struct aq_top *t, const json_t *f, unsigned int key, int y,
			  bool selected)
{
	char memory[AQ_TEXT_CELL], compute[AQ_TEXT_CELL], gpus[64], gpu[32] = "-";
	int64_t rate = rate_permille(t, f);

	describe_gpus(f, gpus, sizeof(gpus));
	aq_text_part(aq_json_uint(f, "memory_used_bytes"), aq_json_uint(f, "memory_limit_bytes"),
		     memory);
	aq_text_shares(aq_json_uint(f, "compute_request_permille"),
		       aq_json_uint(f, "compute_limit_permille"), compute);
	if (rate >= 0)
		snprintf(gpu, sizeof(gpu), "%lld.%lld %%", (long long)rate / 10,
			 (long long)rate % 10);
	put(y, 0, colour(key) | (selected ? A_REVERSE : A_BOLD), "%c", letter(key));
	put(y, 2, selected ? A_REVERSE : A_NORMAL, "%-16.16s %-6.6s %-7.7s %-4.4s %18.18s %-10.10s"
	    " %6.6s %4zu", aq_json_text(f, "name", "?"), aq_json_text(f, "priority", "?"),
	    aq_json_state(f), gpus, memory, compute, gpu,
	    json_array_size(json_object_get(f, "clients")));
}

static void draw_fractions(const struct aq_top *t, const struct aq_top_layout *l)
{
	static size_t first; /* scrolled to; kept from one drawing to the next */
	size_t count = json_array_size(t->fractions);
	int selected = aq_top_selected(t);

	put(l->fractions - 1, 0, A_BOLD, "  %-16s %-6s %-7s %-4s %18s %-10s %6s %4s", "NAME",
	    "PRIO", "STATE", "GPU", "MEMORY", "COMPUTE", "BUSY", "PROC");
	first = aq_top_scroll(count, (size_t)l->fractions_rows, selected < 0 ? 0 : (size_t)selected,
			      first);
	for (int i = 0; i < l->fractions_rows; i++) {
		size_t at = first + (size_t)i;

		draw_fraction(t, json_array_get(t->fractions, at), (unsigned int)at,
			      l->fractions + i, (int)at == selected);
	}
}

static void draw_events(const struct aq_top *t, const struct aq_top_layout *l)
{
	size_t count = json_array_size(t->events);

	if (!l->events_rows)
		return;
	put(l->events - 1, 0, A_BOLD, "EVENTS");
	for (int i = 0; i < l->events_rows && (size_t)i < count; i++) {
		const json_t *event = json_array_get(t->events, count - 1 - (size_t)i);
		bool bad = !strcmp(aq_json_text(event, "type", ""), "denied");
		char line[AQ_EVENT_LINE];

		put(l->events + i, 0, bad ? A_BOLD : A_NORMAL, "%s", aq_event_line(event, line));
	}
}

void aq_top_draw(const struct aq_top *t)
{
	struct aq_top_layout l = aq_top_arrange(LINES, json_array_size(t->devices),
						json_array_size(t->fractions));

	erase();
	draw_devices(t, &l);
	draw_fractions(t, &l);
	draw_events(t, &l);
	draw_title(t);
	move(l.status, 0);
	clrtoeol();
	put(l.status, 0, t->status[0] ? A_REVERSE : A_DIM, "%s", t->status[0] ? t->status : keys);
	refresh();
}
