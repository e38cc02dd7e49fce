"""Page of a search: stages, what mattered, effects, learning curves, the winner."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmedclf.evaluation.plots import training
from kmedclf.evaluation.wording import count
from kmedclf.pages import chart, csv_link, flat, render, without_folders
from kmedclf.utils.archives import read_json
from kmedclf.utils.notebook import Remark

SETTINGS = "search.json"
"""File with the settings of a search, by which its folder is known."""
SHOWN = 200
"""Number of candidates in the table, the best first."""
NAMED = 4
"""The verdict names the winner's parameters, if they are no more."""
CURVES = 4
"""Number of candidates whose learning curves are drawn, the best first."""

Results = Mapping[str, Sequence[Any]]


def write_search_page(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the page of a finished search from the files in its folder."""
    place = Path(folder)
    if not (place / "results.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no results: the search is not finished; 'kmedclf search --resume "
            f"{folder}' goes on."
        )
    settings, results = read_json(place / SETTINGS), read_json(place / "results.json")
    curves = read_json(place / "curves.json") if (place / "curves.json").is_file() else []
    parts = _parts(results)
    last = parts[-1][1]
    best = max(last, key=lambda row: _score(results, row))
    mattered = [one for name, rows in parts for one in _importance(results, name, rows)]
    scores = [name for name in results if name.startswith("split") and name.endswith("_test_score")]
    columns = [name for name in results if name != "params"]
    # The run of the winner is written after the search; its place is known before
    links = {"Report of the winner": "best/report.html"}
    links = links if (place / "best" / "report.html").is_file() else {}
    render(
        path,
        "search.html",
        title=f"Search: {settings['network']} on {without_folders(settings['data'])}",
        n=len(results["params"]),
        folds=len(scores),
        engine=f"engine {settings['engine']}",
        links=links,
        downloads=[
            ("Results", "results.csv",
             csv_link(columns, zip(*(results[name] for name in columns), strict=True)))
        ],
        remarks=_verdict(results, parts, best, mattered),
        winner=flat(_chosen(results, parts), text=without_folders),
        stages=_stages(results, parts),
        importance=sorted(mattered, key=lambda one: -one["share"]),
        effects=_effects(results, parts),
        curves=_curves(results, curves),
        candidates=_candidates(results),
        settings=flat(settings, text=without_folders),
    )  # fmt: skip


def _parts(results: Results) -> list[tuple[str, list[int]]]:
    """List the stages with the rows of their candidates; of halving, the last round."""
    n = len(results["params"])
    names = list(results.get("stage", ["all"] * n))
    rounds = results.get("iter", [0] * n)
    parts = []
    for name in dict.fromkeys(names):
        rows = [row for row in range(n) if names[row] == name]
        last = max(rounds[row] or 0 for row in rows)
        parts.append((str(name), [row for row in rows if (rounds[row] or 0) == last]))
    return parts


def _score(results: Results, row: int) -> float:
    """Return the mean score of a candidate; -inf if it failed."""
    value = results["mean_test_score"][row]
    return float(value) if value is not None and np.isfinite(value) else -np.inf


def _varied(results: Results, rows: Sequence[int]) -> dict[str, list[Any]]:
    """Return the parameters that have several values among candidates, in their order."""
    found = {}
    for column in results:
        name = column.removeprefix("param_")
        # Halving sets the epochs itself
        if name == column or (name.rpartition("__")[2] == "epochs" and "iter" in results):
            continue
        values = [_key(results[column][row]) for row in rows]
        if len(set(map(str, values))) > 1:
            found[name] = values
    return found


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _importance(results: Results, stage: str, rows: Sequence[int]) -> list[dict[str, Any]]:
    """Compute the share of the variance of the scores that goes with each parameter (eta²)."""
    scores = np.array([_score(results, row) for row in rows])
    fine = np.isfinite(scores)
    spread = float(((scores[fine] - scores[fine].mean()) ** 2).sum()) if fine.any() else 0.0
    if fine.sum() < 3 or not spread:
        return []
    found = []
    for name, values in _varied(results, rows).items():
        means: dict[str, np.ndarray] = {
            text: scores[[fine[i] and str(values[i]) == text for i in range(len(rows))]]
            for text in dict.fromkeys(map(str, values))
        }
        groups = {text: one for text, one in means.items() if len(one)}
        # Of values that each one candidate has, the share would be 1 by construction
        if len(groups) < 2 or len(groups) == fine.sum():
            continue
        between = sum(len(one) * (one.mean() - scores[fine].mean()) ** 2 for one in groups.values())
        found.append(
            {
                "name": name.rpartition("__")[2],
                "stage": stage,
                "number": len(groups),
                "share": float(between / spread),
                "best": max(groups, key=lambda text: groups[text].mean()),
            }
        )
    return found


def _chosen(results: Results, parts: Sequence[tuple[str, list[int]]]) -> dict[str, Any]:
    """Return the winner's value of every parameter that was searched."""
    best = max(parts[-1][1], key=lambda row: _score(results, row))
    names = {name for _, rows in parts for name in _varied(results, rows)}
    chosen = {k: v for k, v in results["params"][best].items() if k in names}
    return {**chosen, "score": _text(results, best)}


def _text(results: Results, row: int) -> str:
    """Write the score of a candidate with its deviation."""
    if not np.isfinite(_score(results, row)):
        return "failed"
    return f"{_score(results, row):.4f} ± {float(results['std_test_score'][row]):.4f}"


def _verdict(
    results: Results,
    parts: Sequence[tuple[str, list[int]]],
    best: int,
    mattered: Sequence[Mapping[str, Any]],
) -> list[Remark]:
    """Say who won, how sure that is, what mattered, and where the search may have ended early."""
    rows = parts[-1][1]
    chosen = [f"{name} {value}" for name, value in flat(_chosen(results, parts))[:-1]]
    words = f", with {', '.join(chosen)}" if 0 < len(chosen) <= NAMED else ""
    said = [Remark("plain", f"The winner scored {_text(results, best)} over the folds{words}.")]
    failed = [row for row in range(len(results["params"])) if _score(results, row) == -np.inf]
    if failed:
        said.append(Remark("warning", f"{count(len(failed), 'candidate')} failed."))
    others = [row for row in rows if row != best and row not in failed]
    least = _score(results, best) - float(results["std_test_score"][best])
    near = [row for row in others if _score(results, row) >= least]
    if near:
        text = f"{len(near)} of the other {count(len(others), 'candidate')} of its stage "
        text += "lie within one standard deviation of it: the choice among them is luck."
        said.append(Remark("warning", text))
    elif others:
        text = "It is more than one standard deviation ahead of all others of its stage."
        said.append(Remark("good", text))
    if mattered:
        one = max(mattered, key=lambda each: each["share"])
        text = f"Most of the spread goes with {one['name']} ({one['share']:.0%} of that of its "
        said.append(Remark("plain", f"{text}stage); {one['best']} was best."))
    for name in _at_the_edge(results, parts):
        text = f"The best value of {name} is the last one that was tried: more may lie beyond."
        said.append(Remark("plain", text))
    text = "The score is that of the images that chose the winner, and therefore a little too good."
    return [*said, Remark("plain", text)]


def _at_the_edge(results: Results, parts: Sequence[tuple[str, list[int]]]) -> list[str]:
    """Name the parameters of three numbers or more whose best one is the least or the largest."""
    found = []
    for _, rows in parts:
        best = max(rows, key=lambda row: _score(results, row))
        for name, values in _varied(results, rows).items():
            numbers = sorted({one for one in values if type(one) in (int, float)})
            if len(numbers) >= 3 and values[rows.index(best)] in (numbers[0], numbers[-1]):
                found.append(name.rpartition("__")[2])
    return found


def _stages(
    results: Results, parts: Sequence[tuple[str, list[int]]]
) -> list[tuple[str, int, str, str]]:
    """Return a row for each stage: name, candidates, best score, values of its parameters."""
    rows = []
    for name, inside in parts:
        best = max(inside, key=lambda row: _score(results, row))
        at = inside.index(best)
        words = [
            f"{one.rpartition('__')[2]} {without_folders(values[at])}"
            for one, values in _varied(results, inside).items()
            if values[at] is not None
        ]
        rows.append((name, len(inside), _text(results, best), ", ".join(words)))
    return rows


def _effects(results: Results, parts: Sequence[tuple[str, list[int]]]) -> list[Any]:
    """Draw the score over each parameter of each stage."""
    drawn = []
    for stage, rows in parts:
        part = {name: [column[row] for row in rows] for name, column in results.items()}
        # Scores of failed candidates are null in JSON
        for name in part:
            if name.endswith("_test_score"):
                part[name] = [np.nan if one is None else one for one in part[name]]
        for name, values in _varied(results, rows).items():
            part[f"param_{name}"] = values
            numbers = [one for one in set(values) if type(one) in (int, float)]
            whole = len(numbers) == len(set(values))
            log = whole and min(numbers) > 0 and max(numbers) >= 8 * min(numbers)
            short = name.rpartition("__")[2]
            words = f"Stage {stage}; bars are standard deviations over folds and candidates."
            draw = partial(training.effect, part, name, log_x=log, score="score")
            drawn.append((short, words, chart(draw, 3.2, f"{short}. {words}")))
    return drawn


def _curves(results: Results, curves: Sequence[Any]) -> list[Any]:
    """Draw the learning curves of the best candidates, the mean of their folds."""
    order = sorted(range(len(results["params"])), key=lambda row: -_score(results, row))
    shown: dict[str, list[Any]] = {}
    for place, row in enumerate([row for row in order if row < len(curves)][:CURVES], 1):
        for name in ("val_accuracy", "accuracy"):
            folds = [fold[name] for fold in curves[row] if fold.get(name)]
            if folds:
                n = min(map(len, folds))
                mean = np.mean([fold[:n] for fold in folds], axis=0)
                shown.setdefault(name, []).append((f"rank {place}", mean))
                break
    drawn = []
    for name, lines in shown.items():
        where = "validation images" if name.startswith("val") else "training images"
        words = f"Accuracy on {where} of the best candidates, as far as all folds went."
        draw = partial(training.curves, lines)
        drawn.append(("Best candidates", words, chart(draw, 3.2, words)))
    return drawn


def _candidates(results: Results) -> list[dict[str, Any]]:
    """Return a row for each candidate, the best first."""
    order = sorted(range(len(results["params"])), key=lambda row: -_score(results, row))
    varied = _varied(results, range(len(results["params"])))
    rows = []
    for rank, row in enumerate(order[:SHOWN], 1):
        words = [
            f"{name.rpartition('__')[2]} {without_folders(values[row])}"
            for name, values in varied.items()
            if values[row] is not None
        ]
        score, _, std = _text(results, row).partition(" ± ")
        stage = str(results["stage"][row]) if "stage" in results else ""
        rows.append(
            {"rank": rank, "score": score, "std": std, "stage": stage, "words": ", ".join(words)}
        )
    return rows
