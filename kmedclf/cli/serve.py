"""The command app."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Annotated

import typer

from kmedclf.cli.console import Stopped, console, errors, say_next, start_tensorflow
from kmedclf.cli.options import RunFolder

LOOPBACK = "127.0.0.1"
PORT = 8642

HostOption = Annotated[
    str,
    typer.Option(
        "--host",
        help="Address to listen on; with any but 127.0.0.1, the whole network can use the page.",
    ),
]


def app(
    ctx: typer.Context,
    folder: RunFolder,
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = PORT,
    host: HostOption = LOOPBACK,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Least probability of an answer; below it, the page says that it is unsure "
            "(default: chosen on validation images).",
            min=0,
            max=1,
        ),
    ] = None,
) -> None:
    """Serve a page to drop images on, for this computer alone.

    It shows probabilities, a heat map and similar training images. Other programs can ask as
    well: POST /predict, GET /model. Ctrl-C ends it.
    """
    from kmedclf import runs, serve

    # Fail before TensorFlow is imported.
    serve.check_extra("kmedclf app")
    runs.check_run(folder)
    with _bound(host, port) as listener:
        start_tensorflow(ctx)
        hosts = [*serve.LOCAL, host]
        application = serve.app(folder, threshold=threshold, hosts=hosts, page=True)
        _serve(application, listener, host)
    say_next("app", folder=folder)


def _bound(host: str, port: int) -> socket.socket:
    """Take the port, so that nobody else gets it while TensorFlow starts."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise ValueError(
            f"--host must be an address or a name of this computer. Got {host!r} instead."
        ) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # else a port that was just left is taken for a while
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # two may bind, but not listen
    except OSError as error:
        listener.close()
        raise ValueError(
            f"--port must be free on --host, and {host}:{port} is not ({error.strerror}); another, "
            "as in --port 8643, or 0 for any, may be."
        ) from None
    return listener


def _serve(application: object, listener: socket.socket, host: str) -> None:
    """Serve until Ctrl-C, which is the way to end it."""
    import uvicorn

    place = listener.getsockname()
    if not ipaddress.ip_address(place[0].partition("%")[0]).is_loopback:
        errors.print(
            f"Whoever reaches {host}:{place[1]} over the network can use this model: there is no "
            "password and no encryption.",
            style="yellow",
            soft_wrap=True,
            markup=False,
        )
    shown = f"[{host}]" if ":" in host else host
    console.print(
        f"Open http://{shown}:{place[1]} in a browser. Ctrl-C ends it. Nothing here is a medical "
        "device.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    config = uvicorn.Config(
        application,  # type: ignore[arg-type]
        log_level="error",
        log_config=None,  # its own would close the handlers that others have
        access_log=False,  # names of files may be those of patients
        proxy_headers=False,
        server_header=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=3,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except Stopped:
        raise
    except KeyboardInterrupt:
        pass
