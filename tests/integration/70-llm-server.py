#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The serving engine in a fraction of a simulated GPU, as a client of OpenAI's API sees it."""
import concurrent.futures
import contextlib
import http.client
import json
import math
import pathlib
import signal
import socket
import time

import aqtest
from aqtest import GIB, between, check, equal, eventually

SERVER = aqtest.BUILD / "bench/llm/aliquot-llm-server"
NAMES = """num_requests_running num_requests_waiting kv_cache_usage_perc num_preemptions_total
prompt_tokens_total generation_tokens_total request_success_total request_prompt_tokens_count
request_generation_tokens_count iteration_tokens_total_count time_to_first_token_seconds_bucket
inter_token_latency_seconds_bucket time_per_output_token_seconds_bucket
e2e_request_latency_seconds_bucket request_queue_time_seconds_bucket
request_inference_time_seconds_bucket request_prefill_time_seconds_bucket
request_decode_time_seconds_bucket cache_config_info""".split()


class Server:
    """aliquot-llm-server under `aliquot run`, ready."""

    def __init__(self, machine, model, *options, gpu=0.5, **run):
        self.child = machine.run(SERVER, "--model", model, "--port", "0", *options, gpu=gpu, **run)
        line = self.child.line(60)
        check(line, "no line of JSON:", self.child.stderr()[-1000:])
        self.facts = json.loads(line)
        equal(self.facts["ready"], True, "ready")
        self.port = self.facts["port"]

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=aqtest.PATIENCE)

    def ask(self, method, path, body=None):
        """(status, answer): decoded when it is JSON."""
        with contextlib.closing(self.connect()) as link:
            link.request(method, path, body if isinstance(body, (bytes, type(None)))
                         else json.dumps(body))
            reply = link.getresponse()
            data = reply.read()
            if reply.headers.get_content_type() == "application/json":
                return reply.status, json.loads(data)
            return reply.status, data.decode()

    def post(self, path, **body):
        status, answer = self.ask("POST", path, body)
        equal(status, 200, f"status of {path} ({answer})")
        return answer

    def stream(self, path="/v1/completions", **body):
        """The events of a whole stream, which has to be complete."""
        with contextlib.closing(self.connect()) as link:
            link.request("POST", path, json.dumps({"stream": True, **body}))
            reply = link.getresponse()
            equal(reply.status, 200, "status of a stream")
            equal(reply.headers.get_content_type(), "text/event-stream", "type of a stream")
            text = reply.read().decode()
        events = [e for e in text.split("\n\n") if e]
        check(all(e.startswith("data: ") for e in events), "events:", text[:300])
        equal(events[-1], "data: [DONE]", "the last event")
        return [json.loads(e[6:]) for e in events[:-1]]

    def metrics(self):
        """Samples of /metrics without their labels, those of the same name added up."""
        status, text = self.ask("GET", "/metrics")
        equal(status, 200, "status of /metrics")
        found = {}
        for line in text.splitlines():
            if line and line[0] != "#":
                name = line.split("{")[0]
                found[name] = found.get(name, 0) + float(line.rsplit(" ", 1)[1])
        return found

    def metric(self, name):
        return self.metrics()["vllm:" + name]

    def end(self, code=0):
        self.child.kill(signal.SIGTERM)
        equal(self.child.wait(), code, "exit code")


def ids(n):
    return list(range(n))


def a_stream_has_what_was_asked_for(machine):
    server = Server(machine, "llama-3.1-8b")
    usage = {"stream_options": {"include_usage": True}}
    events = server.stream(prompt="how many words are these", max_tokens=20, **usage)
    equal(len(events), 21, "events of 20 tokens and one of usage")
    equal(events[-1]["usage"],
          {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}, "usage")
    equal(events[-1]["choices"], [], "choices beside usage")
    choices = [e["choices"][0] for e in events[:-1]]
    equal([c["finish_reason"] for c in choices], [None] * 19 + ["length"], "finish reasons")
    equal(len("".join(c["text"] for c in choices).split()), 20, "words")
    equal({(e["id"], e["object"], e["model"]) for e in events},
          {(events[0]["id"], "text_completion", "llama-3.1-8b")}, "heads of events")
    events = server.stream("/v1/chat/completions", max_tokens=7,
                           messages=[{"role": "user", "content": "hello there"}])
    deltas = [e["choices"][0]["delta"] for e in events]
    equal(deltas[0], {"role": "assistant", "content": ""}, "the first delta")
    equal(len(deltas), 8, "deltas of 7 tokens")
    equal(len("".join(d["content"] for d in deltas).split()), 7, "words of a chat")
    equal(events[-1]["choices"][0]["finish_reason"], "length", "finish reason of a chat")
    check("usage" not in events[-1], "usage that nobody wanted:", events[-1])
    answer = server.post("/v1/completions", prompt=ids(1000), max_tokens=3)
    equal(answer["usage"]["prompt_tokens"], 1000, "a prompt of numbers")
    equal(len(answer["choices"][0]["text"].split()), 3, "words of a whole answer")
    answer = server.post("/v1/chat/completions", max_completion_tokens=4, model="llama-3.1-8b",
                         messages=[{"role": "user", "content": "hello"}])
    equal(len(answer["choices"][0]["message"]["content"].split()), 4, "words of a whole chat")
    # A connection is kept for the next request, after a stream as well.
    with contextlib.closing(server.connect()) as link:
        for wanted in (2, 3):
            link.request("POST", "/v1/completions",
                         json.dumps({"prompt": "a", "stream": True, "max_tokens": wanted}))
            equal(link.getresponse().read().count(b"data: "), wanted + 1, "events, kept alive")
    server.end()


