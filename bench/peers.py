"""llama.cpp under the same loads: its server with one LoRA per client, and its two bench tools.

Owns the peer's command lines and request bodies. A peer is given by the path of its program and is optional: without
one, a figure says that it was not run. A server lives on the loopback interface, at a port of its own, no longer than
its `with` block.
"""

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import httpx

from bench.workload import Case, Job, Trace, closed_loop

START_LIMIT_S = 180
ANSWER_LIMIT_S = 900
TOOL_LIMIT_S = 900


@dataclass(frozen=True, slots=True)
class ServerSpec:
    program: Path
    """llama-server."""
    model: Path
    threads: int
    context: int = 512
    """Tokens of one request, prompt and answer."""
    parallel: int = 10
    loras: tuple[Path, ...] = ()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    return found


def server_command(spec: ServerSpec, port: int) -> list[str]:
    """One slot per client, all cores, nothing answered from an earlier prompt, no adapter unless a request asks."""
    command = [str(spec.program), "--model", str(spec.model), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--threads", str(spec.threads), "--threads-batch", str(spec.threads)]
    command += ["--parallel", str(spec.parallel), "--ctx-size", str(spec.parallel * spec.context)]
    command += ["--n-gpu-layers", "0", "--cache-ram", "0", "--no-cache-prompt"]
    if spec.loras:
        command += ["--lora", ",".join(map(str, spec.loras)), "--lora-init-without-apply"]
    return command


def completion_body(job: Job, lora_ids: Mapping[str, int]) -> dict[str, Any]:
    """Greedy, to the full length. The expert is named in every request: without the field its scale would be 1."""
    body: dict[str, Any] = {
        "prompt": list(job.prompt_ids),
        "n_predict": job.max_tokens,
        "ignore_eos": True,
        "cache_prompt": False,
        "temperature": 0.0,
    }
    if lora_ids:
        body["lora"] = [{"id": number, "scale": float(name == job.expert)} for name, number in lora_ids.items()]
    return body


async def complete(client: httpx.AsyncClient, lora_ids: Mapping[str, int], job: Job) -> Trace:
    """Not streamed: no event per token costs the peer anything. Raises RuntimeError for an answer cut short."""
    submitted = time.perf_counter()
    response = await client.post("/completion", json=completion_body(job, lora_ids))
    response.raise_for_status()
    ended = time.perf_counter()
    found = response.json()["tokens_predicted"]
    if found != job.max_tokens:
        raise RuntimeError(f"llama-server generated {found} tokens, {job.max_tokens} were asked for")
    return Trace(submitted, (ended,) * found)


@contextmanager
def running_server(spec: ServerSpec) -> Iterator[str]:
    """Its URL, once it is ready. Raises RuntimeError when it ends early, TimeoutError when it takes too long."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with TemporaryFile() as log:
        process = subprocess.Popen(server_command(spec, port), stdout=log, stderr=log)
        try:
            _wait_until_ready(process, url, log)
            yield url
        finally:
            _end(process)


def run_server(spec: ServerSpec, cases: Sequence[Case]) -> dict[str, list[list[Trace]]]:
    """Traces by case and run, after a warm-up each; experts are `SET/NAME`, the end of their LoRA's path."""
    lora_ids = {f"{path.parent.name}/{path.stem}": number for number, path in enumerate(spec.loras)}
    with running_server(spec) as url:
        return asyncio.run(_run_all(url, cases, lora_ids))


async def _run_all(url: str, cases: Sequence[Case], lora_ids: Mapping[str, int]) -> dict[str, list[list[Trace]]]:
    found: dict[str, list[list[Trace]]] = {}
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_LIMIT_S) as client:
        ask = partial(complete, client, lora_ids)
        for case in cases:
            await closed_loop(ask, case.warm_up)
            found[case.name] = [await closed_loop(ask, clients) for clients in case.runs]
    return found


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"llama-server ended with {process.returncode}: {_last_words(log)}")
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK:
                return
        time.sleep(0.2)
    raise TimeoutError(f"llama-server was not ready after {START_LIMIT_S} s: {_last_words(log)}")


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")[-400:]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def bench_samples(program: Path, model: Path, threads: int, runs: int, load: tuple[int, int, int]) -> tuple[float, ...]:
    """Tokens per second of llama-bench, which warms up by itself; `load` is (prompt, output, depth), one of the first
    two being 0.
    """
    prompt, output, depth = load
    command = [str(program), "--model", str(model), "--threads", str(threads), "--repetitions", str(runs)]
    command += ["--n-prompt", str(prompt), "--n-gen", str(output), "--n-depth", str(depth)]
    command += ["--n-gpu-layers", "0", "--output", "json"]
    return tuple(json.loads(program_output(command))[0]["samples_ts"])


def batched_samples(
    program: Path, model: Path, threads: int, runs: int, load: tuple[int, int, int]
) -> tuple[float, ...]:
    """Decoded tokens per second of llama-batched-bench over all rows; `load` is (prompt, output, rows)."""
    prompt, output, rows = load
    command = [str(program), "--model", str(model), "--threads", str(threads), "--threads-batch", str(threads)]
    command += [
        "-npp",
        str(prompt),
        "-ntg",
        str(output),
        "-npl",
        str(rows),
        "--ctx-size",
        str(rows * (prompt + output)),
    ]
    command += ["--n-gpu-layers", "0", "--output-format", "jsonl"]
    return tuple(_decode_speed(program_output(command)) for _ in range(runs))


def _decode_speed(output: str) -> float:
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    found: float = lines[-1]["speed_tg"]
    return found


def program_output(command: list[str]) -> str:
    """What it prints. Raises RuntimeError with its last words when it fails, TimeoutExpired after TOOL_LIMIT_S."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_LIMIT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr[-400:]}")
    return done.stdout
