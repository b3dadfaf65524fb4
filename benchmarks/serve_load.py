"""Send many requests to `anatograph serve`, bad uploads among them, and check how each ends.

python benchmarks/serve_load.py                                   # the model that ships, a small phantom
python benchmarks/serve_load.py --model run/model --scan scan.nii.gz --requests 100 --clients 4

Prints the requests by kind and outcome, latencies, memory of the server's processes, and the number of uploads left on
disk; the exit status is 1 if an outcome is not the expected one or an upload is left.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

NO_ANSWER = "no answer"
EXPECTED = {
    "scan": {"200"},
    "garbage": {"422"},
    "cut": {"422"},
    "noise": {"422", "200 reject"},  # voxels drawn at random: not mapped, or mapped at level reject
    "zip": {"422"},
    "empty": {"400"},
    "large": {"413", NO_ANSWER},  # the server may close before all is sent
    "page": {"403"},
    "hang up": {NO_ANSWER},
}
"""Outcomes of each kind of request: the status, and the level where it is reject."""
MEGABYTES = 20


def small_phantom(folder: Path) -> Path:
    """A scan of a synthetic subject with voxels of 4 mm."""
    import anatograph
    from anatograph.study.cohort import read_cohort

    return read_cohort(anatograph.phantom(folder, subjects=1, seed=0, spacing=4.0)).rows[0].image


def bodies(scan: Path) -> dict[str, bytes]:
    """The body of each kind of request."""
    whole = scan.read_bytes()
    noise = bytearray(gzip.decompress(whole) if whole[:2] == b"\x1f\x8b" else whole)
    noise[352:] = np.random.default_rng(0).integers(0, 256, len(noise) - 352, dtype=np.uint8).tobytes()
    return {
        "scan": whole,
        "garbage": b"not a scan" * 1000,
        "cut": whole[: len(whole) // 2],
        "noise": gzip.compress(bytes(noise), 1),
        "zip": b"PK\x03\x04" + whole[:5000],
        "empty": b"",
        "large": b"\0" * (MEGABYTES * 1_000_000 + 1),
        "page": whole,
        "hang up": whole,
    }


def send(port: int, kind: str, body: bytes) -> tuple[str, str, float]:
    """Kind, outcome and seconds of one request; waits and tries again while the service is busy."""
    begin = time.perf_counter()
    while True:
        if kind == "hang up":
            with socket.create_connection(("127.0.0.1", port)) as client:
                head = f"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body[: len(body) // 2])
            return kind, NO_ANSWER, time.perf_counter() - begin
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
            connection.request("POST", "/embed", body, {"Origin": "https://example.org"} if kind == "page" else {})
        try:
            response = connection.getresponse()
            outcome, answer = str(response.status), response.read()
            if outcome == "200" and json.loads(answer)["level"] == "reject":
                outcome += " reject"
        except (ConnectionResetError, BrokenPipeError):
            outcome = NO_ANSWER
        connection.close()
        if outcome != "503":
            return kind, outcome, time.perf_counter() - begin
        time.sleep(0.5)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model")
    options.add_argument("--scan", type=Path)
    options.add_argument("--requests", type=int, default=100)
    options.add_argument("--clients", type=int, default=4)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scan = args.scan or small_phantom(folder / "phantom")
        (folder / "uploads").mkdir()
        model = [] if args.model is None else ["--model", args.model]
        server = subprocess.Popen(
            [sys.executable, "-m", "anatograph", "serve", *model, "--port", "0",
             "--workers", str(args.workers), "--max-megabytes", str(MEGABYTES)],
            stderr=subprocess.PIPE, encoding="utf-8", env={**os.environ, "TMPDIR": str(folder / "uploads")},
        )  # fmt: skip
        try:
            return measure(server, folder, scan, args)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def measure(server: subprocess.Popen[str], folder: Path, scan: Path, args: argparse.Namespace) -> int:
    assert server.stderr is not None
    line = server.stderr.readline()
    found = re.search(r":(\d+)/embed", line)
    if found is None:
        print(line + server.stderr.read(), file=sys.stderr)
        return 1
    port, sent = int(found[1]), bodies(scan)
    random = np.random.default_rng(args.seed)
    good = args.requests // 2
    order = ["scan"] * good + [str(kind) for kind in random.choice(list(EXPECTED)[1:], args.requests - good)]
    random.shuffle(order)
    send(port, "scan", sent["scan"])  # loads the worker's libraries
    before = memory_mb(server.pid)
    begin = time.perf_counter()
    with ThreadPoolExecutor(args.clients) as clients:
        answers = list(clients.map(lambda kind: send(port, kind, sent[kind]), order))
    seconds = time.perf_counter() - begin
    time.sleep(1)
    wrong = [answer for answer in answers if answer[1] not in EXPECTED[answer[0]]]
    for (kind, outcome), count in sorted(Counter(answer[:2] for answer in answers).items()):
        times = np.array([answer[2] for answer in answers if answer[:2] == (kind, outcome)])
        print(f"{kind:8} {outcome:10}: {count:3d}, median {np.median(times):.2f} s, longest {times.max():.2f} s")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/health")
    health = json.loads(connection.getresponse().read())
    left = [path for path in (folder / "uploads").rglob("*") if path.is_file()]
    print(f"{len(order)} requests by {args.clients} clients in {seconds:.1f} s; unexpected outcomes: {len(wrong)}")
    print(f"health afterwards: {health['status']}, {health['requests']} requests in progress, {health['answered']}")
    print(f"memory: {before:.0f} MB before, {memory_mb(server.pid):.0f} MB after; uploads left on disk: {len(left)}")
    return int(bool(wrong or left or health["requests"]))


def memory_mb(pid: int) -> float:
    """Resident memory of the server and its workers."""
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