def many_at_once_share_steps(machine):
    server = Server(machine, "llama-3.1-8b", "--host-costs", "none")
    wants = [(10 + 37 * i % 900, 8 + 13 * i % 60) for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        runs = [pool.submit(server.stream, prompt=ids(p), max_tokens=n, ignore_eos=True)
                for p, n in wants]
        for run, (p, n) in zip(runs, wants):
            equal(len(run.result()), n, f"tokens after a prompt of {p}")
    found = server.metrics()
    tokens = sum(n for _, n in wants)
    equal(found["vllm:generation_tokens_total"], tokens, "generation_tokens_total")
    equal(found["vllm:prompt_tokens_total"], sum(p for p, _ in wants), "prompt_tokens_total")
    equal(found["vllm:request_success_total"], 40, "request_success_total")
    equal(found["vllm:time_to_first_token_seconds_count"], 40, "first tokens")
    equal(found["vllm:inter_token_latency_seconds_count"], tokens - 40, "other tokens")
    check(found["vllm:iteration_tokens_total_count"] < tokens / 3,
          "steps for", tokens, "tokens:", found["vllm:iteration_tokens_total_count"])
    equal(found["vllm:kv_cache_usage_perc"], 0, "cache that is left taken")
    server.end()


def tokens_take_their_time(machine):
    """What the device's clock says of one step, no served token comes faster than."""
    lines = machine.output(SERVER, "--model", "llama-3.1-8b", "--measure",
                           "decode:1:1024,decode:8:1024,prefill:2048", gpu=0.5, timeout=60)
    one, eight, prefill = json.loads("\n".join(lines))
    # 15.0 GB of weights at 3.35 TB/s; 2,048 times 15 GFLOP and attention at 989 TFLOP/s
    between(one["median_ms"], 4.48, 9, "a decoding step")
    between(eight["median_ms"] - one["median_ms"], 0.28, 0.6, "seven more sequences' cache")
    between(prefill["median_ms"], 30, 60, "a prompt of 2,048")
    server = Server(machine, "llama-3.1-8b")
    server.post("/v1/completions", prompt=ids(1024), max_tokens=50)
    found = server.metrics()
    itl = found["vllm:inter_token_latency_seconds_sum"] / 49 * 1000
    check(itl >= one["min_ms"] + 0.5, f"{itl} ms between tokens: less than a step and the host's time")
    ttft = found["vllm:time_to_first_token_seconds_sum"] * 1000
    check(ttft >= 8 + 14.6, f"{ttft} ms to the first token: less than the prompt's operations")
    server.end()


def a_client_that_leaves_frees_its_place(machine):
    server = Server(machine, "llama-3.1-8b", "--max-num-seqs", "1")
    body = json.dumps({"prompt": ids(4000), "max_tokens": 50000, "stream": True})
    streams = []
    for _ in range(3):  # one runs, two wait
        link = server.connect()
        link.request("POST", "/v1/completions", body)
        streams.append(link)
    reply = streams[0].getresponse()
    check(reply.readline().startswith(b"data: "), "a first token")
    eventually(lambda: server.metric("num_requests_waiting") == 2, "two wait")
    equal(server.metric("num_requests_running"), 1, "running")
    check(server.metric("kv_cache_usage_perc") > 0.02, "cache in use")
    streams[1].sock.close()  # waiting
    eventually(lambda: server.metric("num_requests_waiting") == 1, "one left the queue")
    # With a reset instead of an end, in the middle of its stream.
    streams[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reply.close()
    streams[0].close()
    check(streams[2].getresponse().readline().startswith(b"data: "), "the next one's first token")
    streams[2].close()
    eventually(lambda: server.metric("num_requests_running") == 0, "nothing runs")
    found = server.metrics()
    equal(found["vllm:num_requests_waiting"], 0, "waiting")
    equal(found["vllm:kv_cache_usage_perc"], 0, "cache in use")
    equal(found["vllm:request_success_total"], 3, "requests that ended, all of them aborted")
    with_whole_answer = server.connect()
    with_whole_answer.request("POST", "/v1/completions",
                              json.dumps({"prompt": "a", "max_tokens": 50000}))
    eventually(lambda: server.metric("num_requests_running") == 1, "it runs")
    with_whole_answer.close()
    eventually(lambda: server.metric("num_requests_running") == 0, "nobody waits for it any more")
    equal(len(server.stream(prompt="still there", max_tokens=3)), 3, "events afterwards")
    server.end()


def a_full_cache_queues_and_recovers(machine):
    server = Server(machine, "phi-4-mini", "--host-costs", "none", "--max-num-seqs", "16",
                    "--max-num-batched-tokens", "8192", gpu=0.125)
    capacity = server.facts["kv_tokens"]
    between(capacity, 1000, 40000, "tokens in the cache of an eighth")
    # Eight fit when they begin, and not when they have grown; four more cannot even begin.
    prompt = capacity // 8 - 40
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        runs = [pool.submit(server.stream, prompt=ids(prompt), max_tokens=120) for _ in range(12)]
        for run in runs:
            equal(len(run.result()), 120, "tokens")
    found = server.metrics()
    check(found["vllm:num_preemptions_total"] > 0, "nothing was preempted")
    equal(found["vllm:generation_tokens_total"], 12 * 120, "tokens, each given once")
    equal(found["vllm:kv_cache_usage_perc"], 0, "cache in use")
    equal(found["vllm:num_requests_waiting"], 0, "waiting")
    server.end()


def what_is_wrong_is_said(machine):
    server = Server(machine, "qwen3-4b", "--served-model-name", "my/model", "--max-model-len",
                    "4096", "--max-requests", "2")
    status, answer = server.ask("GET", "/v1/models")
    equal(status, 200, "status of /v1/models")
    equal([m["id"] for m in answer["data"]], ["my/model"], "models")
    equal(answer["data"][0]["max_model_len"], 4096, "max_model_len")
    equal(server.ask("GET", "/health"), (200, ""), "/health")
    for method, path, body, want in [
            ("GET", "/", None, 404), ("GET", "/v1/completions", None, 405),
            ("POST", "/v1/completions", b"{", 400), ("POST", "/v1/completions", {}, 400),
            ("POST", "/v1/completions", {"prompt": "a", "model": "other"}, 404),
            ("POST", "/v1/completions", {"prompt": ids(4000), "max_tokens": 97}, 400),
            ("POST", "/v1/completions", {"prompt": ids(4096)}, 400),
            ("POST", "/v1/embeddings", {"input": "a"}, 400),
            ("POST", "/v1/chat/completions", {"messages": "a"}, 400)]:
        status, answer = server.ask(method, path, body)
        equal(status, want, f"status of {method} {path} {str(body)[:60]} ({answer})")
        equal(answer["error"]["code"], want, "code in the error")
        check(answer["error"]["message"], "a message")
    with contextlib.suppress(OSError):  # it may close before all was sent
        equal(server.ask("POST", "/v1/completions", b"x" * (9 << 20))[0], 413, "a body of 9 MiB")
    equal(server.post("/v1/completions", prompt=ids(4000), max_tokens=96)["usage"]["total_tokens"],
          4096, "tokens at the limit")
    # Two are being answered; the third is told so at once.
    links = [server.connect() for _ in range(2)]
    for link in links:
        link.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 4000}))
    eventually(lambda: server.metric("num_requests_running") == 2, "both run")
    equal(server.ask("POST", "/v1/completions", {"prompt": "a"})[0], 503, "status of the third")
    for link in links:
        link.close()
    found = server.metrics()
    missing = [n for n in NAMES if "vllm:" + n not in found]
    equal(missing, [], "metrics that vLLM has")
    server.end()


