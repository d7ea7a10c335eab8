/* SPDX-License-Identifier: Apache-2.0 */
/* What people ask of `aliquot bench serve`. */
#ifndef AQ_SERVE_OPTIONS_H
#define AQ_SERVE_OPTIONS_H

#include <stdbool.h>

#include "cli/opt.h"
#include "serve/load.h"
#include "serve/search.h"
#include "serve/summary.h"

struct aq_serve_options {
	struct aq_load_config load;
	struct aq_bounds bounds;
	struct aq_target targets[AQ_TARGETS_MAX];
	struct aq_lengths lengths;
	char *headers;
	bool search;
	struct aq_search_limits limits;
	bool json, quiet;
	const char *out; /* directory; NULL none */
};

extern const struct aq_verb aq_serve_verb;

/**
 * aq_serve_options_parse() - read the command line, and resolve the targets' hosts.
 * @ret_options: aq_serve_options_finish() whatever is returned
 * Return: -1 to go on, else an exit status (help was printed, or a line on stderr)
 */
int aq_serve_options_parse(int argc, char **argv, struct aq_serve_options *ret_options);
void aq_serve_options_finish(struct aq_serve_options *o);

#endif /* AQ_SERVE_OPTIONS_H */
