/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads section names, symbols and .nv.info attributes of cubins, and the directory of fat
 * binaries; see cubin.h. Executes and disassembles nothing, and decompresses nothing.
 */
#include "cubin.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

#define EM_CUDA_MACHINE 190

/* .nv.info: records of {u8 format, u8 attribute, u16 value or length}, then that many bytes. */
#define INFO_FORMAT_BYTES 4
#define INFO_MAX_THREADS 0x05
#define INFO_PARAM 0x17
#define INFO_PARAM_LEN 12
#define INFO_MAX_THREADS_LEN 12

#define ELF_MAGIC 0x464c457fu
#define FATBIN_WRAPPER_MAGIC 0x466243b1u
#define FATBIN_MAGIC 0xba55ed50u
#define FATBIN_KIND_PTX 1
#define FATBIN_KIND_ELF 2

struct fatbin_wrapper {
	uint32_t magic;
	uint32_t version;
	const void *data;
	const void *unused;
};

struct fatbin_header {
	uint32_t magic;
	uint16_t version;
	uint16_t header_bytes;
	uint64_t payload_bytes;
};

struct fatbin_entry {
	uint16_t kind;
	uint16_t version;
	uint32_t header_bytes;
	uint64_t payload_bytes;	   /* with padding */
	uint32_t compressed_bytes; /* 0 where not compressed */
	uint32_t unknown;
	uint32_t unknown2;
	uint32_t arch;
};

struct cubin {
	const uint8_t *at;
	size_t bytes;
	const Elf64_Ehdr *eh;
	const Elf64_Shdr *sh;
	const char *names;
	size_t names_bytes;
};

static bool in_range(const struct cubin *c, uint64_t offset, uint64_t bytes)
{
	return offset <= c->bytes && bytes <= c->bytes - offset;
}

/* The string at @offset of a table, or "" where it does not end inside it. */
static const char *string_at(const char *table, size_t bytes, size_t offset)
{
	if (offset >= bytes || !memchr(table + offset, '\0', bytes - offset))
		return "";
	return table + offset;
}

static const char *section_name(const struct cubin *c, unsigned int i)
{
	return string_at(c->names, c->names_bytes, c->sh[i].sh_name);
}

/* Bytes of a section, NULL for one without any in the file or that runs out of it. */
static const uint8_t *section_data(const struct cubin *c, unsigned int i)
{
	const Elf64_Shdr *s = &c->sh[i];

	if (s->sh_type == SHT_NOBITS || !in_range(c, s->sh_offset, s->sh_size))
		return NULL;
	return c->at + s->sh_offset;
}

/* Index of the section "@prefix@name", or 0. */
static unsigned int find_section(const struct cubin *c, const char *prefix, const char *name)
{
	size_t n = strlen(prefix);

	for (unsigned int i = 1; i < c->eh->e_shnum; i++) {
		const char *s = section_name(c, i);

		if (!strncmp(s, prefix, n) && !strcmp(s + n, name))
			return i;
	}
	return 0;
}

