/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing: a library of NVML's alias to link against, so that the face depends on it. */
