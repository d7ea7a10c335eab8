/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of PTX text: finds what a program can ask a driver about a module (entries with their
 * parameters and limits, variables with size and first value). It does not look into instructions,
 * so text that only an assembler would refuse is accepted.
 *
 * Source: PTX ISA 8.5, chapters 5 (state spaces, types, variables), 10.3 (.param), 11 (directives).
 */
#ifndef AQ_SIM_PTX_H
#define AQ_SIM_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limit of parameters to one entry; that of their bytes (32764, PTX ISA 10.3) comes first mostly.
 */
#define SIM_PTX_MAX_PARAMS 4096

struct sim_ptx_param {
	uint32_t offset_bytes; /* from the start of the parameter buffer, aligned */
	uint32_t size_bytes;
};

struct sim_ptx_entry {
	char *name;
	struct sim_ptx_param *params;
	uint32_t n_params;
	uint32_t param_bytes;  /* end of the last parameter, not rounded */
	uint32_t shared_bytes; /* static shared memory declared in the body */
	uint32_t local_bytes;  /* .local memory declared in the body */
	uint32_t max_threads;  /* product of .maxntid or .reqntid; 0 where absent */
	uint32_t req_ntid[3];  /* .reqntid; zeros where absent */
	uint32_t max_regs;     /* .maxnreg; 0 where absent */
	uint32_t cluster[3];   /* .reqnctapercluster; zeros where absent */
	bool explicit_cluster; /* .explicitcluster: each launch must give a cluster size */
};

enum sim_ptx_space {
	SIM_PTX_GLOBAL,
	SIM_PTX_CONST,
};

struct sim_ptx_var {
	char *name;
	enum sim_ptx_space space;
	uint64_t size_bytes;
	uint32_t align_bytes;
	uint8_t *init; /* init_bytes of first value, the rest is zero; NULL where all is zero */
	uint64_t init_bytes; /* <= size_bytes */
	bool managed;	     /* .attribute(.managed) */
};

struct sim_ptx {
	uint32_t version;   /* 10 * major + minor of .version */
	uint32_t target;    /* 90 of sm_90a */
	uint32_t addr_bits; /* 64 or 32 */
	struct sim_ptx_entry *entries;
	uint32_t n_entries;
	struct sim_ptx_var *vars;
	uint32_t n_vars;
	uint32_t error_line; /* where reading failed */
	char error[96];	     /* why */
};

/* Whether @text could be PTX: begins with a comment or with .version, after white space. */
bool sim_ptx_probe(const char *text, size_t bytes);

/**
 * sim_ptx_parse() - read a whole text.
 * @text:  @bytes bytes, no NUL needed; an embedded NUL ends it
 * @p:     filled in; after success sim_ptx_finish() it. After failure only version, target, error
 *         and error_line are set.
 * Return: 0; -EINVAL not PTX (see @p->error); -ENOMEM.
 */
int sim_ptx_parse(const char *text, size_t bytes, struct sim_ptx *p);

/* Frees what sim_ptx_parse() allocated; @p may be all zero. */
void sim_ptx_finish(struct sim_ptx *p);

#endif /* AQ_SIM_PTX_H */
