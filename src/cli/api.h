/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's HTTP API over its unix socket, one request at a time. */
#ifndef AQ_CLI_API_H
#define AQ_CLI_API_H

#include <stdbool.h>

#include <jansson.h>

#include "base/paths.h"
#include "cli/http.h"

struct aq_api {
	char rundir[AQ_PATH_BYTES]; /* of the daemon that listens */
	char socket[AQ_PATH_BYTES]; /* its api.sock */
	bool system;                /* it is the system's, not the user's own */
	bool started;               /* by aq_api_open() just now */
};

/* Freed by aq_api_reply_finish(). */
struct aq_api_reply {
	long status;  /* HTTP */
	json_t *body; /* NULL if it was none */
};

enum aq_api_need {
	AQ_API_LISTENING, /* only a daemon that listens already; not asked anything, so never waited for */
	AQ_API_RUNNING,   /* one that runs, or has died and left fractions: it is started anew */
	AQ_API_START,     /* else start a private one */
};

/**
 * aq_api_open() - find the daemon: the user's own if it listens, else the system's, else see @need.
 * One that listens and does not answer is waited for, which is said after a while.
 * @what: `run 'chat'`: what is being done, for the complaint
 * @sim:  spec of simulated devices for a daemon that has to be started, or NULL
 * Return: 0; -ECONNREFUSED none listens (all but AQ_API_START; nothing said); other negative errno after
 *         one line on stderr
 */
int aq_api_open(struct aq_api *a, enum aq_api_need need, const char *what, const char *sim);

/**
 * aq_api_listens() - try one daemon's directory.
 * @rundir: an absent or foreign directory is refused before anything is sent
 * Return: 0; -ENOENT, -ECONNREFUSED none; -EPERM the directory or the peer is somebody else's
 */
int aq_api_listens(const char *rundir, bool is_system);

/**
 * aq_api_call() - one request and its answer.
 * @body:       JSON or NULL; not consumed
 * @timeout_ms: 0 for ever
 * @wait:       may be NULL
 * Return: 0 an answer came, whatever its status; negative errno none came (nothing said)
 */
int aq_api_call(struct aq_api *a, const char *method, const char *path, const json_t *body,
		uint64_t timeout_ms, aq_http_wait wait, void *wait_arg, struct aq_api_reply *reply);
void aq_api_reply_finish(struct aq_api_reply *reply);

/* One JSON document of a stream. Not 0 ends the stream. */
typedef int (*aq_api_line_fn)(void *arg, json_t *line);

/* GET @path and hand over each line until the daemon closes. Return: as aq_api_call(). */
int aq_api_stream(struct aq_api *a, const char *path, aq_api_line_fn line, void *arg);

/**
 * aq_api_get() - GET with complaints.
 * @what: `ps`, for the complaint
 * Return: the body, owned by the caller; NULL after one line on stderr
 */
json_t *aq_api_get(struct aq_api *a, const char *path, const char *what);

/**
 * aq_api_complain() - say why the daemon refused, and what is free if it told.
 * @what: `resize`; @object: a name, or NULL
 */
void aq_api_complain(const char *what, const char *object, const struct aq_api_reply *reply);

/* One line: no answer came. @error: of aq_api_call(). */
void aq_api_complain_silence(const struct aq_api *a, const char *what, const char *object,
			     int error);

/* The exit status of a verb but `run` for an HTTP status: 0, 1, or 2 for 400. */
int aq_api_exit_status(long http);

/* What is free, from a refusal's body, as one line without the prefix. False if it says nothing. */
bool aq_api_free_text(const json_t *body, char *buf, size_t size);

/* Whether a process is stopped (SIGSTOP, Ctrl-Z, a debugger), the daemon or whom it waits for. */
bool aq_api_is_stopped(pid_t pid);

#endif /* AQ_CLI_API_H */