static int open_cubin(struct cubin *c, const void *image, size_t bytes)
{
	const Elf64_Ehdr *eh = image;
	const uint8_t *names;

	*c = (struct cubin){.at = image, .bytes = bytes, .eh = eh};
	if (bytes < sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) ||
	    eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_machine != EM_CUDA_MACHINE)
		return -EINVAL;
	if (eh->e_shentsize != sizeof(Elf64_Shdr) || eh->e_shoff % 8 || !eh->e_shnum ||
	    !in_range(c, eh->e_shoff, (uint64_t)eh->e_shnum * sizeof(Elf64_Shdr)) ||
	    eh->e_shstrndx >= eh->e_shnum)
		return -EINVAL;
	c->sh = (const Elf64_Shdr *)(c->at + eh->e_shoff);
	names = section_data(c, eh->e_shstrndx);
	if (!names)
		return -EINVAL;
	c->names = (const char *)names;
	c->names_bytes = c->sh[eh->e_shstrndx].sh_size;
	return 0;
}

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_u32(const uint8_t *p)
{
	return get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

static int add_param(struct sim_ptx_entry *e, const uint8_t *record)
{
	uint16_t ordinal = get_u16(record + 4), offset = get_u16(record + 6);
	uint32_t size = get_u32(record + 8) >> 18;

	if (ordinal >= SIM_PTX_MAX_PARAMS)
		return -EINVAL;
	if (ordinal >= e->n_params) { /* the records come last parameter first */
		struct sim_ptx_param *params;

		params = reallocarray(e->params, ordinal + 1u, sizeof(*params));
		if (!params)
			return -ENOMEM;
		memset(params + e->n_params, 0, (ordinal + 1u - e->n_params) * sizeof(*params));
		e->params = params;
		e->n_params = ordinal + 1u;
	}
	e->params[ordinal] = (struct sim_ptx_param){.offset_bytes = offset, .size_bytes = size};
	if (offset + size > e->param_bytes)
		e->param_bytes = offset + size;
	return 0;
}

static int read_info(const struct cubin *c, unsigned int section, struct sim_ptx_entry *e)
{
	const uint8_t *p = section_data(c, section), *end;
	int err;

	if (!p)
		return -EINVAL;
	end = p + c->sh[section].sh_size;
	while (end - p >= 4) {
		uint8_t format = p[0], attribute = p[1];
		uint16_t len = get_u16(p + 2);

		p += 4;
		if (format != INFO_FORMAT_BYTES)
			continue;
		if (len > end - p)
			return -EINVAL;
		if (attribute == INFO_PARAM && len == INFO_PARAM_LEN) {
			err = add_param(e, p);
			if (err < 0)
				return err;
		} else if (attribute == INFO_MAX_THREADS && len == INFO_MAX_THREADS_LEN) {
			e->max_threads = get_u32(p) * get_u32(p + 4) * get_u32(p + 8);
		}
		p += len;
	}
	return 0;
}

static int add_entry(const struct cubin *c, struct sim_ptx *p, const char *name)
{
	struct sim_ptx_entry *entries, *e;
	unsigned int i;

	entries = reallocarray(p->entries, p->n_entries + 1u, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	p->entries = entries;
	e = &entries[p->n_entries];
	*e = (struct sim_ptx_entry){.name = strdup(name)};
	if (!e->name)
		return -ENOMEM;
	p->n_entries++;

	i = find_section(c, ".nv.shared.", name);
	if (i && c->sh[i].sh_size <= UINT32_MAX)
		e->shared_bytes = (uint32_t)c->sh[i].sh_size;
	i = find_section(c, ".nv.info.", name);
	return i ? read_info(c, i, e) : 0;
}

static int add_var(const struct cubin *c, struct sim_ptx *p, const Elf64_Sym *sym, const char *name)
{
	const uint8_t *data = section_data(c, sym->st_shndx);
	const Elf64_Shdr *s = &c->sh[sym->st_shndx];
	struct sim_ptx_var *vars, *v;

	if (sym->st_size > UINT64_C(1) << 40)
		return -EINVAL;
	vars = reallocarray(p->vars, p->n_vars + 1u, sizeof(*vars));
	if (!vars)
		return -ENOMEM;
	p->vars = vars;
	v = &vars[p->n_vars];
	*v = (struct sim_ptx_var){
		.space = !strncmp(section_name(c, sym->st_shndx), ".nv.constant", 12)
				 ? SIM_PTX_CONST
				 : SIM_PTX_GLOBAL,
		.size_bytes = sym->st_size,
		.align_bytes =
			s->sh_addralign && s->sh_addralign <= 256 ? (uint32_t)s->sh_addralign : 16,
		.name = strdup(name),
	};
	if (!v->name)
		return -ENOMEM;
	p->n_vars++;
	if (!data)
		return 0;
	if (sym->st_value > s->sh_size || sym->st_size > s->sh_size - sym->st_value)
		return -EINVAL;
	v->init = malloc(sym->st_size ? sym->st_size : 1);
	if (!v->init)
		return -ENOMEM;
	memcpy(v->init, data + sym->st_value, sym->st_size);
	v->init_bytes = sym->st_size;
	return 0;
}

/* Entries are the functions marked so (STO_CUDA_ENTRY) ; variables those in .nv.global and others.
 */
static int read_symbols(const struct cubin *c, unsigned int section, struct sim_ptx *p)
{
	const Elf64_Shdr *s = &c->sh[section];
	const Elf64_Sym *syms = (const Elf64_Sym *)section_data(c, section);
	const char *strings;
	int err = 0;

	if (!syms || s->sh_offset % 8 || s->sh_link >= c->eh->e_shnum)
		return -EINVAL;
	strings = (const char *)section_data(c, s->sh_link);
	if (!strings)
		return -EINVAL;
	for (size_t i = 0; i < s->sh_size / sizeof(*syms) && err == 0; i++) {
		const Elf64_Sym *sym = &syms[i];
		const char *name = string_at(strings, c->sh[s->sh_link].sh_size, sym->st_name);
		const char *in;

		if (!name[0] || sym->st_shndx == SHN_UNDEF || sym->st_shndx >= c->eh->e_shnum)
			continue;
		in = section_name(c, sym->st_shndx);
		if (ELF64_ST_TYPE(sym->st_info) == STT_FUNC && !strncmp(in, ".text.", 6) &&
		    !strcmp(in + 6, name) && (sym->st_other & 0x10))
			err = add_entry(c, p, name);
		else if (ELF64_ST_TYPE(sym->st_info) == STT_OBJECT &&
			 (!strncmp(in, ".nv.global", 10) || !strncmp(in, ".nv.constant", 12)))
			err = add_var(c, p, sym, name);
	}
	return err;
}

size_t sim_cubin_bytes(const void *image)
{
	const Elf64_Ehdr *eh = image;
	const Elf64_Shdr *sh;
	uint64_t end;

	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) || eh->e_ident[EI_CLASS] != ELFCLASS64)
		return 0;
	end = eh->e_shoff + (uint64_t)eh->e_shnum * eh->e_shentsize;
	if (end < eh->e_shoff || eh->e_shentsize != sizeof(*sh) || eh->e_shoff % 8)
		return 0;
	sh = (const Elf64_Shdr *)((const uint8_t *)image + eh->e_shoff);
	for (unsigned int i = 0; i < eh->e_shnum; i++)
		if (sh[i].sh_type != SHT_NOBITS && sh[i].sh_offset + sh[i].sh_size > end)
			end = sh[i].sh_offset + sh[i].sh_size;
	return end < UINT64_C(1) << 40 ? (size_t)end : 0;
}

