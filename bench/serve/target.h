/* SPDX-License-Identifier: Apache-2.0 */
/* Whom the load goes to, and how much of it. */
#ifndef AQ_SERVE_TARGET_H
#define AQ_SERVE_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "serve/lengths.h"

#define AQ_TARGET_NAME 64
#define AQ_TARGET_MODEL 256
#define AQ_TARGET_PATH 256
#define AQ_TARGETS_MAX 64
#define AQ_USERS_MAX 20000u
#define AQ_RATE_MAX 100000.0
#define AQ_PLAN_STEPS 32

enum aq_serve_api { AQ_SERVE_CHAT, AQ_SERVE_COMPLETIONS, AQ_SERVE_EMBEDDINGS };

/* From @at_ns of the run on, so many users. */
struct aq_plan_step {
	uint64_t at_ns;
	uint32_t users;
};

struct aq_target {
	char name[AQ_TARGET_NAME];   /* in results; unique */
	char host[256];              /* name or address, without brackets */
	uint16_t port;
	char path[AQ_TARGET_PATH];   /* base, "/v1" for short: "/chat/completions" comes behind */
	char model[AQ_TARGET_MODEL]; /* "" ask the server */
	enum aq_serve_api api;
	struct aq_plan_step plan[AQ_PLAN_STEPS]; /* closed loop; the first is at 0 */
	size_t steps;
	double rate;                 /* open loop: requests a second; 0 closed loop */
	struct aq_dist isl, osl;
	struct sockaddr_storage address; /* by aq_target_resolve() */
	socklen_t address_size;
};

/* `chat`, `completions`, `embeddings`. Return: an api or -EINVAL. */
int aq_target_api_parse(const char *text);
const char *aq_target_api_name(enum aq_serve_api api);

/**
 * aq_target_plan() - `40`, or `4/40@30s/10@1m`: users from the beginning, from 30 s on, ...
 * Return: 0; -EINVAL; -ERANGE too many users or steps, or times that do not grow
 */
int aq_target_plan(const char *text, struct aq_target *t);

/* A rate of requests a second. Return: 0; -EINVAL; -ERANGE. */
int aq_target_rate(const char *text, double *ret_rate);

/**
 * aq_target_parse() - `[NAME=]http://HOST[:PORT][/BASE][,KEY=VALUE...]`, with the keys model, api,
 * users, rate, isl and osl.
 * @defaults: what is not said; its own name and URL are not used
 * @number: names a target without NAME: `target-NUMBER`
 * @ret_why: static text on failure: what is wrong, to stand behind the text
 * Return: 0; -EINVAL
 */
int aq_target_parse(const char *text, const struct aq_target *defaults, unsigned int number,
		    struct aq_target *ret_target, const char **ret_why);

/* Look up the host; may take the resolver's time. Return: 0, or a code for gai_strerror(3). */
int aq_target_resolve(struct aq_target *t);

/**
 * aq_target_ask_model() - fill in the model with the first one that the server lists.
 * @headers: more lines of the request, each ended by CR LF, or ""
 * Return: 0 (at once when there is one); -ECONNREFUSED, -ETIMEDOUT, -EPROTO, -ENOENT, -EBADMSG
 */
int aq_target_ask_model(struct aq_target *t, const char *headers, uint64_t timeout_ns);

/* The users that the plan wants @since_ns after the beginning, and the most it ever wants. */
uint32_t aq_target_users(const struct aq_target *t, uint64_t since_ns);
uint32_t aq_target_users_most(const struct aq_target *t);

#endif /* AQ_SERVE_TARGET_H */
