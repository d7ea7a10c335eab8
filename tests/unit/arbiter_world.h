/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that want devices in virtual time, for tests of the arbiter and of what it is compared
 * with. */
#ifndef AQ_TESTS_ARBITER_WORLD_H
#define AQ_TESTS_ARBITER_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/timing.h"
#include "core/arbiter.h"

#define MS AQ_NS_PER_MS
#define US AQ_NS_PER_US
#define S AQ_NS_PER_S
#define MAX_PROGRAMS 64
#define HANDOVER_NS (50 * US)
#define SLOTS 4096 /* of 1 ms: how device time was spent */

/* A program: launches kernels of kernel_ns one after another, for busy_ns, then idles. */
struct program {
	struct aq_contender c;
	uint64_t kernel_ns;
	uint64_t busy_ns, idle_ns; /* idle_ns 0: saturating */
	uint64_t left_ns;	   /* of this burst */
	uint64_t wake_ns;	   /* when idle */
	uint64_t kernel_end_ns;	   /* of the kernel that runs; 0 none */
	uint64_t free_ns;	   /* lease drained: until then the hand-over */
	uint64_t used_ns;	   /* in this lease */
	uint64_t total_ns;
	uint64_t woke_ns; /* when it last began to want, to measure latency */
	uint64_t worst_wake_ns;
	bool waiting_first;
	uint32_t slot_us[SLOTS];
};

/* Who decides: the arbiter, or one to compare it with. Those know weights, and no more. */
enum policy { ARBITER, STRIDE, ROUND_ROBIN, POLICIES };

struct world {
	enum policy policy;
	unsigned int last; /* ROUND_ROBIN: who had the lease */
	struct aq_arbiter a;
	struct program p[MAX_PROGRAMS];
	unsigned int count;
	uint64_t now, next_decision;
	uint64_t idle_ns; /* device 0 idle though somebody who might run wanted it */
	uint64_t hash;	  /* of the schedule */
	uint64_t seed;
};

uint64_t rnd(struct world *w);
struct world *world_new(uint64_t seed);
struct program *add_on(struct world *w, uint64_t devices, uint32_t request, uint32_t limit,
		       uint32_t priority, uint64_t kernel_ns);
struct program *add(struct world *w, uint32_t request, uint32_t limit, uint32_t priority,
		    uint64_t kernel_ns);
void run(struct world *w, uint64_t duration_ns);
/* Device time of a program in any second that ends at a whole millisecond: least and most. */
void seconds(const struct program *p, uint64_t from, uint64_t to, double *least, double *most);
double share(const struct program *p, const struct world *w);

#endif /* AQ_TESTS_ARBITER_WORLD_H */
