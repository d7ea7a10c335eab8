/* SPDX-License-Identifier: Apache-2.0 */
/* Values of benchmarks' options. */
#ifndef AQ_BENCH_TAKE_H
#define AQ_BENCH_TAKE_H

#include <stdint.h>

#include "cli/opt.h"

/* All return -1 to go on, or an exit status after a line on stderr; nothing is returned then. */

/* `aliquot: VERB: --OPTION 'VALUE': WHY`. Return: AQ_EXIT_USAGE. */
int aq_take_bad(const struct aq_verb *verb, const char *option, const char *value, const char *why);

/* A duration, as aq_duration_parse() reads it, of at least @least_ns. */
int aq_take_time(const struct aq_verb *verb, const char *option, const char *value,
		 uint64_t least_ns, uint64_t *ret_ns);

/* A number from @min to @max. */
int aq_take_number(const struct aq_verb *verb, const char *option, const char *value, uint64_t min,
		   uint64_t max, uint64_t *ret_value);

#endif /* AQ_BENCH_TAKE_H */
