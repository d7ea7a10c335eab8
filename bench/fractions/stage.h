/* SPDX-License-Identifier: Apache-2.0 */
/* A machine to measure on: a run directory, a daemon, and servers in fractions or without. */
#ifndef AQ_FRACTIONS_STAGE_H
#define AQ_FRACTIONS_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/paths.h"
#include "fractions/config.h"
#include "fractions/host.h"
#include "fractions/proc.h"

#define FR_REPLICAS_MOST 16
#define FR_WHY 240

/* One server to be. */
struct fr_part {
	const char *model;
	uint32_t permille;    /* of a device */
	unsigned int device;  /* index */
	bool plain;	      /* without Aliquot: only the engine's own share of the memory */
	bool capped;	      /* no more compute than its fraction, though nobody wants it */
	const char *priority; /* NULL normal */
};

struct fr_replica {
	struct fr_part part;
	struct fr_proc proc;
	char name[32];
	uint16_t port;
};

struct fr_stage {
	const struct fr_config *config;
	char directory[AQ_PATH_BYTES]; /* "" not open; what we make is below it */
	char aliquot[AQ_PATH_BYTES], server[AQ_PATH_BYTES], generator[AQ_PATH_BYTES];
	char simlib[AQ_PATH_BYTES];
	char rundir_variable[AQ_PATH_BYTES + 32];
	struct fr_proc daemon;
	struct fr_replica replicas[FR_REPLICAS_MOST];
	size_t count;
	unsigned int started; /* of all time: for names */
	char device[96];      /* as a server called it; "" none yet */
	char why[FR_WHY];     /* what went wrong last */
};

/**
 * fr_stage_open() - find the programs, make the directory, start the daemon and the simulated
 * devices.
 * @devices: simulated ones to have
 * Return: 0; negative errno, and @s->why says more; -EINTR. fr_stage_close() in any case.
 */
int fr_stage_open(struct fr_stage *s, const struct fr_config *c, unsigned int devices);

/**
 * fr_stage_add() - start one more server and wait until it serves.
 * Return: 0; -ENOSPC it does not fit (why); -ECHILD it ended otherwise; -ETIMEDOUT; -EINTR; ...
 */
int fr_stage_add(struct fr_stage *s, const struct fr_part *part);

/* End all servers; their fractions are gone afterwards. */
void fr_stage_clear(struct fr_stage *s);

/* What the host has to do from now on; and has had to do, with the load's result. */
void fr_stage_probe(const struct fr_stage *s, struct fr_host_probe *p);
struct fr_host_use fr_stage_host(const struct fr_stage *s, const struct fr_host_probe *p,
				 uint64_t generator_ns, double lag_ms, double bound_ms);

/* Replicas that have ended by themselves. */
size_t fr_stage_dead(struct fr_stage *s);

/* Everything that was started ends, and the directory goes. */
void fr_stage_close(struct fr_stage *s);

#endif /* AQ_FRACTIONS_STAGE_H */
