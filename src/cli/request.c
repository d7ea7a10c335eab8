/* SPDX-License-Identifier: Apache-2.0 */
/* Checks what was asked for as far as it can be checked without a daemon, and writes it as JSON. */
#include "cli/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <aliquot/abi.h>

#include "base/cleanup.h"
#include "base/name.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/text.h"
#include "base/banned.h"

#define MAX_SIM_COUNT AQ_MAX_DEVICES
#define MAX_INDEX 1023 /* far above any machine: only typing errors are meant to be caught */
#define PROFILE_BYTES 32

static const char *const priorities[] = {"low", "normal", "high", NULL};

/* The simulator's own list has the figures; tests compare the two. */
#define PROFILES(P)                                                                                \
	P("h100") P("h100-nvl") P("h200") P("a100-40") P("a100-80") P("b200") P("l40s") P("rtx4090")
#define WITH_COMMA(p) p,
#define WITH_BLANK(p) p " "
static const char *const profiles[] = {PROFILES(WITH_COMMA) NULL};
const char aq_request_profiles[] = PROFILES(WITH_BLANK);

static int refuse(const char *verb, const char *option, const char *value, const char *reason)
{
	aq_say("%s: --%s '%s': %s", verb, option, value, reason);
	return -EINVAL;
}

static int take_size(const char *verb, const char *option, const char *value, uint64_t *ret_bytes)
{
	int r = aq_size_parse(value, ret_bytes);

	if (!r)
		return 0;
	return refuse(verb, option, value, r == -ERANGE ?
		      "larger than any device" :
		      "not a size: write 20G, 512M, 1.5GiB or bytes (powers of 1024)");
}

static int take_share(const char *verb, const char *option, const char *value,
		      uint32_t *ret_permille)
{
	uint64_t whole;

	if (!aq_share_parse(value, ret_permille))
		return 0;
	/* Only run has --gpus. */
	if (!strcmp(verb, "run") && !strcmp(option, "gpu") &&
	    !aq_uint_parse(value, 2, AQ_MAX_DEVICES, &whole)) {
		aq_say("%s: --gpu '%s': not a share of one device (0.01 to 1): write --gpus %s for "
		       "%s whole devices", verb, value, value, value);
		return -EINVAL;
	}
	return refuse(verb, option, value, "not a share: write 0.01 to 1, at most three decimals");
}

static int take_priority(const char *verb, const char *value, const char **ret_priority)
{
	const char *near;

	for (size_t i = 0; priorities[i]; i++) {
		if (!strcmp(value, priorities[i])) {
			*ret_priority = priorities[i];
			return 0;
		}
	}
	near = aq_opt_nearest(value, priorities);
	if (near)
		aq_say("%s: --priority '%s': not low, normal or high: did you mean %s?", verb,
		       value, near);
	else
		aq_say("%s: --priority '%s': not low, normal or high", verb, value);
	return -EINVAL;
}

static int take_device(const char *verb, const char *value, const char **ret_device)
{
	uint8_t uuid[16];
	uint64_t index;

	if (strcmp(value, "auto") && aq_uint_parse(value, 0, MAX_INDEX, &index) < 0 &&
	    aq_uuid_parse(value, uuid) < 0)
		return refuse(verb, "device", value,
			      "not a device: write auto, an index or a UUID of 'aliquot devices'");
	*ret_device = value;
	return 0;
}

static int take_wait(const char *verb, const char *value, int64_t *ret_ms)
{
	uint64_t ns;

	if (!value) {
		*ret_ms = -1;
		return 0;
	}
	if (aq_duration_parse(value, &ns) < 0)
		return refuse(verb, "wait", value,
			      "not a duration: write 30s, 5m, 2h, or --wait alone for ever");
	*ret_ms = (int64_t)((ns + AQ_NS_PER_MS - 1) / AQ_NS_PER_MS);
	return 0;
}

int aq_request_check_name(const char *verb, const char *name)
{
	if (aq_name_valid(name))
		return 0;
	aq_say("%s: '%s': not a name: 1 to 63 letters, digits, '.', '_' or '-', the first a letter "
	       "or digit", verb, name);
	return -EINVAL;
}

static int take_name(const char *verb, const char *option, const char *value, const char **ret_name)
{
	if (!aq_name_valid(value))
		return refuse(verb, option, value,
			      "not a name: 1 to 63 letters, digits, '.', '_' or '-', the first a "
			      "letter or digit");
	*ret_name = value;
	return 0;
}

