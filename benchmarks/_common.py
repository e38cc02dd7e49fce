"""What the benchmarks share: processes that are measured in turn, memory, medians, the machine.

Needs nothing but NumPy, so that other frameworks can be measured in environments of their own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CLASSES = 8
ROOT = Path(__file__).resolve().parents[1]


def noise(n: int, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Draw synthetic images, uint8 (n, side, side, 3), and labels (n,): speed depends on neither.

    There are as many classes as the first eight images have labels.
    """
    images = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    return images, np.arange(n) % CLASSES


def rss_mb() -> float:
    """Return the resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_rss_mb() -> float:
    """Return the largest resident memory this process has had, in MB.

    From /proc, not from getrusage, which counts the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def cpu_seconds() -> float:
    """Return the CPU seconds of this process so far, and of its processes that are still there."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


class Clock:
    """Measures what a contestant answers: seconds, and those of the CPU."""

    def __init__(self) -> None:
        self.began, self.cpu = time.perf_counter(), cpu_seconds()

    def passed(self) -> dict[str, float]:
        """Return the seconds since the start."""
        seconds = time.perf_counter() - self.began
        return {"seconds": seconds, "cpu_seconds": cpu_seconds() - self.cpu}


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Write the median, and the least and the largest value, for a table."""
    shown = (f"{one:,.{digits}f}" for one in (statistics.median(values), min(values), max(values)))
    return "{} ({}–{})".format(*shown)


def ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the quotients of measurements taken in the same round."""
    return statistics.median(one / other for one, other in zip(ours, others, strict=True))


def machine() -> dict[str, Any]:
    """Describe what figures depend on: processor, cores, load before the run, versions."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
    versions = {"python": platform.python_version()}
    for name in ("tensorflow", "keras", "scikeras", "kmedclf"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions,
    }


def headline(facts: dict[str, Any]) -> str:
    """Write `machine` as a line below a table's title."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    cores = f"{facts['cores']} × {facts['processor']}, load before the run {facts['load']}"
    return f"{cores}; {versions}."


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options that all scripts have."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measurements of everything")
    parser.add_argument("--quick", action="store_true", help="a small part, in seconds")
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    return parser


def write(out: Path | None, figures: dict[str, Any]) -> None:
    """Write figures as JSON, if a file was asked for."""
    if out:
        beside = out.with_name(out.name + ".part")
        beside.write_text(json.dumps(figures, indent=1))
        beside.replace(out)


def say(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


class Contestant:
    """A process that is kept alive and answers one request at a time, in JSON by lines.

    Parameters
    ----------
    name : str
        For messages.
    command : sequence of str
        What to start; it answers by `Answers`.
    environment : dict of str to str, optional
        Variables besides those of this process.
    limit : float, default=900
        Seconds after which a request has failed, and the process is ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: dict[str, str] | None = None,
        limit: float = 900,
    ) -> None:
        self.name, self.limit = name, limit
        self.failure: str | None = None
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and wait for the answer; without one, wait for the first.

        Returns
        -------
        dict
            The answer; empty if the process has failed, now or before, which `failure` explains.
        """
        if self.failure:
            return {}
        assert self._process.stdin
        assert self._process.stdout
        timer = threading.Timer(self.limit, self._process.kill)
        timer.start()
        try:
            if request is not None:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._log.seek(0)
        self.failure = self._log.read()[-1500:] or f"no answer in {self.limit:.0f} s"
        say(f"{self.name} failed: {self.failure}")
        return {}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()


class Answers:
    """The other end of a `Contestant`, in the process that it started."""

    def __init__(self) -> None:
        # What libraries print must not get between the answers.
        self._channel = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def give(self, **answer: Any) -> None:
        """Answer."""
        print(json.dumps(answer), file=self._channel, flush=True)

    def request(self) -> dict[str, Any] | None:
        """Wait for the next request; None when there will be none."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None


class Turns:
    """Epochs of one training, timed a turn at a time, that waits between turns.

    Every turn begins with an epoch that is not timed, so that the timed ones find as much input
    prepared as they leave. With the seconds of a turn come those of the CPU.

    Parameters
    ----------
    answers : Answers
        Where to answer, with the seconds of each turn.
    epochs : int
        Timed epochs in a turn.
    """

    def __init__(self, answers: Answers, epochs: int) -> None:
        self._answers, self._epochs = answers, epochs

    def begin(self, **answer: Any) -> bool:
        """Answer that all is ready, and wait; returns whether to train an epoch."""
        self._answers.give(**answer)
        return self._wait()

    def ended(self) -> bool:
        """Note the end of an epoch; returns whether to train another."""
        now, cpu = time.perf_counter(), time.process_time()
        self._left -= 1
        if self._left == self._epochs:
            self._began, self._cpu = now, cpu
        if self._left:
            return True
        self._answers.give(seconds=now - self._began, cpu_seconds=cpu - self._cpu)
        return self._wait()

    def _wait(self) -> bool:
        self._left = self._epochs + 1
        request = self._answers.request()
        return request is not None and request["do"] == "turn"


def measured(module: str, *arguments: Any) -> dict[str, Any]:
    """Call ``module.measure(*arguments)`` in a fresh process; what it returns."""
    call = f"import json; from {module} import measure; print(json.dumps(measure{arguments!r}))"
    done = subprocess.run(
        [sys.executable, "-c", call], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
