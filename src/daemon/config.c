/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the configuration with libyaml. Applies nothing. */
#include "daemon/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <yaml.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/size.h"
#include "base/timing.h"
#include "core/reclaim.h"
#include "base/banned.h"

#define COUNT_MAX 1000u
#define CONFIG_MAX_BYTES (64u * 1024)

enum value_kind { VALUE_BOOL, VALUE_DURATION, VALUE_LEVEL, VALUE_SIZE, VALUE_COUNT };

/* Every key once. Sizes are `64G`, `512M`. Durations are `2s`, `500ms`; 0 is allowed where it means "never". */
static const struct key {
	const char *name;
	enum value_kind kind;
	size_t offset;
} keys[] = {
	{"fail_open", VALUE_BOOL, offsetof(struct aqd_config, fail_open)},
	{"allow_kill", VALUE_BOOL, offsetof(struct aqd_config, allow_kill)},
	{"reclaim_kill", VALUE_BOOL, offsetof(struct aqd_config, reclaim_kill)},
	{"residence_factor", VALUE_COUNT, offsetof(struct aqd_config, residence_factor)},
	{"linger", VALUE_DURATION, offsetof(struct aqd_config, linger_ns)},
	{"idle_exit", VALUE_DURATION, offsetof(struct aqd_config, idle_exit_ns)},
	{"move_timeout", VALUE_DURATION, offsetof(struct aqd_config, move_timeout_ns)},
	{"host_memory", VALUE_SIZE, offsetof(struct aqd_config, host_memory_bytes)},
	{"host_memory_per_fraction", VALUE_SIZE,
	 offsetof(struct aqd_config, host_memory_fraction_bytes)},
	{"log_level", VALUE_LEVEL, offsetof(struct aqd_config, log_level)},
};

struct reader {
	const char *path;
	char *error;
	size_t error_size;
};

/* What the page cache and programs do with the other half is theirs. */
static uint64_t half_of_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 2 : 0;
}

void aqd_config_init(struct aqd_config *c)
{
	*c = (struct aqd_config){
		.linger_ns = 2 * AQ_NS_PER_S,
		.idle_exit_ns = 5 * AQ_NS_PER_S,
		.move_timeout_ns = 30 * AQ_NS_PER_S,
		.residence_factor = aq_reclaim_defaults.residence_factor,
		.host_memory_bytes = half_of_memory(),
		.host_memory_fraction_bytes = UINT64_MAX,
		.log_level = AQ_LOG_INFO,
	};
}

