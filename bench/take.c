/* SPDX-License-Identifier: Apache-2.0 */
/* Checks values of options and says what is wrong with them. */
#include "take.h"

#include <stdio.h>

#include "base/size.h"
#include "base/timing.h"
#include "cli/say.h"
#include "base/banned.h"

int aq_take_bad(const struct aq_verb *verb, const char *option, const char *value, const char *why)
{
	aq_say("%s: --%s '%s': %s", verb->name, option, value, why);
	return AQ_EXIT_USAGE;
}

int aq_take_time(const struct aq_verb *verb, const char *option, const char *value,
		 uint64_t least_ns, uint64_t *ret_ns)
{
	char why[96], least[48] = "";
	uint64_t ns;

	if (!aq_duration_parse(value, &ns) && ns >= least_ns) {
		*ret_ns = ns;
		return -1;
	}
	if (least_ns >= AQ_NS_PER_MS)
		snprintf(least, sizeof(least), " of at least %llums",
			 (unsigned long long)(least_ns / AQ_NS_PER_MS));
	snprintf(why, sizeof(why), "write a time%s, as %s500ms, 30s or 5m", least,
		 least_ns ? "" : "0, ");
	return aq_take_bad(verb, option, value, why);
}

int aq_take_number(const struct aq_verb *verb, const char *option, const char *value, uint64_t min,
		   uint64_t max, uint64_t *ret_value)
{
	char why[64];

	if (!aq_uint_parse(value, min, max, ret_value))
		return -1;
	snprintf(why, sizeof(why), "a number from %llu to %llu", (unsigned long long)min,
		 (unsigned long long)max);
	return aq_take_bad(verb, option, value, why);
}
