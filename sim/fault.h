/* SPDX-License-Identifier: Apache-2.0 */
/* Failures on demand: ALIQUOT_SIM_FAULT="SYMBOL:WHEN=CODE[,...]". */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#include "cuda/cuda_abi.h"

/**
 * sim_fault_init() - read $ALIQUOT_SIM_FAULT, once.
 * WHEN is N (the N-th call of the symbol in this process, from 1), N+ (that and all later ones) or
 * `*` (all); CODE is a CUresult as a number. Calls are counted whatever they would have returned.
 * A text that does not parse is reported on stderr and ignored from there on.
 */
void sim_fault_init(void);

/* Count a call of @api; what it has to return, or CUDA_SUCCESS to go on. Any thread. */
CUresult sim_fault(const char *api);

#endif /* SIM_FAULT_H */
