"""The commands scheduler and worker, by which several machines share a search."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from kmedclf.cli.console import say_next
from kmedclf.utils.arithmetic import usable_cores

LOOPBACK = "127.0.0.1"
DASK_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that passes on what it does not know itself."""


def scheduler(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default only this machine can reach it.")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8786,
) -> None:
    """Hand out the fits of searches to workers, until Ctrl-C. Needs Dask.

    Other options are those of 'dask scheduler', such as --tls-ca-file. Anyone who can connect can
    run code on this machine: use an address of a private network, or TLS.
    """
    from kmedclf.search.cluster import find_dask

    find_dask()
    from distributed.cli import dask_scheduler

    scheme = "tls" if any(one.startswith("--tls") for one in ctx.args) else "tcp"
    say_next("scheduler", address=f"{scheme}://{host}:{port}")
    _run(
        dask_scheduler.main,
        ["--host", host, "--port", str(port), "--no-dashboard", *_http(host), *ctx.args],
    )


def worker(
    ctx: typer.Context,
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", help="Address of the scheduler, such as tcp://127.0.0.1:8786."
        ),
    ],
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes; each trains one fit at a time.")
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of TensorFlow in each process (default: its share of the cores)."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on (default: the one from which it reaches the scheduler)."
        ),
    ] = None,
) -> None:
    """Train the fits of searches that a scheduler hands out, until Ctrl-C. Needs Dask.

    A process that dies is replaced, and its fit is repeated. Other options are those of 'dask
    worker', such as --tls-ca-file.
    """
    from kmedclf.search.cluster import find_dask

    find_dask()
    from distributed.cli import dask_worker
    from distributed.comm import get_address_host_port
    from distributed.utils import get_ip

    if host is None:
        host = get_ip(*get_address_host_port(address))
    share = threads or max(1, usable_cores() // workers)
    # TensorFlow reads these when it is first used, in the processes that Dask starts. One more, so
    # that reading the next batch overlaps with training on this one.
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(share)
    os.environ["TF_NUM_INTEROP_THREADS"] = str(share + 1)
    # No limit of memory: Dask counts the pages of memory maps, which the system takes back itself.
    options = ["--nthreads", "1", "--nworkers", str(workers), "--memory-limit", "0"]
    options += ["--host", host, "--no-dashboard", *_http(host)]
    _run(dask_worker.main, [address, *options, *ctx.args])


def _http(host: str) -> list[str]:
    """Let Dask's page of metrics listen on one address, as it does on all otherwise."""
    return ["--dashboard-address", f"{host}:0"]


def _run(command: Any, options: list[str]) -> None:
    command.main(options, standalone_mode=False)
