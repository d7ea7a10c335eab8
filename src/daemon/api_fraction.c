/* SPDX-License-Identifier: Apache-2.0 */
/* POST, PATCH and kill of fractions: input, permission, and refusals with their numbers. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "daemon/api.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/json.h"
#include "daemon/input.h"
#include "daemon/loop.h"
#include "daemon/need.h"
#include "daemon/process.h"
#include "daemon/queue.h"
#include "base/banned.h"

#define ERROR_BYTES 256
#define WORD_BYTES 64
#define MIN_SHARE_PERMILLE 10 /* --gpu 0.01 */
#define MAX_WAIT_MS (30ll * 86400 * 1000)
#define RECLAIM_WAIT_MS 30000 /* guess: to move a whole device at 3 GB/s */
#define NOT_GIVEN (-1)
#define MAX_GROUPS 1024 /* of one user that are looked at; guess */

/* The terms as they come in, of POST and PATCH alike. NOT_GIVEN where absent. */
struct terms {
	int64_t gpu, request, limit, compute, cap;
	char priority[WORD_BYTES];
};

#define TERMS_NONE                                                                                 \
	{                                                                                          \
		NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, NOT_GIVEN, ""                          \
	}
#define TERMS_INPUTS(t)                                                                            \
	{"gpu_permille", AQD_INPUT_INT, &(t).gpu, MIN_SHARE_PERMILLE, AQ_PERMILLE},                \
		{"memory_request_bytes", AQD_INPUT_INT, &(t).request, 0, INT64_MAX},               \
		{"memory_limit_bytes", AQD_INPUT_INT, &(t).limit, 1, INT64_MAX},                   \
		{"compute_request_permille", AQD_INPUT_INT, &(t).compute, 0, AQ_PERMILLE},         \
		{"compute_limit_permille", AQD_INPUT_INT, &(t).cap, 1, AQ_PERMILLE},               \
	{                                                                                          \
		"priority", AQD_INPUT_TEXT, (t).priority, 0, sizeof((t).priority)                  \
	}

/* A POST that waits for room. */
struct pending {
	struct aqd_wait wait;
	struct aqd_api_patient asker;
};

static uint64_t bytes_or_any(int64_t value)
{
	return value == NOT_GIVEN ? AQ_ANY_BYTES : (uint64_t)value;
}

static uint32_t permille_or_any(int64_t value)
{
	return value == NOT_GIVEN ? AQ_ANY_PERMILLE : (uint32_t)value;
}

/* What is free, by device and at best: goes with every refusal for want of room. */
static json_t *free_numbers(struct aqd *d, uint64_t allowed, const struct aq_refusal *why)
{
	json_t *o = json_object(), *devices = json_array();

	for (uint32_t i = 0; i < d->ledger.device_count; i++) {
		const struct aq_ledger_device *l = &d->ledger.device[i];

		if (!(allowed & 1ull << i))
			continue;
		json_array_append_new(
			devices,
			json_pack("{s:i,s:s,s:s,s:I,s:I,s:i}", "index", (int)i, "uuid",
				  d->device[i].uuid, "name", d->device[i].info.name,
				  "memory_total_bytes", (json_int_t)l->total_bytes, "free_bytes",
				  (json_int_t)aq_ledger_device_free(&d->ledger, i), "free_permille",
				  (int)(AQ_PERMILLE - l->compute_request_permille)));
	}
	json_object_set_new(o, "devices", devices);
	if (why && why->reason != AQ_REFUSED_NOT) {
		json_object_set_new(o, "free_bytes", json_integer((json_int_t)why->free_bytes));
		json_object_set_new(o, "asked_bytes", json_integer((json_int_t)why->asked_bytes));
		json_object_set_new(o, "used_bytes", json_integer((json_int_t)why->used_bytes));
		json_object_set_new(o, "limit_bytes", json_integer((json_int_t)why->limit_bytes));
	}
	return o;
}

