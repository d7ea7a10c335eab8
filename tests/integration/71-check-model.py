#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The model behind the simulation stays as near to published figures as doc/llm.md says it is."""
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import aqtest
from aqtest import between, check, equal

TOOL = aqtest.ROOT / "bench/llm/check-model"


def tool(*args, code=0, env=None):
    done = subprocess.run([sys.executable, TOOL, "--build", aqtest.BUILD, *args], env=env,
                          capture_output=True, text=True, timeout=120)
    equal(done.returncode, code, f"exit code of {args}: {done.stderr}")
    return done.stdout


@functools.cache
def everything():
    """(what is printed, what is written) of a run over all figures."""
    with tempfile.NamedTemporaryFile() as out:
        return tool("--out", out.name), json.load(out)


def errors_are_as_stated(machine):
    text, result = everything()
    groups = result["groups"]
    check("All 68 rows" in text, "the table's end:", text[-200:])
    equal(result["all"]["n"], 68, "rows that are checked")
    between(result["all"]["mean_abs_error"], 0, 0.07, "error on average")
    between(result["all"]["worst_abs_error"], 0, 0.18, "error at worst")
    dynamo = groups["dynamo-qwen3-4b-a100-40"]
    equal(dynamo["n"], 5, "rows of Qwen3-4B on an A100-40")
    between(dynamo["worst_abs_error"], 0, 0.18, "error of those at worst")
    equal(result["simulated"], True, "simulated")
    for row in result["rows"]:
        between(row["error"], -0.2, 0.2, f"error of {row['group']}, {row['row']}")


def what_was_fitted_is_not_checked(machine):
    result = everything()[1]
    for group, total in result["groups"].items():
        rows = [r for r in result["rows"] if r["group"] == group]
        checked = [r for r in rows if not r["fitted"]]
        equal(total["n"] if total else 0, len(checked), f"rows of {group} in its error")
    trt = [r for r in result["rows"] if r["group"] == "trtllm-llama-8b-h100"]
    equal({r["row"].split("/")[0] for r in trt if r["fitted"]}, {"2048"}, "fitted rows")
    check(all(r["fitted"] for r in result["rows"] if r["group"].startswith("kernels-")),
          "tables that the profiles come from are no check of them")
    # The constants are what those rows give, and nobody's choice.
    for fit in result["fits"]:
        between(fit["used"] / fit["fit"], 0.98, 1.02, f"constant against its fit: {fit}")
    equal({(f["host"], f["field"]) for f in result["fits"]},
          {("trtllm", "step_us"), ("vllm", "seq_us")}, "fitted constants")


def a_gpu_is_put_beside_the_simulator(machine):
    """With a simulated card as this machine's GPU: then both say the same."""
    gpu = {**os.environ, "LD_LIBRARY_PATH": str(aqtest.LIB / "sim"), "ALIQUOT_SIM": "a100-40",
           "ALIQUOT_SIM_DIR": str(machine.bare_dir)}
    machine.bare_dir.mkdir()
    out = pathlib.Path(machine.directory, "gpu.json")
    lines = tool("--on-gpu", "auto", "--records", "--out", out, env=gpu).splitlines()
    records = [json.loads(line) for line in lines]
    check(len(records) >= 7, "records of steps:", lines)
    for r in records:
        equal((r["result"], r["unit"], r["n"]), ("measured", "ns", 5), f"record {r}")
        check(r["min"] <= r["median"] <= r["max"], "order in", r)
    result = json.loads(out.read_text())
    equal(result["gpu"]["device"], "NVIDIA A100-SXM4-40GB", "device")
    equal({r["card"] for r in result["gpu"]["rows"]}, {"a100-40"}, "cards")
    equal(len(result["gpu"]["rows"]), 6, "rows of that card")
    for simulated, here in zip(result["rows"], result["gpu"]["rows"]):
        between(here["predicted"] / simulated["predicted"], 0.9, 1.3, here["row"])
    machine.note_backing()
    tool("--on-gpu", "l40s", env=gpu, code=77)


def bad_input_is_refused(machine):
    tool("--group", "no-such-group", code=2)
    tool("--build", machine.directory, "--group", "vllm-c1-*", code=1)
    equal(json.loads(tool("--json", "--group", "vllm-c1-qwen3-4b-4090"))["all"]["n"], 3,
          "rows of one group")


aqtest.run(errors_are_as_stated, what_was_fitted_is_not_checked,
           a_gpu_is_put_beside_the_simulator, bad_input_is_refused)
