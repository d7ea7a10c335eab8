/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that a case needs: started in fractions or beside each other, made ready, ended. */
#ifndef AQ_FRACTIONS_REPLICA_H
#define AQ_FRACTIONS_REPLICA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/paths.h"
#include "serve/target.h"

#define AQ_REPLICAS_MOST 8

/* Where everything runs: nothing of the user's own daemon is touched on simulated devices. */
struct aq_stage {
	char aliquot[AQ_PATH_BYTES], server[AQ_PATH_BYTES], libdir[AQ_PATH_BYTES];
	char directory[AQ_PATH_BYTES]; /* ours, temporary; "" on real devices */
	const char *sim;               /* profile; NULL real devices */
	const char *logs;              /* directory of the servers' messages */
};

struct aq_replica_plan {
	const char *name, *model;
	uint32_t permille;      /* of a device: the fraction, or the part of memory without a guard */
	bool guarded;           /* in a fraction; else on the driver itself */
	const char *priority;   /* NULL normal */
};

struct aq_replica {
	pid_t pid;              /* 0 none */
	uint16_t port;
	uint64_t kv_tokens;
	char device[128];
};

/* Find programs, make the directory. Return: 0; -ENOENT a program is missing (said); -errno. */
int aq_stage_init(struct aq_stage *s, const char *sim, const char *logs);

/* End the private daemon, remove simulated memory and the directory. */
void aq_stage_finish(struct aq_stage *s);

/**
 * aq_replica_start() - start a server and wait until it is ready.
 * @stop: looked at while waiting; not 0 gives up
 * Return: 0; -ENOSPC it ended by itself: its memory does not suffice, or another reason, which is
 *         in its log; -ETIMEDOUT; -EINTR @stop; other negative errno. Nothing is left running then.
 */
int aq_replica_start(const struct aq_stage *s, const struct aq_replica_plan *plan,
		     const volatile int *stop, struct aq_replica *ret_replica);
void aq_replica_stop(struct aq_replica *r);

/* What the load is to know. Return: 0, or negative errno. */
int aq_replica_target(const struct aq_replica *r, const struct aq_replica_plan *plan,
		      struct aq_target *t);

#endif /* AQ_FRACTIONS_REPLICA_H */