/* One line that says what was asked, of what, and what is free. */
static void describe(struct aqd *d, const struct aq_refusal *why, char *text, size_t size)
{
	char asked[AQ_SIZE_TEXT], total[AQ_SIZE_TEXT], left[AQ_SIZE_TEXT], used[AQ_SIZE_TEXT];

	aq_size_format(why->asked_bytes, asked);
	aq_size_format(why->limit_bytes, total);
	aq_size_format(why->free_bytes, left);
	aq_size_format(why->used_bytes, used);
	switch (why->reason) {
	case AQ_REFUSED_TOO_LARGE:
		snprintf(text, size, "%s asked, but device %u has %s in all, of which %s are free",
			 asked, why->device, total, left);
		break;
	case AQ_REFUSED_DEVICE:
		snprintf(text, size, "%s asked, but only %s of %s are free on device %u", asked,
			 left, total, why->device);
		break;
	case AQ_REFUSED_COMPUTE:
		snprintf(text, size,
			 "%u.%03u of the compute asked, but only %u.%03u of device %u's is free",
			 why->asked_permille / 1000, why->asked_permille % 1000,
			 why->free_permille / 1000, why->free_permille % 1000, why->device);
		break;
	case AQ_REFUSED_IN_USE:
		snprintf(text, size, "%s are in use on device %u, more than the %s asked for", used,
			 why->device, asked);
		break;
	case AQ_REFUSED_INVALID:
		snprintf(text, size, "a request must not be above its limit, and a limit not below %u bytes",
			 AQ_GRAIN_BYTES);
		break;
	default:
		snprintf(text, size, "refused: %s", aq_refusal_word(why->reason));
	}
}

/* errno of creating or resizing into an answer: the one place where that is done. */
void aqd_api_refusal(struct aqd *d, struct evhttp_request *request, int error, uint64_t allowed,
		     const struct aq_refusal *why, const char *name)
{
	char text[ERROR_BYTES];

	switch (error) {
	case -EEXIST:
		aqd_api_error(request, 409, "name_taken", NULL, "there is a fraction '%s' already",
			      name);
		return;
	case -EMFILE:
		aqd_api_error(request, 409, "fractions", NULL, "there are too many fractions");
		return;
	case -ENODEV:
		if (!d->ledger.device_count)
			aqd_api_error(request, 409, "no_device", NULL,
				      "there is no device; simulated ones come with --sim PROFILE");
		else
			aqd_api_error(request, 409, "no_device", free_numbers(d, allowed, why),
				      "there are not so many devices, only %d to choose from",
				      __builtin_popcountll(allowed));
		return;
	case -EINVAL:
	case -E2BIG:
	case -ENOSPC:
	case -EBUSY:
		describe(d, why, text, sizeof(text));
		aqd_api_error(request, error == -EINVAL ? 400 : 409, aq_refusal_word(why->reason),
			      error == -EINVAL ? NULL : free_numbers(d, allowed, why), "%s", text);
		return;
	default:
		aqd_api_error(request, 500, "internal", NULL, "%s", strerror(-error));
	}
}

static json_t *created_json(struct aqd *d, const struct aqd_fraction *f)
{
	json_t *o = aqd_json_fraction(d, f);
	char visible[AQ_MAX_DEVICES * (AQ_UUID_TEXT + 1)] = "";
	size_t n = 0;

	for (uint32_t i = 0; i < f->ledger.share_count; i++)
		n += (size_t)snprintf(visible + n, sizeof(visible) - n, "%s%s", i ? "," : "",
				      d->device[f->ledger.share[i].device].uuid);
	json_object_set_new(o, "socket", json_string(d->guard_path));
	json_object_set_new(o, "cuda_visible_devices", json_string(visible));
	json_object_set_new(o, "simulated",
			    json_boolean(d->device[f->ledger.share[0].device].simulated));
	if (d->device[f->ledger.share[0].device].simulated)
		json_object_set_new(o, "sim_dir", json_string(d->sim_dir));
	return o;
}

