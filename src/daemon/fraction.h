/* SPDX-License-Identifier: Apache-2.0 */
/* Fractions: made, changed, ended by kill or when nobody holds them any more. */
#ifndef AQ_DAEMON_FRACTION_H
#define AQ_DAEMON_FRACTION_H

#include "daemon/daemon.h"

/* What somebody asks for, as the API has understood it. */
struct aqd_fraction_ask {
	struct aq_placement_ask placement;
	char name[AQ_NAME_BYTES]; /* empty: make one from the command */
	char project[AQ_NAME_BYTES];
	char command[AQD_COMMAND_BYTES];
	bool mount_namespace;
	uint64_t park_idle_ns; /* 0: never */
	uid_t owner;
	struct aqd_process *holder; /* the ask's reference */
};

/* What a change leaves alone is AQ_ANY_*. */
struct aqd_fraction_change {
	uint32_t gpu_permille;
	uint64_t memory_request_bytes, memory_limit_bytes;
	uint32_t compute_request_permille, compute_limit_permille;
	int priority; /* -1: leave alone */
	bool force_park; /* a limit below what is in use, or parked, is fine: park it */
};

/**
 * aqd_fraction_create() - place and enter a fraction; its holder is @ask->holder.
 * Return: 0; -EEXIST the name is taken; -EMFILE too many fractions; -ENOMEM; else as
 *         aq_placement_choose(), with @ret_refusal
 */
int aqd_fraction_create(struct aqd *d, const struct aqd_fraction_ask *ask,
			struct aqd_fraction **ret, struct aq_refusal *ret_refusal);

/* Enter a fraction of an earlier daemon. Name, terms and devices are as they were. */
int aqd_fraction_restore(struct aqd *d, const struct aqd_fraction *like,
			 const struct aq_ledger_spec *spec, struct aqd_fraction **ret,
			 struct aq_refusal *ret_refusal);

/* Return: 0; -EINVAL, -E2BIG, -ENOSPC, -EBUSY as aq_ledger_resize(), with @ret_refusal. */
int aqd_fraction_resize(struct aqd *d, struct aqd_fraction *f,
			const struct aqd_fraction_change *change, struct aq_refusal *ret_refusal);

/* Have borrowers leave for a larger request. Return: try again at the end of some turn. */
bool aqd_fraction_make_room(struct aqd *d, struct aqd_fraction *f,
			    const struct aqd_fraction_change *change);

/* Send @sig to all its processes, and SIGKILL five seconds later. Return: processes reached. */
uint32_t aqd_fraction_kill(struct aqd *d, struct aqd_fraction *f, int sig);

/* Make @p (a new reference is taken) its holder. */
void aqd_fraction_set_holder(struct aqd_fraction *f, struct aqd_process *p);
void aqd_fraction_holder_gone(struct aqd_fraction *f);

/* Who holds it changed: start or stop its end. */
void aqd_fraction_check(struct aqd_fraction *f);

/* It is no more, and neither are its clients. Freed at the turn's end. */
void aqd_fraction_end(struct aqd *d, struct aqd_fraction *f, const char *why);

/**
 * aqd_fraction_end_unheld() - end now what lingers: somebody wants its name or its room.
 * Deaths that the loop has not been told of yet count, so that a program can be followed at once by
 * another in its place. Those of an earlier daemon keep the time that they have to come back.
 * @name: only that one; NULL: all
 * Return: something ended
 */
bool aqd_fraction_end_unheld(struct aqd *d, const char *name);

/* By name, NULL for none. */
struct aqd_fraction *aqd_fraction_find(struct aqd *d, const char *name);

/* Is the name that of a fraction, or promised to a waiting one? */
bool aqd_fraction_name_taken(struct aqd *d, const char *name);

/* A free name made of @command's first word, into @ret of AQ_NAME_BYTES. */
void aqd_fraction_make_name(struct aqd *d, const char *command, char *ret);

/* Is anything going on that the daemon is needed for? */
bool aqd_in_use(const struct aqd *d);

/* Restored, and some of its clients are not back: decisions would rest on half the truth. */
bool aqd_fraction_is_settling(const struct aqd_fraction *f, uint64_t now_ns);

#endif /* AQ_DAEMON_FRACTION_H */
