/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader of compiled device code: cubin (ELF for EM_CUDA) and fat binaries of them. Finds the same
 * facts as the PTX reader and describes them the same way; machine code is not looked into.
 *
 * Source: own observation of what ptxas and fatbinary 13.0 write, with readelf; attribute numbers
 * of .nv.info as cuobjdump -elf names them.
 */
#ifndef AQ_SIM_CUBIN_H
#define AQ_SIM_CUBIN_H

#include "ptx.h"

#include <stddef.h>

/* Whether @image, which may be text of any length with its NUL, begins as an ELF file. */
bool sim_cubin_probe(const void *image);

/**
 * sim_cubin_bytes() - how long the image at @image is, by its own headers, which must be readable.
 * Return: the length, or 0 when it is no ELF file of 64 bits.
 */
size_t sim_cubin_bytes(const void *image);

/**
 * sim_cubin_parse() - read a cubin.
 * @p: filled in as by sim_ptx_parse(), with version 0; sim_ptx_finish() it after success
 * Return: 0; -EINVAL not a whole cubin; -ENOMEM.
 */
int sim_cubin_parse(const void *image, size_t bytes, struct sim_ptx *p);

/*
 * An image inside a fat binary that a device can use: the newest cubin of its own architecture, or
 * PTX for it or an older one.
 */
struct sim_fat_image {
	const void *image;
	size_t bytes;
	bool is_ptx;
};

/* Likewise: whether @image begins as a fat binary, or as the wrapper that points to one. */
bool sim_fatbin_probe(const void *image);

/**
 * sim_fatbin_select() - choose from a fat binary.
 * @target: compute capability of the device, 10 * major + minor
 * Return: 0; -EINVAL malformed; -ENOENT nothing in it fits (compressed images are not read).
 */
int sim_fatbin_select(const void *image, uint32_t target, struct sim_fat_image *ret_image);

#endif /* AQ_SIM_CUBIN_H */