def embeddings_are_vectors(machine):
    server = Server(machine, "qwen3-embedding-0.6b", gpu=0.1)
    texts = ["one", "two words", "and three words"]
    answer = server.post("/v1/embeddings", input=texts, model="Qwen/Qwen3-Embedding-0.6B")
    equal([d["index"] for d in answer["data"]], [0, 1, 2], "indices")
    equal(answer["usage"]["prompt_tokens"], 6, "prompt_tokens")
    for item in answer["data"]:
        equal(len(item["embedding"]), 1024, "dimensions")
        length = math.sqrt(sum(x * x for x in item["embedding"]))
        between(length, 0.9, 1.1, "length of a vector")
    equal(server.post("/v1/embeddings", input="one")["data"][0]["embedding"],
          answer["data"][0]["embedding"], "the same text's vector")
    status, _ = server.ask("POST", "/v1/chat/completions",
                           {"messages": [{"role": "user", "content": "a"}]})
    equal(status, 400, "a chat with a model for embeddings")
    equal(server.metric("kv_cache_usage_perc"), 0, "cache in use")
    equal(server.metric("generation_tokens_total"), 0, "generation_tokens_total")
    server.end()


def memory_is_what_was_measured_as_free(machine):
    server = Server(machine, "llama-3.1-8b", "--gpu-memory-utilization", "0.8", name="served")
    f = server.facts
    limit = machine.fraction("served")["memory_limit_bytes"]
    equal(f["memory_total_bytes"], limit, "what the engine takes for the whole device")
    used = machine.used("served")
    # The context is not of the engine's making, and takes some hundred MiB beside its share.
    between(used, limit * 0.78, limit * 0.8 + GIB, "memory in use at a utilisation of 0.8")
    check(f["weight_bytes"] + f["kv_cache_bytes"] <= used, "weights and cache:", f)
    check(f["kv_cache_bytes"] > 10 * GIB, "a cache that fills what is left:", f)
    # An engine goes by the memory of the device that it sees: 79 GiB have larger defaults.
    equal((f["max_num_seqs"], f["max_num_batched_tokens"]), (256, 2048), "defaults of a half")
    backing = sum(p.stat().st_blocks * 512 for d in machine.shm_files()
                  for p in pathlib.Path(d).rglob("*") if p.is_file())
    check(backing < GIB, "the host keeps", backing, "bytes for weights that nobody reads")
    server.end()


