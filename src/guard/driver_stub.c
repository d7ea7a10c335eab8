/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing: a library of the driver's alias to link against, so that the guard depends on it. */
