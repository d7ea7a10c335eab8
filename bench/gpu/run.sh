#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Measures an NVIDIA GPU: bench/gpu/run.sh OUT_DIR [OPTION...]
#
#   --minutes M      stop after M minutes at the latest (default 9)
#   --only A,B       only these jobs or groups; --skip A,B leaves some out; --list shows them
#   --aliquot DIR    an installed or built tree with bin/aliquot or src/cli/aliquot; without one the
#                    guarded runs are skipped (default: ./build, if it is there)
#   --privileged     also the controls that need CAP_SYS_NICE, last of all
#   --sim DIR        a dry run on the simulator of the build tree DIR: proves nothing but that it runs
#   --quick          small sizes and few rounds, to see that everything runs
#   --model NAME     for torch_llm.py (default 8b)
#
# The most valuable comes first. Records are written as they are made (OUT_DIR/records.jsonl), so a
# run that is cut off keeps what it has; `report OUT_DIR` makes the table of it at any time. Nothing
# here changes clocks, power, MIG, compute mode or persistence, nor uses anybody else's processes.
#
# Needs a C compiler. Uses nvcc, PyTorch and Meson's build where they are.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() { sed -n '3,17s/^# \{0,1\}//p' "$0"; exit "$1"; }

out='' minutes=9 only='' skip='' aliquot='' privileged='' sim='' quick='' list='' model=8b
while [ $# -gt 0 ]; do
	case $1 in
	--minutes | --only | --skip | --aliquot | --sim | --model)
		[ $# -gt 1 ] || { echo "run.sh: $1 needs a value" >&2; exit 2; } ;;
	esac
	case $1 in
	--minutes) minutes=$2; shift ;;
	--only) only=$2; shift ;;
	--skip) skip=$2; shift ;;
	--aliquot) aliquot=$2; shift ;;
	--sim) sim=$(cd "$2" && pwd) || exit 2; shift ;;
	--model) model=$2; shift ;;
	--privileged) privileged=1 ;;
	--quick) quick=1 ;;
	--list) list=1 ;;
	-h | --help) usage 0 ;;
	-*) echo "run.sh: there is no option $1" >&2; usage 2 ;;
	*) [ -z "$out" ] || usage 2; out=$1 ;;
	esac
	shift
done
case $minutes in '' | *[!0-9]*) echo "run.sh: --minutes: '$minutes' is not a whole number" >&2; exit 2 ;; esac
[ -n "$out" ] || [ -n "$list" ] || usage 2

started=$SECONDS
deadline=$((started + minutes * 60 - 12)) # the report and the clean-up come after it
left() { echo $((deadline - SECONDS)); }

# Where things are made and thrown away.
work=$(mktemp -d) || exit 1
running=
cleanup() {
	[ -n "$running" ] && kill "$running" 2>/dev/null && wait "$running"
	# A simulated machine keeps its memory outside its folder.
	for machine in "$work/machine/machine" "$work/run/aliquot/sim/machine"; do
		[ -L "$machine" ] && rm -rf "$(dirname "$(readlink "$machine")")"
	done
	rm -rf "$work"
}
finish() {
	trap - EXIT INT TERM
	if [ -n "$out" ] && [ -s "$out/records.jsonl" ]; then
		"$here/report" "$out" | tee "$out/table.txt"
	fi
	cleanup
	exit "${1:-0}"
}
trap 'finish 130' INT TERM
trap 'cleanup' EXIT

log() { [ -n "$list" ] || echo "[$((SECONDS - started)) s] $*" | tee -a "$out/log.txt" >&2; }

# record NAME RESULT NOTE: a line that no probe wrote. NOTE loses what JSON would choke on.
record() {
	printf '{"probe": "%s", "result": "%s", "mode": "script", "note": "%s"}\n' "$1" "$2" \
		"$(printf %s "$3" | tr '\n\t"\\' '  ..' | cut -c1-400)" >>"$out/records.jsonl"
}

