/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Movable memory in other processes: share.c lends what this one has, import.c opens what others
 * lend. A handle (CUipcMemHandle) holds a token and nothing else; see EXPORT in <aliquot/proto.h>.
 */
#ifndef AQ_GUARD_SHARE_H
#define AQ_GUARD_SHARE_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/proto.h>

#include "cuda/cuda_abi.h"

struct aq__handle {
	uint64_t magic; /* AQ__HANDLE_MAGIC */
	uint8_t token[AQ_TOKEN_BYTES];
	uint8_t zeros[CU_IPC_HANDLE_SIZE - 8 - AQ_TOKEN_BYTES];
};

#define AQ__HANDLE_MAGIC 0x3265726168737161ull /* "aqshare2" */

_Static_assert(sizeof(struct aq__handle) == CU_IPC_HANDLE_SIZE, "as the driver's");

/* ---- share.c ---- */

/* The allocation at @address is no more. Cheap where nothing is exported. */
void aq__share_freed(uint64_t address);

/* Is it the token of an allocation of this process? */
bool aq__share_is_own(const uint8_t *token);

void aq__share_forked(void); /* by aq__move_forked() */

/* ---- import.c ---- */

/* An allocation of another process that is open here. */
struct aq__imported {
	CUdeviceptr start;
	uint64_t bytes;
	CUcontext ctx;	 /* in which it was opened */
	uint64_t number; /* no other opening in this process had it */
};

/* What is open at @ptr. Return: whether anything is. Cheap where nothing is open. */
bool aq__import_find(CUdeviceptr ptr, struct aq__imported *ret);

/* Is the address in memory of another process, or in what surrounds that? */
bool aq__import_at(CUdeviceptr ptr);

/* The context with this number is gone: what was opened in it is open no more. */
void aq__import_context_gone(uint32_t owner);

void aq__import_forked(void); /* by aq__share_forked() */

#endif /* AQ_GUARD_SHARE_H */