def two_share_a_card_without_a_guard(machine):
    """Each takes its share of the whole card, whatever the other holds: plain time slicing."""
    started = []
    for _ in range(2):
        child = machine.bare(SERVER, "--model", "qwen3-4b", "--port", "0",
                             "--gpu-memory-utilization", "0.45")
        started.append((child, json.loads(child.line(60))))
    first, second = (facts for _, facts in started)
    equal(second["memory_total_bytes"], first["memory_total_bytes"], "total of the card")
    between(second["kv_tokens"] / first["kv_tokens"], 0.99, 1.01, "cache of the second")
    child = machine.bare(SERVER, "--model", "qwen3-4b", "--gpu-memory-utilization", "0.45")
    equal(child.wait(), 1, "exit code of a third")
    check("less than" in child.stderr(), child.stderr())
    for child, _ in started:
        child.kill(signal.SIGTERM)
        equal(child.wait(), 0, "exit code")


def idle_means_idle(machine):
    server = Server(machine, "qwen3-4b", name="idle")
    server.post("/v1/completions", prompt="a", max_tokens=5)
    before, steps = ticks(server.facts["pid"]), server.metric("iteration_tokens_total_count")
    time.sleep(2)
    between(ticks(server.facts["pid"]) - before, 0, 3, "hundredths of a second of CPU in two seconds")
    equal(server.metric("iteration_tokens_total_count"), steps, "steps")
    # The daemon accounts late; a prompt and five tokens take about 25 ms.
    between(machine.fraction("idle")["gpu_time_ns"], 0, 100_000_000, "GPU time of all its life")
    server.end()