chosen() { # NAME GROUP
	case ",$skip," in *,"$1",* | *,"$2",*) return 1 ;; esac
	[ -z "$only" ] && return 0
	case ",$only," in *,"$1",* | *,"$2",*) return 0 ;; esac
	return 1
}

# job NAME GROUP NEEDS LIMIT COMMAND...: seconds. What it prints are records.
job() {
	local name=$1 group=$2 needs=$3 limit=$4 code now
	shift 4
	if [ -n "$list" ]; then
		printf '%-28s %-11s about %3d s\n' "$name" "$group" "$needs"
		return
	fi
	chosen "$name" "$group" || return 0
	now=$(left)
	if [ "$now" -lt "$needs" ] && [ "$now" -lt 30 ]; then
		log "$name: no time left"
		record "$name" skipped "no time left"
		return 0
	fi
	[ "$limit" -gt "$now" ] && limit=$now
	log "$name"
	# In the background, so that a signal to this script is acted on at once.
	timeout -k 5 "$limit" "$@" >>"$out/records.jsonl" 2>>"$out/log.txt" &
	running=$!
	wait "$running"
	code=$?
	running=
	case $code in
	0 | 77) ;;
	124 | 137) record "$name" failed "cut off after $limit s" ;;
	*) record "$name" failed "exit code $code" ;;
	esac
	[ "$code" = 0 ] || log "$name: exit code $code"
}

probe() { # NAME GROUP NEEDS LIMIT PROBE ARG...
	local name=$1 group=$2 needs=$3 limit=$4 program=$5
	shift 5
	job "$name" "$group" "$needs" "$limit" env LD_LIBRARY_PATH="$driver_path" \
		"$work/probes/$program" --limit="$limit" ${quick:+--quick=1} "$@"
}

# What was found, and how to reach it.

driver_path=${LD_LIBRARY_PATH-}
find_driver() { # the file that "libcuda.so.1" is
	local f
	if [ -n "$sim" ]; then echo "$sim/lib/sim/libcuda.so.1"; return; fi
	for f in $(echo "${LD_LIBRARY_PATH-}" | tr : ' '); do
		[ -e "$f/libcuda.so.1" ] && { echo "$f/libcuda.so.1"; return; }
	done
	f=$(ldconfig -p 2>/dev/null | sed -n 's/.*libcuda\.so\.1 .*x86-64.*=> //p' | head -1)
	for f in $f /usr/lib/x86_64-linux-gnu/libcuda.so.1 /usr/lib64/libcuda.so.1 \
		/usr/local/nvidia/lib64/libcuda.so.1 /usr/lib/aarch64-linux-gnu/libcuda.so.1; do
		[ -e "$f" ] && { echo "$f"; return; }
	done
}

build() {
	local cc
	for cc in ${CC-} cc gcc clang; do command -v "$cc" >/dev/null && break; done
	"$here/probes/build" "$work/probes" "$cc" 2>>"$out/log.txt" || {
		record build failed "the probes do not build: see log.txt"
		log "the probes do not build"
		finish 1
	}
	# Names that exist only here: the driver under the name interposers depend on, and both of them.
	mkdir -p "$work/alias" "$work/noop" "$work/false"
	ln -s "$(find_driver)" "$work/alias/libaliquot-driver.so.1"
	echo 'int aliquot_stub;' >"$work/stub.c"
	"$cc" -shared -fPIC -Wl,-soname,libaliquot-driver.so.1 "$work/stub.c" \
		-o "$work/libstub.so" 2>>"$out/log.txt"
	for pair in "bench/micro/noop.c noop" "bench/gpu/belief/false_memory.c false"; do
		set -- $pair
		"$cc" -std=gnu11 -O2 -D_GNU_SOURCE -shared -fPIC -fvisibility=hidden -I"$root/src" \
			"$root/$1" -Wl,--no-as-needed "$work/libstub.so" -Wl,-soname,libcuda.so.1 \
			-ldl -o "$work/$2/libcuda.so.1" 2>>"$out/log.txt" ||
			record "build.$2" failed "does not build: see log.txt"
	done
}

