/* SPDX-License-Identifier: Apache-2.0 */
/* What `aliquot bench fractions` leaves: rows, tables, plots, and published claims beside them. */
#ifndef AQ_FRACTIONS_RESULTS_H
#define AQ_FRACTIONS_RESULTS_H

#include <stddef.h>
#include <stdio.h>

#include "fractions/cases.h"

struct aq_fractions_results {
	const struct aq_fractions_config *config;
	const struct aq_case_result *cases;
	size_t count;
	bool simulated;
	const char *profile; /* of the simulated device; NULL a real one */
};

/* results.json, results.csv, details.json and plots into @dir. Return: 0; negative errno (said). */
int aq_fractions_save(const struct aq_fractions_results *r, const char *dir);

/* The measured cases, then published claims and ours. */
int aq_fractions_print(const struct aq_fractions_results *r, FILE *out);

#endif /* AQ_FRACTIONS_RESULTS_H */
