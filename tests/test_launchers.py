"""The launchers in examples/ are valid, run commands that exist, and go on when they run again."""

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import typer
import yaml
from cli_helpers import write_npz
from helpers import ROOT

from kmedclf.cli import app

FOLDER = ROOT / "examples" / "launchers"
SLURM = FOLDER / "slurm_array.sh"
BIN = os.path.dirname(sys.executable)
COMMANDS = typer.main.get_command(app).commands


def tool(name, *given):
    """Run a linter of the environment."""
    found = shutil.which(name, path=BIN) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}")
    done = subprocess.run([found, *map(str, given)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def read(name):
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def test_shell_scripts_are_sound():
    tool("shellcheck", SLURM)
    assert os.access(SLURM, os.X_OK)


def test_the_image_is_sound():
    tool("hadolint", FOLDER / "Dockerfile")


def test_the_composition_follows_its_schema():
    file = FOLDER / "docker-compose.yaml"
    tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    services = read("docker-compose.yaml")["services"]
    assert set(services) == {"scheduler", "worker", "search"}
    assert not any("ports" in one for one in services.values())  # nobody outside can connect


def test_the_job_is_what_kubernetes_requires():
    job = read("kubernetes_job.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]["template"]["spec"]
    assert spec["restartPolicy"] == "Never"  # as podFailurePolicy requires
    volumes = {one["name"] for one in spec["volumes"]}
    (container,) = spec["containers"]
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["containerName"] == container["name"]
    if importlib.util.find_spec("kubernetes_validate"):
        import kubernetes_validate

        kubernetes_validate.validate(job, "1.37", strict=True)


def lines():
    """All commands that the launchers run."""
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        yield from re.findall(r"(?:exec|srun|--rm .*) kmedclf (.*)", text)
    if "scheduler" in COMMANDS:
        for service in read("docker-compose.yaml")["services"].values():
            yield re.sub(r"\$\{SEARCH:-(.*)\}", r"\1", service["command"])


def test_commands_exist_and_have_these_options():
    found = list(lines())
    assert len(found) >= 4
    for line in found:
        command = COMMANDS[line.split()[0]]
        known = {option for one in command.params for option in one.opts + one.secondary_opts}
        assert set(re.findall(r"(?<= )--[a-z][\w-]*", line)) <= known, line


def stand_ins(folder, code=0):
    """Programs of these names that say how they were called; kmedclf ends with ``code``."""
    folder.mkdir()
    for name, end in (("kmedclf", f"exit {code}"), ("scontrol", ""), ("srun", 'exec "$@"')):
        say = "" if name == "srun" else f'echo "{name}" "$@"\n'
        (folder / name).write_text(f"#!/bin/sh\n{say}{end}\n")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def called(command, path, **env):
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PATH": path, **env}
    )
    return done.returncode, done.stdout.splitlines()


TASK = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "77"}


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_slurm_task_trains_its_seed_goes_on_and_queues_again(tmp_path):
    env = {**TASK, "OUT": str(tmp_path), "DATA": "my images"}
    path, out = stand_ins(tmp_path / "bin"), tmp_path / "cnn-3"
    new = f"kmedclf train cnn --data my images --seed 3 --out {out} --quiet"
    assert called([SLURM], path, **env) == (0, [new])
    (tmp_path / "cnn-3.checkpoint").mkdir()
    (tmp_path / "cnn-3.checkpoint" / "training.json").touch()
    ended = stand_ins(tmp_path / "ended", 143)
    again = f"kmedclf train --resume {out} --quiet"
    assert called([SLURM], ended, **env) == (143, [again, "scontrol requeue 77_3"])
    failed = stand_ins(tmp_path / "failed", 2)
    assert called([SLURM], failed, **env) == (2, [again])
    out.mkdir()
    (out / "model.kmedclf").touch()
    assert called([SLURM], ended, **env) == (0, [f"{out} is finished."])


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_pod_trains_its_seed_and_goes_on(tmp_path):
    (container,) = read("kubernetes_job.yaml")["spec"]["template"]["spec"]["containers"]
    script = container["args"][0].replace("/runs", shlex.quote(str(tmp_path)))
    command = [*container["command"], script]
    path, out = stand_ins(tmp_path / "bin"), tmp_path / "cnn-2"
    env = {"JOB_COMPLETION_INDEX": "2"}
    new = f"kmedclf train cnn --data /data --seed 2 --out {out} --quiet"
    assert called(command, path, **env) == (0, [new])
    (tmp_path / "cnn-2.checkpoint").mkdir()
    (tmp_path / "cnn-2.checkpoint" / "training.json").touch()
    assert called(command, path, **env) == (0, [f"kmedclf train --resume {out} --quiet"])
    out.mkdir()
    (out / "model.kmedclf").touch()
    assert called(command, path, **env) == (0, [])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGTERM")
def test_a_slurm_task_that_is_ended_goes_on_when_it_runs_again(tmp_path):
    path = stand_ins(tmp_path / "bin")
    (tmp_path / "bin" / "kmedclf").unlink()
    # An MLP may be trained before the signal comes.
    npz, out = write_npz(tmp_path), tmp_path / "resnet-3"
    env = {**os.environ, **TASK, "PATH": f"{tmp_path / 'bin'}:{BIN}:{path}", "NETWORK": "resnet",
           "DATA": str(npz), "OUT": str(tmp_path)}  # fmt: skip
    for number in range(2):
        task = subprocess.Popen([SLURM], env=env, stdout=subprocess.PIPE, start_new_session=True)
        kept, deadline = tmp_path / "resnet-3.checkpoint" / "fit.checkpoint", time.monotonic() + 300
        while not number and not kept.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not number:  # as Slurm does, to the step and not to the script
            children = f"/proc/{task.pid}/task/{task.pid}/children"
            with open(children) as file:
                os.kill(int(file.read().split()[0]), signal.SIGTERM)
        said = task.communicate(timeout=300)[0].decode()
        assert task.returncode == (0 if number else 143), said
        assert ("scontrol requeue 77_3" in said) == (not number)
    assert (out / "model.kmedclf").exists()
    assert not kept.parent.exists()
