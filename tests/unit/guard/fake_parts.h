/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the fake driver share: its one lock and its books. */
#ifndef AQ_TESTS_FAKE_PARTS_H
#define AQ_TESTS_FAKE_PARTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

extern pthread_mutex_t fake_lock;

/* Lock held: book @bytes on a device. Return: false when they do not fit. */
bool fake_hold(int dev, uint64_t bytes);
void fake_drop(int dev, uint64_t bytes);

#endif /* AQ_TESTS_FAKE_PARTS_H */
