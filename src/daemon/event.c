/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the last events, with a share for each fraction, and hands new ones to followers. */
#include "daemon/event.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/banned.h"

#define TEXT_BYTES 256
#define SOURCES 256u /* fractions that share a bucket share its quota */

struct record {
	struct aq_list link; /* all, oldest first */
	struct aq_list of_source;
	uint32_t source;
	uint64_t seq;
	json_t *json;
};

struct aqd_events {
	struct aq_list records, followers;
	uint32_t count;
	uint64_t next_seq;
	struct {
		struct aq_list records;
		uint32_t count;
	} source[SOURCES];
	uint64_t counts[AQD_EVENT_TYPES];
};

const struct aqd_event_facts aqd_event_none = {
	.asked_bytes = AQD_NO_BYTES,
	.used_bytes = AQD_NO_BYTES,
	.limit_bytes = AQD_NO_BYTES,
	.free_bytes = AQD_NO_BYTES,
};

static const char *const words[] = {
#define AQD_EVENT(name) [AQD_EVENT_##name] = #name,
	AQD_EVENT_LIST(AQD_EVENT)
#undef AQD_EVENT
};

const char *aqd_event_word(enum aqd_event_type type)
{
	return words[type];
}

int aqd_events_create(struct aqd *d)
{
	struct aqd_events *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	aq_list_init(&e->records);
	aq_list_init(&e->followers);
	for (uint32_t i = 0; i < SOURCES; i++)
		aq_list_init(&e->source[i].records);
	e->next_seq = 1;
	d->events = e;
	return 0;
}

static void forget(struct aqd_events *e, struct record *r)
{
	aq_list_remove(&r->link);
	aq_list_remove(&r->of_source);
	e->source[r->source].count--;
	e->count--;
	json_decref(r->json);
	free(r);
}

void aqd_events_free(struct aqd *d)
{
	struct aqd_events *e = d->events;

	if (!e)
		return;
	while (!aq_list_empty(&e->records))
		forget(e, aq_container_of(e->records.next, struct record, link));
	free(e);
	d->events = NULL;
}

static uint32_t source_of(const char *name)
{
	uint32_t hash = 2166136261u; /* FNV-1a; Source: RFC 9923 */

	for (; name && *name; name++)
		hash = (hash ^ (unsigned char)*name) * 16777619u;
	return hash % SOURCES;
}

static void keep(struct aqd_events *e, const char *name, uint64_t seq, json_t *json)
{
	struct record *r = calloc(1, sizeof(*r));
	uint32_t source = source_of(name);

	if (!r)
		return;
	if (e->source[source].count >= AQD_EVENTS_SOURCE_MAX)
		forget(e,
		       aq_container_of(e->source[source].records.next, struct record, of_source));
	if (e->count >= AQD_EVENTS_MAX)
		forget(e, aq_container_of(e->records.next, struct record, link));
	r->seq = seq;
	r->source = source;
	r->json = json_incref(json);
	aq_list_append(&e->records, &r->link);
	aq_list_append(&e->source[source].records, &r->of_source);
	e->source[source].count++;
	e->count++;
}

static json_t *time_now(void)
{
	struct timespec now;
	struct tm tm;
	char text[40];
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, sizeof(text) - n, ".%03ldZ", now.tv_nsec / 1000000);
	return json_string(text);
}

static void set_bytes(json_t *o, const char *key, uint64_t bytes)
{
	if (bytes != AQD_NO_BYTES)
		json_object_set_new(o, key, json_integer((json_int_t)bytes));
}

/* Words of clients end up on terminals: nothing but plain characters goes through. */
static void make_plain(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
}

static void set_text(json_t *o, const char *key, const char *text)
{
	char plain[TEXT_BYTES];

	if (text) {
		snprintf(plain, sizeof(plain), "%s", text);
		make_plain(plain);
	}
	json_object_set_new(o, key, text ? json_string(plain) : json_null());
}

