/* SPDX-License-Identifier: Apache-2.0 */
/* What `run` and `resize` ask for: from options to the API's JSON. Pure but for complaints. */
#ifndef AQ_CLI_REQUEST_H
#define AQ_CLI_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

/* The longest command line that is kept for display. */
#define AQ_REQUEST_COMMAND 256

struct aq_request {
	/* Which of these were given; the daemon has the defaults of all others. */
	bool has_gpu, has_gpus, has_memory, has_memory_limit, has_compute, has_compute_limit;
	bool has_wait, has_park_idle, force_park;
	uint32_t gpu_permille;     /* 10..1000 */
	uint64_t gpus;             /* 1..AQ_MAX_DEVICES */
	uint64_t memory_bytes;     /* request on each device */
	uint64_t memory_limit_bytes;
	uint32_t compute_permille, compute_limit_permille;
	int64_t wait_ms;           /* -1 for ever */
	uint64_t park_idle_ms;     /* 0: never */
	const char *priority, *name, *project, *device, *sim; /* NULL when not given */
};

/**
 * aq_request_take() - read one option's value.
 * @verb: for the complaint
 * @id:   enum aq_opt_id
 * Return: 0; -EINVAL after one line on stderr that names the value and what is accepted;
 *         -ENOENT @id is none of a request's
 */
int aq_request_take(struct aq_request *q, const char *verb, int id, const char *value);

/* What contradicts itself. Return: 0; -EINVAL after one line on stderr. */
int aq_request_check(const struct aq_request *q, const char *verb);

/* True when nothing that `resize` could change was given. */
bool aq_request_empty(const struct aq_request *q);

/* The body for POST and PATCH. Returns NULL without memory. Caller owns it. */
json_t *aq_request_json(const struct aq_request *q);

/* PROFILE[:COUNT]. Return: 0; -EINVAL after one line on stderr. */
int aq_request_check_sim(const char *verb, const char *spec);

/* A name as operand. Return: 0; -EINVAL after one line on stderr. */
int aq_request_check_name(const char *verb, const char *name);

/* @argv joined by blanks as valid UTF-8, cut to fit @buf of AQ_REQUEST_COMMAND. Returns @buf. */
char *aq_request_command(char *const *argv, char *buf);

/* Profiles of simulated devices, by blanks: for completion and for complaints. */
extern const char aq_request_profiles[];

#endif /* AQ_CLI_REQUEST_H */