static void event_refused(struct aqd *d, const struct aqd_fraction_ask *ask,
			  const struct aq_refusal *why)
{
	struct aqd_event_facts facts = aqd_event_none;
	char text[ERROR_BYTES];

	describe(d, why, text, sizeof(text));
	facts.name = ask->name;
	facts.pid = ask->holder->pid;
	facts.reason = aq_refusal_word(why->reason);
	facts.device = &d->device[why->device];
	facts.asked_bytes = why->asked_bytes;
	facts.limit_bytes = why->limit_bytes;
	facts.free_bytes = why->free_bytes;
	aqd_event(d, AQD_EVENT_refused, &facts, "%s", text);
}

static void on_asker_left(struct aqd_api_patient *asker)
{
	struct pending *p = aq_container_of(asker, struct pending, asker);
	struct aqd *d = p->wait.daemon;

	aqd_queue_drop(&p->wait);
	aqd_process_put(d, p->wait.ask.holder);
	d->queue_dirty = true;
	aqd_loop_used(d);
	free(p);
}

static void on_wait_done(struct aqd_wait *w, int error, struct aqd_fraction *f,
			 const struct aq_refusal *why)
{
	struct pending *p = aq_container_of(w, struct pending, wait);
	struct evhttp_request *request = p->asker.request;
	struct aqd *d = w->daemon;

	aqd_api_awaited(&p->asker);
	if (error == 0)
		aqd_api_reply(request, 201, created_json(d, f));
	else if (error == -ETIMEDOUT)
		aqd_api_error(request, 408, "timeout",
			      free_numbers(d, w->ask.placement.allowed, why),
			      "no room within the time to wait");
	else if (error == -ESRCH || error == -ECANCELED)
		aqd_api_error(request, 503, "cancelled", NULL, "%s",
			      error == -ESRCH ? "the asking process is gone" : "the daemon ends");
	else
		aqd_api_refusal(d, request, error, w->ask.placement.allowed, why, w->ask.name);
	aqd_process_put(d, w->ask.holder);
	free(p);
}

/* Queue it. The reference to ask->holder goes along. */
static void wait_for_room(struct aqd_call *call, const struct aqd_fraction_ask *ask,
			  int64_t wait_ms)
{
	struct aqd *d = call->daemon;
	struct pending *p = calloc(1, sizeof(*p));

	if (p && aqd_api_await(d, &p->asker, call->request, on_asker_left) == 0) {
		p->wait.ask = *ask;
		p->wait.done = on_wait_done;
		if (aqd_queue_add(d, &p->wait,
				  wait_ms < 0 ? UINT64_MAX : (uint64_t)wait_ms * AQ_NS_PER_MS) == 0)
			return;
		aqd_api_awaited(&p->asker);
	}
	free(p);
	aqd_process_put(d, ask->holder);
	aqd_api_error(call->request, 500, "internal", NULL, "out of memory");
}

/*
 * The memory of simulated devices is files that only the daemon's user and group may open: nobody
 * else could use one.
 */
static bool may_simulate(const struct aqd_call *call)
{
	int fd = aqd_api_peer_fd(call->request);
	gid_t groups[MAX_GROUPS];
	socklen_t size = sizeof(groups);
	struct ucred peer;
	socklen_t peer_size = sizeof(peer);

	if (call->uid == 0 || call->uid == geteuid())
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) == 0 &&
	    peer.gid == getegid())
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0)
		return false;
	for (size_t i = 0; i < size / sizeof(groups[0]); i++)
		if (groups[i] == getegid())
			return true;
	return false;
}

static const char *why_not_simulated(int error)
{
	if (error == -ENOENT)
		return "the simulator is not installed";
	if (error == -EIO) /* it does not tell the two apart before there is a machine */
		return "it knows no such PROFILE[:COUNT], or has no room";
	return strerror(-error);
}

