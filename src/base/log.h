/* SPDX-License-Identifier: Apache-2.0 */
/* One line per message on stderr or a file. No levels above debug in base, abi, core and nvml. */
#ifndef AQ_BASE_LOG_H
#define AQ_BASE_LOG_H

enum aq_log_level { AQ_LOG_ERROR, AQ_LOG_WARN, AQ_LOG_INFO, AQ_LOG_DEBUG };

/**
 * aq_log_init() - choose what is printed, and in front of what.
 * @prefix: static string before every line ("aliquotd"), not copied
 * @level:  highest level that is printed
 * Context: before other threads exist.
 */
void aq_log_init(const char *prefix, enum aq_log_level level);

/**
 * aq_log() - print one line; `%s 'object': %s` by custom.
 * Adds prefix, time (when stderr is no terminal) and the newline; keeps errno. Cut at 1,024 bytes.
 * Context: any thread; one write(2) a line.
 */
void aq_log(enum aq_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define aq_error(...) aq_log(AQ_LOG_ERROR, __VA_ARGS__)
#define aq_warn(...) aq_log(AQ_LOG_WARN, __VA_ARGS__)
#define aq_info(...) aq_log(AQ_LOG_INFO, __VA_ARGS__)
#define aq_debug(...) aq_log(AQ_LOG_DEBUG, __VA_ARGS__)

#endif /* AQ_BASE_LOG_H */
