/* SPDX-License-Identifier: Apache-2.0 */
/* What each part of the configuration changes in a running daemon. Parses nothing. */
#include "daemon/settings.h"

#include <stdio.h>

#include "base/log.h"
#include "daemon/event.h"
#include "daemon/loop.h"
#include "base/banned.h"

#define ERROR_BYTES 320

int aqd_settings_load(struct aqd *d, char *error, size_t size)
{
	struct aqd_config c;
	int r;

	aqd_config_init(&c);
	if (d->config_path) {
		r = aqd_config_load(d->config_path, &c, error, size);
		if (r < 0)
			return r;
	}
	/* A daemon that somebody started by hand, or the system, stays until it is told to go. */
	if (!c.idle_exit_given && (d->foreground || d->system))
		c.idle_exit_ns = 0;
	d->config = c;
	aq_log_init("aliquotd", c.log_level);
	return 0;
}

void aqd_settings_reload(struct aqd *d)
{
	struct aqd_event_facts facts = aqd_event_none;
	char error[ERROR_BYTES];

	if (!d->config_path) {
		aq_info("SIGHUP: there is no configuration file");
		return;
	}
	if (aqd_settings_load(d, error, sizeof(error)) < 0) {
		aq_error("%s; the configuration stays as it was", error);
		facts.reason = "invalid";
		aqd_event(d, AQD_EVENT_configured, &facts, "not read: %s", error);
		return;
	}
	aqd_loop_used(d);
	aqd_event(d, AQD_EVENT_configured, &facts, "read again from '%s'", d->config_path);
}
