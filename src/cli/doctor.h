/* SPDX-License-Identifier: Apache-2.0 */
/* What `aliquot doctor` looks at. Each check adds one finding or more; none changes anything. */
#ifndef AQ_CLI_DOCTOR_H
#define AQ_CLI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/paths.h"
#include "cli/driver.h"

enum aq_health {
	AQ_HEALTH_OK,
	AQ_HEALTH_NA,   /* does not apply here, or is not to be had; nothing to worry about */
	AQ_HEALTH_WARN, /* works, but not as well as it could */
	AQ_HEALTH_FAIL, /* prevents use */
};

#define AQ_FINDING_TEXT 320

struct aq_finding {
	const char *check; /* static */
	enum aq_health health;
	char detail[AQ_FINDING_TEXT];
	char advice[AQ_FINDING_TEXT]; /* empty: nothing to do */
};

struct aq_doctor {
	struct aq_finding *finding;
	size_t count, allocated;
	/* Found by one check and used by later ones. */
	unsigned int nodes;              /* device nodes of NVIDIA GPUs */
	char libdir[AQ_PATH_BYTES];      /* empty: not found */
	char driver[AQ_DRIVER_LIBRARIES][AQ_PATH_BYTES]; /* empty: not found */
	bool has_simulator;
	json_t *nvml;                    /* what the probe of libnvidia-ml.so.1 said, or NULL */
};

/**
 * aq_doctor_add() - one finding.
 * @check:  static name, one or two words
 * @advice: what to do about it, or NULL
 * Findings beyond memory are dropped.
 */
void aq_doctor_add(struct aq_doctor *d, const char *check, enum aq_health health,
		   const char *advice, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* In the order in which they run; later ones use what earlier ones found. */
void aq_doctor_kernel(struct aq_doctor *d);
void aq_doctor_limits(struct aq_doctor *d);
void aq_doctor_devices(struct aq_doctor *d);
void aq_doctor_driver(struct aq_doctor *d);
void aq_doctor_sharing(struct aq_doctor *d);
void aq_doctor_install(struct aq_doctor *d);
void aq_doctor_daemon(struct aq_doctor *d);

/**
 * aq_probe_run() - load a library in a process of its own and ask it what it is.
 * @library_path: LD_LIBRARY_PATH of that process, or NULL for none
 * Return: {"loaded": bool, "error": text, ...}, see probe.c; NULL when the process failed
 */
json_t *aq_probe_run(const char *library, const char *library_path);

/* What that process does: `aliquot doctor --probe LIBRARY`. Return: exit status. */
int aq_probe_main(const char *library);

#endif /* AQ_CLI_DOCTOR_H */