/* Which devices `device` and `sim` allow. Return: false when it was answered with an error. */
static bool choose_allowed(struct aqd_call *call, json_t *device, const char *sim,
			   uint64_t *ret_allowed)
{
	struct aqd *d = call->daemon;
	const char *word = json_string_value(device);
	uint64_t index = UINT64_MAX, allowed = aqd_devices_auto(d), barred = 0;
	char shown[48]; /* an index or a UUID */
	struct aqd_device *dev = NULL;
	uint8_t uuid[16];

	if (!may_simulate(call))
		barred = sim[0] ? UINT64_MAX : aqd_devices_simulated(d);
	if (barred && (sim[0] || (allowed && !(allowed & ~barred)))) {
		aqd_api_error(call->request, 403, "sim", NULL,
			      "simulated devices are for the daemon's user and group (%u)",
			      (unsigned int)getegid());
		return false;
	}
	allowed &= ~barred;
	if (sim[0]) {
		int r = aqd_devices_simulate(d, sim, &allowed);

		if (r == -EINVAL)
			aqd_api_error(call->request, 400, "sim", NULL,
				      "'%s' is no PROFILE[:COUNT] that the simulator knows", sim);
		else if (r < 0)
			aqd_api_error(call->request, 409, "sim", NULL,
				      "simulated device '%s' cannot be had: %s", sim,
				      why_not_simulated(r));
		if (r < 0)
			return false;
		d->state_dirty = true;
	}
	if (!device || (word && !strcmp(word, "auto"))) {
		*ret_allowed = allowed;
		return true;
	}
	if (json_is_integer(device) && json_integer_value(device) >= 0)
		index = (uint64_t)json_integer_value(device);
	else if (word && aq_uuid_parse(word, uuid) == 0)
		dev = aqd_device_by_uuid(d, uuid);
	else if (!word || aq_uint_parse(word, 0, UINT32_MAX, &index) < 0) {
		aqd_api_error(call->request, 400, "device", NULL,
			      "'device' must be auto, an index or a UUID");
		return false;
	}
	if (index < d->ledger.device_count)
		dev = &d->device[index];
	if (dev && barred & 1ull << dev->index) {
		aqd_api_error(call->request, 403, "sim", NULL,
			      "device %u is simulated, for the daemon's user and group (%u)",
			      dev->index, (unsigned int)getegid());
		return false;
	}
	if (word)
		snprintf(shown, sizeof(shown), "%s", word);
	else
		snprintf(shown, sizeof(shown), "%" PRIu64, index);
	if (!dev || (sim[0] && !(allowed & 1ull << dev->index))) {
		aqd_api_error(call->request, 404, "no_device", NULL,
			      "there is no device '%s'%s: 'aliquot devices' lists them",
			      shown, dev ? " of that profile" : "");
		return false;
	}
	*ret_allowed = 1ull << dev->index;
	return true;
}

/* Everything of a POST but who asks. Return: false when it was answered with an error. */
static bool read_ask(struct aqd_call *call, struct aqd_fraction_ask *ask, int64_t *wait_ms)
{
	struct terms t = TERMS_NONE;
	int64_t gpus = 1, park_idle_ms = 0;
	char sim[AQD_PROFILE_BYTES] = "";
	json_t *device = json_incref(json_object_get(call->body, "device"));
	const struct aqd_input inputs[] = {
		TERMS_INPUTS(t),
		{"name", AQD_INPUT_NAME, ask->name, 0, 0},
		{"project", AQD_INPUT_NAME, ask->project, 0, 0},
		{"command", AQD_INPUT_TEXT, ask->command, 0, sizeof(ask->command)},
		{"mount_namespace", AQD_INPUT_BOOL, &ask->mount_namespace, 0, 0},
		{"park_idle_ms", AQD_INPUT_INT, &park_idle_ms, 0, MAX_WAIT_MS},
		{"gpus", AQD_INPUT_INT, &gpus, 1, AQ_MAX_DEVICES},
		{"sim", AQD_INPUT_TEXT, sim, 0, sizeof(sim)},
		{"wait_ms", AQD_INPUT_INT, wait_ms, -1, MAX_WAIT_MS},
	};
	bool ok;

	snprintf(ask->project, sizeof(ask->project), "default");
	json_object_del(call->body, "device"); /* the one field of two types */
	ok = aqd_api_read(call, inputs, AQ_ARRAY_SIZE(inputs));
	ask->park_idle_ns = (uint64_t)park_idle_ms * AQ_NS_PER_MS;
	ask->placement = (struct aq_placement_ask){
		.device_count = (uint32_t)gpus,
		.gpu_permille = permille_or_any(t.gpu),
		.memory_request_bytes = bytes_or_any(t.request),
		.memory_limit_bytes = bytes_or_any(t.limit),
		.compute_request_permille = permille_or_any(t.compute),
		.compute_limit_permille = permille_or_any(t.cap),
		.priority = AQ_PRIORITY_NORMAL,
	};
	if (ok && t.priority[0] && aqd_priority_parse(t.priority, &ask->placement.priority) < 0) {
		aqd_api_error(call->request, 400, "invalid", NULL,
			      "'priority' must be low, normal or high");
		ok = false;
	}
	ok = ok && choose_allowed(call, device, sim, &ask->placement.allowed);
	json_decref(device);
	return ok;
}

