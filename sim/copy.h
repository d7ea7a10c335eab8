/* SPDX-License-Identifier: Apache-2.0 */
/* What the files with entry points for copies share. */
#ifndef SIM_COPY_H
#define SIM_COPY_H

#include "capture.h"
#include "plan.h"

/* Hand over a planned copy, with what pageable memory asks for. Nothing for one without bytes. */
CUresult sim_copy_enqueue(struct sim_stream *s, struct sim_task *t, enum sim_enqueue how);

#endif /* SIM_COPY_H */
