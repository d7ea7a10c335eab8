/* SPDX-License-Identifier: Apache-2.0 */
/* What is measured, and how long: read once from the command line. */
#ifndef AQ_FRACTIONS_CONFIG_H
#define AQ_FRACTIONS_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/opt.h"

#define FR_USERS_MOST 4096u

struct fr_config {
	const char *model, *small_model, *embedding_model;
	const char *sim;   /* profile; NULL: the machine's own GPU */
	const char *out;   /* directory */
	const char *cases; /* names by commas; NULL all */
	bool quick, quiet;
	bool shared_daemon;   /* whichever `aliquot run` finds, else one of our own */
	uint32_t isl, osl;    /* tokens of each prompt and answer */
	uint32_t first_users; /* first try on a whole GPU; 0: a guess from the lengths */
	uint32_t steps_most;  /* of a search */
	double bound_ms;
	uint64_t window_ns; /* of each step */
	uint64_t warmup_ns; /* before it, where users come one after the other */
	uint32_t sequences; /* that an engine runs at once, at most */
	uint64_t limit_ns;  /* of the whole run; cases that would pass it are left out, and said */
	uint64_t seed;
};

extern const struct aq_verb fr_verb;

/**
 * fr_config_parse() - read the command line.
 * Return: -1 to go on, else an exit status (help was printed, or a line on stderr)
 * Owns: nothing; @ret points into @argv
 */
int fr_config_parse(int argc, char **argv, struct fr_config *ret);

#endif /* AQ_FRACTIONS_CONFIG_H */
