/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grant word of aq_page_device: two counts of grains in one atomic, and all that may be done
 * with it. Used by the guard (use, release) and the daemon (add, revoke), at the same time.
 */
#ifndef AQ_ABI_GRANT_H
#define AQ_ABI_GRANT_H

#include <stdbool.h>
#include <stdint.h>

#include <aliquot/abi.h>

#define AQ_GRANT_MAX_BYTES ((uint64_t)UINT32_MAX * AQ_GRAIN_BYTES) /* 2 TiB - 512 */

struct aq_grant {
	uint32_t granted, used; /* grains */
};

static inline struct aq_grant aq_grant_unpack(uint64_t word)
{
	return (struct aq_grant){.granted = (uint32_t)(word >> 32), .used = (uint32_t)word};
}

static inline uint64_t aq_grant_pack(struct aq_grant g)
{
	return (uint64_t)g.granted << 32 | g.used;
}

static inline struct aq_grant aq_grant_load(const _Atomic uint64_t *word)
{
	return aq_grant_unpack(__atomic_load_n((const uint64_t *)word, __ATOMIC_ACQUIRE));
}

/* Bytes as grains, rounded up. Return: false when they are more than a word can count. */
static inline bool aq_grains(uint64_t bytes, uint32_t *ret_grains)
{
	if (bytes > AQ_GRANT_MAX_BYTES)
		return false;
	*ret_grains = (uint32_t)((bytes + AQ_GRAIN_BYTES - 1) / AQ_GRAIN_BYTES);
	return true;
}

static inline uint64_t aq_grain_bytes(uint32_t grains)
{
	return (uint64_t)grains * AQ_GRAIN_BYTES;
}

/**
 * aq_grant_use() - client: take @grains out of what is granted and not used.
 * @ret_missing: untouched on success; else how many grains the grant is short of
 * Return: true when taken, false when nothing changed. Context: any thread; lock-free.
 */
bool aq_grant_use(_Atomic uint64_t *word, uint32_t grains, uint32_t *ret_missing);

/* Client: give @grains back. Never goes below zero: what is too much is dropped. Lock-free. */
void aq_grant_release(_Atomic uint64_t *word, uint32_t grains);

/* Daemon: grant @grains more. Return: false on overflow of the count, nothing changed. */
bool aq_grant_add(_Atomic uint64_t *word, uint32_t grains);

/* Daemon: take back at most @max grains that are granted but not used. Return: grains taken. */
uint32_t aq_grant_revoke(_Atomic uint64_t *word, uint32_t max);

#endif /* AQ_ABI_GRANT_H */
