# SPDX-License-Identifier: Apache-2.0
"""What a run of the kit says of each claim of the README: met, missed, or not measured. Reads
records, measures nothing. On a simulated device nothing is met or missed."""

MET, MISSED, OPEN = "met", "MISSED", "not measured"
# Tokens/s that two models on one GPU reach together, of one model with as many requests resident.
# Source: NVIDIA Dynamo's fractions by MPS v3, Qwen3-4B on A100-SXM4-40GB, ISL 2048, OSL 256.
ELSEWHERE = {2: 0.635, 4: 0.604, 8: 0.680, 16: 0.778, 32: 0.879}
HALVES_TOKENS, HALVES_USERS = 0.77, 0.86  # of the full GPU; Source: Run:ai's published half fractions


def judged(ok, found):
    return (MET if ok else MISSED), found


def tests(records, *names):
    """All of these tests of tests/gpu passed; those skipped are named."""
    seen = {r["probe"].removeprefix("test."): r for r in records if r["probe"].startswith("test.")}
    ran = [n for n in names if n in seen and seen[n]["result"] != "skipped"]
    failed = [n for n in ran if seen[n]["result"] == "failed"]
    if not ran:
        return OPEN, "none of its tests ran"
    left = [n for n in names if n not in ran]
    text = f"{len(ran) - len(failed)} of {len(names)} tests pass"
    text += f"; failed: {', '.join(failed)}" if failed else ""
    text += f"; not run: {', '.join(left)}" if left else ""
    return judged(not failed, text)


def added(found, probe, goal_ns, apart=True):
    """What the guard adds to a call. @apart: the call is measured by itself, not with another."""
    row = next((f for f in found["interposition"] if f["probe"] == probe), None)
    if not row or "guard_adds_ns" not in row:
        return OPEN, ""
    text = (f"{row['guard_adds_ns']:+.1f} ns (spread of {row['rounds']} rounds: bare "
            f"{row['bare_spread_ns']:.1f}, guarded {row['guard_spread_ns']:.1f})")
    if not apart and row["guard_adds_ns"] > goal_ns:
        return OPEN, text + ", both together"
    return judged(row["guard_adds_ns"] <= goal_ns, text)


def single_tenant(records, found):
    of = [f["each_of_alone"][0] for f in found["llm"]
          if f["mode"] == "guarded" and "each_of_alone" in f]
    if not of:
        return OPEN, ""
    return judged(min(of) >= 0.995, f"{min(of):.4f} to {max(of):.4f} of alone, {len(of)} levels")


def two_models(records, found):
    rows = {f["resident"]: f["of_alone_at_equal_resident"] for f in found["llm"]
            if f["mode"] == "frac2" and f.get("resident") in ELSEWHERE}
    if not rows:
        return OPEN, ""
    text = ", ".join(f"{of:.3f} at {n} resident (> {ELSEWHERE[n]})" for n, of in sorted(rows.items()))
    return judged(all(of > ELSEWHERE[n] for n, of in rows.items()), text)


def two_halves(records, found):
    rows = [f for f in found["llm"] if f["mode"] == "frac2" and "resident" in f]
    users = {(f["mode"], f["process"]): f["p90"] for f in found["users_with_ttft_within_1s"]}
    alone, halves = users.get(("native", "p0")), [users.get(("frac2", p)) for p in ("p0", "p1")]
    if not rows or not alone or None in halves:
        return OPEN, ""
    tokens = max(rows, key=lambda f: f["resident"])
    tokens, resident = tokens["of_alone_at_equal_resident"], tokens["resident"]
    text = f"tokens {tokens:.3f} at {resident} resident, users {sum(halves)} to {alone}"
    return judged(tokens > HALVES_TOKENS and sum(halves) / alone > HALVES_USERS, text)


def worst_of(records, prefix, suffix, goal, unit):
    """The largest median of all such records against a goal."""
    values = {r["probe"]: r["median"] for r in records if r["result"] == "measured"
              and r["probe"].startswith(prefix) and r["probe"].endswith(suffix)}
    if not values:
        return OPEN, ""
    name, worst = max(values.items(), key=lambda item: item[1])
    return judged(worst <= goal, f"at worst {worst:.4g} {unit} ({name}), of {len(values)}")