int sim_cubin_parse(const void *image, size_t bytes, struct sim_ptx *p)
{
	struct cubin c;
	int err;

	*p = (struct sim_ptx){.addr_bits = 64};
	err = open_cubin(&c, image, bytes);
	if (err < 0)
		return err;
	/* The architecture moved up by a byte with ABI version 8 (toolkits of CUDA 13). */
	p->target = c.eh->e_ident[EI_ABIVERSION] >= 8 ? c.eh->e_flags >> 8 & 0xff
						      : c.eh->e_flags & 0xff;
	for (unsigned int i = 1; i < c.eh->e_shnum && err == 0; i++)
		if (c.sh[i].sh_type == SHT_SYMTAB)
			err = read_symbols(&c, i, p);
	if (err < 0)
		sim_ptx_finish(p);
	return err;
}

/* Byte by byte: text may end before the magic would. */
static bool begins_with(const void *image, uint32_t magic)
{
	const uint8_t *p = image;

	for (int i = 0; i < 4; i++)
		if (p[i] != (uint8_t)(magic >> 8 * i))
			return false;
	return true;
}

bool sim_fatbin_probe(const void *image)
{
	return begins_with(image, FATBIN_MAGIC) || begins_with(image, FATBIN_WRAPPER_MAGIC);
}

bool sim_cubin_probe(const void *image)
{
	return begins_with(image, ELF_MAGIC);
}

/* Better is a cubin that runs as it is; then the newest PTX. */
static bool better(const struct fatbin_entry *e, const struct fatbin_entry *best, uint32_t target)
{
	bool fits = e->kind == FATBIN_KIND_ELF ? e->arch / 10 == target / 10 && e->arch <= target
					       : e->kind == FATBIN_KIND_PTX && e->arch <= target;

	if (!fits || e->compressed_bytes)
		return false;
	if (!best || e->kind != best->kind)
		return !best || e->kind == FATBIN_KIND_ELF;
	return e->arch > best->arch;
}

int sim_fatbin_select(const void *image, uint32_t target, struct sim_fat_image *ret_image)
{
	const struct fatbin_wrapper *w = image;
	const struct fatbin_header *h = w->magic == FATBIN_WRAPPER_MAGIC ? w->data : image;
	const struct fatbin_entry *best = NULL;
	const uint8_t *at, *end;

	if (!h || h->magic != FATBIN_MAGIC || h->header_bytes < sizeof(*h))
		return -EINVAL;
	at = (const uint8_t *)h + h->header_bytes;
	end = at + h->payload_bytes;
	while ((size_t)(end - at) >= sizeof(struct fatbin_entry)) {
		const struct fatbin_entry *e = (const struct fatbin_entry *)at;

		if (e->header_bytes < sizeof(*e) || e->header_bytes > (size_t)(end - at) ||
		    e->payload_bytes > (size_t)(end - at) - e->header_bytes ||
		    e->header_bytes % 8 || e->payload_bytes % 8)
			return -EINVAL;
		if (better(e, best, target))
			best = e;
		at += e->header_bytes + e->payload_bytes;
	}
	if (!best)
		return -ENOENT;
	*ret_image = (struct sim_fat_image){
		.image = (const uint8_t *)best + best->header_bytes,
		.bytes = best->payload_bytes,
		.is_ptx = best->kind == FATBIN_KIND_PTX,
	};
	return 0;
}
