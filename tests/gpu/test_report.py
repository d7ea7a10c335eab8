#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The GPU kit's report on made-up records: what is met, missed and open, of one run and of several,
and of one that was cut off in the middle of a line. The numbers here were measured nowhere.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

REPORT = pathlib.Path(__file__).resolve().parent.parent.parent / "bench/gpu/report"
failures = []


def expect(what, got, wanted):
    if got != wanted:
        failures.append(f"{what}: {got!r}, expected {wanted!r}")


def measured(probe, median, unit="ns", mode="script", **more):
    return {"probe": probe, "result": "measured", "mode": mode, "device": "Made-up GPU",
            "driver": "580.0", "n": 10, "unit": unit, "min": median, "median": median,
            "p90": median, "p99": median, "max": median, **more}


def tested(name, result):
    return {"probe": f"test.{name}", "result": result, "mode": "script", "note": "made up"}


def rates(mode, level, *each):
    return [measured(f"llm.{mode}.p{i}.c{level}.tokens_per_s", rate, "tok/s")
            for i, rate in enumerate(each)]


def run(*runs, torn=""):
    """(results.json, what was printed) of so many lists of records."""
    work = pathlib.Path(tempfile.mkdtemp(prefix="aqreport-"))
    try:
        for i, records in enumerate(runs):
            (work / str(i)).mkdir()
            text = "".join(json.dumps(r) + "\n" for r in records)
            (work / str(i) / "records.jsonl").write_text(text + torn)
        done = subprocess.run([REPORT, *[work / str(i) for i in range(len(runs))]],
                              capture_output=True, text=True)
        expect("exit code", (done.returncode, done.stderr), (0, ""))
        return json.loads((work / "0/results.json").read_text()), done.stdout
    finally:
        shutil.rmtree(work)


def verdicts(results):
    return {v["claim"]: v["verdict"] for v in results["verdicts"]}


LAUNCHES = [measured("launch.kernel", ns, mode=mode) for mode, values in
            (("bare", (2000, 2002, 2004)), ("noop", (2003, 2003, 2003)),
             ("guard", (2010, 2008, 2011))) for ns in values]
LAUNCH = "added to a kernel launch"
ONE, TWO = "one tenant, whole run", "two models on one GPU, of dedicated"
HALVES, SHARE = "two half fractions, of the full GPU", "compute by share: error over a second"
WAKE, ALLOC = "a higher priority waits beyond what is in flight", "added to an allocation inside a grant"
LIMIT = "a fraction never holds more than its limit"


def main():
    results, text = run([])
    expect("nothing measured", set(verdicts(results).values()), {"not measured"})

    results, text = run(LAUNCHES, torn='{"probe": "launch.kern')
    expect("8 ns", verdicts(results)[LAUNCH], "met")
    expect("unreadable", results["unreadable_lines"], 1)
    expect("interposition", [(f["noop_adds_ns"], f["guard_adds_ns"], f["guard_spread_ns"])
                             for f in results["interposition"]], [(1, 8, 3)])
    expect("the table says it", "met          added to a kernel launch" in text, True)
    slower = [dict(r, median=r["median"] + 5) if r["mode"] == "guard" else r for r in LAUNCHES]
    expect("13 ns", verdicts(run(slower)[0])[LAUNCH], "MISSED")
    expect("simulated", verdicts(run([dict(r, simulated=True) for r in LAUNCHES])[0])[LAUNCH],
           "not measured")
    pair = [measured("launch.alloc_free_4k", ns, mode=mode) for mode, ns in
            (("bare", 3000), ("guard", 3120))]
    expect("an allocation and a free together", verdicts(run(pair)[0])[ALLOC], "not measured")

    # Two processes with one request each stand beside one with two.
    load = [*rates("native", 1, 100), *rates("native", 2, 190), *rates("native", 4, 350),
            *rates("guarded", 1, 99.6), *rates("guarded", 4, 349)]
    expect("the best below 63.5 %", verdicts(run([*load, *rates("frac2", 1, 60, 60)])[0])[TWO],
           "MISSED")
    results, text = run(load, [*rates("frac2", 1, 70, 65), *rates("frac2", 2, 140, 136)])
    expect("of equal resident", [round(f["of_alone_at_equal_resident"], 3) for f in results["llm"]
                                 if f["mode"] == "frac2"], [0.711, 0.789])
    expect("two runs together", (verdicts(results)[ONE], verdicts(results)[TWO]), ("met", "met"))
    expect("99.4 %", verdicts(run([*load, *rates("guarded", 2, 188)])[0])[ONE], "MISSED")

    first = [measured(f"llm.{mode}.{p}.c{level}.ttft", ns) for mode, p, level, ns in
             (("native", "p0", 4, 9e8), ("frac2", "p0", 2, 9e8), ("frac2", "p1", 2, 9.5e8))]
    results, _ = run([*load, *rates("frac2", 2, 140, 136), *first])
    expect("as many users, 0.789 of the tokens", verdicts(results)[HALVES], "met")
    late = [*first[:2], dict(first[2], p90=1.2e9)]
    expect("half the users", verdicts(run([*load, *rates("frac2", 2, 140, 136), *late])[0])[HALVES],
           "MISSED")

    shares = [measured("compute.share.x.25_75.error", 4, "permille"),
              measured("compute.share.y.25_75.error", 11, "permille"),
              measured("compute.share.y.25_75.plain_error", 250, "permille")]
    expect("1.1 %", verdicts(run(shares)[0])[SHARE], "MISSED")
    expect("0.4 %", verdicts(run(shares[::2])[0])[SHARE], "met")
    expect("woken in time", verdicts(run([measured("compute.wake.x", 5e4, goal=1.1e6)])[0])[WAKE],
           "met")
    expect("late", verdicts(run([measured("compute.wake.x", 2e6, goal=1.1e6)])[0])[WAKE], "MISSED")

    link = [measured("copy.to_host_256MiB", 50, "GB/s"), measured("copy.to_device_2MiB", 20, "GB/s"),
            measured("copy.to_device_256MiB", 52, "GB/s")]
    for rate, wanted in ((47, "met"), (40, "MISSED"), (None, "not measured")):
        moved = dict(tested("park", "fact"), seen={"park_gb_s": 46, "resume_gb_s": rate})
        expect(f"{rate} of 52 GB/s", verdicts(run([*link, moved])[0])["park and resume"], wanted)
    expect("parking fails", verdicts(run([*link, tested("park", "failed")])[0])["park and resume"],
           "MISSED")

    some = [tested("fill_linear", "fact"), tested("fill_vmm", "skipped")]
    results, _ = run(some)
    expect("a part of the tests", verdicts(results)[LIMIT], "met")
    expect("and which not", ["not run: fill_vmm" in v["found"] for v in results["verdicts"]
                             if v["claim"] == LIMIT], [True])
    expect("one fails", verdicts(run([*some, tested("faults", "failed")])[0])[LIMIT], "MISSED")

    print("\n".join(failures) or "ok")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
