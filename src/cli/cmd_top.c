/* SPDX-License-Identifier: Apache-2.0 */
/* `aliquot top`: fetches once a second, takes keys. Drawing is top_view.c's. */
#include <errno.h>
#include <inttypes.h>
#include <ncurses.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/api.h"
#include "cli/json.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/text.h"
#include "cli/top.h"
#include "base/banned.h"

#define TIMEOUT_MS 2000u /* a daemon that is stuck must not freeze the keys for longer */
#define STATUS_NS (5 * AQ_NS_PER_S)
#define EVENTS_FETCHED 100
#define MIN_DELAY_NS (AQ_NS_PER_S / 10)
#define MAX_DELAY_NS (3600 * AQ_NS_PER_S)
#define ESCAPE_DELAY_MS 25

enum mode { MODE_LOOK, MODE_ASK_KILL, MODE_END };

struct session {
	struct aq_top top;
	enum mode mode;
	uint64_t delay_ns, next_ns, status_until_ns;
	char kill[64]; /* who is asked about */
};

/* Complaints of the API go to the last line; there is one session. */
static struct session *session_of_complaints;

static void set_status(struct session *s, const char *text)
{
	snprintf(s->top.status, sizeof(s->top.status), "%s", text);
	s->status_until_ns = aq_now_ns() + STATUS_NS;
}

static void hear_complaint(const char *line)
{
	set_status(session_of_complaints, line);
}

static json_t *get(struct session *s, const char *path)
{
	struct aq_api_reply reply;

	if (!s->top.connected)
		return NULL;
	if (aq_api_call(&s->top.api, "GET", path, NULL, TIMEOUT_MS, NULL, NULL, &reply) < 0 ||
	    reply.status != 200 || !json_is_array(reply.body)) {
		s->top.connected = false;
		aq_api_reply_finish(&reply);
		return NULL;
	}
	return reply.body;
}

static void replace(json_t **old, json_t *with)
{
	json_decref(*old);
	*old = with;
}

/* Something is selected whenever there is something. */
static void keep_selection(struct aq_top *t)
{
	if (aq_top_selected(t) >= 0)
		return;
	snprintf(t->selected, sizeof(t->selected), "%s",
		 aq_json_text(json_array_get(t->fractions, 0), "name", ""));
}

static void fetch(struct session *s)
{
	struct aq_top *t = &s->top;
	char path[64];

	if (!t->connected) {
		t->connected = !aq_api_open(&t->api, AQ_API_LISTENING, "top", NULL);
	}
	json_decref(t->before);
	t->before = t->fractions;
	t->before_ns = t->now_ns;
	t->now_ns = aq_now_ns();
	replace(&t->devices, get(s, "/v1/devices"));
	t->fractions = get(s, "/v1/fractions");
	snprintf(path, sizeof(path), "/v1/events?limit=%d", EVENTS_FETCHED);
	replace(&t->events, get(s, path));
	keep_selection(t);
}

static void select_other(struct aq_top *t, int by)
{
	int count = (int)json_array_size(t->fractions), at = aq_top_selected(t) + by;

	if (!count)
		return;
	at = at < 0 ? 0 : at >= count ? count - 1 : at;
	snprintf(t->selected, sizeof(t->selected), "%s",
		 aq_json_text(json_array_get(t->fractions, (size_t)at), "name", ""));
}

/* Send and say how it went. */
static void act(struct session *s, const char *method, const char *name, const char *verb,
		const json_t *body)
{
	struct aq_api_reply reply;
	char path[160], line[AQ_TOP_STATUS];
	int r;

	if (!s->top.connected)
		return;
	snprintf(path, sizeof(path), "/v1/fractions/%s%s%s", name, verb ? "/" : "",
		 verb ? verb : "");
	r = aq_api_call(&s->top.api, method, path, body, TIMEOUT_MS, NULL, NULL, &reply);
	if (r < 0) {
		aq_api_complain_silence(&s->top.api, verb ? verb : "resize", name, r);
	} else if (aq_api_exit_status(reply.status)) {
		aq_api_complain(verb ? verb : "resize", name, &reply);
	} else {
		snprintf(line, sizeof(line), "%s '%.63s': done", verb ? verb : "resize", name);
		set_status(s, line);
	}
	aq_api_reply_finish(&reply);
	s->next_ns = 0; /* show it at once */
}

/* One step is a sixty-fourth of the device, in whole 256 MiB; both ends move when they are one. */
static void resize(struct session *s, int direction)
{
	const json_t *f = json_array_get(s->top.fractions, (size_t)aq_top_selected(&s->top));
	const json_t *share = json_array_get(json_object_get(f, "devices"), 0), *device;
	uint64_t limit = aq_json_uint(share, "memory_limit_bytes");
	uint64_t request = aq_json_uint(share, "memory_request_bytes");
	uint64_t step = 256 * AQ_MIB, total = 0, wanted;
	json_t *body;

	if (!limit)
		return;
	device = json_array_get(s->top.devices, (size_t)aq_json_uint(share, "index"));
	total = aq_json_uint(device, "memory_total_bytes");
	if (total / 64 > step)
		step = total / 64 / step * step;
	if (direction < 0 && limit <= step) {
		set_status(s, "it has hardly anything left");
		return;
	}
	wanted = direction > 0 ? limit + step : limit - step;
	body = json_pack("{s:I}", "memory_limit_bytes", (json_int_t)wanted);
	if (request == limit || request > wanted)
		json_object_set_new(body, "memory_request_bytes", json_integer((json_int_t)wanted));
	act(s, "PATCH", s->top.selected, NULL, body);
	json_decref(body);
}