/* Those who wait have a claim before those who do not. */
static int create_now(struct aqd *d, const struct aqd_fraction_ask *ask, struct aqd_fraction **ret,
		      struct aq_refusal *why)
{
	struct aqd_fraction_ask unclaimed = *ask;
	struct aq_ledger_spec spec;
	int r;

	r = aq_placement_choose(&d->ledger, &ask->placement, &spec, why);
	if (r < 0) /* not even with all that others wait for */
		return r;
	unclaimed.placement.allowed &= ~aqd_queue_claimed(d, ask->placement.priority);
	if (!unclaimed.placement.allowed && ask->placement.allowed)
		return -EAGAIN;
	return aqd_fraction_create(d, &unclaimed, ret, why);
}

static void create(struct aqd_call *call, const struct aqd_fraction_ask *ask, int64_t wait_ms)
{
	struct aqd *d = call->daemon;
	struct aq_refusal why = {0};
	struct aqd_fraction *f;
	int r;

	aqd_fraction_end_unheld(d, ask->name);
	if (aqd_fraction_name_taken(d, ask->name))
		r = -EEXIST;
	else
		r = create_now(d, ask, &f, &why);
	if ((r == -ENOSPC || r == -EAGAIN) && aqd_fraction_end_unheld(d, NULL))
		r = create_now(d, ask, &f, &why);
	/* Borrowers leave for a request: that takes a moment. */
	if (r == -ENOSPC && !wait_ms && aqd_need_placement(d, &ask->placement))
		wait_ms = RECLAIM_WAIT_MS;
	if (r == 0) {
		aqd_api_reply(call->request, 201, created_json(d, f));
	} else if ((r == -ENOSPC || r == -EAGAIN) && wait_ms) {
		ask->holder->refs++;
		wait_for_room(call, ask, wait_ms);
	} else if (r == -EAGAIN) {
		aqd_api_error(call->request, 409, "queue",
			      free_numbers(d, ask->placement.allowed, NULL),
			      "others of the same priority or a higher one are waiting for it");
	} else {
		if (r == -ENOSPC || r == -E2BIG)
			event_refused(d, ask, &why);
		aqd_api_refusal(d, call->request, r, ask->placement.allowed, &why, ask->name);
	}
}

void aqd_api_create(struct aqd_call *call)
{
	struct aqd_fraction_ask ask = {0};
	int64_t wait_ms = 0;
	int r;

	r = aqd_process_of_peer(call->daemon, aqd_api_peer_fd(call->request), &ask.owner,
				&ask.holder);
	if (r < 0) {
		aqd_api_error(call->request, r == -ESRCH ? 403 : 500, "peer", NULL,
			      "cannot tell who asks: %s", strerror(-r));
		return;
	}
	if (!evbuffer_get_length(evhttp_request_get_input_buffer(call->request))) {
		/* `{}` asks for a whole device; who sends nothing may not know that. */
		aqd_api_error(call->request, 400, "no_body", NULL,
			      "a JSON object must say what is wanted");
	} else if (read_ask(call, &ask, &wait_ms)) {
		if (!ask.name[0])
			aqd_fraction_make_name(call->daemon, ask.command, ask.name);
		create(call, &ask, wait_ms);
	}
	aqd_process_put(call->daemon, ask.holder);
}

