"""The command app: a page until Ctrl-C, and what is wrong said early."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from cli_helpers import invoke, read, refused
from file_samples import pillow
from serving import Client

WATCH = """
import atexit, json, os, sys, time
events = []
def watch(name, arguments):
    flags = arguments[2] if name == "open" else None
    written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    sends = name.startswith("socket.") and name not in ("socket.__new__", "socket.bind")
    starts = name in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.system")
    if written or sends or starts:
        events.append([time.monotonic(), name, str(arguments)])
sys.addaudithook(watch)
atexit.register(lambda: open(os.environ["EVENTS"], "w").write(json.dumps(events)))
"""


def test_it_shows_a_page_until_ctrl_c_sends_nothing_and_writes_nothing(run, tmp_path):
    """Also where FastAPI is told by the environment to export telemetry."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    big = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    command = [sys.executable, "-m", "kmedclf", "app", run[0], "--port", "0"]
    told = {
        "COLUMNS": "200",
        "EVENTS": str(tmp_path / "events.json"),
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]),
    }
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **told},
    ) as process:  # fmt: skip
        line = process.stdout.readline()
        port = re.fullmatch(
            r"Open http://127\.0\.0\.1:(\d+) in a browser\. Ctrl-C ends it\. Nothing here is a "
            r"medical device\.\n",
            line,
        )[1]
        client = Client(int(port))
        assert "MLPClassifier on tiny cells" in client.get("/")[1]
        began = time.monotonic()
        for name, format in (("big.tif", "TIFF"), ("big.png", "PNG")):
            file = name, pillow(format, big)
            assert client.files(file)[0] == client.files(file, path="/explain")[0] == 200
        ended = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, problems = process.communicate(timeout=60)
    assert process.returncode == 0, problems
    assert output.startswith("\nNext:\n  kmedclf predict ")
    assert problems in ("", "Stopping ...\n")  # said on a slow machine
    events = read(tmp_path / "events.json")
    assert events  # TensorFlow writes while it starts
    assert [one for one in events if began < one[0] < ended] == []
    assert not [one for one in events if one[1] == "socket.connect"]


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_whoever_opens_it_to_the_network_is_warned(host, shown, monkeypatch, capsys):
    uvicorn = pytest.importorskip("uvicorn")
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    from kmedclf.cli.serve import _bound, _serve

    with _bound(host, 0) as listener:
        _serve(None, listener, host)
        port = listener.getsockname()[1]
    output, problems = capsys.readouterr()
    assert f"http://{host}:{port}" in output
    warning = f"Whoever reaches {host}:{port} over the network can use this model: there is no "
    assert problems.startswith(warning) == shown, problems


def test_what_is_wrong_is_said_before_tensorflow_starts(run, tmp_path, monkeypatch):
    monkeypatch.setattr("kmedclf.cli.serve.start_tensorflow", None)  # would fail as a fault of ours
    assert "There is no model.kmedclf in it." in refused("app", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused("app", run[0], "--port", port)
    assert sentence.startswith(f"--port must be free on --host, and 127.0.0.1:{port} is not")
    assert refused("app", run[0], "--host", "no.such.host.invalid").startswith("--host must be")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert refused("app", run[0]) == (
        "kmedclf app needs uvicorn, which the extra 'serve' brings: pip install 'kmedclf[serve]'."
    )


@pytest.mark.parametrize("wrong", [("--port", "70000"), ("--threshold", "2")])
def test_numbers_out_of_range_are_refused(run, wrong):
    assert invoke("app", run[0], *wrong).exit_code == 2
