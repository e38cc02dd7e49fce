"""What a search shows while it runs."""

import io

import joblib
import pytest
from rich.console import Console
from searching import FLAT, Probe, Y

from kmedclf.search import StagedSearchCV, TunerSearchCV, progress

STAGES = [{"a": [1, 2]}, {"b": [1, 2]}]


@pytest.fixture
def shown(monkeypatch):
    """Give a function that runs a search and returns what it wrote, to a log or a terminal."""

    def run(search, *, terminal=False, **parallel):
        text = io.StringIO()
        console = Console(file=text, width=100, force_terminal=terminal, color_system=None)
        monkeypatch.setattr("rich.console.Console", lambda: console)
        monkeypatch.setattr(progress.SearchProgress.__init__, "__defaults__", (0, 0.0))
        with joblib.parallel_config(**{"backend": "threading", **parallel}):
            search.set_params(verbose=1).fit(FLAT, Y)
        return text.getvalue()

    return run


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_log_says_where_the_search_is(shown, n_jobs):
    lines = shown(StagedSearchCV(Probe(), STAGES), n_jobs=n_jobs).splitlines()
    fits, table = lines[:12], lines[12:]
    assert "1/2 a · candidate 1/2, fold" in fits[0]
    assert "best" not in fits[0]
    assert all(line.endswith(" left") for line in fits)
    assert "2/2 b" in fits[-1]
    assert fits[-1].endswith("0:00 left")
    assert [line.split()[:2] for line in table[1:3]] == [["1/2", "a"], ["2/2", "b"]]
    assert all("2/2" in line and "±" in line for line in table[1:3])
    assert "a=2" in table[1]
    assert "b=2" in table[2]
    assert "a=" not in table[2]  # a stage's row has its own parameters


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_terminal_shows_a_table(shown, n_jobs):
    text = shown(StagedSearchCV(Probe(), STAGES), terminal=True, n_jobs=n_jobs)
    last = text[text.rindex("candidates") :]
    assert "b=2" in last
    assert "0:00 left" in last


def test_candidates_met_before_are_counted(shown):
    text = shown(StagedSearchCV(Probe(), [{"a": [2, 1]}, {"b": [0]}], refit=False))
    assert " 1/1 " in text.splitlines()[-2]
    assert "0:00 left" in text.splitlines()[-1]


def test_rounds_with_more_epochs_are_rows_of_their_own(shown):
    search = StagedSearchCV(Probe(), [{"a": [1, 2, 3]}], search="halving", factor=3)
    rows = shown(search).splitlines()[12:]
    assert [row.split("  ")[0] for row in rows[1:3]] == ["1/1 a, epochs 3", "1/1 a, epochs 9"]
    tuner = TunerSearchCV(Probe(), {"a": list(range(9))}, tuner="hyperband", random_state=0)
    assert shown(tuner).count("hyperband  ") > 1
