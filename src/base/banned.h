/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are too easy to get wrong do not compile. Include last, in every .c of ours. */
#ifndef AQ_BASE_BANNED_H
#define AQ_BASE_BANNED_H

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok atoi atol gmtime localtime

#endif /* AQ_BASE_BANNED_H */
