/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what people write about targets, and asks a server for its model. Sends no load. */
#include "serve/target.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "base/timing.h"
#include "serve/answer.h"
#include "serve/ask.h"
#include "base/banned.h"

#define DEFAULT_PORT 80

static const char *const api_names[] = {"chat", "completions", "embeddings"};

int aq_target_api_parse(const char *text)
{
	for (size_t i = 0; i < AQ_ARRAY_SIZE(api_names); i++)
		if (!strcmp(text, api_names[i]))
			return (int)i;
	return -EINVAL;
}

const char *aq_target_api_name(enum aq_serve_api api)
{
	return api_names[api];
}

/* `N` at the beginning, `N@TIME` behind it. */
static int parse_step(char *text, struct aq_target *t)
{
	struct aq_plan_step *step = &t->plan[t->steps];
	char *at = strchr(text, '@');
	uint64_t users;
	int r;

	if (t->steps == AQ_PLAN_STEPS)
		return -ERANGE;
	if (!at != !t->steps)
		return -EINVAL;
	step->at_ns = 0;
	if (at) {
		*at = '\0';
		r = aq_duration_parse(at + 1, &step->at_ns);
		if (r < 0)
			return r;
		if (step->at_ns <= step[-1].at_ns)
			return -ERANGE;
	}
	r = aq_uint_parse(text, 0, AQ_USERS_MAX, &users);
	if (r < 0)
		return r;
	step->users = (uint32_t)users;
	t->steps++;
	return 0;
}

int aq_target_plan(const char *text, struct aq_target *t)
{
	AQ_CLEANUP(free) char *copy = strdup(text);
	char *rest = copy, *step;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	t->steps = 0;
	while (!r && (step = strsep(&rest, "/")))
		r = parse_step(step, t);
	return !r && !aq_target_users_most(t) ? -ERANGE : r;
}

int aq_target_rate(const char *text, double *ret_rate)
{
	char *end;
	double rate;

	if (!*text || text[strspn(text, "0123456789.")])
		return -EINVAL;
	rate = strtod(text, &end);
	if (*end)
		return -EINVAL;
	if (!(rate > 0) || rate > AQ_RATE_MAX)
		return -ERANGE;
	*ret_rate = rate;
	return 0;
}

/* HOST[:PORT], with [..] around an IPv6 address. */
static bool parse_host(const char *text, size_t size, struct aq_target *t)
{
	const char *end = text + size, *host_end;
	uint64_t port = DEFAULT_PORT;
	char digits[8];

	if (size && *text == '[') {
		text++;
		host_end = memchr(text, ']', (size_t)(end - text));
		if (!host_end || (host_end + 1 < end && host_end[1] != ':'))
			return false;
	} else {
		host_end = memchr(text, ':', size);
		if (!host_end)
			host_end = end;
	}
	if (host_end == text || (size_t)(host_end - text) >= sizeof(t->host))
		return false;
	snprintf(t->host, sizeof(t->host), "%.*s", (int)(host_end - text), text);
	if (t->host[strcspn(t->host, " \"\\<>@?#%")])
		return false;
	if (*host_end == ']')
		host_end++;
	if (host_end < end) {
		if (end - host_end > 6)
			return false;
		snprintf(digits, sizeof(digits), "%.*s", (int)(end - host_end - 1), host_end + 1);
		if (aq_uint_parse(digits, 1, UINT16_MAX, &port) < 0)
			return false;
	}
	t->port = (uint16_t)port;
	return true;
}

/* Goes into the request line as it is. */
static bool parse_path(const char *path, struct aq_target *t)
{
	size_t n = strlen(path);

	while (n && path[n - 1] == '/')
		n--;
	if (n >= sizeof(t->path))
		return false;
	for (size_t i = 0; i < n; i++)
		if (path[i] <= ' ' || path[i] == 0x7f || strchr("?#\"", path[i]))
			return false;
	snprintf(t->path, sizeof(t->path), "%.*s", (int)n, path);
	if (!n)
		snprintf(t->path, sizeof(t->path), "/v1");
	return true;
}

