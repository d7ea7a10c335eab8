/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world in virtual time for tests of leases: pages, and guards that are played. Each guard
 * launches kernels one after another while its page lets it, and writes what a guard writes.
 * Nothing of a daemon but the leases runs.
 */
#ifndef AQ_TESTS_LEASE_WORLD_H
#define AQ_TESTS_LEASE_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/abi.h>

#include "base/timing.h"
#include "daemon/lease.h"

#define MS AQ_NS_PER_MS
#define US AQ_NS_PER_US
#define S AQ_NS_PER_S
#define MAX_GUARDS 80
#define WAKE_NS (20 * US) /* from a word in the page to a thread that has seen it */

/* A program with one thread, on one device of its page. */
struct guard {
	struct aqd_lessee lessee;
	struct aq_page page;
	uint32_t device; /* index in the page */
	uint64_t kernel_ns;
	uint64_t busy_ns, idle_ns; /* of bursts; idle_ns 0: saturating */
	uint64_t wake_ns;	   /* idle until; or sees what was written to it */
	uint64_t burst_left_ns;
	uint64_t kernel_end_ns; /* 0: none runs */
	uint64_t length_ns;	/* of the one that runs */
	uint64_t used_ns;	/* in this lease */
	uint64_t total_ns;
	uint64_t wanted_ns, worst_wait_ns;
	bool ungated; /* the kernel that runs was launched without a lease */
	bool stopped; /* SIGSTOP */
	bool dead;
	bool wanting;
	int64_t lie_ns; /* added to what it claims in each lease */
};

struct fraction {
	struct aqd_lease lease;
};

struct world {
	struct aqd_leases l;
	struct fraction f[MAX_GUARDS];
	struct guard *g[MAX_GUARDS];
	uint32_t fractions, guards;
	uint64_t now, next;
	uint32_t overruns, returns, lies;
	uint64_t charged_ns;
	uint64_t overlap_ns; /* two fractions had kernels on device 0 at once */
	uint64_t idle_ns;    /* device 0 idle though somebody wanted it */
};

/* An empty one. */
struct world *world_new(void);
/* A fraction on those of the page's devices; nobody runs in it yet. */
struct aqd_lease *add_on(struct world *w, uint32_t devices, uint32_t request, uint32_t limit,
			 uint32_t priority);
/* A saturating client of it, on the device of that index. */
struct guard *join(struct world *w, struct aqd_lease *f, uint32_t device, uint64_t kernel_ns);
/* One fraction with one saturating client on device 0. */
struct guard *add(struct world *w, uint32_t request, uint32_t limit, uint32_t priority,
		  uint64_t kernel_ns);
void world_free(struct world *w);
/* Its bell. */
void ring(struct world *w, struct guard *g);
/* The process ends, whatever it has under way. */
void die(struct world *w, struct guard *g);
/* Let so much time pass. */
void run(struct world *w, uint64_t duration_ns);

#endif /* AQ_TESTS_LEASE_WORLD_H */
