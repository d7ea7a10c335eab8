#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The experiment of divided devices, with steps too short for its figures to mean anything: that
every case gets its servers and its row, that results are of the promised form, and that nothing
stays behind, also when it is interrupted.
"""
import csv
import json
import pathlib
import signal
import time

import aqtest
from aqtest import check, equal

FIELDS = ["case", "replicas", "fraction", "arbitration", "users_within_bound",
          "tokens_per_second", "ttft_p50_ms", "ttft_p95_ms", "itl_p50_ms", "itl_p99_ms", "isl",
          "osl", "bound_ms", "simulated"]
SHORT = ["--warmup", "300ms", "--duration", "900ms", "--isl", "32", "--osl", "8", "--ttft-bound",
         "400ms", "--precision", "0.5"]


def left_behind():
    return set(pathlib.Path("/tmp").glob("aliquot-bench-*"))


def rows_and_files(machine):
    before = left_behind()
    out = pathlib.Path(machine.directory, "out")
    text, errors = machine.cli("bench", "fractions", "--model", "qwen3-4b", "--sim", "h100",
                               "--quick", "--case", "half", "--out", out, *SHORT, timeout=170)
    check("one half alone" in text and "simulated" in text, text, errors)
    rows = json.loads((out / "results.json").read_text())
    equal([(r["case"], r["replicas"], r["fraction"], r["arbitration"]) for r in rows],
          [("one half alone", 1, 0.5, "aliquot")], "rows")
    for row in rows:
        equal(list(row), FIELDS, "fields of a row")
        equal((row["isl"], row["osl"], row["bound_ms"], row["simulated"]), (32, 8, 400, True),
              "conditions")
        check(row["users_within_bound"] > 0 and row["tokens_per_second"] > 0, row)
        check(0 < row["ttft_p50_ms"] <= row["ttft_p95_ms"] <= 400, row)
    with (out / "results.csv").open() as file:
        table = list(csv.reader(file))
    equal(table[0], FIELDS, "heading of the CSV")
    equal([r[4] for r in table[1:]], [str(r["users_within_bound"]) for r in rows], "users in it")
    details = json.loads((out / "details.json").read_text())
    check(details["cases"][0]["kv_tokens"] > 1000, "memory for tokens:", details["cases"][0])
    for name in ("users.svg", "tokens.svg", "ttft.svg"):
        svg = (out / name).read_text()
        check(svg.endswith("</svg>\n") and "nan" not in svg, name)
    equal(left_behind() - before, set(), "directories left in /tmp")


def replicas_with_and_without_a_guard(machine):
    out = pathlib.Path(machine.directory, "out")
    machine.cli("bench", "fractions", "--model", "qwen3-embedding-0.6b", "--sim", "h100", "--quick",
                "--case", "two halves", "--out", out, *SHORT, timeout=170)
    rows = json.loads((out / "results.json").read_text())
    equal([(r["replicas"], r["arbitration"]) for r in rows], [(2, "aliquot"), (2, "device")],
          "rows")
    for row in rows:
        check(row["users_within_bound"] >= 2, row)
    # A device of 80 GB less what is reserved: half of it is 40 GB, and 0.9 of that is a server's.
    for case in json.loads((out / "details.json").read_text())["cases"]:
        check(case["kv_tokens"] > 400000, "tokens that both replicas hold:", case["kv_tokens"])


def a_model_that_does_not_fit_is_said(machine):
    out = pathlib.Path(machine.directory, "out")
    text, errors = machine.cli("bench", "fractions", "--model", "qwen3-14b", "--sim", "a100-40",
                               "--quick", "--case", "four quarters", "--out", out, *SHORT,
                               timeout=170)
    check("did not start" in text and "its log is in" in errors, text, errors)
    check("memory" in (out / "fraction-1-of-4.log").read_text(), "the server says why")
    equal(json.loads((out / "results.json").read_text()), [], "rows")


def ctrl_c_ends_it_all(machine):
    before = left_behind()
    out = pathlib.Path(machine.directory, "out")
    child = machine.spawn([aqtest.CLI, "bench", "fractions", "--sim", "h100", "--out", out,
                           *SHORT[:2], "--duration", "1s"])
    aqtest.eventually(lambda: "users: TTFT" in child.stderr(), "a step is done")
    child.kill(signal.SIGINT)
    text = "\n".join(child.lines(40))
    equal(child.wait(20), 130, "exit status")
    check("full GPU" in text, "what was measured is printed:", text)
    check((out / "results.json").exists(), "and written")
    time.sleep(0.1)
    equal(left_behind() - before, set(), "directories left in /tmp")


aqtest.run(rows_and_files, replicas_with_and_without_a_guard, a_model_that_does_not_fit_is_said,
           ctrl_c_ends_it_all, limit_s=180)
