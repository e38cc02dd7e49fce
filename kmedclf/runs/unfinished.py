"""An unfinished training on disk, beside the run that it will be.

The folder RUN.checkpoint holds training.json, the options of the command, and fit.checkpoint, the
last epoch that is kept. It disappears when the run is there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmedclf.utils import files
from kmedclf.utils.archives import read_json

SETTINGS, FIT, SUFFIX = "training.json", "fit.checkpoint", ".checkpoint"

_TRAINING: dict[str, tuple[type, ...]] = {
    "calibrate": (bool,),
    "data": (str,),
    "epochs": (int, type(None)),
    "force": (bool,),
    "groups": (str, type(None)),
    "learning_rate": (float, int, type(None)),
    "network": (str,),
    "param": (list, type(None)),
    "recipe": (str, type(None)),
    "seed": (int, type(None)),
    "size": (int, type(None)),
    "weights": (str, type(None)),
}
"""Settings of a training, all required: the options of the command, as they were given."""


@dataclass(frozen=True)
class Unfinished:
    """A training that can go on: the file of its last epoch, and its seconds up to there."""

    fit: Path
    seconds: float = 0.0


def folder_of(out: Path) -> Path:
    """Return the folder of an unfinished training, beside the run."""
    place = out if out.name else Path(os.path.realpath(out))
    return place.with_name(f"{place.name}{SUFFIX}")


def check_none(out: Path, force: bool) -> None:
    """Refuse to begin a training where another one waits to go on, unless ``force`` gives it up."""
    folder = folder_of(out)
    if not os.path.lexists(folder):
        return
    files.check_folder(folder)
    files.sweep(folder)
    if (folder / SETTINGS).is_file():
        if not force:
            raise FileExistsError(
                f"{folder} holds an unfinished training: 'kmedclf train --resume {out}' goes on "
                "with it, and --force begins anew."
            )
    elif any(folder.iterdir()):
        raise FileExistsError(
            f"{folder} is there, where the training is to be kept until it is finished, and holds "
            "something else; choose another --out."
        )


def read(given: Path) -> tuple[Path, dict[str, Any]]:
    """Find the folder of a run to be and its settings; ``given`` may also be the one beside."""
    beside = given.name.endswith(SUFFIX) and (given / SETTINGS).is_file()
    out = given.with_name(given.name.removesuffix(SUFFIX)) if beside else given
    path = folder_of(out) / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no unfinished training of {out} to resume: no {path.parent}, which "
            "'kmedclf train' keeps until a run is finished."
        )
    return out, _checked(path, read_json(path))


def _checked(path: Path, content: Any) -> dict[str, Any]:
    """Refuse settings of a training with missing entries or wrong types."""
    check_types(path, content, _TRAINING, {}, "training")
    if not all(isinstance(one, str) for one in content["param"] or ()):
        raise ValueError(f"The 'param' in {path} must be a list of text. Got something else.")
    return content


def check_types(
    path: Path,
    content: Any,
    required: dict[str, tuple[type, ...]],
    more: dict[str, tuple[type, ...]],
    what: str,
) -> None:
    """Refuse the settings of a ``what`` with missing entries or wrong types."""
    if not isinstance(content, dict) or not set(required) <= set(content):
        raise ValueError(f"{path} must hold the settings of a {what}. Got something else.")
    for name, types in {**required, **more}.items():
        # bool is a subclass of int.
        if name in content and (
            not isinstance(content[name], types)
            or (isinstance(content[name], bool) and bool not in types)
        ):
            raise ValueError(
                f"The {name!r} in {path} must be that of a {what}. Got {content[name]!r:.60} "
                "instead."
            )


@contextmanager
def kept(out: Path, settings: Mapping[str, Any] | None) -> Iterator[Unfinished]:
    """Keep a training in its folder until the run is there; None resumes one.

    An error gets a note how to go on. Without a finished epoch nothing stays.
    """
    folder = folder_of(out)
    fit = folder / FIT
    if settings is None:
        from kmedclf.persistence import checkpoint

        known = checkpoint.read(fit).seconds if fit.exists() else 0.0
    else:
        _remove(folder)  # of a training that is given up
        folder.mkdir(exist_ok=True)
        files.write_json(folder / SETTINGS, settings)
        known = 0.0
    try:
        yield Unfinished(fit, known)
    except BaseException as error:
        # Without a note the fit was refused, and would be again.
        if fit.exists() and getattr(error, "__notes__", None):
            error.add_note(f"To go on: kmedclf train --resume {shlex.quote(str(out))}")
        elif not fit.exists():
            _remove(folder)
        raise
    _remove(folder)


def _remove(folder: Path) -> None:
    """Remove our files, and the folder if nothing else is in it."""
    files.sweep(folder)
    with suppress(OSError):
        (folder / FIT).unlink(missing_ok=True)
        (folder / SETTINGS).unlink(missing_ok=True)
        folder.rmdir()
