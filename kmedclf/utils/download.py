"""Downloads: checked, whole, and told how to do it by hand."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RETRIES = 2


def download(address: str, target: Path, md5: str | None) -> None:
    """Download a file beside its place, check it, and move it there; nothing is left of a failure.

    Parameters
    ----------
    address : str
        Where from.
    target : Path
        Where to; its folder is made once there is a good file to put into it.
    md5 : str or None
        What it must be; None checks nothing.

    Raises
    ------
    OSError
        If it cannot be had.
    ValueError
        If it has another md5.
    """
    import pooch  # here, so that only a download needs it

    # A scratch folder on the same disk: the checked file is moved by a rename, which is all or
    # nothing, and a failure leaves neither half a file nor an empty cache folder.
    anchor = target.parent
    while not anchor.exists():
        anchor = anchor.parent
    with tempfile.TemporaryDirectory(dir=anchor, prefix=".download-") as scratch:
        fetcher = pooch.create(
            path=scratch,
            base_url="",
            registry={target.name: md5 and f"md5:{md5}"},
            urls={target.name: address},
            retry_if_failed=RETRIES,
        )
        got = fetcher.fetch(target.name, downloader=_stream)
        # pooch leaves a file that only its owner can read, yet caches are shared.
        usual = Path(scratch, "usual")
        usual.touch()
        os.chmod(got, usual.stat().st_mode)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(got, target)


def _stream(url: str, output_file: str, pooch: Any) -> None:
    """Download as pooch's own downloader does, but close the connection, whatever happens."""
    import requests

    with requests.get(url, stream=True, timeout=30) as response:
        response.raise_for_status()
        with open(output_file, "wb") as file:
            for chunk in response.iter_content(1 << 20):
                file.write(chunk)


def reason_of(error: Exception, address: str) -> str:
    """Shorten the chains of reprs in the errors of requests to what a reader can act on."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"{address} answered {response.status_code} {response.reason}"
    if isinstance(error, OSError):
        if error.filename is not None:
            return str(error)
        return f"{type(error).__name__} from {urlsplit(address).netloc or address}"
    if "hash" in str(error):
        return f"what {address} sent has another md5"
    return str(error)


def md5_of(path: Path) -> str:
    """Compute a file's md5.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
