/* SPDX-License-Identifier: Apache-2.0 */
/* Doubly linked list with the links inside the objects. Owns nothing, locks nothing. */
#ifndef AQ_BASE_LIST_H
#define AQ_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct aq_list {
	struct aq_list *prev, *next;
};

static inline void aq_list_init(struct aq_list *l)
{
	l->prev = l->next = l;
}

static inline bool aq_list_empty(const struct aq_list *l)
{
	return l->next == l;
}

/* Insert @item behind @where; with the head as @where: at the front. */
static inline void aq_list_insert(struct aq_list *where, struct aq_list *item)
{
	item->prev = where;
	item->next = where->next;
	where->next->prev = item;
	where->next = item;
}

static inline void aq_list_append(struct aq_list *head, struct aq_list *item)
{
	aq_list_insert(head->prev, item);
}

/* Harmless on an item that is on no list but was initialised. */
static inline void aq_list_remove(struct aq_list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	aq_list_init(item);
}

#define aq_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* The loop body may remove @pos from the list, and nothing else. */
#define AQ_LIST_FOREACH(pos, tmp, head, member)                                                    \
	for (pos = aq_container_of((head)->next, __typeof__(*pos), member),                        \
	    tmp = aq_container_of(pos->member.next, __typeof__(*pos), member);                     \
	     &pos->member != (head);                                                               \
	     pos = tmp, tmp = aq_container_of(pos->member.next, __typeof__(*pos), member))

#endif /* AQ_BASE_LIST_H */
