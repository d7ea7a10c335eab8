/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into a process: its calendar is ahead by the seconds that the file CALENDAR has in it,
 * or behind where they are negative. The monotonic clock is as it is.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long ahead_s(void)
{
	const char *path = getenv("CALENDAR");
	FILE *file = path ? fopen(path, "re") : NULL;
	long seconds = 0;

	if (file && fscanf(file, "%ld", &seconds) != 1)
		seconds = 0;
	if (file)
		fclose(file);
	return seconds;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	void *symbol;
	int r;

	if (!real) {
		symbol = dlsym(RTLD_NEXT, "clock_gettime");
		memcpy(&real, &symbol, sizeof(real));
	}
	r = real(clock, t);
	if (!r && clock == CLOCK_REALTIME)
		t->tv_sec += ahead_s();
	return r;
}
