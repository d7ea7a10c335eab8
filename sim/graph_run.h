/* SPDX-License-Identifier: Apache-2.0 */
/* One launch of an instantiated graph, as an operation of a stream. */
#ifndef SIM_GRAPH_RUN_H
#define SIM_GRAPH_RUN_H

#include "exec.h"

struct sim_graph_run;
struct sim_plan;

/**
 * sim_graph_run_create() - a launch of @plan.
 * @after: launch that it follows, NULL for none
 * @end:   mark of its own end
 * Context: with the lock held. Events that nodes record are recorded from now on.
 * Return: NULL: no memory.
 */
struct sim_graph_run *sim_graph_run_create(struct sim_plan *plan, struct sim_mark *after,
					   struct sim_mark *end);

/* Whether a thread may issue all of it at once: it waits for nothing and moves few bytes. */
bool sim_graph_run_is_light(const struct sim_graph_run *run);

/**
 * sim_graph_run_issue() - issue what can be issued of the nodes.
 * @base: what the launch depends on; the end of the graph, when all is issued
 * Context: with the lock held, which is released unless @light.
 * Return: SIM_ISSUED when all is.
 */
enum sim_issue sim_graph_run_issue(struct sim_stream *s, struct sim_graph_run *run,
				   struct sim_when *base, bool light, uint64_t *wake_ns);

/* With the lock held. @run may be NULL. */
void sim_graph_run_free(struct sim_graph_run *run);

#endif /* SIM_GRAPH_RUN_H */
