/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of $ALIQUOT_SIM_FAULT. See fault.h. */
#include "fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "base/banned.h"

#define MAX_RULES 64

struct rule {
	char api[64];
	unsigned long first, last; /* calls that fail */
	CUresult code;
	unsigned long calls; /* so far; atomic */
};

static struct rule rules[MAX_RULES]; /* written once, by parse() */
static size_t n_rules;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* One rule at *@text; moves it behind the rule. */
static bool parse_rule(const char **text, struct rule *r)
{
	const char *s = *text;
	size_t length = strcspn(s, ":=,");
	char *end;

	if (length == 0 || length >= sizeof(r->api) || s[length] != ':')
		return false;
	memcpy(r->api, s, length);
	s += length + 1;
	if (*s == '*') {
		r->first = 1;
		r->last = (unsigned long)-1;
		s++;
	} else {
		r->first = r->last = strtoul(s, &end, 10);
		if (end == s || r->first == 0)
			return false;
		s = end;
		if (*s == '+') {
			r->last = (unsigned long)-1;
			s++;
		}
	}
	if (*s++ != '=')
		return false;
	r->code = (CUresult)strtoul(s, &end, 10);
	if (end == s || (*end && *end != ','))
		return false;
	*text = *end ? end + 1 : end;
	return true;
}

static void parse(void)
{
	const char *text = getenv("ALIQUOT_SIM_FAULT");

	while (text && *text) {
		if (n_rules == MAX_RULES || !parse_rule(&text, &rules[n_rules])) {
			fprintf(stderr, "libcuda (simulated): bad ALIQUOT_SIM_FAULT at '%s'\n",
				text);
			break;
		}
		n_rules++;
	}
	sim.faults = n_rules > 0;
}

void sim_fault_init(void)
{
	pthread_once(&once, parse);
}

CUresult sim_fault(const char *api)
{
	CUresult code = CUDA_SUCCESS;

	for (size_t i = 0; i < n_rules; i++) {
		unsigned long call;

		if (strcmp(rules[i].api, api) != 0)
			continue;
		call = __atomic_add_fetch(&rules[i].calls, 1, __ATOMIC_RELAXED);
		if (code == CUDA_SUCCESS && call >= rules[i].first && call <= rules[i].last)
			code = rules[i].code;
	}
	return code;
}
