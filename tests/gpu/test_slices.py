#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The probe of hardware time slices against a mock device whose rule for slices is known.

Usage: test_slices.py HWSLICE_MOCK, with the mock driver in MOCK_CUDA and a simulated NVML in
MOCK_NVML. The probe must find out each rule, put everything back, and decline when refused. Says
nothing about a GPU.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile


def run(program, rule, stage, *options):
    """The probe's records by name, and its exit code."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="aqmock-"))
    try:
        work.chmod(0o777)  # a tenant gives up root
        (work / "lib").mkdir()
        (work / "machine").mkdir()
        (work / "lib/libcuda.so.1").symlink_to(os.environ["MOCK_CUDA"])
        (work / "lib/libnvidia-ml.so.1").symlink_to(os.environ["MOCK_NVML"])
        env = dict(os.environ, MOCK_DIR=str(work), MOCK_RULE=rule, ALIQUOT_SIM="h100",
                   ALIQUOT_SIM_DIR=str(work / "machine"), LD_LIBRARY_PATH=str(work / "lib"))
        done = subprocess.run([program, f"--stage={stage}", "--quick=1", *options], env=env,
                              capture_output=True, text=True, timeout=200,
                              preexec_fn=lambda: os.umask(0))
        records = [json.loads(line) for line in done.stdout.splitlines()]
        return {r["probe"].removeprefix("hwslice."): r for r in records}, done.returncode
    finally:
        link = work / "machine/machine"  # a simulated machine keeps its memory outside its folder
        if link.is_symlink():
            shutil.rmtree(pathlib.Path(os.readlink(link)).parent, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)


failures = []


def expect(what, got, *wanted):
    if not all(w in str(got) for w in wanted):
        failures.append(f"{what}: {got!r} lacks {' / '.join(wanted)}")


def verdict(records, name):
    return records.get(f"{name}.verdict", {}).get("value", "no verdict")


def main():
    program = sys.argv[1]

    found, code = run(program, "immediate", "read")
    expect("read", found.get("survey", {}).get("value"), "1 groups of 1 clients, 8 channels")
    expect("read", found.get("read.get_slice", {}).get("value"), "ok; value 1024")
    expect("read", code, "0")

    found, code = run(program, "immediate", "own", "--short=1")
    expect("immediate", verdict(found, "at_open"), "after setting: as asked", "restored: yes")
    expect("immediate", verdict(found, "commit_nothing"), "after setting: as asked",
           "restored: yes")
    expect("immediate", verdict(found, "control_nothing"), "after setting: no effect")
    expect("immediate", found.get("own.commit", {}).get("value"), "nothing")
    expect("immediate", code, "0")
    share = found.get("commit_nothing.set.share_a", {}).get("median", 0)
    if not 0.77 < share < 0.83:
        failures.append(f"immediate: 8000 and 2000 us give a share of {share}")

    found, code = run(program, "never", "own", "--short=1")
    expect("never", verdict(found, "commit_nothing"), "after setting: no effect", "restored: yes")
    expect("never", found.get("own.commit", {}).get("value"), "none of those tried")
    expect("never", code, "0")

    found, code = run(program, "refuse", "own", "--short=1")
    expect("refuse", found.get("declined", {}).get("value"), "nothing further is tried")
    expect("refuse", any("commit" in name for name in found), "False")

    found, code = run(program, "immediate", "outside")
    expect("outside", verdict(found, "outside_same_user"), "after setting: as asked")
    if os.geteuid() == 0:
        expect("outside", verdict(found, "outside_other_user"), "after setting: as asked",
               "restored: yes")

    if os.geteuid() == 0:  # the mock kernel asks for the capability
        found, code = run(program, "restart", "privileged", "--privileged=1", "--short=1")
        expect("restart", verdict(found, "commit_restart_without_capability"),
               "after restart_without_capability: no effect")
        expect("restart", found.get("commit_restart_without_capability.commit_a", {}).get("note"),
               "status 0x1b")
        expect("restart", verdict(found, "commit_restart_with_nice"), "after setting: no effect",
               "after restart_with_nice: as asked", "restored: yes")
        expect("restart", verdict(found, "daemon_restart"),
               "after restart_from_outside: as asked", "restored: yes")

    print("\n".join(failures) or "ok")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
