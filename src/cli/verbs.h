/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs' table. */
#ifndef AQ_CLI_VERBS_H
#define AQ_CLI_VERBS_H

#include "cli/opt.h"

#define AQ_VERB(name) extern const struct aq_verb aq_verb_##name;
#include "cli/verbs.def"
#undef AQ_VERB

/* Ends with NULL. */
extern const struct aq_verb *const aq_verbs[];

const struct aq_verb *aq_verb_find(const char *name);

/* One line on stderr about a verb that does not exist. Return: AQ_EXIT_USAGE. */
int aq_verb_unknown(const char *name);

/* What `aliquot` alone prints. */
void aq_verb_overview(FILE *out);

#endif /* AQ_CLI_VERBS_H */
