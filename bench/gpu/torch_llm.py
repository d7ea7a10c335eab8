#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An LLM server's load on a GPU, alone and shared, without a server and without weights.

A model of the shape of Llama 3.1 8B (or a smaller one) with random bf16 weights runs under continuous
batching: chunked prefill, decode steps of static shape replayed as CUDA graphs, one token to the host
each step. A closed loop keeps `level` requests resident. It stands for an engine's pattern of work
and its memory, not for its speed: no fused attention over pages, no speculative anything.

Modes (who is on the GPU):
  native   one process, nothing in between        guarded  one process, a fraction of the whole GPU
  plain2/4 so many at once, nothing in between    frac2/4  so many at once, each a fraction of 1/N

Prints one record (JSON line) for each thing measured: llm.MODE.pPROCESS.cLEVEL.WHAT. The report of
the run computes shares of native from them.

  --selftest     a tiny model against a naive forward pass: do cache, chunks and graphs compute right?
  --fake         no model and no PyTorch: waits instead of work, to try everything else
"""
import argparse
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import threading
import time

MODELS = {  # layers, hidden, query heads, key/value heads, head size, feed-forward, vocabulary, tied
    "8b": (32, 4096, 32, 8, 128, 14336, 128256, False),
    "3b": (28, 3072, 24, 8, 128, 8192, 128256, True),
    "1b": (16, 2048, 32, 8, 64, 8192, 128256, True),
    "tiny": (2, 128, 8, 2, 16, 256, 512, False),
}
MODES = {"native": (1, False), "guarded": (1, True), "plain2": (2, False), "frac2": (2, True),
         "plain4": (4, False), "frac4": (4, True)}
ROPE_BASE = 500000.0
NORM_EPS = 1e-5
WORKSPACE_BYTES = 2 << 30  # activations, logits, graphs, libraries: guess, kept free of cache


class Workload:
    """Lengths of prompts and answers."""

    def __init__(self, name, isl, osl, seed):
        self.name, self.isl, self.osl = name, isl, osl
        self.random = random.Random(seed)

    def draw(self):
        if self.name == "short":
            scale = self.isl / 2048
            prompt = self.random.choice([32, 64, 128, 256, 512])
            return max(1, int(prompt * scale)), max(2, self.random.randint(self.osl // 8, self.osl))
        return self.isl, self.osl


# The model. PyTorch is imported by whoever makes one.


class Llama:
    """Weights, cache and the two kinds of step. Slots are rows of the cache, one request each."""

    def __init__(self, model, device, dtype, slots, max_len, seed=1):
        import torch
        self.torch = torch
        (self.layers, self.hidden, self.heads, self.kv_heads, self.head, self.ff, self.vocab,
         tied) = MODELS[model]
        self.group = self.heads // self.kv_heads
        self.device, self.dtype, self.slots, self.max_len = device, dtype, slots, max_len
        self.scratch = max_len - 1  # where slots that are not decoding write; nobody reads it
        torch.manual_seed(seed)

        def weight(*shape):
            return torch.empty(shape, device=device, dtype=dtype).normal_(0, 0.02)

        qkv = (self.heads + 2 * self.kv_heads) * self.head
        self.embed = weight(self.vocab, self.hidden)
        self.lm_head = self.embed if tied else weight(self.vocab, self.hidden)
        ones = torch.ones(self.hidden, device=device, dtype=dtype)
        self.final_norm = ones
        self.blocks = [{"norm1": ones, "qkv": weight(qkv, self.hidden),
                        "out": weight(self.hidden, self.heads * self.head), "norm2": ones,
                        "gate_up": weight(2 * self.ff, self.hidden),
                        "down": weight(self.hidden, self.ff)} for _ in range(self.layers)]
        half = torch.arange(0, self.head, 2, device=device, dtype=torch.float32) / self.head
        angles = torch.outer(torch.arange(max_len, device=device, dtype=torch.float32),
                             ROPE_BASE ** -half)
        self.cos = angles.cos().to(dtype)  # [max_len, head / 2]
        self.sin = angles.sin().to(dtype)
        self.cache = torch.zeros(self.layers, 2, slots, self.kv_heads, max_len, self.head,
                                 device=device, dtype=dtype)
        self.tokens = torch.zeros(slots, device=device, dtype=torch.long)
        self.pos = torch.full((slots,), self.scratch, device=device, dtype=torch.long)
        self.rows = torch.arange(slots, device=device)
        self.columns = torch.arange(max_len, device=device)

    @staticmethod
    def cache_bytes(model, slots, max_len, item=2):
        layers, _, _, kv_heads, head = MODELS[model][:5]
        return layers * 2 * slots * kv_heads * max_len * head * item

    @staticmethod
    def weight_bytes(model, item=2):
        layers, hidden, heads, kv_heads, head, ff, vocab, tied = MODELS[model]
        block = hidden * head * (2 * heads + 2 * kv_heads) + 3 * hidden * ff
        return item * (layers * block + vocab * hidden * (1 if tied else 2))

    def rotate(self, x, cos, sin):
        """x [..., tokens, heads, head]; cos and sin [..., tokens, 1, head / 2]"""
        a, b = x[..., :self.head // 2], x[..., self.head // 2:]
        return self.torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    def norm(self, x, weight):
        return self.torch.nn.functional.rms_norm(x, (self.hidden,), weight, NORM_EPS)

    def project(self, block, x, cos, sin):
        """Rotated q, k and plain v of x [tokens, hidden]."""
        qkv = self.torch.nn.functional.linear(self.norm(x, block["norm1"]), block["qkv"])
        qkv = qkv.view(x.shape[0], self.heads + 2 * self.kv_heads, self.head)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        return self.rotate(q, cos, sin), self.rotate(k, cos, sin), v

    def finish_block(self, block, x, attention):
        linear, silu = self.torch.nn.functional.linear, self.torch.nn.functional.silu
        x = x + linear(attention.reshape(x.shape[0], -1), block["out"])
        gate, up = linear(self.norm(x, block["norm2"]), block["gate_up"]).chunk(2, dim=-1)
        return x + linear(silu(gate) * up, block["down"])

    def predict(self, x):
        logits = self.torch.nn.functional.linear(self.norm(x, self.final_norm), self.lm_head)
        return logits.argmax(dim=-1)

    def decode(self, batch, length):
        """One step of the first `batch` slots over the first `length` places of the cache.

        Reads tokens and pos, writes tokens, and moves pos on. Static shapes and no look at the host,
        so that it can be captured. Query heads of one key head are the rows of one small product.
        """
        torch = self.torch
        tokens, pos = self.tokens[:batch], self.pos[:batch]
        x = self.embed[tokens]
        cos, sin = self.cos[pos].unsqueeze(1), self.sin[pos].unsqueeze(1)
        unseen = self.columns[:length].unsqueeze(0) > pos.unsqueeze(1)
        unseen = unseen.view(batch, 1, 1, length)
        for block, cache in zip(self.blocks, self.cache):
            q, k, v = self.project(block, x, cos, sin)
            cache[0][self.rows[:batch], :, pos] = k
            cache[1][self.rows[:batch], :, pos] = v
            keys, values = cache[0, :batch, :, :length], cache[1, :batch, :, :length]
            q = q.view(batch, self.kv_heads, self.group, self.head)
            scores = torch.matmul(q, keys.transpose(2, 3)) / math.sqrt(self.head)
            scores = scores.float().masked_fill(unseen, float("-inf"))
            weights = torch.softmax(scores, dim=-1).to(self.dtype)
            x = self.finish_block(block, x, torch.matmul(weights, values))
        tokens.copy_(self.predict(x))
        pos.copy_(torch.clamp(pos + 1, max=self.scratch))

    def prefill(self, slot, ids, first, last):
        """A chunk of a prompt, from place `first` on; after the last one the slot decodes."""
        torch, n = self.torch, ids.shape[0]
        end = first + n
        x = self.embed[ids]
        cos, sin = self.cos[first:end].unsqueeze(1), self.sin[first:end].unsqueeze(1)
        for block, cache in zip(self.blocks, self.cache):
            q, k, v = self.project(block, x, cos, sin)
            cache[0, slot, :, first:end] = k.transpose(0, 1)
            cache[1, slot, :, first:end] = v.transpose(0, 1)
            keys = cache[0, slot, :, :end].repeat_interleave(self.group, dim=0).unsqueeze(0)
            values = cache[1, slot, :, :end].repeat_interleave(self.group, dim=0).unsqueeze(0)
            x = self.finish_block(block, x, self.causal(q.transpose(0, 1).unsqueeze(0), keys,
                                                        values, first)[0].transpose(0, 1))
        if last:
            self.tokens[slot:slot + 1] = self.predict(x[-1:])
            self.pos[slot:slot + 1] = end

    def causal(self, q, keys, values, first):
        """Attention of the last rows of a sequence to all before them."""
        torch = self.torch
        attend = torch.nn.functional.scaled_dot_product_attention
        if first == 0:
            return attend(q, keys, values, is_causal=True)
        try:
            from torch.nn.attention.bias import causal_lower_right
            return attend(q, keys, values, causal_lower_right(q.shape[2], keys.shape[2]))
        except (ImportError, RuntimeError, TypeError):
            rows = first + torch.arange(q.shape[2], device=self.device)
            mask = self.columns[:keys.shape[2]].unsqueeze(0) <= rows.unsqueeze(1)
            return attend(q, keys, values, attn_mask=mask)

    def leave(self, slot):
        self.pos[slot:slot + 1] = self.scratch


class Engine:
    """A model, its graphs, and one place on the host where each step's tokens arrive."""

    BATCHES = (1, 2, 4, 8, 16, 32, 64)

    def __init__(self, args, slots, max_len, lengths, dtype=None):
        import torch
        self.torch = torch
        self.cuda = not args.cpu
        self.device = "cpu" if args.cpu else "cuda"
        dtype = dtype or (torch.float32 if args.cpu else torch.bfloat16)
        self.model = Llama(args.model, self.device, dtype, slots, max_len)
        self.slots, self.chunk = slots, args.chunk
        self.lengths = sorted({min(n, max_len) for n in lengths} | {max_len})
        self.host = torch.zeros(slots, dtype=torch.long, pin_memory=self.cuda)
        self.done = torch.cuda.Event() if self.cuda else None
        self.prompt = torch.randint(0, self.model.vocab, (max_len,), device=self.device)
        self.graphs, self.note = {}, "eager"
        if self.cuda:
            self.capture()

    def capture(self):
        """A graph for each batch and length, largest first so that they share memory."""
        torch = self.torch
        batches = [b for b in self.BATCHES if b < self.slots] + [self.slots]
        pool = None
        try:
            for length in reversed(self.lengths):
                for batch in sorted(set(batches), reverse=True):
                    side = torch.cuda.Stream()
                    side.wait_stream(torch.cuda.current_stream())
                    with torch.cuda.stream(side):
                        self.model.decode(batch, length)
                    torch.cuda.current_stream().wait_stream(side)
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph, pool=pool):
                        self.model.decode(batch, length)
                    pool = pool or graph.pool()
                    self.graphs[batch, length] = graph
            self.note = f"{len(self.graphs)} CUDA graphs"
        except RuntimeError as error:  # then without: slower, and the records say so
            self.graphs, self.note = {}, f"eager: capture failed: {str(error)[:120]}"
            torch.cuda.synchronize()
        for slot in range(self.slots):
            self.model.leave(slot)

    def decode(self, slots, longest):
        batch, length = max(slots) + 1, longest + 1
        if self.graphs:
            batch = min(b for b, _ in self.graphs if b >= batch)
        length = min(n for n in self.lengths if n >= length)
        if (batch, length) in self.graphs:
            self.graphs[batch, length].replay()
        else:
            self.model.decode(batch, length)

    def prefill(self, slot, first, n, last):
        self.model.prefill(slot, self.prompt[first:first + n], first, last)

    def leave(self, slot):
        self.model.leave(slot)

    def wait(self):
        """Until everything submitted is done and its tokens are on the host."""
        self.host.copy_(self.model.tokens, non_blocking=True)
        if self.cuda:
            self.done.record()
            self.done.synchronize()


