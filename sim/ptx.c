/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads declarations out of PTX text; see ptx.h. Instructions are only scanned for braces, for
 * declarations of shared and local memory, and for names of shared variables.
 */
#include "ptx.h"

#include "ptx_lex.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* A variable larger than any device is refused, so that sums cannot overflow. */
#define MAX_VAR_BYTES (UINT64_C(1) << 40)
#define MAX_PARAM_BYTES UINT64_C(32764) /* PTX ISA, 10.3, sm_70 and higher */

/* Shared variable at module scope: counts for the entries that name it. */
struct shared_var {
	struct sim_span name;
	uint64_t size_bytes;
	uint32_t counted_by; /* the body (reader.body) that has counted it */
};

struct reader {
	struct sim_lex lex;
	struct sim_ptx *ptx;
	struct shared_var *shared;
	size_t n_shared;
	uint32_t body; /* number of the body being read, from 1 */
	int error;
};

/* What precedes the name in a declaration, and what follows it. */
struct decl {
	uint64_t size_bytes;
	uint32_t align_bytes;
	uint32_t elem_bytes; /* of the scalar type */
	bool is_extern;
	bool managed;
	struct sim_span name;
};

static int fail(struct reader *r, const char *why)
{
	if (!r->error) {
		r->error = -EINVAL;
		r->ptx->error_line = r->lex.line;
		snprintf(r->ptx->error, sizeof(r->ptx->error), "%s", why);
	}
	return -EINVAL;
}

static int fail_nomem(struct reader *r)
{
	if (!r->error)
		r->error = -ENOMEM;
	return -ENOMEM;
}

static void next(struct reader *r)
{
	sim_lex_next(&r->lex);
}

static bool is(const struct reader *r, const char *text)
{
	return sim_lex_is(&r->lex, text);
}

static bool accept(struct reader *r, const char *text)
{
	if (!is(r, text))
		return false;
	next(r);
	return true;
}

static int expect(struct reader *r, const char *text, const char *why)
{
	return accept(r, text) ? 0 : fail(r, why);
}

static int expect_u32(struct reader *r, uint32_t *ret_value)
{
	uint64_t value;

	if (r->lex.tok != SIM_TOK_WORD || sim_lex_u64(r->lex.word, &value) < 0 ||
	    value > UINT32_MAX)
		return fail(r, "number expected");
	*ret_value = (uint32_t)value;
	next(r);
	return 0;
}

/* ".maxntid 256, 1, 1" and its like: one to three numbers. */
static int expect_dims(struct reader *r, uint32_t dims[3])
{
	uint32_t found[3] = {1, 1, 1};

	for (int i = 0; i < 3; i++) {
		if (expect_u32(r, &found[i]) < 0)
			return -EINVAL;
		if (i == 2 || !accept(r, ","))
			break;
	}
	memcpy(dims, found, sizeof(found));
	return 0;
}

