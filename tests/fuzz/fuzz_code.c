/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: code that programs load, PTX text, cubins and fat binaries. What is accepted adds up:
 * parameters lie behind each other, first values inside their variables.
 * Needs: sim/ptx.c
 * Needs: sim/ptx_lex.c
 * Needs: sim/cubin.c
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sim/cubin.h"
#include "sim/ptx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct sim_ptx *p)
{
	for (uint32_t i = 0; i < p->n_entries; i++) {
		const struct sim_ptx_entry *e = &p->entries[i];

		if (!e->name)
			__builtin_trap();
		for (uint32_t k = 0; k < e->n_params; k++)
			if ((uint64_t)e->params[k].offset_bytes + e->params[k].size_bytes >
			    e->param_bytes)
				__builtin_trap();
	}
	for (uint32_t i = 0; i < p->n_vars; i++)
		if (p->vars[i].init_bytes > p->vars[i].size_bytes || !p->vars[i].name)
			__builtin_trap();
	sim_ptx_finish(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sim_fat_image fat;
	struct sim_ptx p;
	uint8_t *copy;

	if (sim_ptx_parse((const char *)data, size, &p) == 0)
		check(&p);
	/* Images lie at aligned addresses, and say themselves how long they are. */
	copy = aligned_alloc(64, (size + 64) / 64 * 64);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	if (sim_cubin_parse(copy, size, &p) == 0)
		check(&p);
	/* The pointer of a wrapper is the program's own word; a header's length is checked. */
	if (size >= 16 && sim_fatbin_probe(copy) && copy[0] == 0x50) {
		uint64_t payload;

		memcpy(&payload, copy + 8, sizeof(payload));
		if (payload <= size - 16 && copy[6] == 16 && copy[7] == 0 &&
		    sim_fatbin_select(copy, 90, &fat) == 0 &&
		    ((const uint8_t *)fat.image < copy ||
		     (const uint8_t *)fat.image + fat.bytes > copy + size))
			__builtin_trap();
	}
	free(copy);
	return 0;
}
