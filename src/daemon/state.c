/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.json: written whole and replaced at once, so that a death at any instruction leaves the
 * old or the new. Holds nothing that pages or NVML can tell: grants and use are not in it.
 */
#include "daemon/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/client.h"
#include "daemon/device.h"
#include "daemon/event.h"
#include "daemon/fraction.h"
#include "daemon/process.h"
#include "daemon/share.h"
#include "base/banned.h"

#define STATE_FILE "state.json"
#define STATE_VERSION 1
#define STATE_MAX_BYTES (16u << 20)

static int state_path(const struct aqd *d, char *buf)
{
	return aq_paths_join(buf, d->rundir, STATE_FILE);
}

/* Pids and start times mean nothing after the machine started anew. */
static json_t *boot_id(void)
{
	AQ_CLEANUP(free) char *text = NULL;

	if (aq_file_read("/proc/sys/kernel/random/boot_id", 64, &text) < 0)
		return json_string("");
	text[strcspn(text, "\n")] = '\0';
	return json_string(text);
}

static json_t *save_process(const struct aqd_process *p)
{
	return p ? json_pack("{s:i,s:I}", "pid", (int)p->pid, "start", (json_int_t)p->start_ticks)
		 : json_null();
}

/* Each of these is whole or NULL: half a state would lose what somebody relies on. */
static json_t *save_shares(const struct aqd *d, const struct aqd_fraction *f)
{
	json_t *shares = json_array();

	for (uint32_t i = 0; i < f->ledger.share_count; i++) {
		const struct aq_ledger_share *s = &f->ledger.share[i];

		if (json_array_append_new(
			    shares,
			    json_pack("{s:s,s:I,s:I,s:I}", "uuid", d->device[s->device].uuid,
				      "request", (json_int_t)s->request_bytes, "limit",
				      (json_int_t)s->limit_bytes, "gpu_ns",
				      (json_int_t)aqd_lease_gpu_ns(&f->lease, i))) < 0) {
			json_decref(shares);
			return NULL;
		}
	}
	return shares;
}

static json_t *save_clients(const struct aqd_fraction *f)
{
	json_t *clients = json_array();
	struct aq_ledger_client *l, *tmp;

	AQ_LIST_FOREACH (l, tmp, &f->ledger.clients, link)
		if (json_array_append_new(clients, save_process(aqd_client_of(l)->process)) < 0) {
			json_decref(clients);
			return NULL;
		}
	return clients;
}

static json_t *save_loan(const struct aqd_client *c, const struct aqd_loan_note *n)
{
	return json_pack("{s:I,s:I,s:I,s:o,s:o}", "id", (json_int_t)n->id, "number",
			 (json_int_t)n->number, "at", (json_int_t)n->at, "from",
			 save_process(n->exporter->process), "to", save_process(c->process));
}

/* What its clients have open of others' memory. */
static json_t *save_loans(const struct aqd_fraction *f)
{
	json_t *loans = json_array();
	struct aq_ledger_client *l, *tmp;
	struct aqd_loan_note n;

	AQ_LIST_FOREACH (l, tmp, &f->ledger.clients, link) {
		const struct aqd_client *c = aqd_client_of(l);
		const struct aq_list *at = NULL;

		while ((at = aqd_share_next_open(c, at, &n)) != NULL)
			if (json_array_append_new(loans, save_loan(c, &n)) < 0) {
				json_decref(loans);
				return NULL;
			}
	}
	return loans;
}

static json_t *save_fraction(const struct aqd *d, const struct aqd_fraction *f)
{
	return json_pack("{s:s,s:s,s:s,s:I,s:I,s:i,s:i,s:i,s:b,s:b,s:I,s:o,s:o,s:o,s:o}", "name", f->name,
			 "project", f->project, "command", f->command, "owner",
			 (json_int_t)f->owner, "created", (json_int_t)f->created_s, "priority",
			 (int)f->ledger.priority, "compute_request",
			 (int)f->ledger.compute_request_permille, "compute_limit",
			 (int)f->ledger.compute_limit_permille, "mount_namespace",
			 (int)f->mount_namespace, "hold", (int)f->residency.hold, "park_idle_ns",
			 (json_int_t)f->residency.park_idle_ns, "holder", save_process(f->holder), "shares",
			 save_shares(d, f), "clients", save_clients(f), "loans", save_loans(f));
}

/* Which --sim word the simulated devices came by; the lack of one costs little. */
static json_t *save_profiles(struct aqd *d)
{
	json_t *profiles = json_object();

	for (uint32_t i = 0; i < d->ledger.device_count; i++)
		if (d->device[i].profile[0])
			json_object_set_new(profiles, d->device[i].uuid,
					    json_string(d->device[i].profile));
	return profiles;
}

/* All but the fractions. */
static json_t *save_head(struct aqd *d)
{
	return json_pack("{s:i,s:o,s:o}", "version", STATE_VERSION, "boot", boot_id(), "profiles",
			 save_profiles(d));
}

static char *dump(json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;

	json_decref(value);
	return text;
}

