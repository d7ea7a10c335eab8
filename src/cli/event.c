/* SPDX-License-Identifier: Apache-2.0 */
/* Writes events as lines. Keeps none. */
#include "cli/event.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/timing.h"
#include "cli/json.h"
#include "cli/say.h"
#include "base/banned.h"

static void format_time(const char *text, char *buf)
{
	struct tm utc = {0}, local;
	time_t when;

	if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &utc)) {
		snprintf(buf, AQ_EVENT_TIME, "%.20s", text);
		return;
	}
	when = timegm(&utc);
	localtime_r(&when, &local);
	strftime(buf, AQ_EVENT_TIME, "%b %d %H:%M:%S", &local);
}

char *aq_event_line(const json_t *event, char *buf)
{
	const char *fraction = aq_json_text(event, "fraction", "");
	char when[AQ_EVENT_TIME];

	format_time(aq_json_text(event, "time", "?"), when);
	snprintf(buf, AQ_EVENT_LINE, "%s  %-13s %-12s  %s", when, aq_json_text(event, "type", "?"),
		 *fraction ? fraction : "-", aq_json_text(event, "text", ""));
	return aq_say_scrub(buf);
}

char *aq_event_time_before(uint64_t ns, char *buf)
{
	struct timespec now;
	struct tm utc;
	time_t when;

	clock_gettime(CLOCK_REALTIME, &now);
	when = now.tv_sec - (time_t)(ns / AQ_NS_PER_S);
	gmtime_r(&when, &utc);
	strftime(buf, AQ_EVENT_TIME, "%Y-%m-%dT%H:%M:%S", &utc);
	return buf;
}
