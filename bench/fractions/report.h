/* SPDX-License-Identifier: Apache-2.0 */
/* What the experiment came to, as a text for people, and beside what others have published. */
#ifndef AQ_FRACTIONS_REPORT_H
#define AQ_FRACTIONS_REPORT_H

#include <stdio.h>

#include "cli/text.h"
#include "fractions/cases.h"

/* Tables, notes, and the published claims with ours beside them. Return: 0, -ENOMEM or -EIO. */
int fr_report_print(const struct fr_run *run, FILE *out);

/* Plots into the directory of --out; only those there is something for. Return: 0 or -errno. */
int fr_report_plots(const struct fr_run *run);

/* Published figures that a case of the run stands beside, and the number of the others.
 * Return: 0 or -ENOMEM. */
int fr_claims_print(const struct fr_run *run, FILE *out);

/* The step of a case with as many users on the GPU, or on each model, as the answer of @with. */
const struct fr_row *fr_row_matched(const struct fr_run *run, const char *name, const char *with,
				    bool by_model);

/* Cells: milliseconds, and a ratio in percent; `-` for what is not finite. */
void fr_cell_ms(struct aq_table *t, double ms);
void fr_cell_percent(struct aq_table *t, double ratio);

/* Part of a row's users or rate in that of another. NAN unless both were measured. */
double fr_ratio(double value, double of);

#endif /* AQ_FRACTIONS_REPORT_H */