find_aliquot() {
	local d
	for d in ${aliquot:+"$aliquot"} ${sim:+"$sim"} "$root/build"; do
		[ -x "$d/bin/aliquot" ] && { echo "$d/bin/aliquot"; return; }
		[ -x "$d/src/cli/aliquot" ] && { echo "$d/src/cli/aliquot"; return; }
	done
}

start() {
	mkdir -p "$out" || exit 1
	: >"$out/records.jsonl"
	: >"$out/log.txt"
	{
		date -u +%Y-%m-%dT%H:%M:%SZ
		uname -a
		git -C "$root" log -1 --format='commit %H' 2>/dev/null
		nvidia-smi -q 2>/dev/null
	} >>"$out/log.txt"
	if [ -n "$sim" ]; then
		driver_path=$sim/lib/sim
		export ALIQUOT_SIM_DIR=$work/machine ALIQUOT_SIM=h100
		mkdir -p "$work/machine"
	elif [ -z "$(find_driver)" ]; then
		echo "run.sh: no libcuda.so.1 here: nothing to measure (see --sim)" >&2
		exit 77
	elif ! ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1 '; then
		# The loader does not know it by itself: everything below is told, PyTorch too.
		driver_path=$(dirname "$(find_driver)")${driver_path:+:$driver_path}
		export LD_LIBRARY_PATH=$driver_path
	fi
	# Held open so that the driver does not shut the device down between two probes.
	[ -n "$sim" ] || ! [ -r /dev/nvidia0 ] || exec 9</dev/nvidia0
	# A daemon of our own, which ends after the last guarded run.
	export XDG_RUNTIME_DIR=$work/run
	mkdir -m 700 "$work/run"
	build
	guard=$(find_aliquot)
	[ -n "$guard" ] || log "no aliquot command: guarded runs are skipped"
}

guarded() { # NAME GROUP NEEDS LIMIT PROGRAM ARG...: as the only fraction, of the whole device
	local name=$1 group=$2 needs=$3 limit=$4
	shift 4
	if [ -n "$list" ]; then job "$name" "$group" "$needs" "$limit"; return; fi
	chosen "$name" "$group" || return 0
	[ -n "$guard" ] || { record "$name" skipped "no aliquot command"; return 0; }
	job "$name" "$group" "$needs" "$limit" env LD_LIBRARY_PATH="${LD_LIBRARY_PATH-}" \
		"$guard" run ${sim:+--sim h100} --gpu 1 -- "$@"
}

launch_costs() { # interleaved, so that a drift of the clocks does not fall on one of them
	local round
	for round in 1 2 3; do
		probe launch_bare_$round launch 6 40 launch --mode=bare
		if [ -n "$list" ] || [ -e "$work/noop/libcuda.so.1" ]; then
			job launch_noop_$round launch 6 40 \
				env LD_LIBRARY_PATH="$work/noop:$work/alias${driver_path:+:$driver_path}" \
				"$work/probes/launch" --limit=40 ${quick:+--quick=1} --mode=noop
		fi
		guarded launch_guard_$round launch 6 40 "$work/probes/launch" --limit=40 \
			${quick:+--quick=1} --mode=guard
	done
}

belief() {
	[ -n "$list" ] || export PROBES_WORK=$work DRIVER_PATH=$driver_path
	job belief other 25 90 bash "$here/belief/run.sh" "$here/belief"
}