class FakeEngine:
    """Waits as long as a step might take, shortened: for trying the rest of this program."""

    note = "fake: nothing is computed"

    def __init__(self, slots, chunk, pace):
        self.slots, self.chunk, self.pace, self.debt = slots, chunk, pace, 0.0

    def decode(self, slots, longest):
        self.debt += 0.0075 + 0.00005 * len(slots)

    def prefill(self, slot, first, n, last):
        self.debt += 22e-6 * n

    def leave(self, slot):
        pass

    def wait(self):
        time.sleep(self.debt * self.pace)
        self.debt = 0.0


# The load: everything below knows nothing of PyTorch.


class Request:
    def __init__(self, slot, prompt, answer, arrived):
        self.slot, self.prompt, self.answer, self.arrived = slot, prompt, answer, arrived
        self.filled = self.sent = 0
        self.last = None  # when its last token came


def quantiles(values):
    """n, min, median, p90, p99, max, mean, by nearest rank; None for all when there are none."""
    values = sorted(values)
    n = len(values)

    def rank(q):
        return values[max(0, math.ceil(q * n) - 1)]

    if not n:
        return {"n": 0}
    return {"n": n, "min": values[0], "median": rank(0.5), "p90": rank(0.9), "p99": rank(0.99),
            "max": values[-1], "mean": sum(values) / n}