struct aqd_fraction *aqd_api_own_fraction(struct aqd_call *call)
{
	struct aqd_fraction *f = aqd_fraction_find(call->daemon, call->name);

	if (!f) {
		bool waits = aqd_queue_has_name(call->daemon, call->name);

		aqd_api_error(call->request, waits ? 409 : 404, waits ? "waiting" : "no_fraction",
			      NULL,
			      waits ? "fraction '%s' is still waiting for room"
				    : "there is no fraction '%s'",
			      call->name);
		return NULL;
	}
	if (call->uid != 0 && call->uid != f->owner) {
		aqd_api_error(call->request, 403, "not_yours", NULL,
			      "fraction '%s' belongs to another user", call->name);
		return NULL;
	}
	return f;
}

/* A request above the limit, where both are known: then the answer has both. */
static bool compute_fits(struct aqd_call *call, const struct terms *t, const struct aqd_fraction *f)
{
	int64_t request = t->compute != NOT_GIVEN ? t->compute : t->gpu;
	int64_t limit = t->cap;

	if (request == NOT_GIVEN)
		request = f->ledger.compute_request_permille;
	if (limit == NOT_GIVEN)
		limit = f->ledger.compute_limit_permille;
	if (request <= limit)
		return true;
	aqd_api_error(call->request, 400, "invalid",
		      json_pack("{s:I,s:I}", "compute_request_permille", (json_int_t)request,
				"compute_limit_permille", (json_int_t)limit),
		      "a compute request of %.3f is above the limit of %.3f",
		      (double)request / AQ_PERMILLE, (double)limit / AQ_PERMILLE);
	return false;
}

void aqd_api_resize(struct aqd_call *call)
{
	struct aqd_fraction *f = aqd_api_own_fraction(call);
	struct terms t = TERMS_NONE;
	bool force_park = false;
	const struct aqd_input inputs[] = {
		TERMS_INPUTS(t),
		{"force_park", AQD_INPUT_BOOL, &force_park, 0, 0},
	};
	enum aq_priority priority = AQ_PRIORITY_NORMAL;
	struct aqd_fraction_change change;

	if (!f || !aqd_api_read(call, inputs, AQ_ARRAY_SIZE(inputs)))
		return;
	if (!json_object_size(call->body)) {
		aqd_api_error(call->request, 400, "invalid", NULL, "nothing to change is named");
		return;
	}
	if (t.priority[0] && aqd_priority_parse(t.priority, &priority) < 0) {
		aqd_api_error(call->request, 400, "invalid", NULL,
			      "'priority' must be low, normal or high");
		return;
	}
	if (!compute_fits(call, &t, f))
		return;
	change = (struct aqd_fraction_change){
		.gpu_permille = permille_or_any(t.gpu),
		.memory_request_bytes = bytes_or_any(t.request),
		.memory_limit_bytes = bytes_or_any(t.limit),
		.compute_request_permille = permille_or_any(t.compute),
		.compute_limit_permille = permille_or_any(t.cap),
		.priority = t.priority[0] ? (int)priority : -1,
		.force_park = force_park,
	};
	aqd_api_resize_to(call, f, &change);
}

void aqd_api_kill(struct aqd_call *call)
{
	struct aqd_fraction *f = aqd_api_own_fraction(call);
	int64_t sig = SIGTERM;
	const struct aqd_input inputs[] = {{"signal", AQD_INPUT_INT, &sig, 1, SIGRTMAX}};

	if (!f || !aqd_api_read(call, inputs, AQ_ARRAY_SIZE(inputs)))
		return;
	aqd_api_reply(call->request, 200,
		      json_pack("{s:s,s:i}", "name", f->name, "signalled",
				(int)aqd_fraction_kill(call->daemon, f, (int)sig)));
}