static int fail(const struct reader *r, size_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(const struct reader *r, size_t line, const char *format, ...)
{
	va_list ap;
	int n = snprintf(r->error, r->error_size, "%s:%zu: ", r->path, line + 1);

	if (n >= 0 && (size_t)n < r->error_size) {
		va_start(ap, format);
		vsnprintf(r->error + n, r->error_size - (size_t)n, format, ap);
		va_end(ap);
	}
	return -EINVAL;
}

static int set_bool(const char *text, bool *ret)
{
	static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no",
									       "off"};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(yes); i++) {
		if (!strcasecmp(text, yes[i])) {
			*ret = true;
			return 0;
		}
		if (!strcasecmp(text, no[i])) {
			*ret = false;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_level(const char *text, enum aq_log_level *ret)
{
	static const char *const names[] = {
		[AQ_LOG_ERROR] = "error",
		[AQ_LOG_WARN] = "warning",
		[AQ_LOG_INFO] = "info",
		[AQ_LOG_DEBUG] = "debug",
	};

	for (size_t i = 0; i < AQ_ARRAY_SIZE(names); i++)
		if (!strcasecmp(text, names[i])) {
			*ret = (enum aq_log_level)i;
			return 0;
		}
	return -EINVAL;
}

static int set_value(const struct reader *r, const struct key *key, const char *text, size_t line,
		     struct aqd_config *c)
{
	void *at = (char *)c + key->offset;
	uint64_t count;

	switch (key->kind) {
	case VALUE_BOOL:
		if (set_bool(text, at) < 0)
			return fail(r, line, "%s: '%.40s' is neither true nor false", key->name,
				    text);
		break;
	case VALUE_DURATION:
		if (aq_duration_parse(text, at) < 0)
			return fail(r, line, "%s: '%.40s' is no duration, such as 500ms, 2s or 5m",
				    key->name, text);
		if (key->offset == offsetof(struct aqd_config, idle_exit_ns))
			c->idle_exit_given = true;
		break;
	case VALUE_SIZE:
		if (aq_size_parse(text, at) < 0)
			return fail(r, line, "%s: '%.40s' is no size, such as 64G or 512M",
				    key->name, text);
		break;
	case VALUE_COUNT:
		if (aq_uint_parse(text, 0, COUNT_MAX, &count) < 0)
			return fail(r, line, "%s: '%.40s' is no number from 0 to %u", key->name,
				    text, COUNT_MAX);
		*(uint32_t *)at = (uint32_t)count;
		break;
	case VALUE_LEVEL:
		if (set_level(text, at) < 0)
			return fail(r, line, "%s: '%.40s' is none of error, warning, info, debug",
				    key->name, text);
		break;
	}
	return 0;
}

static int read_pair(const struct reader *r, const yaml_node_t *name, const yaml_node_t *value,
		     uint32_t *seen, struct aqd_config *c)
{
	const char *text = (const char *)name->data.scalar.value;

	if (name->type != YAML_SCALAR_NODE)
		return fail(r, name->start_mark.line, "a key must be a word");
	for (size_t i = 0; i < AQ_ARRAY_SIZE(keys); i++) {
		if (strcmp(text, keys[i].name))
			continue;
		if (*seen & 1u << i)
			return fail(r, name->start_mark.line, "%s is given twice", text);
		*seen |= 1u << i;
		if (value->type != YAML_SCALAR_NODE)
			return fail(r, value->start_mark.line, "%s must be a single value", text);
		return set_value(r, &keys[i], (const char *)value->data.scalar.value,
				 value->start_mark.line, c);
	}
	return fail(r, name->start_mark.line, "unknown key '%.40s'", text);
}

static int read_document(const struct reader *r, yaml_document_t *doc, struct aqd_config *c)
{
	yaml_node_t *root = yaml_document_get_root_node(doc);
	uint32_t seen = 0;

	if (!root) /* an empty file */
		return 0;
	if (root->type == YAML_SCALAR_NODE && !root->data.scalar.length)
		return 0;
	if (root->type != YAML_MAPPING_NODE)
		return fail(r, root->start_mark.line, "expected lines of `key: value`");
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top;
	     p++) {
		int e = read_pair(r, yaml_document_get_node(doc, p->key),
				  yaml_document_get_node(doc, p->value), &seen, c);

		if (e < 0)
			return e;
	}
	return 0;
}

int aqd_config_load(const char *path, struct aqd_config *ret, char *error, size_t error_size)
{
	struct reader r = {.path = path, .error = error, .error_size = error_size};
	AQ_CLEANUP(free) char *text = NULL;
	struct aqd_config c;
	yaml_parser_t parser;
	yaml_document_t doc;
	ssize_t size;
	int e;

	aqd_config_init(&c);
	size = aq_file_read(path, CONFIG_MAX_BYTES, &text);
	if (size < 0) {
		snprintf(error, error_size, "%s: %s", path, strerror((int)-size));
		return (int)size;
	}
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, (size_t)size);
	if (!yaml_parser_load(&parser, &doc)) {
		e = fail(&r, parser.problem_mark.line, "%s",
			 parser.problem ? parser.problem : "not YAML");
	} else {
		e = read_document(&r, &doc, &c);
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	if (e == 0)
		*ret = c;
	return e;
}
