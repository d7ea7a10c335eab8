/* SPDX-License-Identifier: Apache-2.0 */
/* What the experiment came to, as a text for people, and beside what others have published. */
#ifndef AQ_FRACTIONS_REPORT_H
#define AQ_FRACTIONS_REPORT_H

#include <stdio.h>

#include "fractions/cases.h"

/* Tables, notes, and the published claims with ours beside them. Return: 0, -ENOMEM or -EIO. */
int fr_report_print(const struct fr_run *run, FILE *out);

/* Plots into the directory of --out; only those there is something for. Return: 0 or -errno. */
int fr_report_plots(const struct fr_run *run);

/* Part of a row's users or rate in that of another. NAN unless both were measured. */
double fr_ratio(double value, double of);

#endif /* AQ_FRACTIONS_REPORT_H */