static json_t *make_json(uint64_t seq, enum aqd_event_type type,
			 const struct aqd_event_facts *facts, const char *name, const char *text)
{
	json_t *o = json_object();

	if (!o)
		return NULL;
	json_object_set_new(o, "seq", json_integer((json_int_t)seq));
	json_object_set_new(o, "time", time_now());
	set_text(o, "type", words[type]);
	set_text(o, "fraction", name);
	json_object_set_new(o, "pid", facts->pid > 0 ? json_integer(facts->pid) : json_null());
	set_text(o, "device", facts->device ? facts->device->uuid : NULL);
	set_text(o, "text", text);
	if (facts->reason)
		set_text(o, "reason", facts->reason);
	if (facts->api && facts->api[0])
		set_text(o, "api", facts->api);
	set_bytes(o, "asked_bytes", facts->asked_bytes);
	set_bytes(o, "used_bytes", facts->used_bytes);
	set_bytes(o, "limit_bytes", facts->limit_bytes);
	set_bytes(o, "free_bytes", facts->free_bytes);
	return o;
}

/* What tenants can cause as often as they like must not fill the log: the ring has it. */
static enum aq_log_level level_of(enum aqd_event_type type)
{
	switch (type) {
	case AQD_EVENT_attached:
	case AQD_EVENT_detached:
	case AQD_EVENT_denied:
	case AQD_EVENT_rejected:
	case AQD_EVENT_babbled:
	case AQD_EVENT_refused:
	case AQD_EVENT_overran:
	case AQD_EVENT_returned:
	case AQD_EVENT_parking:
	case AQD_EVENT_lent:
	case AQD_EVENT_parked:
	case AQD_EVENT_resuming:
	case AQD_EVENT_resumed:
		return AQ_LOG_DEBUG;
	case AQD_EVENT_lied:
	case AQD_EVENT_foreign:
	case AQD_EVENT_over_limit:
	case AQD_EVENT_park_failed:
	case AQD_EVENT_thrash:
	case AQD_EVENT_reclaim_kill:
	case AQD_EVENT_resume_failed:
		return AQ_LOG_WARN;
	default:
		return AQ_LOG_INFO;
	}
}

void aqd_event(struct aqd *d, enum aqd_event_type type, const struct aqd_event_facts *facts,
	       const char *format, ...)
{
	const char *name = facts->fraction ? facts->fraction->name : facts->name;
	struct aqd_events *e = d->events;
	struct aqd_follower *f, *tmp;
	char text[TEXT_BYTES];
	json_t *json;
	va_list ap;

	if (d->taking_down) /* what ends only in memory goes on outside */
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	make_plain(text);
	aq_log(level_of(type), "%s%s%s: %s", words[type], name ? " " : "", name ? name : "", text);

	e->counts[type]++;
	json = make_json(e->next_seq, type, facts, name, text);
	if (!json) {
		aq_error("event lost: out of memory");
		return;
	}
	keep(e, name, e->next_seq, json);
	e->next_seq++;
	AQ_LIST_FOREACH (f, tmp, &e->followers, link)
		f->heard(f, json);
	json_decref(json);
}

json_t *aqd_events_json(struct aqd *d, uint64_t since, uint64_t limit)
{
	struct aq_list *all = &d->events->records, *from = all;
	json_t *array = json_array();

	if (!array)
		return NULL;
	/* Back from the newest, as far as wanted, then forward. */
	for (; limit && from->prev != all; limit--) {
		struct record *r = aq_container_of(from->prev, struct record, link);

		if (r->seq <= since)
			break;
		from = from->prev;
	}
	for (; from != all; from = from->next)
		json_array_append(array, aq_container_of(from, struct record, link)->json);
	return array;
}

uint64_t aqd_events_count(const struct aqd *d, enum aqd_event_type type)
{
	return d->events->counts[type];
}

void aqd_events_follow(struct aqd *d, struct aqd_follower *f)
{
	aq_list_append(&d->events->followers, &f->link);
}

void aqd_events_unfollow(struct aqd_follower *f)
{
	aq_list_remove(&f->link);
}
