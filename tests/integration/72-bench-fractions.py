#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`aliquot bench fractions`, in small: what it writes, and that it ends and leaves nothing."""
import csv
import json
import os
import pathlib
import shutil
import signal
import time
import xml.etree.ElementTree

import aqtest
from aqtest import check, equal, eventually

FIELDS = """case replicas fraction arbitration users_within_bound tokens_per_second ttft_p50_ms
ttft_p95_ms itl_p50_ms itl_p99_ms isl osl bound_ms simulated model device users requests
host_bound""".split()
# Little work on a device: the host of a test is busy.
SMALL = ("--model", "qwen3-4b", "--isl", "64", "--osl", "16", "--window", "700ms", "--steps", "2",
         "--first-users", "4", "--ttft-bound", "20s")


def start(machine, *options):
    """The command. What it starts itself is seen in the environment: TMPDIR is no use for that."""
    return machine.spawn([aqtest.CLI, "bench", "fractions", "--sim", "h100", "--out",
                          out_of(machine), *options])


def out_of(machine):
    return pathlib.Path(machine.directory, "results")


def started_by(pid):
    """Everything below the process, by parents."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry)] = int(stat[1])
    found, more = set(), {pid}
    while more:
        more = {p for p, parent in parents.items() if parent in more} - found
        found |= more
    return found


def named(pids, name):
    found = []
    for pid in pids:
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words and words[0].decode(errors="replace").endswith(name):
            found.append(pid)
    return sorted(found)


def directories_of(pids):
    """Run directories of what it started."""
    found = set()
    for pid in pids:
        try:
            for word in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if word.startswith(b"XDG_RUNTIME_DIR=/tmp/aliquot-bench-"):
                    found.add(word.partition(b"=")[2].decode())
        except OSError:
            continue
    return found


def nothing_is_left(pids, directories):
    eventually(lambda: not any(aqtest.alive(p) for p in pids), "what it started has ended")
    check(directories, "no run directory was seen")
    for directory in directories:
        check(not os.path.exists(directory), directory, "is still there")


def results(machine):
    return json.loads((out_of(machine) / "results.json").read_text())


def two_cases(machine):
    child = start(machine, "--cases", "full,halves", *SMALL)
    pids, directories = set(), set()

    def ends():
        more = started_by(child.pid)
        pids.update(more)
        directories.update(directories_of(more))
        return child.process.poll() is not None

    eventually(ends, "it ends", 100)
    text = "\n".join(child.lines())
    equal(child.wait(), 0, f"exit code ({text}{child.stderr()})")
    nothing_is_left(pids, directories)
    rows = results(machine)
    equal([r["case"] for r in rows], ["full", "halves"], "cases")
    for row in rows:
        equal(sorted(row), sorted(FIELDS), "fields")
        equal((row["isl"], row["osl"], row["bound_ms"], row["simulated"]), (64, 16, 20000, True),
              "conditions")
        equal(row["arbitration"], "aliquot", "arbitration")
        check(row["tokens_per_second"] > 0 and row["users_within_bound"] >= 2, row)
        check(0 < row["ttft_p50_ms"] <= row["ttft_p95_ms"] <= 20000, row)
        # On a host that is busy enough there are none.
        check(row["itl_p50_ms"] is None or 0 < row["itl_p50_ms"] <= row["itl_p99_ms"], row)
    equal([(r["replicas"], r["fraction"]) for r in rows], [(1, 1), (2, 0.5)], "parts")
    with open(out_of(machine) / "results.csv", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    equal(list(lines[0]), FIELDS, "fields of the CSV")
    equal([r["case"] for r in lines], ["full", "halves"], "cases of the CSV")
    steps = json.loads((out_of(machine) / "steps.json").read_text())
    check(all(s["requests"] >= s["users"] and s["failed"] == 0 for s in steps), steps)
    # The first try of two halves shares out the users of the whole; another one has as many on each.
    whole = rows[0]["users_within_bound"]
    halves = [s["users"] for s in steps if s["case"] == "halves"]
    check(whole // 2 * 2 in halves and whole * 2 in halves, "users of halves:", halves, whole)
    for name in ("users.svg", "throughput.svg", "ttft-by-users.svg"):
        equal(xml.etree.ElementTree.parse(out_of(machine) / name).getroot().tag[-3:], "svg", name)
    report = (out_of(machine) / "report.txt").read_text()
    for words in ("77 % of a full GPU", "86 % of a full GPU", "SIMULATED", "on each model",
                  "not measured", "left out, since neither of their cases was measured"):
        check(words in report, "not in the report:", words)
    # Of no case that was asked for.
    for words in ("Dynamo", "NIM", "172 %"):
        check(words not in report, "in the report:", words)
    check(report.strip() in text, "the report is not printed")


def two_models_with_as_many_requests_as_one(machine):
    """On a card, and with lengths, of their own, whatever is asked for besides."""
    child = start(machine, "--cases", "resident", "--quick", *SMALL)
    text = "\n".join(child.lines(60))
    equal(child.wait(), 0, f"exit code ({text}{child.stderr()})")
    rows = {r["case"]: r for r in results(machine)}
    equal(sorted(rows), ["resident-leases/8", "resident-one/8", "resident-plain/8"], "cases")
    for row in rows.values():
        equal((row["model"], row["isl"], row["osl"]), ("qwen3-4b", 2048, 256), "as published")
        check("A100" in row["device"], row["device"])
        equal(row["users"], int(row["case"].partition("/")[2]), "requests on the GPU")
        check(row["tokens_per_second"] > 0, row)
    equal([rows[f"resident-{how}/8"]["arbitration"] for how in ("leases", "plain")],
          ["aliquot", "hardware"], "arbitration")
    check("Dynamo: tokens/s, 2 models, 8 requests on the GPU" in text, text)
    check("Run:ai" not in text, "beside nothing of ours:", text)
    plot = (out_of(machine) / "resident.svg").read_text()
    equal(xml.etree.ElementTree.fromstring(plot).tag[-3:], "svg", "the plot")
    for words in ("MPS v3, published", "68", "NVIDIA A100-SXM4-40GB", "2048"):
        check(words in plot, "not in the plot:", words)


def what_is_measured_is_kept(machine):
    """Killed, not asked to end: what was measured before is there, and nothing half written."""
    child = start(machine, "--cases", "full,halves", *SMALL[:6], "--window", "1s", "--steps", "1",
                  "--first-users", "4", "--ttft-bound", "20s")
    check("full" in child.line(60), "a line for the first step")
    eventually(lambda: (out_of(machine) / "results.json").exists() and results(machine),
               "the first case is kept")
    pids = started_by(child.pid)
    directories = directories_of(pids)
    child.kill(signal.SIGKILL)
    child.lines(60)
    child.wait()
    eventually(lambda: not any(aqtest.alive(p) for p in pids), "what it started has ended")
    for directory in directories:
        state = pathlib.Path(directory, "aliquot/sim/machine")
        if state.is_symlink():  # the daemon left it to the servers that it thought were alive
            shutil.rmtree(os.path.dirname(os.readlink(state)))
        shutil.rmtree(directory)
    equal([r["case"] for r in results(machine)], ["full"], "cases")
    equal(sorted(p.name for p in out_of(machine).iterdir()),
          ["report.txt", "results.csv", "results.json", "steps.json"], "files")


def what_cannot_be_written_is_said_at_once(machine):
    out = out_of(machine)
    out.write_text("a file")
    child = start(machine, "--cases", "full", *SMALL)
    child.lines(20)
    equal(child.wait(), 1, "exit code when DIR is a file")
    check("results" in child.stderr() and "irectory" in child.stderr(), child.stderr())
    child = machine.spawn([aqtest.CLI, "bench", "fractions", "--sim", "h100", "--cases", "full",
                           "--out", "/proc/self/nowhere"])
    child.lines(20)
    equal(child.wait(), 1, "exit code when DIR cannot be made")
    check("/proc/self/nowhere" in child.stderr(), child.stderr())
    out.unlink()
    child = machine.spawn([aqtest.CLI, "bench", "fractions", "--sim", "nosuch", "--cases", "full",
                           "--out", str(out)])
    equal(child.lines(20), [], "nothing is reported of a run that never began")
    equal(child.wait(), 1, "exit code with a profile that is not there")
    check("nosuch" in child.stderr(), child.stderr())


def what_does_not_fit_is_said(machine):
    child = start(machine, "--cases", "eighths", "--model", "llama-3.1-8b", *SMALL[2:])
    text = "\n".join(child.lines(60))
    equal(child.wait(), 1, "exit code, with nothing measured")
    check("does not fit" in text and "llama-3.1-8b in 0.125" in text, text)
    equal(results(machine), [], "rows")


def ctrl_c_writes_what_there_is(machine):
    child = start(machine, "--cases", "full,halves", *SMALL[:6], "--window", "1s", "--steps", "1",
                  "--first-users", "4", "--ttft-bound", "20s")
    check("full" in child.line(60), "a line for the first step")
    eventually(lambda: len(named(started_by(child.pid), "aliquot-llm-server")) == 2 and
               named(started_by(child.pid), "aliquot-bench-serve"), "two halves under load")
    pids = started_by(child.pid)
    directories = directories_of(pids)
    started = time.monotonic()
    child.kill(signal.SIGINT)
    text = "\n".join(child.lines(60))
    equal(child.wait(), 130, "exit code")
    check(time.monotonic() - started < 20, "it took long to end")
    nothing_is_left(pids, directories)
    equal([r["case"] for r in results(machine)], ["full"], "cases")
    check("interrupted" in text, text)


def a_server_that_dies_is_counted(machine):
    child = start(machine, "--cases", "full,half", *SMALL[:6], "--window", "2s", "--steps", "1",
                  "--first-users", "4", "--ttft-bound", "20s")
    eventually(lambda: named(started_by(child.pid), "aliquot-bench-serve"), "load on the first case")
    pids = started_by(child.pid)
    directories = directories_of(pids)
    os.kill(named(pids, "aliquot-llm-server")[0], signal.SIGKILL)
    text = "\n".join(child.lines(60))
    equal(child.wait(), 1, "exit code")
    nothing_is_left(pids, directories)
    rows = {r["case"]: r for r in results(machine)}
    equal(rows["full"]["users_within_bound"], 0, "users within the bound of a server that died")
    check(rows["half"]["users_within_bound"] >= 4, "the next case:", rows["half"])
    steps = json.loads((out_of(machine) / "steps.json").read_text())
    check(steps[0]["failed"] > 0, "failures:", steps[0])
    check("a server ended" in text, text)


def bad_input_is_refused(machine):
    for options in (["--cases", "fulls"], ["--isl", "0"], ["--steps", "21"], ["--window", "1ms"],
                    ["--model", "a,users=5"], ["--model", "--help"], ["--ttft-bound", "x"],
                    ["--model", "gpt-2"], ["--small-model", "gpt-2"],
                    ["--embedding-model", "gpt-2"],
                    ["more"], ["--no-such"]):
        child = start(machine, *options)
        equal(child.lines(), [], f"output of {options}")
        equal(child.wait(), 2, f"exit code of {options}")
    child = machine.spawn([aqtest.CLI, "bench", "fractions"])
    equal(child.wait(), 2, "exit code without --out")


aqtest.run(two_cases, two_models_with_as_many_requests_as_one, what_is_measured_is_kept,
           what_cannot_be_written_is_said_at_once, what_does_not_fit_is_said, ctrl_c_writes_what_there_is,
           a_server_that_dies_is_counted, bad_input_is_refused)
