"""Requests a second of the service: PNG files of 28 pixels, 8 clients at a time, on one machine.

    python -m benchmarks.serve [--requests 10000] [--clients 8] [--out serve.json]

The service has a process of its own, the clients are threads of this one: both share the machine,
and the clients take a part of it. Every client keeps its connection, and compares every answer with
``predict_proba`` of the image alone, bit for bit. Memory and CPU are those of the service. "Network
alone" is ``predict_proba`` of an array without any service, of one image and of eight at once: what
putting requests into one batch could save.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import statistics
import sys
import threading
import time
from typing import Any

import numpy as np

from benchmarks._common import (
    CLASSES,
    Answers,
    Contestant,
    arguments,
    headline,
    machine,
    noise,
    peak_rss_mb,
    rss_mb,
    say,
    spread,
    write,
)

BOUNDARY = "kmedclf-benchmark"
KIND = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
WARM = 100
"""Requests before memory and time are taken."""


def serve() -> None:
    """Serve a network; the other end of `Contestant`."""
    answers = Answers()
    import uvicorn

    import kmedclf.serve

    X, y = noise(32 * CLASSES)
    cnn = kmedclf.CNNClassifier(
        filters=32, epochs=1, early_stopping=False, random_state=0, verbose=0
    )
    cnn.fit(X, y)
    alone = {n: [_milliseconds(cnn, X[:n]) for _ in range(50)] for n in (1, 8)}
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(kmedclf.serve.app(cnn), log_level="error"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    expected = [cnn.predict_proba(one[None])[0].tolist() for one in X[:16]]
    port = listener.getsockname()[1]
    answers.give(port=port, expected=expected, alone=alone)
    while answers.request() is not None:
        answers.give(rss_mb=rss_mb(), peak_mb=peak_rss_mb(), cpu_s=time.process_time())


def _milliseconds(cnn: Any, X: np.ndarray) -> float:
    began = time.perf_counter()
    cnn.predict_proba(X)
    return 1000 * (time.perf_counter() - began)


def form(image: np.ndarray) -> bytes:
    """Write an image as a form with one PNG file."""
    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(image).save(made, "PNG")
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return head.encode() + made.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()


class Clients:
    """Threads that ask at the same time, each over a connection of its own."""

    def __init__(self, port: int, expected: list[list[float]]) -> None:
        self._port, self._expected = port, expected
        self._bodies = [form(one) for one in noise(len(expected))[0]]
        self.failures: list[str] = []

    def ask(self, requests: int, clients: int) -> tuple[list[float], float]:
        """Send requests; return the milliseconds of each, and the seconds of all."""
        shares = [requests // clients + (i < requests % clients) for i in range(clients)]
        taken: list[list[float]] = [[] for _ in shares]
        threads = [
            threading.Thread(target=self._client, args=(i, n, taken[i]))
            for i, n in enumerate(shares)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [one for part in taken for one in part], time.perf_counter() - began

    def _client(self, first: int, n: int, taken: list[float]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        for i in range(first, first + n):
            which = i % len(self._bodies)
            began = time.perf_counter()
            try:
                connection.request("POST", "/predict", self._bodies[which], KIND)
                answer = connection.getresponse()
                content = json.loads(answer.read())
                (found,) = content["predictions"]
                if list(found["probabilities"].values()) != self._expected[which]:
                    self.failures.append(f"another answer for image {which}")
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            taken.append(1000 * (time.perf_counter() - began))
        connection.close()


def measure(args: Any) -> dict[str, Any]:
    """Ask the service round after round."""
    server = Contestant("service", [sys.executable, "-m", "benchmarks.serve", "--serve"])
    try:
        started = server.ask()
        clients = Clients(started["port"], started["expected"])
        clients.ask(WARM, args.clients)
        before = server.ask({"do": "memory"})
        rounds = []
        for number in range(args.repeats):
            taken, seconds = clients.ask(args.requests, args.clients)
            rounds.append(
                {
                    "per_second": len(taken) / seconds,
                    "p50_ms": float(np.percentile(taken, 50)),
                    "p99_ms": float(np.percentile(taken, 99)),
                }
            )
            say(f"round {number + 1}: {rounds[-1]['per_second']:.0f} requests a second")
        after = server.ask({"do": "memory"})
    finally:
        server.close()
    return {
        "rounds": rounds,
        "failures": clients.failures,
        "before": before,
        "after": after,
        "alone_ms": started["alone"],
    }


def table(found: dict[str, Any], args: Any) -> str:
    """Write the results as Markdown."""
    rounds = found["rounds"]
    columns = {name: [one[name] for one in rounds] for name in rounds[0]}
    alone = {n: statistics.median(ms) for n, ms in found["alone_ms"].items()}
    cpu = found["after"]["cpu_s"] - found["before"]["cpu_s"]
    memory = [f"{found[when][what]:,.0f}" for when in ("before", "after")
              for what in ("rss_mb", "peak_mb")]  # fmt: skip
    lines = [
        "| requests | errors | requests a second | p50, ms | p99, ms | CPU ms a request "
        "| MB before (peak) | MB after (peak) |",
        "|---|---|---|---|---|---|---|---|",
        f"| {args.repeats * args.requests:,} | {len(found['failures'])} "
        f"| {spread(columns['per_second'])} | {spread(columns['p50_ms'], 1)} "
        f"| {spread(columns['p99_ms'], 1)} "
        f"| {1000 * cpu / (args.repeats * args.requests):.1f} | {memory[0]} ({memory[1]}) "
        f"| {memory[2]} ({memory[3]}) |",
        "",
        f"Network alone: {alone['1']:.1f} ms for one image, {alone['8']:.1f} ms for eight at once "
        "(medians of 50).",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="in a round")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--serve", action="store_true", help="be the service, for this script")
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    if args.quick:
        args.requests, args.repeats = 200, 1
    facts = machine()
    found = measure(args)
    write(args.out, {"machine": facts, "requests": args.requests, **found})
    print(f"{args.clients} clients, a CNN of 32 kernels, n = {args.repeats} rounds of "
          f"{args.requests:,} requests; {headline(facts)}\n")  # fmt: skip
    print(table(found, args))
    for one in found["failures"][:5]:
        print(one)


if __name__ == "__main__":
    main()
