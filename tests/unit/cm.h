/* SPDX-License-Identifier: Apache-2.0 */
/* What cmocka.h wants included before it. */
#ifndef AQ_TESTS_CM_H
#define AQ_TESTS_CM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif /* AQ_TESTS_CM_H */
