/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with a cache on the GPU that gives it up when others need the memory. The cache is left
 * out here: see where a real one would call cuMemFree().
 *
 * Once Aliquot is installed:
 *
 *   cc shrink.c -laliquot -o shrink && aliquot run --memory 1G --memory-limit 20G -- ./shrink
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <aliquot/client.h>

static void give_up_cache(const struct aliquot_shrink_request *request, void *context)
{
	/* cuMemFree() of what can be had again, until no more than keep_bytes are in use. */
	printf("request %u: %llu bytes in use, asked for at most %llu\n", request->number,
	       (unsigned long long)request->used_bytes, (unsigned long long)request->keep_bytes);
	fflush(stdout);
	(void)context;
}

int main(int argc, char **argv)
{
	unsigned int seconds = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 3600;
	int r = aliquot_on_shrink(give_up_cache, NULL);

	if (r < 0) /* no reason to stop: a program that does not listen works, too */
		fprintf(stderr, "not listening: %s\n", strerror(-r));
	else
		puts("listening");
	fflush(stdout);
	sleep(seconds); /* the program's own work */
	return 0;
}
