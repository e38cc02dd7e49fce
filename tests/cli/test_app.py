"""The command app: a page until Ctrl-C, and what is wrong said early."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from cli_helpers import refused


def test_it_shows_a_page_until_ctrl_c(run):
    command = [sys.executable, "-m", "kmedclf", "app", run[0], "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "200"},
    ) as process:  # fmt: skip
        line = process.stdout.readline()
        address = re.fullmatch(
            r"Open (http://127\.0\.0\.1:\d+) in a browser\. Ctrl-C ends it\. Nothing here is a "
            r"medical device\.\n",
            line,
        )[1]
        with urllib.request.urlopen(address) as answer:
            assert "MLPClassifier" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        output, problems = process.communicate(timeout=60)
    assert process.returncode == 0, problems
    assert output.startswith("\nNext:\n  kmedclf predict ")
    assert not problems


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
    from cli_helpers import invoke

    assert invoke("app", run[0], *wrong).exit_code == 2