static const char *parse_url(const char *url, struct aq_target *t)
{
	size_t host;

	if (!strncasecmp(url, "https://", 8))
		return "https is not spoken: put a proxy that ends TLS in front";
	if (strncasecmp(url, "http://", 7))
		return "no URL: write http://HOST:PORT";
	url += 7;
	host = strcspn(url, "/");
	if (!parse_host(url, host, t))
		return "bad host or port: write http://HOST:PORT";
	return parse_path(url + host, t) ? NULL : "bad or too long path";
}

static const char *take_key(const char *key, const char *value, struct aq_target *t)
{
	int api;

	if (!strcmp(key, "model")) {
		if (!*value || strlen(value) >= sizeof(t->model))
			return "bad model";
		snprintf(t->model, sizeof(t->model), "%s", value);
		return NULL;
	}
	if (!strcmp(key, "api")) {
		api = aq_target_api_parse(value);
		t->api = (enum aq_serve_api)api;
		return api < 0 ? "api is chat, completions or embeddings" : NULL;
	}
	if (!strcmp(key, "users")) {
		t->rate = 0;
		return aq_target_plan(value, t) ? "bad users: write 40, or 4/40@30s" : NULL;
	}
	if (!strcmp(key, "rate"))
		return aq_target_rate(value, &t->rate) ? "bad rate: write 2.5" : NULL;
	if (!strcmp(key, "isl"))
		return aq_dist_parse(value, &t->isl) ? "bad isl" : NULL;
	if (!strcmp(key, "osl"))
		return aq_dist_parse(value, &t->osl) ? "bad osl" : NULL;
	return "unknown key: there are model, api, users, rate, isl, osl";
}

static const char *parse(char *text, struct aq_target *t)
{
	char *rest = text, *first = strsep(&rest, ","), *part;
	char *equals = strchr(first, '='), *scheme = strstr(first, "://");
	const char *why;

	if (equals && (!scheme || equals < scheme)) {
		*equals = '\0';
		if (!*first || strlen(first) >= sizeof(t->name) ||
		    first[strspn(first, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					"0123456789._-")])
			return "bad name: letters, digits, dots, dashes and underscores";
		snprintf(t->name, sizeof(t->name), "%s", first);
		first = equals + 1;
	}
	why = parse_url(first, t);
	while (!why && (part = strsep(&rest, ","))) {
		equals = strchr(part, '=');
		if (!equals)
			return "behind the URL stands KEY=VALUE";
		*equals = '\0';
		why = take_key(part, equals + 1, t);
	}
	return why;
}

int aq_target_parse(const char *text, const struct aq_target *defaults, unsigned int number,
		    struct aq_target *ret_target, const char **ret_why)
{
	struct aq_target t = *defaults;
	AQ_CLEANUP(free) char *copy = strdup(text);
	const char *why;

	snprintf(t.name, sizeof(t.name), "target-%u", number);
	why = copy ? parse(copy, &t) : "out of memory";
	if (why) {
		*ret_why = why;
		return -EINVAL;
	}
	*ret_target = t;
	return 0;
}

int aq_target_resolve(struct aq_target *t)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found;
	char port[8];
	int r;

	snprintf(port, sizeof(port), "%u", t->port);
	r = getaddrinfo(t->host, port, &hints, &found);
	if (r)
		return r;
	memcpy(&t->address, found->ai_addr, found->ai_addrlen);
	t->address_size = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int aq_target_ask_model(struct aq_target *t, const char *headers, uint64_t timeout_ns)
{
	AQ_CLEANUP(free) char *body = NULL;
	char path[AQ_TARGET_PATH + 16];
	size_t size;
	int r;

	if (t->model[0])
		return 0;
	snprintf(path, sizeof(path), "%s/models", t->path);
	r = aq_ask(t, path, headers, timeout_ns, &body, &size);
	return r ? r : aq_answer_model(body, size, t->model, sizeof(t->model));
}

uint32_t aq_target_users(const struct aq_target *t, uint64_t since_ns)
{
	uint32_t users = 0;

	for (size_t i = 0; i < t->steps && t->plan[i].at_ns <= since_ns; i++)
		users = t->plan[i].users;
	return users;
}

uint32_t aq_target_users_most(const struct aq_target *t)
{
	uint32_t most = 0;

	for (size_t i = 0; i < t->steps; i++)
		if (t->plan[i].users > most)
			most = t->plan[i].users;
	return most;
}
