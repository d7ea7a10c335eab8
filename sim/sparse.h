/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that need not be there: memory of a device that nobody wrote, or only with zeros, takes none
 * of the host, and stays so when it is copied, to host memory and back. All of it with sim.va_lock
 * held for reading; no @n reaches beyond the run of a spot.
 */
#ifndef SIM_SPARSE_H
#define SIM_SPARSE_H

#include "va.h"

/* Before bytes of a spot are read and written where they are. */
void sim_sparse_open(const struct sim_spot *spot);

void sim_sparse_copy(const struct sim_spot *to, const struct sim_spot *from, size_t n);

/* Let @n bytes read zero. */
void sim_sparse_clear(const struct sim_spot *to, size_t n);

/* @pattern repeats every 4 bytes, and begins at its first byte. @width: of 1, all four are alike. */
void sim_sparse_fill(const struct sim_spot *to, const uint8_t *pattern, unsigned int width,
		     size_t n);

#endif /* SIM_SPARSE_H */
