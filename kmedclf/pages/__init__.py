"""Pages: self-contained HTML files, which need no network."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import jinja2
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kmedclf import __version__
from kmedclf.evaluation.plots.style import quiet_about_glyphs, styled
from kmedclf.evaluation.scores import Estimate
from kmedclf.evaluation.wording import brackets, count
from kmedclf.utils.files import write_text
from kmedclf.utils.text import write_csv

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


WIDTH = 4.9
"""Width of every chart in a page, in inches: letters of all have one size."""
SHADES = 50
"""Number of shades in the confusion matrix."""


def render(path: str | os.PathLike[str], template: str, **values: Any) -> None:
    """Fill a template and write it to a file, atomically."""
    write_text(path, filled(template, "page.js", **values)[0])


def filled(template: str, script: str, policy: str = "", **values: Any) -> tuple[str, str]:
    """Fill a template; return the page and its content security policy, to which one may add."""
    # Names of classes and files come from the data: everything is escaped
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(estimate=_split, spaced=spaced)
    environment.globals.update(
        brackets=brackets, count=count, without_folders=without_folders, contents=_contents,
        terms=_terms, version=__version__,
    )  # fmt: skip
    parts = {
        "style": _asset("page.css") + _shades(),
        "script": _asset("elements.js") + _asset(script),
    }
    policy = _policy(**parts, more=policy)
    safe = {name: Markup(text) for name, text in parts.items()}
    text = environment.get_template(template).render(
        page=template.removesuffix(".html"), policy=policy, **safe, **values
    )
    return text, policy


def spaced(name: Any) -> str:
    """Write a name of code or of a folder in words: "meningioma_tumor" has a space."""
    return re.sub(r"(?<=[^\W_])_(?=[^\W_])", " ", str(name))


def _contents(body: str) -> list[tuple[str, Markup]]:
    """List the identifiers and the titles of a page's sections."""
    # Headings are ours: in names of classes and files, every "<" is escaped
    found = re.findall(r'<h2 id="([\w-]+)"[^>]*>(.*?)</h2>', body, re.S)
    return [(name, Markup(title)) for name, title in found]


def _terms(body: str) -> list[tuple[str, str]]:
    """Explain the terms of the glossary that a page uses."""
    text = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", body, flags=re.S)
    pairs = (line.split(": ", 1) for line in _asset("glossary.txt").splitlines())
    return [
        (term, meaning)
        for term, meaning in pairs
        if re.search(rf"(?<!\w){re.escape(term.split(',')[0])}(?!\w)", text, re.I)
    ]


def csv_link(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as the address of a link: a data URI of CSV, which needs no other file."""
    buffer = io.StringIO()
    write_csv(buffer, [head, *rows], lineterminator="\n")
    text = buffer.getvalue().encode("utf-8", "backslashreplace")
    return "data:text/csv;charset=utf-8," + quote(text, safe=",.;:/-_()=+!*@$")


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


def _policy(style: str, script: str, more: str = "") -> Markup:
    """Return a content security policy that allows our style and script only, by hash.

    Names of files and classes could smuggle in elements or attributes, but not with these hashes.
    """
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(one.encode()).digest()).decode("ascii")
        for one in (style, script)
    )
    return Markup(
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'{more}"
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


def webp(shown: Image.Image, quality: int = 80) -> str:
    """Write a picture as base64 of WebP."""
    buffer = io.BytesIO()
    shown.save(buffer, "WEBP", quality=quality, method=2)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


@styled
def chart(draw: Callable[..., Axes], high: float, words: str, wide: float = WIDTH) -> Markup:
    """Draw a chart ``high`` inches high, and return it as an SVG element with ``words``."""
    fig = Figure(figsize=(wide, high), layout="constrained")
    draw(ax=fig.add_subplot())
    return svg(fig, words)


def svg(fig: Any, words: str) -> Markup:
    """Return a figure as an SVG element, whose text stays text; page.css has its dark colours."""
    buffer = io.StringIO()
    unchanging = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with quiet_about_glyphs(), rc_context({"svg.fonttype": "none", "svg.hashsalt": "kmedclf"}):
        fig.savefig(buffer, format="svg", metadata=unchanging)
    source = buffer.getvalue()
    root = ElementTree.fromstring(source)
    prefix = f"f{hashlib.sha256(source.encode()).hexdigest()[:6]}"
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', source))
    names = {name: f"{prefix}-{number}" for number, name in enumerate(sorted(used))}
    width, height = (round(float(side) * 4 / 3) for side in root.attrib["viewBox"].split()[2:])
    inside = "".join(_element(one, names) for one in root)
    return Markup(
        f'<svg class="chart" role="img" aria-label="{escape(words)}" width="{width}" '
        f'height="{height}" viewBox="{root.attrib["viewBox"]}" stroke-linejoin="round">'
        f"{inside}</svg>"
    )


# What matplotlib's SVG may contain in a page; everything else is left out
_TAGS = {"g", "path", "text", "tspan", "use", "defs", "clipPath", "rect", "image"}
_ATTRIBUTES = {
    "d", "x", "y", "width", "height", "transform", "id", "href", "clip-path", "fill", "stroke",
    "stroke-width", "stroke-dasharray", "stroke-dashoffset", "stroke-linecap", "stroke-linejoin",
    "stroke-opacity", "fill-opacity", "opacity", "text-anchor", "font-size", "font-weight",
    "font-style", "fill-rule",
}  # fmt: skip


def _element(one: ElementTree.Element, names: Mapping[str, str]) -> str:
    """Write an element of matplotlib's SVG as HTML may contain it, without style attributes.

    The content security policy forbids these; what they say stands in attributes as well.
    """
    tag = one.tag.rpartition("}")[2]
    if tag not in _TAGS:
        return ""
    given = {name.rpartition("}")[2]: value for name, value in one.attrib.items()}
    for part in given.pop("style", "").split(";"):
        name, _, value = (text.strip() for text in part.partition(":"))
        if name == "font":  # "italic 9px 'DejaVu Sans'": the family is the page's
            sizes = re.findall(r"([\d.]+)px", value)
            given.update({"font-size": sizes[0]} if sizes else {})
        elif name:
            given.setdefault(name, value.removesuffix("px"))
    written = []
    for name, value in given.items():
        if name == "id":
            value = names.get(value, "")
        elif name == "transform" and value.startswith("rotate(-0 "):
            continue
        elif name in ("d", "x", "y") or value.startswith(("rotate", "translate")):
            value = re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", value)
            value = " ".join(value.split())
        elif name == "href" and not value.startswith(("#", "data:image/png;base64,")):
            continue
        value = re.sub(r"#([\w-]+)", lambda found: f"#{names.get(found[1], found[1])}", value)
        if name in _ATTRIBUTES and value:
            written.append(f' {name}="{escape(value)}"')
    inside = escape(one.text.strip("\n")) if one.text and tag in ("text", "tspan") else ""
    inside += "".join(_element(child, names) for child in one)
    if tag == "g" and not inside:
        return ""
    return f"<{tag}{''.join(written)}>{inside}</{tag}>"
