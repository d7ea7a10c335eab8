/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the daemon, talks HTTP to it and says what it answered. Knows no verb. */
#include "cli/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <aliquot/abi.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/size.h"
#include "base/timing.h"
#include "cli/http.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cli/start.h"
#include "cli/text.h"
#include "base/banned.h"

#define REPLY_MAX_BYTES (64u << 20)
#define STAT_MAX_BYTES 4096u
#define CALL_TIMEOUT_MS 30000u
#define SAY_SILENT_AFTER_NS (3 * AQ_NS_PER_S) /* a busy machine is no news */
#define STATE_FILE "state.json"               /* of the daemon; gone when it ends by itself */

struct buffer {
	char *text;
	size_t size;
	/* Streams only. */
	aq_api_line_fn line;
	void *arg;
	int line_result;
};

static int peer_of(int fd, struct ucred *ret_peer)
{
	socklen_t size = sizeof(*ret_peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &size) < 0 ? -errno : 0;
}

/* /tmp is everybody's: a directory or daemon there that is not the user's own is not talked to. */
static int connect_checked(const char *rundir, const char *socket_path, bool is_system)
{
	AQ_CLEANUP(close) int fd = -1;
	struct stat st;
	struct ucred peer;
	int r;

	if (lstat(rundir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode) || (!is_system && st.st_uid != geteuid()) ||
	    (is_system && st.st_uid && st.st_uid != geteuid()))
		return -EPERM;
	fd = aq_paths_connect(socket_path, SOCK_STREAM);
	if (fd < 0)
		return fd;
	r = peer_of(fd, &peer);
	if (r < 0)
		return r;
	if (!is_system && peer.uid && peer.uid != geteuid())
		return -EPERM;
	return aq_steal_fd(&fd);
}

