/* SPDX-License-Identifier: Apache-2.0 */
/* Looks into the table of driver entry points. Knows names only: no address, no call. */
#include "cuda/cuda_name.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MAX_ABI 9

/*
 * The suffixes are taken off by the compiler, so that the table is constant data. AT(s, n) is the
 * n-th character from the end of a literal (some other character of it where it is shorter).
 */
#define AT(s, n) ((s)[sizeof(s) > (n) ? sizeof(s) - 1 - (n) : 0])
#define IS_TWIN(s, x, y)                                                                           \
	(AT(s, 5) == '_' && AT(s, 4) == 'p' && AT(s, 3) == 't' && AT(s, 2) == (x) &&               \
	 AT(s, 1) == (y))
#define PER_THREAD(s)                                                                              \
	(IS_TWIN(s, 'd', 's') ? AQ_CUDA_PTDS : IS_TWIN(s, 's', 'z') ? AQ_CUDA_PTSZ : AQ_CUDA_PLAIN)
#define PT_LEN(s) (PER_THREAD(s) == AQ_CUDA_PLAIN ? 0 : 5)
#define IS_VERSION(s, n)                                                                           \
	(AT(s, (n) + 3) == '_' && AT(s, (n) + 2) == 'v' && AT(s, (n) + 1) >= '2' &&                \
	 AT(s, (n) + 1) <= '9')
#define ABI(s) (IS_VERSION(s, PT_LEN(s)) ? AT(s, PT_LEN(s) + 1) - '0' : 1)
#define BASE_LEN(s) (sizeof(s) - 1 - PT_LEN(s) - (IS_VERSION(s, PT_LEN(s)) ? 3 : 0))

#define ENTRY(s, from, what, how)                                                                  \
	{                                                                                          \
		.sym = s,                                                                          \
		.base_len = BASE_LEN(s),                                                           \
		.abi = ABI(s),                                                                     \
		.per_thread = PER_THREAD(s),                                                       \
		.role = AQ_CUDA_##what,                                                            \
		.kind = how,                                                                       \
		.since = from,                                                                     \
	},

const struct aq_cuda_entry aq_cuda_entries[] = {
#define AQ_API(sym, since, role, params, args) ENTRY(#sym, since, role, AQ_CUDA_FUNCTION)
#define AQ_API_UNTYPED(sym, since, role) ENTRY(#sym, since, role, AQ_CUDA_UNTYPED)
#define AQ_API_DATA(sym) ENTRY(#sym, 0, PASS, AQ_CUDA_DATA)
#define AQ_ALIAS(base, since, sym)
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
};

const size_t aq_cuda_n_entries = ARRAY_SIZE(aq_cuda_entries);

static const struct alias {
	const char *base;
	const char *sym;
	int since;
} aliases[] = {
#define AQ_API(sym, since, role, params, args)
#define AQ_API_UNTYPED(sym, since, role)
#define AQ_API_DATA(sym)
#define AQ_ALIAS(base, since, sym) {#base, #sym, since},
#include "cuda/cuda_api.def"
#undef AQ_API
#undef AQ_API_UNTYPED
#undef AQ_API_DATA
#undef AQ_ALIAS
};

static const char *const per_thread_suffix[] = {
	[AQ_CUDA_PLAIN] = "",
	[AQ_CUDA_PTDS] = "_ptds",
	[AQ_CUDA_PTSZ] = "_ptsz",
};

int aq_cuda_name_parse(const char *sym, char *base, size_t size, int *ret_abi, int *ret_per_thread)
{
	int abi = 1, per_thread = AQ_CUDA_PLAIN;
	size_t len;

	if (!sym)
		return -EINVAL;
	len = strlen(sym);

	if (len > 5 && !strcmp(sym + len - 5, per_thread_suffix[AQ_CUDA_PTDS]))
		per_thread = AQ_CUDA_PTDS;
	else if (len > 5 && !strcmp(sym + len - 5, per_thread_suffix[AQ_CUDA_PTSZ]))
		per_thread = AQ_CUDA_PTSZ;
	if (per_thread != AQ_CUDA_PLAIN)
		len -= 5;

	if (len > 3 && sym[len - 3] == '_' && sym[len - 2] == 'v' && sym[len - 1] >= '2' &&
	    sym[len - 1] <= '9') {
		abi = sym[len - 1] - '0';
		len -= 3;
	}

	if (len == 0)
		return -EINVAL;
	if (len >= size)
		return -ENAMETOOLONG;
	memcpy(base, sym, len);
	base[len] = '\0';
	*ret_abi = abi;
	*ret_per_thread = per_thread;
	return 0;
}

