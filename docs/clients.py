"""Writes the table of docs/clients.md from a run of its tests.

``pytest -m '' tests/clients --junitxml=clients.xml && python docs/clients.py clients.xml``
"""

import csv
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

TABLE = Path(__file__).with_suffix(".csv")
KINDS = ("arrays", "rows", "paths")
WORDS = {"ok": "yes", "client": "–"}


def rows(report: Path) -> list[list[str]]:
    """Read a JUnit report: one row for each job, in the order of the tests."""
    tree = ElementTree.parse(report)
    if tree.findall(".//failure") or tree.findall(".//error") or tree.findall(".//skipped"):
        raise SystemExit(f"{report} must be of a run in which every test passed.")
    table: dict[tuple[str, str], dict[str, str]] = {}
    for found in tree.findall(".//property[@name='client']"):
        row = json.loads(found.get("value", ""))
        table.setdefault((row.pop("client"), row.pop("job")), {}).update(row)
    return [[*key, *(WORDS[row[kind]] for kind in KINDS)] for key, row in table.items()]


if __name__ == "__main__":
    found = rows(Path(sys.argv[1]))
    found.sort(key=lambda row: ("scikit-learn" not in row[0], row[0].lower()))
    with open(TABLE, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(found)
