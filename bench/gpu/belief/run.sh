#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Does NVIDIA's own runtime believe a false amount of memory? Called by bench/gpu/run.sh, which says
# in PROBES_WORK where the false library is and in DRIVER_PATH where the driver is looked for.
# Prints one record for each program: bare and with the false library found first.
set -u
here=$1
work=$PROBES_WORK
with_false=$work/false:$work/alias${DRIVER_PATH:+:$DRIVER_PATH}

say() { # NAME RESULT TEXT
	printf '{"probe": "belief.%s", "result": "%s", "mode": "script", "%s": "%s"}\n' "$1" "$2" \
		"$([ "$2" = fact ] && echo value || echo note)" \
		"$(printf %s "$3" | tr '\n\t"\\' '  ..' | cut -c1-400)"
}

compare() { # NAME COMMAND...
	local name=$1 bare lie
	shift
	if ! bare=$(env LD_LIBRARY_PATH="${DRIVER_PATH-}" timeout 60 "$@" 2>>"$work/belief.log"); then
		say "$name" skipped "does not work without us: $bare"
		return
	fi
	if lie=$(env LD_LIBRARY_PATH="$with_false" timeout 60 "$@" 2>>"$work/belief.log"); then
		say "$name" fact "bare: $bare; with halved answers: $lie"
	else
		say "$name" failed "bare: $bare; with halved answers it fails: $lie"
	fi
}

if command -v nvcc >/dev/null; then
	toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
	for kind in static shared; do
		if nvcc -cudart $kind -Xlinker -rpath="$toolkit/lib64" -o "$work/believes-$kind" "$here/believes.cu" 2>>"$work/belief.log"; then
			compare "cudart_$kind" "$work/believes-$kind"
		else
			say "cudart_$kind" skipped "nvcc does not build it"
		fi
	done
else
	say cudart skipped "no nvcc"
fi
if python3 -c 'import torch' 2>/dev/null; then
	compare torch python3 -c '
import torch
free, total = torch.cuda.mem_get_info()
a = torch.arange(64, device="cuda")
good = (a + a).cpu().tolist() == [2 * i for i in range(64)]
props = torch.cuda.get_device_properties(0).total_memory
print(f"free={free} total={total} props={props} sum={chr(111) + chr(107) if good else chr(110)}")'
else
	say torch skipped "no PyTorch"
fi