int aq_request_check_sim(const char *verb, const char *spec)
{
	char profile[PROFILE_BYTES];
	const char *colon = strchr(spec, ':');
	size_t len = colon ? (size_t)(colon - spec) : strlen(spec);
	const char *near = NULL;
	uint64_t count;
	bool known = false;

	if (len < sizeof(profile)) {
		memcpy(profile, spec, len);
		profile[len] = '\0';
		for (size_t i = 0; profiles[i]; i++)
			known |= !strcasecmp(profile, profiles[i]);
		near = aq_opt_nearest(profile, profiles);
	}
	if (!known) {
		if (near)
			aq_say("%s: --sim '%s': no such profile: did you mean %s?", verb, spec,
			       near);
		else
			aq_say("%s: --sim '%s': no such profile: there are %.*s", verb, spec,
			       (int)strlen(aq_request_profiles) - 1, aq_request_profiles);
		return -EINVAL;
	}
	if (colon && aq_uint_parse(colon + 1, 1, MAX_SIM_COUNT, &count) < 0) {
		aq_say("%s: --sim '%s': the count is 1 to %u", verb, spec, MAX_SIM_COUNT);
		return -EINVAL;
	}
	return 0;
}

static int take_gpus(const char *verb, const char *value, uint64_t *ret_gpus)
{
	uint32_t permille;

	if (!aq_uint_parse(value, 1, AQ_MAX_DEVICES, ret_gpus))
		return 0;
	if (!aq_share_parse(value, &permille)) {
		aq_say("%s: --gpus '%s': a number of devices, 1 to %u: write --gpu %s for a share "
		       "of one", verb, value, AQ_MAX_DEVICES, value);
		return -EINVAL;
	}
	aq_say("%s: --gpus '%s': a number of devices, 1 to %u", verb, value, AQ_MAX_DEVICES);
	return -EINVAL;
}

static int take_duration(const char *verb, const char *option, const char *value, uint64_t *ret_ms)
{
	uint64_t ns;

	if (aq_duration_parse(value, &ns) < 0)
		return refuse(verb, option, value, "not a duration: write 500ms, 30s, 5m, 2h");
	*ret_ms = ns / AQ_NS_PER_MS;
	return 0;
}

int aq_request_take(struct aq_request *q, const char *verb, int id, const char *value)
{
	switch (id) {
	case AQ_OPT_GPU:
		q->has_gpu = true;
		return take_share(verb, "gpu", value, &q->gpu_permille);
	case AQ_OPT_GPUS:
		q->has_gpus = true;
		return take_gpus(verb, value, &q->gpus);
	case AQ_OPT_MEMORY:
		q->has_memory = true;
		return take_size(verb, "memory", value, &q->memory_bytes);
	case AQ_OPT_MEMORY_LIMIT:
		q->has_memory_limit = true;
		return take_size(verb, "memory-limit", value, &q->memory_limit_bytes);
	case AQ_OPT_COMPUTE:
		q->has_compute = true;
		return take_share(verb, "compute", value, &q->compute_permille);
	case AQ_OPT_COMPUTE_LIMIT:
		q->has_compute_limit = true;
		return take_share(verb, "compute-limit", value, &q->compute_limit_permille);
	case AQ_OPT_PRIORITY:
		return take_priority(verb, value, &q->priority);
	case AQ_OPT_NAME:
		return take_name(verb, "name", value, &q->name);
	case AQ_OPT_PROJECT:
		return take_name(verb, "project", value, &q->project);
	case AQ_OPT_DEVICE:
		return take_device(verb, value, &q->device);
	case AQ_OPT_SIM:
		q->sim = value;
		return aq_request_check_sim(verb, value);
	case AQ_OPT_WAIT:
		q->has_wait = true;
		return take_wait(verb, value, &q->wait_ms);
	case AQ_OPT_PARK_IDLE:
		q->has_park_idle = true;
		return take_duration(verb, "park-idle", value, &q->park_idle_ms);
	default:
		return -ENOENT;
	}
}

