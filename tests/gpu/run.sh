#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tests that need a real GPU: tests/gpu/run.sh [OUT_DIR] [--aliquot DIR] [--minutes M]
#                                                  [--only NAME,...] [--sim BUILD_DIR]
#
# Prints pass, fail or skip with the reason for each; with OUT_DIR also OUT_DIR/tests.jsonl. Exit 0
# when nothing failed, 77 when there is no GPU. --sim stands the simulator in for a dry run: what
# needs NVIDIA's own runtime is then skipped.
here=$(dirname "$0")
# A driver that the loader does not know by itself: tell everything that is started from here.
if ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1 '; then
	for d in /usr/local/nvidia/lib64 /usr/lib/x86_64-linux-gnu /usr/lib64; do
		[ -e "$d/libcuda.so.1" ] && export LD_LIBRARY_PATH="$d${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
	done
fi
case " $* " in
*" --sim"*) ;;
*)
	if ! [ -e /dev/nvidiactl ] && ! nvidia-smi -L >/dev/null 2>&1; then
		echo "skip: no NVIDIA GPU here"
		exit 77
	fi
	;;
esac
exec python3 "$here/checks.py" "$@"
