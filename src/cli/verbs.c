/* SPDX-License-Identifier: Apache-2.0 */
/* Finds verbs and prints the overview of them. */
#include "cli/verbs.h"

#include <string.h>

#include "base/cleanup.h"
#include "cli/say.h"
#include "base/banned.h"

const struct aq_verb *const aq_verbs[] = {
#define AQ_VERB(name) &aq_verb_##name,
#include "cli/verbs.def"
#undef AQ_VERB
	NULL,
};

const struct aq_verb *aq_verb_find(const char *name)
{
	for (size_t i = 0; aq_verbs[i]; i++)
		if (!strcmp(aq_verbs[i]->name, name))
			return aq_verbs[i];
	return NULL;
}

int aq_verb_unknown(const char *name)
{
	const char *words[AQ_ARRAY_SIZE(aq_verbs)] = {NULL};
	char list[256] = "";
	const char *near;
	size_t n = 0;

	for (size_t i = 0; aq_verbs[i]; i++) {
		words[i] = aq_verbs[i]->name;
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", words[i]);
	}
	near = aq_opt_nearest(name, words);
	if (near)
		aq_say("unknown verb '%s': did you mean %s?", name, near);
	else
		aq_say("unknown verb '%s': there are %s", name, list);
	return AQ_EXIT_USAGE;
}

void aq_verb_overview(FILE *out)
{
	fputs("aliquot - share NVIDIA GPUs among programs in guaranteed fractions\n\n"
	      "  aliquot run --gpu 0.5 --name chat -- python serve.py   half of a GPU\n"
	      "  aliquot ps                                             who has what\n"
	      "  aliquot resize chat --memory 30G                       while it runs\n"
	      "  aliquot run --sim h100 --gpu 0.25 -- ./prog            without a GPU\n"
	      "\n", out);
	for (size_t i = 0; aq_verbs[i]; i++)
		fprintf(out, "  %-10s%s\n", aq_verbs[i]->name, aq_verbs[i]->summary);
	fputs("\nMore about each: aliquot help VERB; man aliquot.\n", out);
}
