#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The load generator against servers that behave, and against servers that do anything but.

Nothing may hang a run, every way of failing is counted by its name, Ctrl-C prints what was
measured, and a search finds the capacity of a server whose time to first token grows with users.
"""
import csv
import json
import pathlib
import re
import signal
import socket
import struct
import threading
import time

import aqtest
from aqtest import between, check, equal

STUB = str(aqtest.BUILD / "bench/serve/stub")
LIMITS = ["--connect-timeout", "2s", "--first-timeout", "700ms", "--stall-timeout", "700ms",
          "--request-timeout", "4s", "--drain", "2s"]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
           b"Transfer-Encoding: chunked\r\n\r\n")
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def status(code, body=b"", more=b""):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (code, len(body), more, body)


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def reset(connection):
    """Close so that the other side gets RST and not FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def endless(connection):
    connection.sendall(HEAD)
    while True:
        connection.sendall(TOKEN)


def silent(connection):
    connection.recv(1)  # until the other side has had enough


def drip(connection):
    """Alive, says its pings, and never a token."""
    connection.sendall(HEAD)
    while True:
        connection.sendall(b": ping\n\n")
        time.sleep(0.05)


def stall(connection):
    connection.sendall(HEAD + TOKEN * 3)
    connection.recv(1)


def cut_in_pieces(connection):
    """A good answer, a byte at a time in places where parsers like to break."""
    whole = CHUNKED + chunk(TOKEN[:9]) + chunk(TOKEN[9:] + TOKEN) + chunk(DONE[:3]) + \
        chunk(DONE[3:]) + b"0\r\n\r\n"
    for at in range(0, len(whole), 7):
        connection.sendall(whole[at:at + 7])
        time.sleep(0.001)


# What each sends, and the kind that it must be counted as; a function gets the connection.
WAYS = {
    "good": (HEAD + TOKEN * 4 + DONE, "ok"),
    "pieces": (cut_in_pieces, "ok"),
    "reset": (reset, "reset"),
    "closed": (b"", "reset"),
    "torn-chunk": (CHUNKED + chunk(TOKEN) + b"ff\r\ndata", "reset"),
    "silent": (silent, "first_token_timeout"),
    "drip": (drip, "first_token_timeout"),
    "stalled": (stall, "stalled"),
    "not-json": (HEAD + TOKEN + b"data: {oops\n\n" + DONE, "bad_json"),
    "other-json": (HEAD + b'data: {"hello": 1}\n\n' + DONE, "bad_json"),
    "said": (HEAD + b'data: {"error": {"message": "out of blocks"}}\n\n', "error_in_stream"),
    "no-done": (HEAD + TOKEN * 4, "no_done"),
    "no-done-chunked": (CHUNKED + chunk(TOKEN) + b"0\r\n\r\n", "no_done"),
    "empty": (HEAD + DONE, "empty"),
    "endless": (endless, "endless"),
    "huge-line": (HEAD + b"data: " + b"x" * (3 << 20), "too_large"),
    "no-http": (b"220 smtp ready\r\n\r\n", "bad_http"),
    "huge-header": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000, "bad_http"),
    "no-stream": (status(b"200 OK", b"{}", b"Content-Type: application/json\r\n"), "no_stream"),
    "busy": (status(b"429 Too Many Requests", b'{"error":{"message":"slow down"}}'), "http_429"),
    "down": (status(b"503 Service Unavailable"), "http_503"),
    "absent": (status(b"404 Not Found", b"no such\x1b[2J model"), "http_other"),
}


class Hostile:
    """Answers every connection on a port of its own in one way."""

    def __init__(self, way):
        self.way = way
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.served = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        try:
            connection.settimeout(30)
            text = b""
            while b"\r\n\r\n" not in text:
                text += connection.recv(65536)
            length = re.search(rb"Content-Length: (\d+)", text)
            length = int(length[1]) if length else 0
            while len(text.partition(b"\r\n\r\n")[2]) < length:
                text += connection.recv(65536)
            self.served += 1
            if callable(self.way):
                self.way(connection)
            else:
                connection.sendall(self.way)
            connection.close()
        except (OSError, ValueError):
            connection.close()


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def start_stub(machine, *args):
    child = machine.spawn([STUB, *args])
    return int(child.line())


def bench(machine, *args, code=0):
    return machine.cli("bench", "serve", *args, code=code, timeout=90)


def measured(machine, *args, code=0):
    return json.loads(bench(machine, *args, "--json", code=code)[0])