int aq_request_check(const struct aq_request *q, const char *verb)
{
	char a[AQ_SIZE_TEXT], b[AQ_SIZE_TEXT];

	if (q->has_memory_limit && !q->memory_limit_bytes)
		return refuse(verb, "memory-limit", "0", "a fraction needs some memory");
	if (q->has_memory && !q->memory_bytes && !q->has_memory_limit)
		return refuse(verb, "memory", "0", "guarantees nothing: give --memory-limit too");
	if (q->has_memory && q->has_memory_limit && q->memory_limit_bytes < q->memory_bytes) {
		aq_say("%s: --memory-limit '%s': below --memory %s", verb,
		       aq_size_format(q->memory_limit_bytes, a),
		       aq_size_format(q->memory_bytes, b));
		return -EINVAL;
	}
	if (q->has_compute && q->has_compute_limit &&
	    q->compute_limit_permille < q->compute_permille) {
		aq_say("%s: --compute-limit '%s': below --compute %s", verb,
		       aq_text_share(q->compute_limit_permille, a),
		       aq_text_share(q->compute_permille, b));
		return -EINVAL;
	}
	if (q->has_gpus && q->gpus > 1 && q->device && strcmp(q->device, "auto")) {
		aq_say("%s: --device '%s': names one device, but --gpus %llu asks for more", verb,
		       q->device, (unsigned long long)q->gpus);
		return -EINVAL;
	}
	return 0;
}

bool aq_request_empty(const struct aq_request *q)
{
	return !q->has_gpu && !q->has_memory && !q->has_memory_limit && !q->has_compute &&
	       !q->has_compute_limit && !q->priority;
}

/* Both give the object up when memory is out: half a request asks for something else. */
static void set(json_t **o, const char *key, json_t *value)
{
	if (!*o || !json_object_set_new(*o, key, value))
		return;
	json_decref(*o);
	*o = NULL;
}

static void set_int(json_t **o, const char *key, bool given, int64_t value)
{
	if (given && *o)
		set(o, key, json_integer(value));
}

static void set_text(json_t **o, const char *key, const char *value)
{
	if (value && *o)
		set(o, key, json_string(value));
}

json_t *aq_request_json(const struct aq_request *q)
{
	json_t *o = json_object();
	uint64_t index;

	set_text(&o, "name", q->name);
	set_text(&o, "project", q->project);
	set_text(&o, "priority", q->priority);
	set_int(&o, "gpus", q->has_gpus, (int64_t)q->gpus);
	set_int(&o, "gpu_permille", q->has_gpu, q->gpu_permille);
	set_int(&o, "memory_request_bytes", q->has_memory, (int64_t)q->memory_bytes);
	set_int(&o, "memory_limit_bytes", q->has_memory_limit, (int64_t)q->memory_limit_bytes);
	set_int(&o, "compute_request_permille", q->has_compute, q->compute_permille);
	set_int(&o, "compute_limit_permille", q->has_compute_limit, q->compute_limit_permille);
	if (q->device && !aq_uint_parse(q->device, 0, MAX_INDEX, &index))
		set_int(&o, "device", true, (int64_t)index);
	else
		set_text(&o, "device", q->device);
	set_text(&o, "sim", q->sim);
	if (q->force_park && o && json_object_set_new(o, "force_park", json_true()) < 0) {
		json_decref(o);
		o = NULL;
	}
	set_int(&o, "park_idle_ms", q->has_park_idle, (int64_t)q->park_idle_ms);
	set_int(&o, "wait_ms", q->has_wait, q->wait_ms);
	return o;
}

/* Length of the valid UTF-8 sequence at @p, 0 if there is none. Strict enough for JSON. */
static size_t utf8_length(const unsigned char *p)
{
	size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 :
		   *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if (n == 3 && ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0)))
		return 0;
	if (n == 4 && ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] >= 0x90)))
		return 0;
	return n;
}

char *aq_request_command(char *const *argv, char *buf)
{
	size_t at = 0;

	for (; *argv; argv++) {
		if (at && at < AQ_REQUEST_COMMAND - 1)
			buf[at++] = ' ';
		for (const unsigned char *p = (const unsigned char *)*argv; *p;) {
			size_t n = utf8_length(p);

			if (at + (n ? n : 1) >= AQ_REQUEST_COMMAND)
				goto full;
			if (n)
				memcpy(buf + at, p, n);
			else
				buf[at] = '?';
			at += n ? n : 1;
			p += n ? n : 1;
		}
	}
full:
	buf[at] = '\0';
	return aq_say_scrub(buf);
}
