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

static inline const char *aq_end_name(enum aq_end end)
{
	static const char *const names[AQ_ENDS] = {
		"ok",
#define AQ_FAILURE(name, text, meaning) text,
#include "serve/failure.def"
#undef AQ_FAILURE
		"unfinished",
	};

	return names[end];
}

static inline const char *aq_end_meaning(enum aq_end end)
{
	static const char *const meanings[AQ_ENDS] = {
		"whole answer",
#define AQ_FAILURE(name, text, meaning) meaning,
#include "serve/failure.def"
#undef AQ_FAILURE
		"the run was over first",
	};

	return meanings[end];
}

#endif /* AQ_SERVE_FAILURE_H */