def every_kind_is_counted(machine):
    """All at once, each a target of its own: none disturbs another, and the run ends in time."""
    servers = {name: Hostile(way) for name, (way, _) in WAYS.items()}
    targets = [f"--target={name}=http://127.0.0.1:{s.port}" for name, s in servers.items()]
    targets.append(f"--target=refused=http://127.0.0.1:{unused_port()}")
    began = time.monotonic()
    result = measured(machine, *targets, "--model", "m", "--isl", "20", "--osl", "4", "--users",
                      "2", "--duration", "3s", "--warmup", "0", *LIMITS)
    between(time.monotonic() - began, 2.5, 40, "seconds that the run took")
    want = {name: kind for name, (_, kind) in WAYS.items()} | {"refused": "refused"}
    for target in result["targets"]:
        got, kind = target["result"], want[target["name"]]
        check(got["requests"] > 0, target["name"], "was never asked")
        if kind == "ok":
            check(got["ok"] > 0 and not got["failed"], target["name"], got)
        else:
            equal(list(got["failures"]), [kind], f"failures of {target['name']}")
            equal(got["ok"], 0, f"good answers of {target['name']}")
        equal(got["ok"] + got["failed"] + got["unfinished"], got["requests"], target["name"])
    why = {t["name"]: t["first_failures"] for t in result["targets"]}
    equal(why["busy"]["http_429"], "slow down", "what the server said")
    equal(why["said"]["error_in_stream"], "out of blocks", "what the server said in the stream")
    check("\x1b" not in why["absent"]["http_other"], "no escape reaches a terminal")


def nothing_but_failures_is_status_1(machine):
    out, _ = bench(machine, f"http://127.0.0.1:{unused_port()}", "--model", "m", "--duration",
                   "500ms", "--warmup", "0", *LIMITS, code=1)
    check("refused" in out, out)
    # A dead server is not asked as fast as it can refuse.
    asked = int(re.search(r"(\d+) refused", out)[1])
    between(asked, 1, 8, "attempts of one user in half a second")


def numbers_are_those_of_the_stub(machine):
    """The stub's times are known; bounds are wide, for the machine may be busy."""
    port = start_stub(machine, "--ttft=200ms", "--itl=20ms")
    out = pathlib.Path(machine.directory, "out")
    result = measured(machine, f"http://127.0.0.1:{port}", "--users", "4", "--isl", "30", "--osl",
                      "11", "--requests", "20", "--warmup-requests", "4", "--ttft-bound", "10s",
                      "--stamps", "--out", out)
    total = result["total"]
    equal((total["requests"], total["ok"]), (20, 20), "requests, and good ones")
    equal((total["isl_mean"], total["osl_mean"]), (30, 11), "mean lengths, as the server counts")
    between(total["ttft_ms"]["p50"], 199, 600, "TTFT p50")
    between(total["tpot_ms"]["p50"], 15, 60, "time per output token")
    # 20 requests of 10 gaps, and what of the 4 of the warm-up falls into the window.
    between(total["itl_ms"]["count"], 120, 240, "gaps between tokens, in the window")
    between(total["good_requests_per_second"], total["requests_per_second"] * 0.99, 1e9, "goodput")
    check(result["generator"]["timing_error"]["count"] > 100, "tokens are compared with stamps")
    between(result["generator"]["timing_error"]["p50_ms"], 0, 10, "timing error p50 in ms")

    rows = list(csv.DictReader((out / "requests.csv").open()))
    equal(len(rows), 24, "rows, warm-up included")
    equal(sum(row["counted"] == "1" for row in rows), 20, "rows that count")
    for row in rows:
        between(float(row["ttft_ms"]), 199, 5000, f"TTFT in {row}")
        # Never sooner; the gap itself shrinks when a busy machine reads two tokens as one.
        check(float(row["e2e_ms"]) >= max(399, float(row["ttft_ms"])), row)
    equal(json.loads((out / "results.json").read_text())["total"], total, "JSON in the directory")
    for name in ("ttft-over-time.svg", "latency.svg"):
        text = (out / name).read_text()
        check(text.startswith("<svg") and text.endswith("</svg>\n") and "nan" not in text, name)


def same_seed_same_requests(machine):
    port = start_stub(machine, "--ttft=10ms", "--itl=1ms")

    def lengths(seed):
        out = pathlib.Path(machine.directory, "seeded")
        bench(machine, f"http://127.0.0.1:{port}", "--users", "3", "--isl", "uniform:5:400",
              "--osl", "lognormal:9:4", "--requests", "30", "--warmup", "0", "--seed", seed,
              "--out", out)
        rows = list(csv.DictReader((out / "requests.csv").open()))
        for row in rows:
            equal(row["isl"], row["isl_asked"], "words of the prompt, as the stub counts them")
        return sorted((int(r["number"]), int(r["isl_asked"]), int(r["osl_asked"]))
                      for r in rows)[:30]

    first = lengths(7)
    equal(lengths(7), first, "requests of the same seed")
    check(lengths(8) != first, "requests of another seed differ")
    check(len({isl for _, isl, _ in first}) > 10, "lengths differ")


def arrivals_do_not_wait_for_answers(machine):
    """Open loop: a server that takes a second gets as many requests as a fast one."""
    port = start_stub(machine, "--ttft=1s", "--itl=1ms")
    total = measured(machine, f"http://127.0.0.1:{port}", "--rate", "40", "--osl", "2", "--isl",
                     "5", "--warmup", "0", "--duration", "4s", *LIMITS[:2])["total"]
    between(total["requests"], 100, 230, "arrivals at 40 a second for 4 s")
    equal(total["failed"], 0, "failures")


