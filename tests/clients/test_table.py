"""The table in the documentation has a row for every job that is tested, and no other."""

import csv
import importlib

from helpers import ROOT


def test_the_table_has_every_job(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "clients")
    with open(ROOT / "docs" / "clients.csv", encoding="utf-8", newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)]
    own, others = map(importlib.import_module, ("test_scikit_learn", "test_other_libraries"))
    tested = {("scikit-learn", job) for job in own.JOBS}
    tested |= {(job.package, job.words) for job in others.JOBS.values()}
    assert {(client.rsplit(" ", 1)[0], job) for client, job, *_ in rows} == tested
    assert len(rows) == len(tested)


def test_a_dash_is_where_the_library_refuses(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "clients")
    own, others = map(importlib.import_module, ("test_scikit_learn", "test_other_libraries"))
    refused = {job: set(kinds) for job, kinds in own.REFUSED.items()}
    refused |= {others.JOBS[job].words: set(kinds) for job, kinds in others.REFUSED.items()}
    with open(ROOT / "docs" / "clients.csv", encoding="utf-8", newline="") as file:
        for _, job, *kinds in csv.reader(file):
            dashes = {kind for kind, word in zip(("arrays", "rows", "paths"), kinds, strict=True)
                      if word == "–"}  # fmt: skip
            assert dashes == refused.get(job, set()), job