# Beside everything else only some levels fit: those whose requests together are 2, 8 and 32, as one
# process's are. Asked for by name, all of them.
llm() { # MODE NEEDS LEVELS
	local levels=$3
	case ",$only," in *,llm,* | *,"llm_$1",*) levels=1,2,4,8,16,32 ;; esac
	job "llm_$1" llm "$2" $((3 * $2)) python3 "$here/torch_llm.py" --mode "$1" --model "$model" \
		--levels "$levels" ${guard:+--aliquot "$guard"} ${quick:+--seconds 1 --levels 1,4} \
		${sim:+--fake}
}

# Does it do what it promises? The same tests as tests/gpu/run.sh, the most telling first.
tests() { # NAME GROUP NEEDS ONLY
	if [ -n "$list" ]; then job "$1" "$2" "$3" "$3"; return; fi
	chosen "$1" "$2" || return 0
	[ -n "$guard" ] || { record "$1" skipped "no aliquot command"; return 0; }
	job "$1" "$2" "$3" $(($3 + 60)) env LD_LIBRARY_PATH="${LD_LIBRARY_PATH-}" \
		python3 "$root/tests/gpu/checks.py" --records --minutes $((($3 + 59) / 60)) \
		${aliquot:+--aliquot "$aliquot"} ${sim:+--sim "$sim"} ${4:+--only "$4"}
}

# How exactly fractions divide the device's time.
compute() {
	local real=1
	[ -z "$sim" ] || real=
	if [ -n "$list" ]; then job compute compute 130 130; return; fi
	chosen compute compute || return 0
	[ -n "$guard" ] || { record compute skipped "no aliquot command"; return 0; }
	job compute compute 130 240 env LD_LIBRARY_PATH="${LD_LIBRARY_PATH-}" "$here/compute" \
		--build "${aliquot:-${sim:-$root/build}}" --out "$out" ${quick:+--only caps} \
		${real:+--real}
}

# Steps of the serving engine, beside what is published of this card and what the simulator says.
llm_steps() {
	local d server=
	for d in ${aliquot:+"$aliquot"} ${sim:+"$sim"} "$root/build"; do
		for server in "$d/libexec/aliquot/aliquot-llm-server" "$d/bench/llm/aliquot-llm-server"; do
			[ -x "$server" ] && break 2
		done
	done
	job llm_steps llm 60 200 env LD_LIBRARY_PATH="$driver_path" python3 \
		"$root/bench/llm/check-model" --on-gpu auto --server "$server" --records \
		${quick:+--group 'vllm-c1-*'} --build "${sim:-$root/build}" --out "$out/llm_steps.json"
}

[ -n "$list" ] || start
guard=${guard-}

# What the project claims, and what its design rests on.
probe facts core 3 60 facts
launch_costs
tests tests tests 110 ${quick:+exit_codes,resize,neighbours,daemon_dies,fill_linear}
compute
probe share core 45 120 share
probe handover core 20 90 handover
probe timeslice core 15 60 timeslice
probe hwslice_read slices 5 60 hwslice --stage=read
probe memory core 25 90 memory
llm native 50 1,2,8,32
llm frac2 60 1,4,16
llm guarded 45 1,8,32
llm plain2 60 1,4,16
# What is to be built next rests on these.
probe copy move 25 90 copy
probe park move 40 120 park
probe vmm move 30 90 vmm
probe events move 8 60 events
belief
probe hwslice_own slices 110 200 hwslice --stage=own
probe checkpoint other 45 120 checkpoint
probe green other 8 60 green
job mps other 30 90 bash "$here/mps.sh" "$work/probes" "$work" ${quick:+quick}
[ -n "$sim" ] || job llm_selftest llm 20 60 python3 "$here/torch_llm.py" --selftest
llm_steps
llm frac4 80 1,2,8
llm plain4 80 1,2,8
probe hwslice_outside slices 25 60 hwslice --stage=outside
if [ -n "$privileged" ] || [ -n "$list" ]; then
	probe hwslice_privileged privileged 100 200 hwslice --stage=privileged --privileged=1
fi
finish 0