def ticks(pid):
    """Hundredths of a second of CPU that a process has had."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return sum(int(x) for x in stat.rpartition(")")[2].split()[11:13])


def too_many_connections_wait(machine):
    """Without descriptors left it neither spins nor ends, and goes on when some are free again."""
    child = machine.bare("prlimit", "--nofile=64:64", SERVER, "--model", "qwen3-4b", "--port", "0")
    facts = json.loads(child.line(60))
    links = [socket.create_connection(("127.0.0.1", facts["port"])) for _ in range(100)]
    time.sleep(0.5)
    before = ticks(facts["pid"])
    time.sleep(1)
    between(ticks(facts["pid"]) - before, 0, 20, "hundredths of a second of CPU in one second")
    for link in links:
        link.close()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", facts["port"],
                                                       timeout=aqtest.PATIENCE)) as link:
        link.request("GET", "/health")
        equal(link.getresponse().status, 200, "status of /health afterwards")
    child.kill(signal.SIGTERM)
    equal(child.wait(), 0, "exit code")


def sigterm_lets_what_runs_end(machine):
    server = Server(machine, "llama-3.1-8b")
    link = server.connect()
    link.request("POST", "/v1/completions",
                 json.dumps({"prompt": "a", "max_tokens": 300, "stream": True}))
    reply = link.getresponse()
    first = reply.readline()
    server.child.kill(signal.SIGTERM)

    def refused():
        with contextlib.suppress(ConnectionRefusedError):
            server.connect().connect()
            return False
        return True

    eventually(refused, "nobody else is let in")
    check(server.child.process.poll() is None, "it ended before its answers did")
    rest = reply.read()
    equal((first + rest).count(b"data: "), 301, "events of a stream across SIGTERM")
    equal(server.child.wait(), 0, "exit code")
    link.close()


def sigterm_waits_no_longer_than_told(machine):
    server = Server(machine, "llama-3.1-8b", "--drain", "1")
    link = server.connect()
    link.request("POST", "/v1/completions",
                 json.dumps({"prompt": "a", "max_tokens": 100000, "stream": True}))
    reply = link.getresponse()
    check(reply.readline().startswith(b"data: "), "a first token")
    server.child.kill(signal.SIGTERM)
    text = b""
    with contextlib.suppress(http.client.IncompleteRead, OSError):
        while chunk := reply.readline():
            text += chunk
    check(b"[DONE]" not in text, "a stream that was cut must not look complete")
    equal(server.child.wait(20), 0, "exit code")


def too_small_a_fraction_is_said(machine):
    for options, says in (({"gpu": 0.1}, "the weights of llama-3.1-8b take 14.9 GiB"),
                          ({"gpu": 0.2}, "no room for the KV cache"),
                          ({"gpu": 0.25, "memory": "1G"}, "less than")):
        child = machine.run(SERVER, "--model", "llama-3.1-8b", "--port", "0", **options)
        equal(child.lines(60), [], f"output with {options}")
        equal(child.wait(), 1, "exit code")
        check(says in child.stderr(), "it does not say", says, ":", child.stderr())
        check("out of memory" in child.stderr(), child.stderr())


def a_lost_device_ends_it(machine):
    """Whoever waits is told, and the program ends: what started it can start it again."""
    child = machine.bare(SERVER, "--model", "qwen3-4b", "--port", "0",
                         env={"ALIQUOT_SIM_FAULT": "cuGraphLaunch:5=719"})
    port = json.loads(child.line(60))["port"]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as link:
        link.request("POST", "/v1/completions", json.dumps({"prompt": "a", "max_tokens": 100}))
        reply = link.getresponse()
        equal(reply.status, 500, "status of a request that cannot be answered any more")
        check("engine" in json.loads(reply.read())["error"]["message"], "a message")
    equal(child.wait(), 1, "exit code")
    check("CUDA_ERROR_LAUNCH_FAILED" in child.stderr(), child.stderr())


def options_have_limits(machine):
    for options in (["--model", "gpt-2"], [], ["--model", "qwen3-4b", "--port", "65536"],
                    ["--model", "qwen3-4b", "--max-num-seqs", "0"],
                    ["--model", "qwen3-4b", "--gpu-memory-utilization", "1.1"],
                    ["--model", "qwen3-4b", "--gpu-memory-utilization", "nan"],
                    ["--model", "qwen3-4b", "--max-model-len", "-5"],
                    ["--model", "qwen3-4b", "--served-model-name", "a\"b"],
                    ["--model", "qwen3-4b", "--host-costs", "some"],
                    ["--model", "qwen3-4b", "more"]):
        child = machine.bare(SERVER, *options)
        equal(child.lines(), [], f"output of {options}")
        equal(child.wait(), 2, f"exit code of {options}")
    child = machine.bare(SERVER, "--list")
    equal(len(child.lines()), 7, "lines of --list")


aqtest.run(a_stream_has_what_was_asked_for, many_at_once_share_steps, tokens_take_their_time,
           a_client_that_leaves_frees_its_place, a_full_cache_queues_and_recovers,
           what_is_wrong_is_said, embeddings_are_vectors, memory_is_what_was_measured_as_free,
           two_share_a_card_without_a_guard, idle_means_idle, too_many_connections_wait,
           sigterm_lets_what_runs_end, sigterm_waits_no_longer_than_told,
           too_small_a_fraction_is_said, a_lost_device_ends_it, options_have_limits)
