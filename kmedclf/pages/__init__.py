"""Pages: self-contained HTML files, which need no network."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kmedclf.evaluation.plots.style import quiet_about_glyphs, styled
from kmedclf.evaluation.scores import Estimate
from kmedclf.evaluation.wording import brackets, count
from kmedclf.utils.files import write_text

_PART = r"[^\s\\/\"'<>|,;:()]"
_QUOTED = re.compile(r"""(["'])((?:file://)?(?:~|/|[A-Za-z]:[\\/]|\\\\)[^"'\n]*)\1""")
_BARE = re.compile(
    rf"(?<![\w.\-/\\~])(?:file://)?(?:~{_PART}*|[A-Za-z]:|\\)?[\\/]{_PART}+(?:[\\/]{_PART}*)+"
)


def without_folders(value: Any) -> str:
    """Convert a value to text, with absolute paths reduced to names of files."""
    text = str(value)
    if _is_absolute(text):
        return _name(text)
    text = text.replace(f"{Path.home()}{os.sep}", "~/") if len(str(Path.home())) > 1 else text
    text = _QUOTED.sub(lambda found: f"{found[1]}{_name(found[2])}{found[1]}", text)
    return _BARE.sub(lambda found: _name(found[0]), text)


def _is_absolute(text: str) -> bool:
    if "\n" in text:
        return False
    beginning = text.startswith(("~", "file://", "\\\\"))
    # A single part, such as "/" or "/data", reveals nothing, unless it is the home folder
    nested = len(re.split(r"[\\/]", text.strip("\\/"))) > 1
    absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return beginning or (absolute and (nested or text.rstrip("/\\") == str(Path.home())))


def _name(path: str) -> str:
    """Return the last part of a path; "~" for the home folder, whose name is the user's."""
    if path.rstrip("/\\") in (str(Path.home()), "~"):
        return "~"
    parts = [part for part in re.split(r"[\\/]", path) if part not in ("", "~")]
    return parts[-1] if parts else path


def file_names(X: Any) -> list[str] | None:
    """Return the paths in X relative to their common folder; None if X holds arrays."""
    n = len(X)
    if not n or not all(isinstance(X[i], str | os.PathLike) for i in range(n)):
        return None
    paths = [os.path.abspath(os.fspath(X[i])) for i in range(n)]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # on Windows, paths on different drives
        return [os.path.basename(path) for path in paths]
    return [PurePath(os.path.relpath(path, root)).as_posix() for path in paths]


SIDE = 64
"""Maximum height and width of the images in a page, in pixels."""
SHADES = 50
"""Number of shades in the confusion matrix."""


def render(path: str | os.PathLike[str], template: str, **values: Any) -> None:
    """Fill a template and write it to a file, atomically."""
    # Names of classes and files come from the data: everything is escaped
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["estimate"] = _split
    environment.globals.update(brackets=brackets, count=count, without_folders=without_folders)
    parts = {
        "style": _asset("page.css") + _shades(),
        "script": _asset("page.js"),
    }
    policy = _policy(**parts)
    safe = {name: Markup(text) for name, text in parts.items()}
    text = environment.get_template(template).render(
        page=template.removesuffix(".html"), policy=policy, **safe, **values
    )
    write_text(path, text)


def _asset(name: str) -> str:
    """Read a style sheet or script that is part of every page."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _shades() -> str:
    """Return the style rules of the cells of the confusion matrix."""
    # Rules, since the content security policy forbids style attributes
    alphas = [0.06 + 0.69 * i / SHADES for i in range(SHADES + 1)]
    rules = [
        f".matrix .shade{i} {{ background: rgba(0,114,178,{a:.3f}); }}"
        for i, a in enumerate(alphas)
    ]
    return "\n".join(rules)


def _policy(style: str, script: str) -> Markup:
    """Return a content security policy that allows our style and script only, by hash.

    Names of files and classes could smuggle in elements or attributes, but not with these hashes.
    """
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(one.encode()).digest()).decode("ascii")
        for one in (style, script)
    )
    return Markup(
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )


def _split(one: Estimate) -> tuple[str, str]:
    """Split an estimate into its number and its interval, which may be ""."""
    number, _, interval = str(one).partition(" ")
    return number, interval


def flat(
    values: Mapping[str, Any] | None, prefix: str = "", text: Callable[[Any], str] = str
) -> list[tuple[str, str]]:
    """Flatten nested values to pairs of a dotted name and a text."""
    pairs: list[tuple[str, str]] = []
    for name, value in (values or {}).items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{name}.", text)
        elif isinstance(value, list | tuple):
            pairs.append((f"{prefix}{name}", ", ".join(map(text, value))))
        else:
            pairs.append((f"{prefix}{name}", text(value)))
    return pairs


def alone(draw: Callable[..., Axes], report: Any, fig: Figure) -> None:
    """Draw a chart that fills a figure."""
    draw(report, ax=fig.add_subplot())


@styled
def png(draw: Callable[[Figure], Any], size: tuple[float, float]) -> str:
    """Draw a figure of ``size`` inches, and return its PNG as base64."""
    fig = Figure(figsize=size, layout="constrained")
    draw(fig)
    # Without the version of matplotlib, equal figures are equal bytes
    buffer = io.BytesIO()
    with quiet_about_glyphs():
        fig.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")
