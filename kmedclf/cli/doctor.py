"""The command doctor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from kmedclf.cli.console import console, say_next, start_tensorflow

if TYPE_CHECKING:
    from kmedclf.runs.machine import Machine


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Write the facts as JSON.")] = False,
) -> None:
    """Show the hardware and versions that kmedclf found, and what would make it faster.

    Starts TensorFlow, which takes seconds.
    """
    from kmedclf.runs.machine import Machine

    start_tensorflow(ctx)
    machine = Machine.examine()
    if as_json:
        typer.echo(json.dumps(machine.to_dict(), indent=2))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in _rows(machine):
        table.add_row(name, Text(value))
    console.print(table)
    for sentence in machine.faster:
        console.print(f"Faster: {sentence}", markup=False, highlight=False, soft_wrap=True)
    say_next("doctor")


def _rows(machine: Machine) -> list[tuple[str, str]]:
    """Describe the facts in words."""
    per_core = machine.threads_per_core
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    if per_core and per_core > 1:
        cores = f"{machine.cores} hyperthreads, {per_core} a core"
    memory = [
        f"{value / 2**30:.1f} GB {word}"
        for value, word in ((machine.memory, "in all"), (machine.free_memory, "free"))
        if value is not None
    ]
    mixed = machine.mixed_precision
    low = f"'mixed' is {mixed} here" if mixed != "float32" else "nothing lower is faster here"
    state = "on" if machine.onednn else "off"
    return [
        ("CPU", f"{machine.processor}, {machine.instruction_set}, {cores}"),
        ("memory", ", ".join(memory) or "unknown"),
        ("GPU", ", ".join(machine.gpus) or "none"),
        ("oneDNN", f"{state}: {machine.onednn_reason}"),
        ("precision", f"{machine.precision} unless a recipe or parameter says otherwise; {low}"),
        ("threads", str(machine.threads)),
        *((name, number) for name, number in machine.versions.items()),
    ]
