#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Can MPS be started here, and does its active-thread percentage change anything in a process that
# runs already? mps.sh PROBES_DIR WORK_DIR [quick]
#
# The control daemon is our own: its pipes are in a folder of ours, so that no other program meets it,
# and it is ended here whatever happens. The compute mode stays as it is.
set -u
probes=$1 work=$2 quick=${3-}

say() { # NAME RESULT TEXT
	printf '{"probe": "mps.%s", "result": "%s", "mode": "script", "%s": "%s"}\n' "$1" "$2" \
		"$([ "$2" = fact ] && echo value || echo note)" \
		"$(printf %s "$3" | tr '\n\t"\\' '  ..' | cut -c1-400)"
}

command -v nvidia-cuda-mps-control >/dev/null || { say start skipped "no nvidia-cuda-mps-control"; exit 0; }

export CUDA_MPS_PIPE_DIRECTORY=$work/mps-pipe CUDA_MPS_LOG_DIRECTORY=$work/mps-log
mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" "$CUDA_MPS_LOG_DIRECTORY"

control() { echo "$*" | timeout 10 nvidia-cuda-mps-control 2>&1; }
end() {
	control quit -t 5 >/dev/null
	sleep 0.5
	if [ -s "$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid" ]; then
		kill "$(cat "$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid")" 2>/dev/null
	fi
	say end fact "$(control get_server_list | head -1)"
}

started=$(timeout 20 nvidia-cuda-mps-control -d 2>&1) || { say start fact "refused: $started"; exit 0; }
trap end EXIT
say start fact "started; version $(control -h | head -1)"

share() { "$probes/share" --limit=40 --processes=2 --mode=mps ${quick:+--quick=1} "$@"; }
server() { control get_server_list | grep -o '[0-9]*' | head -1; }

# Two processes without limits: do they run at once?
share --between=true --size=10ms
say server fact "pid $(server)"

# A quarter and three quarters from the start.
share --between=true --size=10ms --env0=CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=25 \
	--env1=CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=75 | sed 's/"share\.between/"share.mps_25_75/'

# The server's percentage lowered while both run.
cat >"$work/lower.sh" <<'END'
pid=$(echo get_server_list | nvidia-cuda-mps-control | grep -o '[0-9]*' | head -1)
echo "set_active_thread_percentage $pid 30" | nvidia-cuda-mps-control
END
share --between="sh $work/lower.sh" --size=10ms | sed 's/"share\.between/"share.mps_lowered_live/'