/* Bytes of a fundamental type, 0 for a word that is none. */
static uint32_t type_bytes(struct sim_span s)
{
	static const struct {
		const char *name;
		uint32_t bytes;
	} types[] = {
		{".b8", 1},    {".u8", 1},     {".s8", 1},     {".b16", 2},	   {".u16", 2},
		{".s16", 2},   {".f16", 2},    {".bf16", 2},   {".e4m3", 1},	   {".e5m2", 1},
		{".f16x2", 4}, {".bf16x2", 4}, {".b32", 4},    {".u32", 4},	   {".s32", 4},
		{".f32", 4},   {".tf32", 4},   {".b64", 8},    {".u64", 8},	   {".s64", 8},
		{".f64", 8},   {".b128", 16},  {".texref", 8}, {".samplerref", 8}, {".surfref", 8},
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (sim_span_is(s, types[i].name))
			return types[i].bytes;
	return 0;
}

/* "[4][8]" after a name; an empty pair makes the size 0. */
static int parse_array(struct reader *r, struct decl *d)
{
	while (accept(r, "[")) {
		uint64_t n = 0;

		if (!is(r, "]")) {
			if (r->lex.tok != SIM_TOK_WORD || sim_lex_u64(r->lex.word, &n) < 0)
				return fail(r, "array size expected");
			next(r);
		}
		if (__builtin_mul_overflow(d->size_bytes, n, &d->size_bytes) ||
		    d->size_bytes > MAX_VAR_BYTES)
			return fail(r, "variable too large");
		if (expect(r, "]", "']' expected") < 0)
			return -EINVAL;
	}
	return 0;
}

/* ".attribute(.managed, .unified(1, 2))" */
static int parse_attribute(struct reader *r, struct decl *d)
{
	int depth = 0;

	do {
		if (r->lex.tok == SIM_TOK_END)
			return fail(r, "')' expected");
		if (is(r, ".managed"))
			d->managed = true;
		depth += is(r, "(") ? 1 : is(r, ")") ? -1 : 0;
		next(r);
	} while (depth > 0);
	return 0;
}

/*
 * From behind the state space up to behind the name's dimensions: [.align N] [.vN] .type [.ptr
 * [.space] [.align N]] name [dims]. @d->is_extern is the caller's.
 */
static int parse_decl(struct reader *r, struct decl *d)
{
	uint32_t vector = 1, align = 0;

	d->elem_bytes = 0;
	for (;;) {
		if (r->lex.tok != SIM_TOK_WORD)
			return fail(r, "name expected");
		if (accept(r, ".align")) {
			uint32_t n;

			if (expect_u32(r, &n) < 0)
				return -EINVAL;
			if (n == 0 || (n & (n - 1)) || n > 128)
				return fail(r, "alignment is not a power of two up to 128");
			/* The one after .ptr belongs to what the pointer points to. */
			if (!d->elem_bytes)
				align = n;
		} else if (is(r, ".attribute")) {
			next(r);
			if (parse_attribute(r, d) < 0)
				return -EINVAL;
		} else if (accept(r, ".v2")) {
			vector = 2;
		} else if (accept(r, ".v4")) {
			vector = 4;
		} else if (accept(r, ".ptr") || accept(r, ".global") || accept(r, ".shared") ||
			   accept(r, ".const") || accept(r, ".local")) {
			continue;
		} else if (r->lex.word.at[0] == '.') {
			uint32_t bytes = type_bytes(r->lex.word);

			if (!bytes)
				return fail(r, "type expected");
			d->elem_bytes = bytes;
			next(r);
		} else {
			break;
		}
	}
	if (!d->elem_bytes)
		return fail(r, "type expected");

	d->name = r->lex.word;
	next(r);
	d->size_bytes = (uint64_t)d->elem_bytes * vector;
	d->align_bytes = align ? align : d->elem_bytes * vector;
	return parse_array(r, d);
}

static char *span_dup(struct sim_span s)
{
	return strndup(s.at, s.len);
}

static void *grow(void *array, uint32_t n, size_t elem)
{
	/* Doubles at powers of two, so that a file of many entries costs no quadratic copying. */
	if (n & (n - 1))
		return array;
	return reallocarray(array, n ? 2 * (size_t)n : 1, elem);
}

static uint64_t parse_init_value(struct sim_span s, bool negative)
{
	uint64_t value = 0;

	/* 0f and 0d: the bits of a float or double in hexadecimal. */
	if (s.len > 2 && s.at[0] == '0' && strchr("fFdD", s.at[1])) {
		char hex[19] = "0x";

		if (s.len - 2 < sizeof(hex) - 2)
			memcpy(hex + 2, s.at + 2, s.len - 2);
		if (sim_lex_u64((struct sim_span){hex, strlen(hex)}, &value) < 0)
			value = 0;
		return value;
	}
	/* A name is an address, which is not known here and stays 0. */
	if (sim_lex_u64(s, &value) < 0)
		return 0;
	return negative ? 0 - value : value;
}

/* "= 1" or "= {1, 2, {3}}": stores elements one after the other. */
static int parse_init(struct reader *r, const struct decl *d, struct sim_ptx_var *v)
{
	bool negative = false, fresh = true;
	uint64_t at = 0, room;
	int depth = 0;

	/* No more than the text can hold: each value takes two characters at least. */
	room = d->elem_bytes * ((uint64_t)(r->lex.end - r->lex.at) / 2 + 2);
	if (room > d->size_bytes)
		room = d->size_bytes;
	v->init = calloc(1, room ? room : 1);
	if (!v->init)
		return fail_nomem(r);
	do {
		if (r->lex.tok == SIM_TOK_END)
			return fail(r, "initial value ends too soon");
		if (is(r, "{")) {
			depth++;
		} else if (is(r, "}")) {
			if (--depth < 0)
				return fail(r, "'}' without '{'");
		} else if (is(r, ",")) {
			fresh = true;
			negative = false;
		} else if (is(r, "-")) {
			negative = true;
		} else if (r->lex.tok == SIM_TOK_WORD && fresh) {
			uint64_t value = parse_init_value(r->lex.word, negative);
			size_t n = d->elem_bytes < 8 ? d->elem_bytes : 8;

			if (at + d->elem_bytes > room)
				return fail(r, "too many initial values");
			memcpy(v->init + at, &value, n); /* little-endian, as the devices are */
			at += d->elem_bytes;
			fresh = false;
		}
		next(r);
	} while (depth > 0 || !(is(r, ";") || is(r, ",")));
	v->init_bytes = at;
	return 0;
}

static int add_var(struct reader *r, const struct decl *d, enum sim_ptx_space space)
{
	struct sim_ptx *p = r->ptx;
	struct sim_ptx_var *vars, *v;

	vars = grow(p->vars, p->n_vars, sizeof(*vars));
	if (!vars)
		return fail_nomem(r);
	p->vars = vars;
	v = &vars[p->n_vars];
	*v = (struct sim_ptx_var){
		.space = space,
		.size_bytes = d->size_bytes,
		.align_bytes = d->align_bytes,
		.managed = d->managed,
	};
	v->name = span_dup(d->name);
	if (!v->name)
		return fail_nomem(r);
	p->n_vars++;
	return accept(r, "=") ? parse_init(r, d, v) : 0;
}

static int add_shared(struct reader *r, const struct decl *d)
{
	struct shared_var *shared;

	shared = grow(r->shared, (uint32_t)r->n_shared, sizeof(*shared));
	if (!shared)
		return fail_nomem(r);
	r->shared = shared;
	shared[r->n_shared++] = (struct shared_var){.name = d->name, .size_bytes = d->size_bytes};
	return 0;
}

/* Variables of module scope; the state space has been read. */
static int parse_module_var(struct reader *r, const char *space, bool is_extern)
{
	struct decl d = {.is_extern = is_extern};
	int err;

	do {
		err = parse_decl(r, &d);
		if (err < 0)
			return err;
		if (!strcmp(space, ".shared"))
			err = is_extern ? 0 : add_shared(r, &d);
		else if (is_extern || !strcmp(space, ".tex"))
			err = 0;
		else
			err = add_var(r, &d,
				      !strcmp(space, ".const") ? SIM_PTX_CONST : SIM_PTX_GLOBAL);
		if (err < 0)
			return err;
	} while (accept(r, ","));
	return expect(r, ";", "';' expected after variable");
}

static int parse_param(struct reader *r, struct sim_ptx_entry *e)
{
	struct decl d = {0};
	struct sim_ptx_param *params;
	uint64_t offset;

	if (expect(r, ".param", "'.param' expected") < 0 || parse_decl(r, &d) < 0)
		return -EINVAL;
	if (e->n_params == SIM_PTX_MAX_PARAMS)
		return fail(r, "too many parameters");
	params = grow(e->params, e->n_params, sizeof(*params));
	if (!params)
		return fail_nomem(r);
	e->params = params;

	offset = (e->param_bytes + d.align_bytes - 1) / d.align_bytes * d.align_bytes;
	if (offset + d.size_bytes > MAX_PARAM_BYTES)
		return fail(r, "parameters too large");
	params[e->n_params++] = (struct sim_ptx_param){
		.offset_bytes = (uint32_t)offset,
		.size_bytes = (uint32_t)d.size_bytes,
	};
	e->param_bytes = (uint32_t)(offset + d.size_bytes);
	return 0;
}

/* A parenthesis with all that is in it. */
static int skip_parens(struct reader *r)
{
	int depth = 0;

	do {
		if (r->lex.tok == SIM_TOK_END)
			return fail(r, "')' expected");
		depth += is(r, "(") ? 1 : is(r, ")") ? -1 : 0;
		next(r);
	} while (depth > 0);
	return 0;
}

/* A name inside a body: a shared variable of the module counts once for each body that uses it. */
static void note_name(struct reader *r, uint64_t *bytes)
{
	for (size_t i = 0; i < r->n_shared; i++) {
		struct shared_var *v = &r->shared[i];

		if (v->counted_by == r->body || v->name.len != r->lex.word.len ||
		    memcmp(v->name.at, r->lex.word.at, r->lex.word.len))
			continue;
		v->counted_by = r->body;
		*bytes += v->size_bytes;
	}
}

static int parse_body_var(struct reader *r, struct sim_ptx_entry *e, bool shared)
{
	uint64_t sum = 0;

	do {
		struct decl d = {0};
		uint32_t *total = shared ? &e->shared_bytes : &e->local_bytes;

		if (parse_decl(r, &d) < 0)
			return -EINVAL;
		sum = (*total + d.align_bytes - 1) / d.align_bytes * d.align_bytes + d.size_bytes;
		if (sum > UINT32_MAX)
			return fail(r, "variable too large");
		*total = (uint32_t)sum;
	} while (accept(r, ","));
	return expect(r, ";", "';' expected after variable");
}

/* "{ ... }"; @e is NULL for a function, whose memory belongs to no entry in particular. */
static int parse_body(struct reader *r, struct sim_ptx_entry *e)
{
	struct sim_ptx_entry unused = {0};
	uint64_t module_shared = 0;
	bool at_start = true; /* of a statement: only there .shared declares */
	int depth = 0;

	if (!e)
		e = &unused;
	r->body++;
	do {
		if (r->lex.tok == SIM_TOK_END)
			return fail(r, "'}' expected");
		if (accept(r, "{")) {
			depth++;
		} else if (accept(r, "}")) {
			depth--;
		} else if (at_start && (is(r, ".shared") || is(r, ".local"))) {
			bool shared = is(r, ".shared");

			next(r);
			if (parse_body_var(r, e, shared) < 0)
				return -EINVAL;
		} else {
			if (r->lex.tok == SIM_TOK_WORD)
				note_name(r, &module_shared);
			at_start = is(r, ";");
			next(r);
			continue;
		}
		at_start = true;
	} while (depth > 0);
	if (e->shared_bytes + module_shared > UINT32_MAX)
		return fail(r, "variable too large");
	e->shared_bytes += (uint32_t)module_shared;
	return 0;
}

/* What may stand between the parameters and the body of an entry. */
static int parse_directives(struct reader *r, struct sim_ptx_entry *e)
{
	uint32_t dims[3], unused;

	for (;;) {
		if (accept(r, ".maxntid")) {
			if (expect_dims(r, dims) < 0)
				return -EINVAL;
			e->max_threads = dims[0] * dims[1] * dims[2];
		} else if (accept(r, ".reqntid")) {
			if (expect_dims(r, e->req_ntid) < 0)
				return -EINVAL;
			e->max_threads = e->req_ntid[0] * e->req_ntid[1] * e->req_ntid[2];
		} else if (accept(r, ".reqnctapercluster")) {
			if (expect_dims(r, e->cluster) < 0)
				return -EINVAL;
		} else if (accept(r, ".maxnreg")) {
			if (expect_u32(r, &e->max_regs) < 0)
				return -EINVAL;
		} else if (accept(r, ".minnctapersm") || accept(r, ".maxnctapersm") ||
			   accept(r, ".maxclusterrank")) {
			if (expect_u32(r, &unused) < 0)
				return -EINVAL;
		} else if (accept(r, ".explicitcluster")) {
			e->explicit_cluster = true;
		} else if (accept(r, ".pragma")) {
			while (r->lex.tok == SIM_TOK_STRING || is(r, ","))
				next(r);
			if (expect(r, ";", "';' expected after .pragma") < 0)
				return -EINVAL;
		} else if (r->lex.tok == SIM_TOK_WORD && r->lex.word.at[0] == '.') {
			next(r); /* .blocksareclusters, .noreturn and what is to come */
		} else {
			return 0;
		}
	}
}

static bool entry_known(const struct sim_ptx *p, const char *name)
{
	for (uint32_t i = 0; i < p->n_entries; i++)
		if (!strcmp(p->entries[i].name, name))
			return true;
	return false;
}

static int parse_entry(struct reader *r)
{
	struct sim_ptx *p = r->ptx;
	struct sim_ptx_entry *entries, *e;

	entries = grow(p->entries, p->n_entries, sizeof(*entries));
	if (!entries)
		return fail_nomem(r);
	p->entries = entries;
	e = &entries[p->n_entries];
	*e = (struct sim_ptx_entry){0};

	if (r->lex.tok != SIM_TOK_WORD)
		return fail(r, "name expected after .entry");
	e->name = span_dup(r->lex.word);
	if (!e->name)
		return fail_nomem(r);
	next(r);
	if (entry_known(p, e->name)) {
		free(e->name);
		return fail(r, "entry defined twice");
	}
	p->n_entries++; /* from here on it is sim_ptx_finish() that frees it */

	if (accept(r, "(") && !accept(r, ")")) {
		do {
			if (parse_param(r, e) < 0)
				return -EINVAL;
		} while (accept(r, ","));
		if (expect(r, ")", "')' expected after parameters") < 0)
			return -EINVAL;
	}
	if (parse_directives(r, e) < 0)
		return -EINVAL;
	if (is(r, ";")) { /* a declaration only: not a function that could be found */
		next(r);
		p->n_entries--;
		free(e->name);
		free(e->params);
		return 0;
	}
	if (!is(r, "{"))
		return fail(r, "'{' expected");
	return parse_body(r, e);
}

/* ".func (.param .b32 r) name (.param .b32 a) { }" and its declarations. */
static int parse_func(struct reader *r)
{
	while (!is(r, "{") && !is(r, ";")) {
		if (r->lex.tok == SIM_TOK_END)
			return fail(r, "'{' or ';' expected");
		if (is(r, "(")) {
			if (skip_parens(r) < 0)
				return -EINVAL;
		} else {
			next(r);
		}
	}
	return accept(r, ";") ? 0 : parse_body(r, NULL);
}

/* "8.0", as one word; minor has one digit in all versions so far. */
static int parse_version(struct reader *r)
{
	const struct sim_span s = r->lex.word;
	uint64_t major, minor;
	const char *dot;

	dot = r->lex.tok == SIM_TOK_WORD ? memchr(s.at, '.', s.len) : NULL;
	if (!dot || sim_lex_u64((struct sim_span){s.at, (size_t)(dot - s.at)}, &major) < 0 ||
	    sim_lex_u64((struct sim_span){dot + 1, (size_t)(s.at + s.len - dot - 1)}, &minor) < 0 ||
	    major == 0 || major > 99 || minor > 9)
		return fail(r, "version expected after .version");
	r->ptx->version = (uint32_t)(10 * major + minor);
	next(r);
	return 0;
}

/* "sm_90a, texmode_independent, debug" */
static int parse_target(struct reader *r)
{
	struct sim_span s = r->lex.word;
	uint32_t sm = 0;

	if (r->lex.tok != SIM_TOK_WORD || s.len < 5 || s.len > 8 ||
	    (memcmp(s.at, "sm_", 3) && memcmp(s.at, "compute_", 3)))
		return fail(r, "sm_NN expected after .target");
	for (size_t i = 3; i < s.len && s.at[i] >= '0' && s.at[i] <= '9'; i++)
		sm = 10 * sm + (uint32_t)(s.at[i] - '0');
	if (sm < 10)
		return fail(r, "sm_NN expected after .target");
	r->ptx->target = sm;
	next(r);
	while (accept(r, ","))
		next(r);
	return 0;
}

/* A directive that ends with its line or with ';', and says nothing that is asked for. */
static void skip_line(struct reader *r)
{
	uint32_t line = r->lex.line;

	while (r->lex.tok != SIM_TOK_END && r->lex.line == line && !accept(r, ";"))
		next(r);
}

/* ".section .debug_info { ... }", with a body that needs no meaning. */
static int skip_section(struct reader *r)
{
	int depth = 0;

	while (r->lex.tok != SIM_TOK_END && !is(r, "{"))
		next(r);
	do {
		if (r->lex.tok == SIM_TOK_END)
			return fail(r, "'}' expected");
		depth += is(r, "{") ? 1 : is(r, "}") ? -1 : 0;
		next(r);
	} while (depth > 0);
	return 0;
}

static int parse_item(struct reader *r)
{
	static const char *const spaces[] = {".global", ".const", ".shared", ".tex"};
	bool is_extern = false;

	while (is(r, ".visible") || is(r, ".weak") || is(r, ".extern") || is(r, ".common")) {
		is_extern |= is(r, ".extern");
		next(r);
	}
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
		if (accept(r, spaces[i]))
			return parse_module_var(r, spaces[i], is_extern);
	if (accept(r, ".entry"))
		return parse_entry(r);
	if (accept(r, ".func"))
		return parse_func(r);
	if (accept(r, ".section"))
		return skip_section(r);
	if (is(r, ".file") || is(r, ".loc") || is(r, ".pragma") || is(r, ".alias")) {
		skip_line(r);
		return 0;
	}
	if (accept(r, ";"))
		return 0;
	return fail(r, "directive expected");
}

static int parse_module(struct reader *r)
{
	if (expect(r, ".version", "text does not begin with .version") < 0 ||
	    parse_version(r) < 0 || expect(r, ".target", "'.target' expected") < 0 ||
	    parse_target(r) < 0)
		return -EINVAL;
	r->ptx->addr_bits = 32; /* the default of the language */
	if (accept(r, ".address_size") && expect_u32(r, &r->ptx->addr_bits) < 0)
		return -EINVAL;
	if (r->ptx->addr_bits != 32 && r->ptx->addr_bits != 64)
		return fail(r, "address size is neither 32 nor 64");
	while (r->lex.tok != SIM_TOK_END && !r->error)
		parse_item(r);
	return r->error;
}

bool sim_ptx_probe(const char *text, size_t bytes)
{
	struct sim_ptx unused = {0};
	struct reader r = {
		.lex = {.at = text, .end = text + bytes, .line = 1},
		.ptx = &unused,
	};

	next(&r);
	return is(&r, ".version");
}

int sim_ptx_parse(const char *text, size_t bytes, struct sim_ptx *p)
{
	struct reader r = {
		.lex = {.at = text, .end = text + strnlen(text, bytes), .line = 1},
		.ptx = p,
	};

	*p = (struct sim_ptx){0};
	next(&r);
	parse_module(&r);
	free(r.shared);
	if (r.error) {
		struct sim_ptx kept = *p;

		sim_ptx_finish(p);
		p->version = kept.version;
		p->target = kept.target;
		p->error_line = kept.error_line;
		memcpy(p->error, kept.error, sizeof(p->error));
	}
	return r.error;
}

void sim_ptx_finish(struct sim_ptx *p)
{
	for (uint32_t i = 0; i < p->n_entries; i++) {
		free(p->entries[i].name);
		free(p->entries[i].params);
	}
	for (uint32_t i = 0; i < p->n_vars; i++) {
		free(p->vars[i].name);
		free(p->vars[i].init);
	}
	free(p->entries);
	free(p->vars);
	*p = (struct sim_ptx){0};
}