def several_apis_at_once(machine):
    port = start_stub(machine, "--ttft=20ms", "--itl=2ms")
    url = f"http://127.0.0.1:{port}"
    result = measured(machine, "--target", f"a={url},api=chat", "--target",
                      f"b={url}/v1,api=completions,users=2", "--target",
                      f"c={url},api=embeddings,rate=20", "--isl", "9", "--osl", "5", "--warmup", "0",
                      "--duration", "2s")
    by_name = {t["name"]: t["result"] for t in result["targets"]}
    for name, target in by_name.items():
        check(target["ok"] > 5 and not target["failed"], name, target)
    equal(by_name["c"]["tokens_per_second"], 0, "output tokens of embeddings")
    equal(sum(t["ok"] for t in by_name.values()), result["total"]["ok"], "the sum")
    equal(result["generator"]["reconnects"], 0, "connections made again")


def ctrl_c_prints_what_there_is(machine):
    port = start_stub(machine, "--ttft=20ms", "--itl=5ms")
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        child = machine.spawn([aqtest.CLI, "bench", "serve", f"http://127.0.0.1:{port}", "--users",
                               "3", "--osl", "5", "--warmup", "0", "--duration", "10m", "--json"])
        time.sleep(2)
        child.kill(number)
        result = json.loads("\n".join(child.lines(20)))
        equal(child.wait(20), code, "exit status")
        check(result["interrupted"] and result["total"]["ok"] > 3, result["total"])
    for pause in (0, 0.3, 0):  # between two steps, and in the middle of one
        child = machine.spawn([aqtest.CLI, "bench", "serve", f"http://127.0.0.1:{port}",
                               "--search-users", "--osl", "5", "--warmup", "0", "--duration",
                               "700ms"])
        check("users: TTFT" in child.line(30), "a step of the search is said at once")
        time.sleep(pause)
        child.kill(signal.SIGINT)
        check(any("Interrupted" in line for line in child.lines(20)), "says it is not complete")
        equal(child.wait(20), 130, "exit status of a search")


def search_finds_the_capacity(machine):
    """TTFT is 50 ms + 25 ms a request that is in: 1,000 ms is reached with 38 users."""
    port = start_stub(machine, "--ttft=50ms", "--ttft-per-user=25ms", "--itl=1ms")
    out = pathlib.Path(machine.directory, "search")
    result = measured(machine, f"http://127.0.0.1:{port}", "--search-users", "--search-from", "8",
                      "--ttft-bound", "1s", "--duration", "1500ms", "--warmup", "1s", "--osl", "2",
                      "--isl", "5", "--search-precision", "0.07", "--out", out)
    between(result["users_p95_within"], 28, 38, "users whose p95 is within the bound")
    between(result["users_every_within"], 20, result["users_p95_within"], "every one")
    check(not result["at_least"] and not result["interrupted"], "the search came to its end")
    steps = {s["users"]: s for s in result["steps"]}
    check({8, 16, 32, 64} <= set(steps), "doubles first:", sorted(steps))
    check(steps[8]["every_within"] and not steps[64]["p95_within"], "verdicts")
    check("concurrent users" in (out / "search.svg").read_text(), "a plot of the search")


def wrong_options_are_said(machine):
    for args in ((), ("http://h:1", "--users", "0"), ("https://h",), ("http://h:1", "--isl", "0"),
                 ("http://127.0.0.1:1", "--rate", "5", "--search-users"),
                 ("http://127.0.0.1:1", "--warmup", "1s", "--warmup-requests", "3"),
                 ("http://127.0.0.1:1", "--header", "x\r\ny: z"), ("http://127.0.0.1:1", "--user"),
                 ("a=http://127.0.0.1:1", "a=http://127.0.0.1:2")):
        _, errors = bench(machine, *args, code=2)
        equal(len(errors.strip().splitlines()), 1, f"lines about {args}: {errors}")
        check(errors.startswith("aliquot: "), errors)
    _, errors = bench(machine, f"http://127.0.0.1:{unused_port()}", code=1)
    check("nothing listens there" in errors, errors)
    _, errors = bench(machine, f"http://127.0.0.1:{Hostile(WAYS['absent'][0]).port}", code=1)
    check("--model" in errors, errors)
    # Said before a minute of load, not after it.
    for out in (STUB, "/proc/self", "/nonexistent/x"):
        began = time.monotonic()
        _, errors = bench(machine, f"http://127.0.0.1:{unused_port()}", "--model", "m",
                          "--duration", "1m", "--out", out, code=1)
        check("--out" in errors and time.monotonic() - began < 20, out, errors)


aqtest.run(every_kind_is_counted, nothing_but_failures_is_status_1, numbers_are_those_of_the_stub,
           same_seed_same_requests, arrivals_do_not_wait_for_answers, several_apis_at_once,
           ctrl_c_prints_what_there_is, search_finds_the_capacity, wrong_options_are_said)