def run_level(engine, level, workload, start, warm, seconds, clock=time.monotonic):
    """Keeps `level` requests resident; counts what happens from start + warm for `seconds`."""
    begin, end = start + warm, start + warm + seconds
    while clock() < start:
        time.sleep(0.001)
    requests = []
    for slot in range(level):
        prompt, answer = workload.draw()
        # The first answers differ in length, so that requests do not march in step for ever.
        requests.append(Request(slot, prompt, max(2, answer * (slot + 1) // level), clock()))
    ttft, itl, tokens, steps, finished = [], [], 0, 0, 0
    while True:
        waiting = sorted((r for r in requests if r.filled < r.prompt), key=lambda r: r.arrived)
        decoding = [r for r in requests if r.filled == r.prompt]
        filled = None
        if decoding:  # first: a slot whose prompt ends in this turn decodes from the next on
            engine.decode([r.slot for r in decoding], max(r.prompt + r.sent for r in decoding))
        if waiting:
            filled = waiting[0]
            n = min(engine.chunk, filled.prompt - filled.filled)
            engine.prefill(filled.slot, filled.filled, n, filled.filled + n == filled.prompt)
            filled.filled += n
        engine.wait()
        now = clock()
        counted = begin <= now <= end
        steps += counted
        if filled and filled.filled == filled.prompt:
            decoding.append(filled)
        for r in decoding:
            if counted:
                tokens += 1
                (itl if r.last else ttft).append(now - (r.last or r.arrived))
            r.last = now
            r.sent += 1
            if r.sent >= r.answer:
                finished += counted
                engine.leave(r.slot)
                prompt, answer = workload.draw()
                requests[r.slot] = Request(r.slot, prompt, answer, now)
        if now > end:
            break
    for r in requests:
        engine.leave(r.slot)
    return {"tokens_per_s": tokens / seconds, "requests": finished, "steps": steps,
            "ttft": quantiles(ttft), "itl": quantiles(itl)}


# One process: obeys lines of JSON on its standard input.


def make_engine(args):
    max_len = -(-(args.isl + args.osl + 2) // 64) * 64
    if args.fake:
        return FakeEngine(args.slots, args.chunk, args.pace), args.slots
    import torch
    slots = args.slots
    if not args.cpu:
        free, total = torch.cuda.mem_get_info()
        room = min(free, int(total * args.budget)) - WORKSPACE_BYTES
        room -= Llama.weight_bytes(args.model)
        slots = min(slots, room // Llama.cache_bytes(args.model, 1, max_len))
        if slots < 1:
            raise MemoryError(f"the model and one request need more than the {total} bytes seen, "
                              f"of which {free} are free and {args.budget:.2f} may be used")
    with torch.inference_mode():
        return Engine(args, slots, max_len, [max_len // 3]), slots


def worker(args):
    def answer(**what):
        print(json.dumps(what), flush=True)

    t0 = time.monotonic()
    try:
        engine, slots = make_engine(args)
    except Exception as error:  # whatever PyTorch raises: the parent reports it
        answer(error=f"{type(error).__name__}: {error}"[:400])
        return 1
    answer(ready=True, slots=slots, note=engine.note, seconds=time.monotonic() - t0)

    def obey():
        for line in sys.stdin:
            order = json.loads(line)
            if order.get("quit"):
                break
            workload = Workload(order["workload"], args.isl, args.osl, order["level"])
            try:
                answer(result=run_level(engine, order["level"], workload, order["start"],
                                        order["warm"], order["seconds"]))
            except Exception as error:
                answer(error=f"{type(error).__name__}: {error}"[:400])
                return 1
        return 0

    if args.fake:
        return obey()
    import torch
    with torch.inference_mode():
        return obey()


# All processes of one mode.


class Child:
    """A worker and the last line it said; a thread reads, so that a dead worker is noticed."""

    def __init__(self, command, log):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=log, text=True)
        self.lines, self.condition, self.closed = [], threading.Condition(), False
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            try:
                parsed = json.loads(line)
            except ValueError:
                continue  # a library's chatter
            with self.condition:
                self.lines.append(parsed)
                self.condition.notify()
        with self.condition:
            self.closed = True
            self.condition.notify()

    def tell(self, **what):
        try:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it is gone: the next hear() says so

    def hear(self, seconds):
        with self.condition:
            if not self.condition.wait_for(lambda: self.lines or self.closed, seconds):
                return {"error": f"no answer within {seconds:.0f} s"}
            return self.lines.pop(0) if self.lines else {"error": "the process ended"}

    def stop(self):
        self.tell(quit=True)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Records:
    def __init__(self, mode, fake=False):
        self.mode = mode
        self.marks = {"simulated": True} if fake else {}
        self.device = self.driver = "unknown"
        try:
            words = subprocess.run(
                ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                capture_output=True, text=True, timeout=20).stdout.splitlines()[0].split(", ")
            self.device, self.driver = words
        except (OSError, IndexError, ValueError, subprocess.TimeoutExpired):
            pass

    def put(self, what, result, **more):
        print(json.dumps({"probe": f"llm.{self.mode}.{what}", "result": result, "mode": "script",
                          "device": self.device, "driver": self.driver, **self.marks, **more}),
              flush=True)

    def level(self, where, r, note):
        self.put(f"{where}.tokens_per_s", "measured", n=1, unit="tok/s", median=r["tokens_per_s"],
                 note=f"{r['requests']} requests finished, {r['steps']} steps; {note}")
        for key, name in (("ttft", "time to first token"), ("itl", "time between tokens")):
            if not r[key]["n"]:
                self.put(f"{where}.{key}", "skipped", note="none in the time measured")
                continue
            in_ns = {k: v if k == "n" else round(v * 1e9) for k, v in r[key].items()}
            self.put(f"{where}.{key}", "measured", unit="ns", note=name, **in_ns)


def command_of(args, processes, guarded, slots):
    own = [sys.executable, str(pathlib.Path(__file__).resolve()), "--worker", "--model", args.model,
           "--isl", str(args.isl), "--osl", str(args.osl), "--chunk", str(args.chunk),
           "--slots", str(slots), "--pace", str(args.pace),
           "--budget", str(0.97 if guarded else 0.97 / processes)]
    own += ["--cpu"] if args.cpu else []
    own += ["--fake"] if args.fake else []
    if not guarded or args.fake:
        return own
    return [args.aliquot, "run", "--gpu", f"{1 / processes:.4g}", "--"] + own


def measure(args, children, records, levels, slots, processes):
    for workload, wanted in (("long", levels), ("short", [n for n in levels if n in (8, 32)][:1])):
        for level in wanted:
            where = f"c{level}" if workload == "long" else f"short_c{level}"
            if level > slots:
                for i in range(processes):
                    records.put(f"p{i}.{where}", "skipped", note=f"room for {slots} requests only")
                continue
            # Long enough for every prompt of every process to be read once.
            warm = (0.5 + 0.06 * level * processes) * (args.pace if args.fake else 1)
            start = time.monotonic() + 0.3
            for child in children:
                child.tell(level=level, workload=workload, start=start, warm=warm,
                           seconds=args.seconds)
            answers = [child.hear(args.seconds + warm + 60) for child in children]
            for i, a in enumerate(answers):
                if "error" in a:
                    records.put(f"p{i}.{where}", "failed", note=a["error"])
                else:
                    records.level(f"p{i}.{where}", a["result"], f"{workload} prompts")
            if any("error" in a for a in answers):
                return False
    return True


def orchestrate(args):
    processes, guarded = MODES[args.mode]
    levels = [int(n) for n in args.levels.split(",")]
    records = Records(args.mode, args.fake)
    if guarded and not args.aliquot and not args.fake:
        records.put("start", "skipped", note="no aliquot command")
        return 0
    command = command_of(args, processes, guarded, max(levels))
    children = [Child(command, None) for _ in range(processes)]
    try:
        answers = [child.hear(240) for child in children]
        for i, a in enumerate(answers):
            if "error" in a:
                records.put(f"p{i}.start", "failed", note=a["error"])
            else:
                records.put(f"p{i}.start", "measured", n=1, unit="ns",
                            median=round(a["seconds"] * 1e9),
                            note=f"{args.model}, room for {a['slots']} requests, {a['note']}")
        if any("error" in a for a in answers):
            return 1
        slots = min(a["slots"] for a in answers)
        return 0 if measure(args, children, records, levels, slots, processes) else 1
    finally:
        for child in children:
            child.stop()


# Does the model compute what it should?


def naive_next(model, ids):
    """The next token by one plain forward pass without cache, chunks or batches."""
    torch = model.torch
    n = len(ids)
    x = model.embed[torch.tensor(ids, device=model.device)]
    cos, sin = model.cos[:n].unsqueeze(1), model.sin[:n].unsqueeze(1)
    above = torch.full((n, n), float("-inf"), device=model.device).triu(1)
    for block in model.blocks:
        q, k, v = model.project(block, x, cos, sin)
        k, v = (t.repeat_interleave(model.group, dim=1) for t in (k, v))
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(model.head) + above
        x = model.finish_block(block, x, torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return int(model.predict(x[-1:])[0])


def selftest(args):
    """Three requests that come and go in slots of one engine, against naive_next for each token."""
    import torch
    args.model, args.chunk = "tiny", 7
    args.cpu = args.cpu or not torch.cuda.is_available()
    wrong = 0
    with torch.inference_mode():
        engine = Engine(args, 4, 64, [24], dtype=torch.float32)
        model, answers = engine.model, {}

        def fill(slot, n):
            for first in range(0, n, engine.chunk):
                step = min(engine.chunk, n - first)
                engine.prefill(slot, first, step, first + step == n)
            engine.wait()
            answers[slot] = engine.prompt[:n].tolist() + [int(engine.host[slot])]

        def decode(slots):
            engine.decode(slots, max(len(answers[s]) for s in slots))
            engine.wait()
            for s in slots:
                answers[s].append(int(engine.host[s]))

        fill(0, 19)
        fill(2, 5)
        for _ in range(4):
            decode([0, 2])
        engine.leave(2)
        fill(1, 30)  # while slot 0 goes on afterwards, in a longer part of the cache
        for _ in range(6):
            decode([0, 1])
        lengths = {0: 19, 1: 30, 2: 5}
        for slot, n in lengths.items():
            for i in range(n, len(answers[slot])):
                wrong += naive_next(model, answers[slot][:i]) != answers[slot][i]
        total = sum(len(answers[s]) - n for s, n in lengths.items())
    records = Records("selftest")
    records.put(engine.device, "failed" if wrong else "fact", value=f"{engine.note}",
                note=f"{wrong} of {total} tokens differ from a naive forward pass; {engine.note}")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=MODES, default="native")
    parser.add_argument("--model", choices=MODELS, default="8b")
    parser.add_argument("--levels", default="1,2,4,8,16,32", help="requests resident")
    parser.add_argument("--seconds", type=float, default=6, help="measured at each level")
    parser.add_argument("--isl", type=int, default=2048, help="tokens of a prompt")
    parser.add_argument("--osl", type=int, default=256, help="tokens of an answer")
    parser.add_argument("--chunk", type=int, default=1024, help="tokens of a prefill step")
    parser.add_argument("--aliquot", help="the aliquot command, for guarded modes")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="tiny model and short prompts")
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--pace", type=float, default=0.05, help="of --fake: 1 is as it might be")
    parser.add_argument("--selftest", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--slots", type=int, default=32, help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=float, default=0.97, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tiny:
        args.model, args.isl, args.osl, args.chunk = "tiny", 96, 24, 32
    # One thread of the library's own is enough beside a GPU, and processes share the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "4")
    if args.selftest:
        return selftest(args)
    return worker(args) if args.worker else orchestrate(args)


if __name__ == "__main__":
    sys.exit(main())