def wake_ups(records, found):
    rows = [r for r in records if r["probe"].startswith("compute.wake.") and
            r["result"] == "measured"]
    if not rows:
        return OPEN, ""
    text = ", ".join(f"{r['probe'].split('.')[2]} {r['p99'] / 1e3:.0f} us" for r in rows)
    return judged(all(r["p99"] <= r["goal"] for r in rows), text)


def parking(records, found):
    """Rates of the test's park and resume against the best that pinned copies reach here."""
    seen = next((r.get("seen", {}) for r in records if r["probe"] == "test.park"), {})
    link = {way: max([r["median"] for r in records if r["result"] == "measured" and
                      r["probe"].startswith(f"copy.{way}_")] or [0])
            for way in ("to_host", "to_device")}
    rates = {"to_host": seen.get("park_gb_s"), "to_device": seen.get("resume_gb_s")}
    if not all(rates.values()) or not all(link.values()):
        return tests(records, "park") if tests(records, "park")[0] == MISSED else (OPEN, "")
    text = (f"park {rates['to_host']:.1f} of {link['to_host']:.1f} GB/s, resume "
            f"{rates['to_device']:.1f} of {link['to_device']:.1f}")
    return judged(all(rates[way] >= 0.9 * link[way] for way in link), text)


# claim, goal, what says so: (records, found) -> (verdict, text)
CLAIMS = [
    ("a fraction never holds more than its limit", "exact, for the program and for NVML",
     lambda r, f: tests(r, "fill_linear", "fill_vmm", "fill_pitch", "fill_array", "fill_async",
                        "fill_pool", "fill_vmmcreate", "fill_managed", "runtime_fill",
                        "runtime_async", "runtime_managed", "runtime_child", "faults")),
    ("over the limit: out of memory, neighbours untouched", "always",
     lambda r, f: tests(r, "neighbours", "runtime_fill", "torch_limit", "scenario_03-isolation",
                        "scenario_19-events")),
    ("a dead program's memory is free for others", "at once",
     lambda r, f: tests(r, "neighbours")),
    ("CUDA's runtime, cuBLAS and PyTorch run unmodified", "always",
     lambda r, f: tests(r, "runtime_shared_info", "runtime_static_info", "runtime_graph",
                        "runtime_streams", "cublas", "torch_info", "torch_limit",
                        "torch_expandable", "torch_graphs", "torch_compile", "torch_loader",
                        "torch_spawn", "torch_train")),
    ("added to a kernel launch", "<= 10 ns", lambda r, f: added(f, "launch.kernel", 10)),
    ("added to a launch of a graph", "<= 10 ns", lambda r, f: added(f, "launch.graph_1_node", 10)),
    ("added to an allocation inside a grant", "<= 100 ns",
     lambda r, f: added(f, "launch.alloc_free_4k", 100, apart=False)),
    ("one tenant, whole run", ">= 99.5 % of native", single_tenant),
    ("live resize, no restart", "works both ways (not timed here)",
     lambda r, f: tests(r, "resize")),
    ("the daemon dies: programs go on and are adopted", "within 1 s (not timed here)",
     lambda r, f: tests(r, "daemon_dies", "scenario_13-daemon-restart")),
    ("compute by share: error over a second", "<= 1 %",
     lambda r, f: worst_of(r, "compute.share.", ".error", 10, "permille")),
    ("throughput lost to sharing", "<= 2 %",
     lambda r, f: worst_of(r, "compute.share.", ".lost", 20, "permille")),
    ("a cap when alone: error", "<= 1 %",
     lambda r, f: worst_of(r, "compute.cap.", ".error", 10, "permille")),
    ("a higher priority waits beyond what is in flight", "p99 <= 100 us", wake_ups),
    ("two models on one GPU, of dedicated", "above the best elsewhere", two_models),
    ("two half fractions, of the full GPU", "> 77 % tokens/s, > 86 % users", two_halves),
    ("300 processes start at once", "<= 1 s", lambda r, f: (OPEN, "no part of the kit")),
    ("park and resume", ">= 90 % of the link", parking),
]


def verdicts(records, found):
    """One row for each claim. @found: what the report has computed from the records."""
    simulated = any(r.get("simulated") for r in records)
    rows = []
    for claim, goal, says in CLAIMS:
        verdict, text = says(records, found)
        if simulated and verdict != OPEN:
            verdict, text = OPEN, f"simulated: {text}"
        rows.append({"claim": claim, "goal": goal, "verdict": verdict, "found": text})
    return rows
