/* SPDX-License-Identifier: Apache-2.0 */
/* Graph memory: what pool.c tells it. */
#ifndef AQ_GUARD_GRAPHMEM_H
#define AQ_GUARD_GRAPHMEM_H

/* An allocation became a node of some graph: from now on, graphs are looked into. */
void aq__graphmem_seen(void);

#endif /* AQ_GUARD_GRAPHMEM_H */
