/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, shares and durations as people write them: parsing and printing. */
#ifndef AQ_BASE_SIZE_H
#define AQ_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

#define AQ_KIB (1ull << 10)
#define AQ_MIB (1ull << 20)
#define AQ_GIB (1ull << 30)
#define AQ_TIB (1ull << 40)

#define AQ_SIZE_TEXT 32 /* enough for every text that aq_size_format() writes */

/**
 * aq_size_parse() - `20G`, `20GiB`, `512M`, `1.5G`, `1073741824`: bytes.
 * @text:      digits, at most one fraction with a suffix, then nothing, B, K, M, G, T, each of the
 *             letters with nothing, `B` or `iB` behind; powers of 1024; case ignored; no blanks
 * @ret_bytes: bytes, rounded down; untouched on failure
 * Return: 0; -EINVAL not a size; -ERANGE above 2^63 - 1
 */
int aq_size_parse(const char *text, uint64_t *ret_bytes);

/* Write `19.5 GiB`, `512 MiB`, `0 B`: at most one decimal. @buf of AQ_SIZE_TEXT. Returns @buf. */
char *aq_size_format(uint64_t bytes, char *buf);

/**
 * aq_share_parse() - `0.5`, `.25`, `1`: a share of one device.
 * @ret_permille: 10..1000; more than three decimals are refused rather than rounded
 * Return: 0; -EINVAL not a number; -ERANGE outside 0.01..1
 */
int aq_share_parse(const char *text, uint32_t *ret_permille);

/**
 * aq_duration_parse() - `500ms`, `30s`, `5m`, `2h`, `10` (seconds).
 * Return: 0; -EINVAL; -ERANGE above 30 days
 */
int aq_duration_parse(const char *text, uint64_t *ret_ns);

/* Decimal digits only, whole text, min..max. Return: 0; -EINVAL; -ERANGE. */
int aq_uint_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);

#endif /* AQ_BASE_SIZE_H */