/* The whole as text: the head, its last brace put off until the fractions are written, too. */
static int compose(struct aqd *d, struct evbuffer *out)
{
	AQ_CLEANUP(free) char *head = dump(save_head(d));
	const char *before = ",\"fractions\":[";
	struct aqd_fraction *f, *tmp;

	if (!head || evbuffer_add(out, head, strlen(head) - 1) < 0)
		return -ENOMEM;
	AQ_LIST_FOREACH (f, tmp, &d->fractions, link) {
		if (!f->saved)
			f->saved = dump(save_fraction(d, f));
		if (!f->saved || evbuffer_add(out, before, strlen(before)) < 0 ||
		    evbuffer_add(out, f->saved, strlen(f->saved)) < 0)
			return -ENOMEM;
		before = ",";
	}
	before = aq_list_empty(&d->fractions) ? "}" : "]}";
	return evbuffer_add(out, before, strlen(before)) < 0 ? -ENOMEM : 0;
}

static int write_state(struct aqd *d, const char *path)
{
	struct evbuffer *out = evbuffer_new();
	size_t size;
	int r = -ENOMEM;

	if (out && compose(d, out) == 0) {
		size = evbuffer_get_length(out);
		if (evbuffer_pullup(out, -1))
			r = aq_file_replace(path, (const char *)evbuffer_pullup(out, -1), size);
	}
	if (out)
		evbuffer_free(out);
	return r;
}

void aqd_state_changed(struct aqd *d, struct aqd_fraction *f, bool soon)
{
	free(f->saved);
	f->saved = NULL;
	if (soon)
		d->state_stale = true;
	else
		d->state_dirty = true;
}

void aqd_state_save(struct aqd *d)
{
	char path[AQ_PATH_BYTES], half[AQ_PATH_BYTES + 8];
	int r = state_path(d, path);

	d->state_dirty = d->state_stale = false;
	if (r == 0 && aq_list_empty(&d->fractions) && !d->sim_made) {
		if (unlink(path) < 0 && errno != ENOENT)
			r = -errno;
		snprintf(half, sizeof(half), "%s.new", path);
		unlink(half); /* of one that was killed in the middle of writing */
	} else if (r == 0) {
		r = write_state(d, path);
	}
	if (r < 0 && !d->state_failed) /* the old one stays until there is room for this one */
		aq_error("state '%s': %s", path, strerror(-r));
	d->state_failed = r < 0;
}

/* The state, or NULL when there is none that means anything now. */
static json_t *read_state(struct aqd *d)
{
	AQ_CLEANUP(free) char *text = NULL;
	char path[AQ_PATH_BYTES], bad[AQ_PATH_BYTES + 8];
	json_t *state, *boot;
	ssize_t size = state_path(d, path);
	bool same;

	if (size == 0)
		size = aq_file_read(path, STATE_MAX_BYTES, &text);
	if (size == -ENOENT)
		return NULL;
	state = size < 0 ? NULL : json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(state) ||
	    json_integer_value(json_object_get(state, "version")) != STATE_VERSION) {
		snprintf(bad, sizeof(bad), "%s.bad", path);
		aq_error("state '%s' cannot be read and is put aside as '%s'", path, bad);
		if (rename(path, bad) < 0)
			aq_error("'%s': %s", bad, strerror(errno));
		json_decref(state);
		return NULL;
	}
	boot = boot_id();
	same = json_equal(boot, json_object_get(state, "boot"));
	json_decref(boot);
	if (!same) {
		aq_info("state '%s' is from before the machine started: ignored", path);
		json_decref(state);
		return NULL;
	}
	return state;
}

static struct aqd_process *load_process(struct aqd *d, json_t *o)
{
	json_int_t pid = json_integer_value(json_object_get(o, "pid"));
	struct aqd_process *p;

	if (pid <= 0 || pid > INT32_MAX ||
	    aqd_process_of_pid(d, (pid_t)pid,
			       (uint64_t)json_integer_value(json_object_get(o, "start")), &p) < 0)
		return NULL;
	return p;
}

/* Return: 0; -EINVAL something is missing or wrong; -ENODEV a device is gone */
static int load_terms(struct aqd *d, json_t *o, struct aq_ledger_spec *spec)
{
	json_t *shares = json_object_get(o, "shares"), *share;
	size_t i;

	*spec = (struct aq_ledger_spec){
		.compute_request_permille =
			(uint32_t)json_integer_value(json_object_get(o, "compute_request")),
		.compute_limit_permille =
			(uint32_t)json_integer_value(json_object_get(o, "compute_limit")),
		.priority = (enum aq_priority)json_integer_value(json_object_get(o, "priority")),
	};
	if (!json_array_size(shares) || json_array_size(shares) > AQ_MAX_DEVICES)
		return -EINVAL;
	json_array_foreach(shares, i, share)
	{
		const char *text = json_string_value(json_object_get(share, "uuid"));
		json_int_t request = json_integer_value(json_object_get(share, "request"));
		json_int_t limit = json_integer_value(json_object_get(share, "limit"));
		struct aqd_device *dev;
		uint8_t uuid[16];

		if (!text || aq_uuid_parse(text, uuid) < 0 || request < 0 || limit < 0)
			return -EINVAL;
		dev = aqd_device_by_uuid(d, uuid);
		if (!dev)
			return -ENODEV;
		spec->share[i].device = dev->index;
		spec->share[i].request_bytes = (uint64_t)request;
		spec->share[i].limit_bytes = (uint64_t)limit;
		spec->share_count++;
	}
	return 0;
}