static void ask_kill(struct session *s)
{
	if (aq_top_selected(&s->top) < 0)
		return;
	snprintf(s->kill, sizeof(s->kill), "%s", s->top.selected);
	snprintf(s->top.status, sizeof(s->top.status), "end '%s' and its programs? y or n",
		 s->kill);
	s->status_until_ns = UINT64_MAX;
	s->mode = MODE_ASK_KILL;
}

static void take_key_look(struct session *s, int key)
{
	switch (key) {
	case 'q':
	case 'Q':
		s->mode = MODE_END;
		break;
	case KEY_UP:
		select_other(&s->top, -1);
		break;
	case KEY_DOWN:
		select_other(&s->top, 1);
		break;
	case KEY_HOME:
		select_other(&s->top, -(1 << 20));
		break;
	case KEY_END:
		select_other(&s->top, 1 << 20);
		break;
	case 'k':
		ask_kill(s);
		break;
	case '+':
	case '=':
		resize(s, 1);
		break;
	case '-':
		resize(s, -1);
		break;
	case 'r':
		s->next_ns = 0;
		break;
	}
}

static void take_key(struct session *s, int key)
{
	if (key == ERR || key == KEY_RESIZE)
		return;
	if (s->mode != MODE_ASK_KILL) {
		take_key_look(s, key);
		return;
	}
	s->mode = MODE_LOOK;
	s->top.status[0] = '\0';
	if (key == 'y' || key == 'Y')
		act(s, "POST", s->kill, "kill", NULL);
	else
		set_status(s, "nothing was ended");
}

static void look(struct session *s)
{
	while (s->mode != MODE_END) {
		uint64_t now = aq_now_ns();

		if (now >= s->next_ns) {
			fetch(s);
			now = aq_now_ns();
			s->next_ns = now + s->delay_ns;
		}
		if (now >= s->status_until_ns)
			s->top.status[0] = '\0';
		aq_top_draw(&s->top);
		timeout((int)((s->next_ns - now) / AQ_NS_PER_MS) + 1);
		take_key(s, getch());
	}
}

static int show(struct session *s)
{
	SCREEN *screen = NULL;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		aq_say("top: needs a terminal: 'aliquot ps --json' is for scripts");
		return AQ_EXIT_FAILED;
	}
	/* newterm() alone would find out, too, but leave memory behind. */
	if (aq_top_terminal_known())
		screen = newterm(NULL, stdout, stdin);
	if (!screen) {
		aq_say("top: the terminal's type (TERM) is unknown");
		return AQ_EXIT_FAILED;
	}
	set_escdelay(ESCAPE_DELAY_MS);
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	curs_set(0);
	aq_top_view_init();
	session_of_complaints = s;
	aq_say_redirect(hear_complaint);

	look(s);

	aq_say_redirect(NULL);
	endwin();
	delscreen(screen);
	json_decref(s->top.devices);
	json_decref(s->top.fractions);
	json_decref(s->top.before);
	json_decref(s->top.events);
	return AQ_EXIT_OK;
}

static int run_top(const struct aq_verb *verb, int argc, char **argv)
{
	struct session s = {.delay_ns = AQ_NS_PER_S};
	struct aq_opt_scan scan;
	const char *value;
	int id;

	aq_opt_start(&scan, verb, argc, argv);
	while ((id = aq_opt_next(&scan, &value)) > 0) {
		switch (id) {
		case AQ_OPT_OPERAND:
			return aq_opt_unexpected(verb, value);
		case AQ_OPT_HELP:
			aq_opt_help(verb, stdout);
			return AQ_EXIT_OK;
		case 'd':
			if (!aq_duration_parse(value, &s.delay_ns) && s.delay_ns >= MIN_DELAY_NS &&
			    s.delay_ns <= MAX_DELAY_NS)
				break;
			aq_say("top: --delay '%s': write 0.1 to 3600 seconds, or 500ms", value);
			return AQ_EXIT_USAGE;
		}
	}
	return id < 0 ? AQ_EXIT_USAGE : show(&s);
}

const struct aq_verb aq_verb_top = {
	.name = "top",
	.operands = "[-d SECONDS]",
	.summary = "watch devices, fractions and events",
	.examples = "  aliquot top\n",
	.opts = (const struct aq_opt[]){
		{"delay", 'd', AQ_OPT_VALUE, "SECONDS", "between two looks (default 1)", NULL},
		{0},
	},
	.notes = "Keys: up and down select, k ends the selected fraction (asks first), + and -\n"
		 "give it memory and take it, r looks again at once, q quits. In the bars a\n"
		 "letter is memory that a fraction uses, '-' what it is guaranteed and does not\n"
		 "use, '#' what is used outside of fractions.\n",
	.run = run_top,
};