int aq_api_listens(const char *rundir, bool is_system)
{
	char path[AQ_PATH_BYTES];
	int fd, r;

	r = aq_paths_join(path, rundir, AQ_API_SOCKET);
	if (r < 0)
		return r;
	fd = connect_checked(rundir, path, is_system);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int set_place(struct aq_api *a, const char *rundir, bool is_system)
{
	snprintf(a->rundir, sizeof(a->rundir), "%s", rundir);
	a->system = is_system;
	return aq_paths_join(a->socket, rundir, AQ_API_SOCKET);
}

/* Whole lines go to the callback; the rest stays in the buffer. */
static int hand_over_lines(struct buffer *b)
{
	char *start = b->text, *end;

	while ((end = memchr(start, '\n', b->size - (size_t)(start - b->text)))) {
		json_t *line = json_loadb(start, (size_t)(end - start), 0, NULL);
		int r = line ? b->line(b->arg, line) : 0;

		json_decref(line);
		if (r)
			return r;
		start = end + 1;
	}
	b->size -= (size_t)(start - b->text);
	memmove(b->text, start, b->size);
	return 0;
}

static int take_bytes(void *arg, const char *bytes, size_t count)
{
	struct buffer *b = arg;
	char *text;

	if (count > REPLY_MAX_BYTES - b->size)
		return -EFBIG;
	text = realloc(b->text, b->size + count + 1);
	if (!text)
		return -ENOMEM;
	memcpy(text + b->size, bytes, count);
	b->text = text;
	b->size += count;
	if (b->line)
		b->line_result = hand_over_lines(b);
	return b->line_result ? -ECANCELED : 0;
}

static int exchange(struct aq_api *a, const struct aq_http_request *request, struct buffer *b,
		    long *ret_status)
{
	AQ_CLEANUP(close) int fd = connect_checked(a->rundir, a->socket, a->system);
	struct aq_http_reader reader;
	int r;

	if (fd < 0)
		return fd;
	aq_http_reader_init(&reader, take_bytes, b);
	r = aq_http_exchange(fd, request, &reader);
	*ret_status = reader.status;
	return r;
}

int aq_api_call(struct aq_api *a, const char *method, const char *path, const json_t *body,
		uint64_t timeout_ms, aq_http_wait wait, void *wait_arg, struct aq_api_reply *reply)
{
	AQ_CLEANUP(free) char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	const struct aq_http_request request = {
		.method = method,
		.path = path,
		.body = text,
		.timeout_ns = timeout_ms * AQ_NS_PER_MS,
		.wait = wait,
		.wait_arg = wait_arg,
	};
	struct buffer b = {0};
	int r;

	*reply = (struct aq_api_reply){0};
	if (body && !text)
		return -ENOMEM;
	r = exchange(a, &request, &b, &reply->status);
	if (!r && b.size)
		reply->body = json_loadb(b.text, b.size, JSON_DECODE_ANY, NULL);
	free(b.text);
	return r;
}

void aq_api_reply_finish(struct aq_api_reply *reply)
{
	json_decref(reply->body);
	reply->body = NULL;
}

int aq_api_stream(struct aq_api *a, const char *path, aq_api_line_fn line, void *arg)
{
	const struct aq_http_request request = {.method = "GET", .path = path};
	struct buffer b = {.line = line, .arg = arg};
	long status = 0;
	int r = exchange(a, &request, &b, &status);

	free(b.text);
	if (b.line_result)
		return 0; /* the callback has seen enough */
	return !r && status != 200 ? -EPROTO : r;
}

bool aq_api_free_text(const json_t *body, char *buf, size_t size)
{
	const json_t *devices = json_object_get(body, "devices"), *device;
	char bytes[AQ_SIZE_TEXT], share[AQ_TEXT_SHORT];
	size_t i, n = 0;

	json_array_foreach(devices, i, device) {
		if (!json_is_integer(json_object_get(device, "free_bytes")) || n + 80 > size)
			continue;
		n += (size_t)snprintf(buf + n, size - n, "%sGPU %lld %s", n ? ", " : "free now: ",
				      (long long)aq_json_int(device, "index"),
				      aq_size_format(aq_json_uint(device, "free_bytes"), bytes));
		if (json_is_integer(json_object_get(device, "free_permille")))
			n += (size_t)snprintf(buf + n, size - n, " and %s of its compute",
					      aq_text_share(aq_json_uint(device, "free_permille"),
							    share));
	}
	if (!n && json_is_integer(json_object_get(body, "free_bytes")))
		n = (size_t)snprintf(buf, size, "free now: %s",
				     aq_size_format(aq_json_uint(body, "free_bytes"), bytes));
	return n > 0;
}

void aq_api_complain(const char *what, const char *object, const struct aq_api_reply *reply)
{
	const char *error = aq_json_text(reply->body, "error", NULL);
	char line[512];

	if (!error) {
		snprintf(line, sizeof(line), "the daemon answered %ld without a reason",
			 reply->status);
		error = line;
	}
	if (object)
		aq_say("%s '%s': %s", what, object, error);
	else
		aq_say("%s: %s", what, error);
	/* The reason names one device; where there are more, all are named. What is free is no help
	 * to whom has too much in use. */
	if (strcmp(aq_json_text(reply->body, "reason", ""), "in_use") &&
	    (!strstr(error, "free") ||
	     json_array_size(json_object_get(reply->body, "devices")) > 1) &&
	    aq_api_free_text(reply->body, line, sizeof(line)))
		aq_say("%s", line);
}

void aq_api_complain_silence(const struct aq_api *a, const char *what, const char *object,
			     int error)
{
	const char *reason = error == -ECONNREFUSED || error == -ENOENT ?
				     "it has just ended" :
			     error == -ECONNRESET ? "it ended, or closed the connection" :
			     error == -EPROTO     ? "it does not speak our protocol" :
			     error == -ETIMEDOUT  ? "it listens and says nothing" :
						    strerror(-error);

	aq_say("%s%s%s%s: no answer from the daemon at %s: %s", what, object ? " '" : "",
	       object ? object : "", object ? "'" : "", a->socket, reason);
}

json_t *aq_api_get(struct aq_api *a, const char *path, const char *what)
{
	struct aq_api_reply reply;
	int r = aq_api_call(a, "GET", path, NULL, CALL_TIMEOUT_MS, NULL, NULL, &reply);

	if (r < 0) {
		aq_api_complain_silence(a, what, NULL, r);
		return NULL;
	}
	if (reply.status == 200 && reply.body)
		return reply.body;
	aq_api_complain(what, NULL, &reply);
	aq_api_reply_finish(&reply);
	return NULL;
}

/* A daemon that was killed, and not its programs: they go on, and only another one can tell of them. */
static bool left_behind(const char *rundir)
{
	char path[AQ_PATH_BYTES];

	return !aq_paths_join(path, rundir, STATE_FILE) && !access(path, F_OK);
}

/* Where a daemon listens. Return: as aq_api_open(). */
static int find_place(struct aq_api *a, enum aq_api_need need, const char *what, const char *sim)
{
	char rundir[AQ_PATH_BYTES];
	int r;

	r = aq_paths_rundir_user(rundir);
	if (r < 0) {
		aq_say("%s: XDG_RUNTIME_DIR is too long for a socket", what);
		return r;
	}
	r = aq_api_listens(rundir, false);
	if (r == -EPERM || r == -EACCES) {
		aq_say("%s: '%s': belongs to somebody else, or somebody else listens there: remove "
		       "it, or set XDG_RUNTIME_DIR", what, rundir);
		return r;
	}
	if (!r)
		return set_place(a, rundir, false);
	if (!aq_api_listens(AQ_SYSTEM_RUNDIR, true))
		return set_place(a, AQ_SYSTEM_RUNDIR, true);
	if (need == AQ_API_LISTENING || (need == AQ_API_RUNNING && !left_behind(rundir)))
		return -ECONNREFUSED;
	r = aq_start_daemon(rundir, what, sim);
	a->started = true;
	return r < 0 ? r : set_place(a, rundir, false);
}

struct silence {
	const struct aq_api *api;
	uint64_t since_ns;
	bool said;
};

static pid_t daemon_pid(const struct aq_api *a)
{
	AQ_CLEANUP(close) int fd = connect_checked(a->rundir, a->socket, a->system);
	struct ucred peer;

	return fd < 0 || peer_of(fd, &peer) < 0 ? 0 : peer.pid;
}

bool aq_api_is_stopped(pid_t pid)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[64];
	const char *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (aq_file_read(path, STAT_MAX_BYTES, &text) <= 0)
		return false;
	end = strrchr(text, ')'); /* of its name, which may hold anything */
	return end && end[1] == ' ' && strchr("Tt", end[2]);
}