static const char *word(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static int load_fraction(struct aqd *d, json_t *o)
{
	struct aqd_event_facts facts = aqd_event_none;
	struct aqd_fraction like = {0}, *f;
	struct aq_ledger_spec spec;
	struct aq_refusal why;
	struct aqd_process *p;
	json_t *client, *share;
	size_t i;
	int r;

	if (!aq_name_valid(word(o, "name")) || aqd_fraction_find(d, word(o, "name")))
		return -EINVAL;
	snprintf(like.name, sizeof(like.name), "%s", word(o, "name"));
	snprintf(like.project, sizeof(like.project), "%s", word(o, "project"));
	snprintf(like.command, sizeof(like.command), "%s", word(o, "command"));
	like.owner = (uid_t)json_integer_value(json_object_get(o, "owner"));
	like.created_s = (uint64_t)json_integer_value(json_object_get(o, "created"));
	like.mount_namespace = json_is_true(json_object_get(o, "mount_namespace"));
	like.residency.hold = json_is_true(json_object_get(o, "hold"));
	like.residency.park_idle_ns =
		(uint64_t)json_integer_value(json_object_get(o, "park_idle_ns"));
	like.restored = true;
	like.settle_ns = d->started_ns + AQD_LINGER_RESTORED_NS;
	r = load_terms(d, o, &spec);
	if (r == 0)
		r = aqd_fraction_restore(d, &like, &spec, &f, &why);
	if (r < 0)
		return r;

	json_array_foreach(json_object_get(o, "shares"), i, share)
	{
		aqd_lease_restore(&f->lease, (uint32_t)i,
				  json_integer_value(json_object_get(share, "gpu_ns")));
	}
	p = load_process(d, json_object_get(o, "holder"));
	if (p) {
		aqd_fraction_set_holder(f, p);
		aqd_process_put(d, p);
	}
	json_array_foreach(json_object_get(o, "clients"), i, client)
	{
		p = load_process(d, client);
		if (!p)
			continue;
		r = aqd_client_restore(d, f, p);
		if (r < 0)
			aq_error("client %d of '%s': %s", (int)p->pid, f->name, strerror(-r));
		aqd_process_put(d, p);
	}
	aqd_fraction_check(f);
	facts.fraction = f;
	aqd_event(d, AQD_EVENT_restored, &facts, "%u clients are expected back",
		  f->ledger.client_count);
	return 0;
}

static struct aqd_client *client_of(struct aqd_process *p)
{
	if (!p || aq_list_empty(&p->clients))
		return NULL;
	return aq_container_of(p->clients.next, struct aqd_client, of_process);
}

/* A loan between clients that are all restored. */
static void load_loan(struct aqd *d, json_t *o)
{
	struct aqd_loan_note n = {
		.id = (uint64_t)json_integer_value(json_object_get(o, "id")),
		.number = (uint64_t)json_integer_value(json_object_get(o, "number")),
		.at = (uint64_t)json_integer_value(json_object_get(o, "at")),
	};
	struct aqd_process *from = load_process(d, json_object_get(o, "from"));
	struct aqd_process *to = load_process(d, json_object_get(o, "to"));
	struct aqd_client *importer = client_of(to);

	n.exporter = client_of(from);
	/* Who lives and is no client of ours has it still, and never says when no longer. */
	if (n.exporter && (importer || !to) && aqd_share_restore(d, &n, importer) < 0)
		aq_warn("a loan of process %d is not restored", (int)from->pid);
	aqd_process_put(d, from);
	aqd_process_put(d, to);
}

void aqd_state_load(struct aqd *d)
{
	json_t *state = read_state(d), *item;
	const char *uuid_text;
	size_t i;

	json_object_foreach(json_object_get(state, "profiles"), uuid_text, item)
	{
		struct aqd_device *dev;
		uint8_t uuid[16];

		if (aq_uuid_parse(uuid_text, uuid) < 0 || !json_is_string(item))
			continue;
		dev = aqd_device_by_uuid(d, uuid);
		if (dev && dev->simulated)
			aqd_device_set_profile(dev, json_string_value(item));
	}
	json_array_foreach(json_object_get(state, "fractions"), i, item)
	{
		int r = load_fraction(d, item);

		if (r < 0)
			aq_error("fraction '%s' cannot be restored: %s", word(item, "name"),
				 strerror(-r));
	}
	json_array_foreach(json_object_get(state, "fractions"), i, item)
	{
		json_t *loan;
		size_t k;

		json_array_foreach(json_object_get(item, "loans"), k, loan)
			load_loan(d, loan);
	}
	json_decref(state);
	d->state_dirty = true;
}
