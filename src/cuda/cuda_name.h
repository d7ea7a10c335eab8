/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the names of driver entry points mean: the table of cuda_api.def, and the two ways that
 * programs look into it, by symbol (dlsym) and by base name and version (cuGetProcAddress).
 *
 * A symbol is a base name, then `_v2`.. for a later variant of its signature, then `_ptds` or
 * `_ptsz` where the twin uses the calling thread's own default stream: cuMemcpyHtoDAsync_v2_ptsz.
 *
 * The whole table is constant. All functions: any thread, async-signal-safe, no allocation.
 */
#ifndef AQ_CUDA_CUDA_NAME_H
#define AQ_CUDA_CUDA_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limit of a symbol's length with its NUL; longer names are unknown. The longest has 52. */
#define AQ_CUDA_NAME_MAX 64

/* The flag of cuGetProcAddress that asks for per-thread twins (CU_GET_PROC_ADDRESS_...). */
#define AQ_CUDA_FIND_PER_THREAD 2u

enum aq_cuda_role {
	AQ_CUDA_CHARGE,
	AQ_CUDA_RELEASE,
	AQ_CUDA_SUBMIT,
	AQ_CUDA_REPORT,
	AQ_CUDA_LIFECYCLE,
	AQ_CUDA_RESOLVE,
	AQ_CUDA_WATCH,
	AQ_CUDA_PASS,
};

enum aq_cuda_kind {
	AQ_CUDA_FUNCTION, /* of known signature */
	AQ_CUDA_UNTYPED,  /* function, signature unknown here */
	AQ_CUDA_DATA,	  /* variable */
};

enum aq_cuda_per_thread {
	AQ_CUDA_PLAIN,
	AQ_CUDA_PTDS, /* the call took no stream and used the default one */
	AQ_CUDA_PTSZ, /* the call takes a stream, or works on one */
};

struct aq_cuda_entry {
	const char *sym;
	uint8_t base_len;   /* the base name is the first base_len characters of sym */
	uint8_t abi;	    /* 1, or n for a symbol with _vn */
	uint8_t per_thread; /* enum aq_cuda_per_thread */
	uint8_t role;	    /* enum aq_cuda_role */
	uint8_t kind;	    /* enum aq_cuda_kind */
	uint16_t since; /* 1000 * major + 10 * minor; 0 where unknown, which any version meets */
};

/* All entries, sorted by symbol (strcmp); the index of one is the same in every table of the def.
 */
extern const struct aq_cuda_entry aq_cuda_entries[];
extern const size_t aq_cuda_n_entries;

/**
 * aq_cuda_name_parse() - take a symbol apart. Judges spelling only, not whether it exists.
 * @sym:  NUL-terminated
 * @base: receives the base name, @size bytes
 * @ret_abi:        1, or n for _vn (n from 2 to 9)
 * @ret_per_thread: enum aq_cuda_per_thread
 * Return: 0; -EINVAL for NULL or nothing before the suffixes; -ENAMETOOLONG when @size is too
 * small.
 */
int aq_cuda_name_parse(const char *sym, char *base, size_t size, int *ret_abi, int *ret_per_thread);

/* The entry of exactly this symbol, or NULL. */
const struct aq_cuda_entry *aq_cuda_entry_by_symbol(const char *sym);

/**
 * aq_cuda_entry_find() - what cuGetProcAddress has to give.
 * @base:    base name, without suffixes (with one, it is not found)
 * @version: CUDA version that the caller was written for, 1000 * major + 10 * minor
 * @flags:   those of cuGetProcAddress: AQ_CUDA_FIND_PER_THREAD prefers the per-thread twin where
 *           there is one in @version; other bits change nothing (whether they are valid is for the
 *           caller to say)
 * Return: the newest variant not newer than @version, or NULL: then aq_cuda_base_known() tells "no
 * such name" (CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND) from "only in newer versions"
 * (..._VERSION_NOT_SUFFICIENT). Variables are never found.
 * Source: (name, version) pairs follow CUDA 13.0 cudaTypedefs.h, and the look-ups that the CUDA
 * runtimes 11.8, 12.4 and 13.0 make.
 */
const struct aq_cuda_entry *aq_cuda_entry_find(const char *base, int version, uint64_t flags);

/* Whether aq_cuda_entry_find() would find @base in some version. */
bool aq_cuda_base_known(const char *base);

/* "CHARGE" and so on; "?" for a number that is no role. */
const char *aq_cuda_role_name(enum aq_cuda_role role);

#endif /* AQ_CUDA_CUDA_NAME_H */
