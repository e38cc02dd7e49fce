"""The commands datasets and audit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from kmedclf.cli.console import NOT_WHOLE, console, errors, say_next
from kmedclf.cli.options import DataOption, PageOption, SizeOption

if TYPE_CHECKING:
    from kmedclf.datasets import Audit
    from kmedclf.datasets.sources import AuditInput


def datasets() -> None:
    """List the data sets known by name."""
    from kmedclf import datasets as known
    from kmedclf.datasets import sources

    table = Table("name", "task", "classes", "images", "licence", "here", box=None)
    for name in known.names():
        info = known.info(name)
        here = " ".join(str(size) for size in info.md5 if sources.cached(name, size).is_file())
        images = f"{sum(info.n_samples.values()):,}"
        table.add_row(name, info.task, str(info.n_classes), images, info.licence, here or "–")
    images = f"{sum(n for n, _ in sources.SYNTHETIC.values()):,}"
    for name, (_, _, classes) in sources.DRAWN.items():
        task = "multilabel" if name == "synthetic-findings" else "multiclass"
        table.add_row(name, task, str(len(classes)), images, "–", "drawn")
    console.print(table)
    say_next("datasets")


def audit(
    data: DataOption,
    out: PageOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit with 1 if there are leaks or contradicting labels."),
    ] = False,
    near: Annotated[
        bool,
        typer.Option(
            "--near/--exact", help="Find nearly identical images as well, or only identical ones."
        ),
    ] = True,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="KEY|REGEX|CSV|COLUMN",
            help="Find patients, or other groups, that are in two splits. For a folder: a regular "
            "expression that finds the patient in the path of an image, or a CSV file with the "
            "columns path (below the folder) and group. For a CSV table of images: one of its "
            "columns. For an .npz file: KEY of its arrays train_KEY, val_KEY and test_KEY.",
        ),
    ] = None,
    size: SizeOption = None,
) -> None:
    """Find duplicates, leaks between splits and contradicting labels in a data set.

    A folder without split folders is audited in the splits that 'kmedclf train' draws from it.
    Files that cannot be read are left out and named; the exit code is then 3.
    """
    from kmedclf.datasets import sources
    from kmedclf.utils import files

    if out is not None:
        files.prepare(out, files.is_page)
    subject = sources.read_audit_input(data, size, groups)
    try:
        found = _audited(subject, near)
        whole = True
    except (ValueError, OSError):
        readable = _readable(subject)  # reads all files, so only now
        if readable is None:
            raise
        subject, whole = readable, False
        found = _audited(subject, near)
    text = "\n\n".join(filter(None, (subject.note, str(found))))
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        from kmedclf.runs.page import links_beside

        source = (
            str(Path(data).expanduser().absolute()) if Path(data).expanduser().exists() else data
        )
        links = links_beside(out, source)
        title = f"Audit of {subject.name}"
        found.write_page(out, subject.X, title=title, note=subject.note, links=links)
        console.print(f"Audit written to {out}", markup=False, soft_wrap=True)
    given = {"--size": size, "--groups": groups}
    options = [word for one in given.items() if one[1] is not None for word in one]
    options += [] if whole else ["-p", "on_error=skip"]  # as the audit has left them out
    say_next("audit", data=[data, *options])
    if strict and not found.ok:
        raise typer.Exit(1)
    if not whole:
        raise typer.Exit(NOT_WHOLE)


def _audited(subject: AuditInput, near: bool) -> Audit:
    from kmedclf import datasets

    return datasets.audit(
        subject.X,
        subject.y,
        groups=subject.groups,
        splits=subject.splits,
        near=near,
        class_names=subject.class_names,
    )


def _readable(subject: AuditInput) -> AuditInput | None:
    """Leave out the files that cannot be read, and name them; None if that helps nothing."""
    import numpy as np

    from kmedclf.inputs.array_likes import as_paths
    from kmedclf.inputs.file_array import FileArray
    from kmedclf.inputs.image_files import Form

    paths = as_paths(subject.X, "audit")
    if paths is None:
        return None
    broken = FileArray(paths, Form(8, 8, 3, "stretch"), np.uint8, skip=True).broken
    rows = [i for i in range(len(paths)) if i not in broken]
    if not broken or len(np.unique(subject.y[rows], axis=0)) < len(np.unique(subject.y, axis=0)):
        return None
    for error in broken.values():
        errors.print(Text(str(error), style="red"), soft_wrap=True)
    n = f"{len(broken)} of {len(paths)} images {'is' if len(broken) == 1 else 'are'}"
    errors.print(f"{n} left out of the audit: delete, or replace.", soft_wrap=True)
    groups = None if subject.groups is None else subject.groups[rows]
    return subject._replace(
        X=[paths[i] for i in rows], y=subject.y[rows], splits=subject.splits[rows], groups=groups
    )
