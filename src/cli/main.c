/* SPDX-License-Identifier: Apache-2.0 */
/* The command `aliquot`: picks the verb. */
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "cli/opt.h"
#include "cli/say.h"
#include "cli/verbs.h"
#include "base/banned.h"

static int dispatch(int argc, char **argv)
{
	const struct aq_verb *verb;
	const char *name = argc > 1 ? argv[1] : "help";

	if (argc < 2 || !strcmp(name, "--help") || !strcmp(name, "-h")) {
		aq_verb_overview(stdout);
		return AQ_EXIT_OK;
	}
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		name = "version";
	if (name[0] == '-') {
		aq_say("unknown option '%s': the verb comes first, as in 'aliquot run %s': see "
		       "'aliquot help'", name, name);
		return AQ_EXIT_USAGE;
	}
	verb = aq_verb_find(name);
	if (!verb)
		return aq_verb_unknown(name);
	return verb->run(verb, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	if (aq_fds_standard() < 0)
		return AQ_EXIT_FAILED;
	/* For the terminal's characters only: numbers stay as JSON and scripts want them. */
	setlocale(LC_CTYPE, "");
	return aq_say_finish(dispatch(argc, argv));
}