static int say_silence(void *arg)
{
	struct silence *s = arg;
	pid_t pid;

	if (s->said || aq_now_ns() - s->since_ns < SAY_SILENT_AFTER_NS)
		return 0;
	s->said = true;
	pid = daemon_pid(s->api);
	if (pid && aq_api_is_stopped(pid))
		aq_say("the daemon is stopped: 'kill -CONT %d' lets it go on; waiting for it",
		       (int)pid);
	else
		aq_say("the daemon at %s does not answer; waiting for it", s->api->rundir);
	return 0;
}

static void warn_of_other_version(const json_t *theirs)
{
	if (aq_json_uint(theirs, "abi") != AQ_ABI_VERSION)
		aq_say("warning: the daemon is version %s (abi %lld), this is " AQ_VERSION
		       " (abi %u): restart it", aq_json_text(theirs, "version", "?"),
		       (long long)aq_json_int(theirs, "abi"), AQ_ABI_VERSION);
}

int aq_api_open(struct aq_api *a, enum aq_api_need need, const char *what, const char *sim)
{
	struct aq_api_reply reply;
	struct silence silence;
	int r;

	*a = (struct aq_api){0};
	for (int attempt = 0;; attempt++) {
		r = find_place(a, need, what, sim);
		if (r < 0 || need == AQ_API_LISTENING)
			return r;
		silence = (struct silence){.api = a, .since_ns = aq_now_ns()};
		/* A private daemon may be about to end of idleness: after this it will not. */
		r = aq_api_call(a, "GET", "/v1/version", NULL, CALL_TIMEOUT_MS, say_silence,
				&silence, &reply);
		if (!r)
			break;
		if (attempt == 1 || a->system || r == -ETIMEDOUT) {
			aq_api_complain_silence(a, what, NULL, r);
			return r;
		}
	}
	warn_of_other_version(reply.body);
	aq_api_reply_finish(&reply);
	aq_say_debug("daemon at %s", a->socket);
	return 0;
}

int aq_api_exit_status(long http)
{
	if (http >= 200 && http < 300)
		return AQ_EXIT_OK;
	return http == 400 ? AQ_EXIT_USAGE : AQ_EXIT_FAILED;
}
