/* SPDX-License-Identifier: Apache-2.0 */
/* Joins and searches lists of directories. Reads the file system only to look for a program. */
#include "cli/pathlist.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/banned.h"

/* What execvp(3) takes without PATH. Source: glibc's confstr(_CS_PATH). */
#define DEFAULT_PATH "/bin:/usr/bin"

static bool unwanted(const char *entry, size_t len, const char *const *dirs,
		     const char *const *drop)
{
	for (; *dirs; dirs++)
		if (strlen(*dirs) == len && !strncmp(entry, *dirs, len))
			return true;
	for (; drop && *drop; drop++)
		if (len >= strlen(*drop) && !strncmp(entry, *drop, strlen(*drop)))
			return true;
	return false;
}

static size_t add_entry(char *at, size_t room, bool first, const char *entry, size_t len)
{
	return (size_t)snprintf(at, room, "%s%.*s", first ? "" : ":", (int)len, entry);
}

char *aq_pathlist_front(const char *const *dirs, const char *old, const char *const *drop)
{
	size_t size = old ? strlen(old) + 2 : 1;
	bool first = true;
	char *list, *p;

	for (size_t i = 0; dirs[i]; i++)
		size += strlen(dirs[i]) + 1;
	list = malloc(size);
	if (!list)
		return NULL;
	p = list;
	*p = '\0';
	for (size_t i = 0; dirs[i]; i++, first = false)
		p += add_entry(p, size - (size_t)(p - list), first, dirs[i], strlen(dirs[i]));
	while (old && *old) {
		size_t len = strcspn(old, ":");

		if (!unwanted(old, len, dirs, drop)) {
			p += add_entry(p, size - (size_t)(p - list), first, old, len);
			first = false;
		}
		old += len + (old[len] == ':');
	}
	return list;
}

static int check_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == EACCES ? -EACCES : -ENOENT;
	if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
		return -EACCES;
	return 0;
}

int aq_pathlist_find(const char *name, const char *path)
{
	int r, found = -ENOENT;

	if (!*name)
		return -ENOENT;
	if (strchr(name, '/'))
		return check_program(name);
	for (path = path ? path : DEFAULT_PATH;; path++) {
		size_t len = strcspn(path, ":");
		char file[PATH_MAX];

		if (len)
			r = snprintf(file, sizeof(file), "%.*s/%s", (int)len, path, name);
		else
			r = snprintf(file, sizeof(file), "./%s", name);
		r = r < 0 || r >= PATH_MAX ? -ENOENT : check_program(file);
		if (!r)
			return 0;
		if (r == -EACCES)
			found = r;
		path += len;
		if (!*path)
			return found;
	}
}