const struct aq_cuda_entry *aq_cuda_entry_by_symbol(const char *sym)
{
	size_t low = 0, high = ARRAY_SIZE(aq_cuda_entries);

	if (!sym)
		return NULL;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int c = strcmp(sym, aq_cuda_entries[mid].sym);

		if (c == 0)
			return &aq_cuda_entries[mid];
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

/* The entry of the symbol that is these parts put together, a function, or NULL. */
static const struct aq_cuda_entry *lookup(const char *base, size_t len, int abi, int per_thread)
{
	const struct aq_cuda_entry *e;
	char sym[AQ_CUDA_NAME_MAX];
	size_t n = len;

	if (len == 0 || len + sizeof("_v2_ptsz") > sizeof(sym))
		return NULL;
	memcpy(sym, base, len);
	if (abi > 1) {
		sym[n++] = '_';
		sym[n++] = 'v';
		sym[n++] = (char)('0' + abi);
	}
	memcpy(sym + n, per_thread_suffix[per_thread], strlen(per_thread_suffix[per_thread]) + 1);

	e = aq_cuda_entry_by_symbol(sym);
	/* A base that carries a suffix itself would match the whole symbol. */
	if (!e || e->base_len != len || e->kind == AQ_CUDA_DATA)
		return NULL;
	return e;
}

static const struct aq_cuda_entry *per_thread_twin(const struct aq_cuda_entry *e, int version)
{
	for (int pt = AQ_CUDA_PTDS; pt <= AQ_CUDA_PTSZ; pt++) {
		const struct aq_cuda_entry *twin = lookup(e->sym, e->base_len, e->abi, pt);

		if (twin && twin->since <= version)
			return twin;
	}
	return NULL;
}

const struct aq_cuda_entry *aq_cuda_entry_find(const char *base, int version, uint64_t flags)
{
	const struct aq_cuda_entry *best = NULL, *e;
	int best_since = -1;
	size_t len;

	if (!base)
		return NULL;
	len = strlen(base);

	for (int abi = 1; abi <= MAX_ABI; abi++) {
		e = lookup(base, len, abi, AQ_CUDA_PLAIN);
		if (e && e->since <= version && e->since >= best_since) {
			best = e;
			best_since = e->since;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
		if (aliases[i].since <= version && aliases[i].since >= best_since &&
		    !strcmp(aliases[i].base, base)) {
			best = aq_cuda_entry_by_symbol(aliases[i].sym);
			best_since = aliases[i].since;
		}
	}

	if (best && (flags & AQ_CUDA_FIND_PER_THREAD)) {
		e = per_thread_twin(best, version);
		if (e)
			best = e;
	}
	return best;
}

bool aq_cuda_base_known(const char *base)
{
	return aq_cuda_entry_find(base, INT_MAX, 0) != NULL;
}

const char *aq_cuda_role_name(enum aq_cuda_role role)
{
	static const char *const names[] = {
		[AQ_CUDA_CHARGE] = "CHARGE",	   [AQ_CUDA_RELEASE] = "RELEASE",
		[AQ_CUDA_SUBMIT] = "SUBMIT",	   [AQ_CUDA_REPORT] = "REPORT",
		[AQ_CUDA_LIFECYCLE] = "LIFECYCLE", [AQ_CUDA_RESOLVE] = "RESOLVE",
		[AQ_CUDA_WATCH] = "WATCH",	   [AQ_CUDA_PASS] = "PASS",
	};

	return (unsigned int)role < ARRAY_SIZE(names) ? names[role] : "?";
}
