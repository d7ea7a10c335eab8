/* SPDX-License-Identifier: Apache-2.0 */
/* How requests end. */
#ifndef AQ_SERVE_FAILURE_H
#define AQ_SERVE_FAILURE_H

enum aq_end {
	AQ_END_OK,
#define AQ_FAILURE(name, text, meaning) AQ_END_##name,
#include "serve/failure.def"
#undef AQ_FAILURE
	AQ_END_CUT, /* no failure: the run was over first */
	AQ_ENDS,
};

struct aq_end_words {
	const char *name, *meaning;
};

static inline const struct aq_end_words *aq_end_words(enum aq_end end)
{
	static const struct aq_end_words words[AQ_ENDS] = {
		{"ok", "whole answer"},
#define AQ_FAILURE(name, text, meaning) {text, meaning},
#include "serve/failure.def"
#undef AQ_FAILURE
		{"unfinished", "the run was over first"},
	};

	return &words[end];
}

static inline const char *aq_end_name(enum aq_end end)
{
	return aq_end_words(end)->name;
}

static inline const char *aq_end_meaning(enum aq_end end)
{
	return aq_end_words(end)->meaning;
}

#endif /* AQ_SERVE_FAILURE_H */
