#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The GPU kit's script on the simulator: every job that it starts ends, its records can be read, and
they say that they are of a simulated device. Usage: test_kit.py BUILD_DIR
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

JOBS = ("facts", "memory", "events", "share", "llm_guarded")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main():
    out = pathlib.Path(tempfile.mkdtemp(prefix="aqkit-"))
    try:
        done = subprocess.run([ROOT / "bench/gpu/run.sh", out, "--sim", sys.argv[1], "--quick",
                               "--minutes", "3", "--only", ",".join((*JOBS, "tests"))],
                              capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-800:]}"
        results = json.loads((out / "results.json").read_text())
        assert results["simulated"] and "SIMULATED DEVICE" in done.stdout, "not marked as simulated"
        assert not results["unreadable_lines"], "records that are no JSON"
        failed = [r for r in results["records"] if r["result"] == "failed"]
        assert not failed, failed
        tested = [r for r in results["records"] if r["probe"].startswith("test.")]
        assert tested and all(r["result"] == "fact" for r in tested), tested
        # Nothing is claimed of a GPU here, whatever came out.
        said = {v["claim"]: v for v in results["verdicts"]}
        assert {v["verdict"] for v in said.values()} == {"not measured"}, said
        assert "simulated: " in said["live resize, no restart"]["found"], said
        for job in JOBS:
            name = job.replace("_", ".")
            some = [r for r in results["records"]
                    if r["probe"].startswith(name + ".") and r["result"] == "measured"]
            assert some, f"{job} measured nothing"
            assert all(r.get("n") and "median" in r and "unit" in r for r in some), some[0]
    except AssertionError as error:
        print(error)
        return 1
    finally:
        shutil.rmtree(out, ignore_errors=True)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
