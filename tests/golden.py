"""What the package computes, as digests: taken before and after a change that must change nothing.

Digests differ from CPU to CPU, and with the versions of TensorFlow and NumPy: two records are
compared that one machine has made. From the root of the repository::

    python tests/golden.py before.json
    python tests/golden.py after.json
    python tests/golden.py --compare before.json after.json
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

SEEDS = (0, 1, 2)
TIMES = re.compile(r"time|second|minute|date|environment|python|version|pixels_per|folder|kmedclf")
CLOCKS = re.compile(r"\d[\d.,]*\s?(s|min|h|ms|images/s|images a second)\b|\b\d+:\d\d\b")


def digest(value):
    """Hash arrays by dtype, shape and bytes, and all else as JSON."""
    found = hashlib.sha256()
    for part in parts(value):
        found.update(part)
    return found.hexdigest()[:16]


def parts(value):
    """Give the bytes that a value stands for; times and versions left out."""
    if isinstance(value, np.ma.MaskedArray):
        yield from parts([None if one is np.ma.masked else one for one in value])
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, dict):
        for name, one in sorted(value.items()):
            if not TIMES.search(str(name)):
                yield str(name).encode()
                yield from parts(one)
    elif isinstance(value, list | tuple | np.ndarray):
        yield f"[{len(value)}".encode()
        for one in value:
            yield from parts(one)
    elif isinstance(value, str):
        yield CLOCKS.sub("", value).encode()
    else:
        yield repr(value.item() if isinstance(value, np.generic) else value).encode()


def text(path):
    """Read a page or a table; what depends on the clock is left out."""
    return CLOCKS.sub("", path.read_text(encoding="utf-8"))


# -- what is recorded ------------------------------------------------------------------------------


def fits(record, folder):
    """Fit every network, with three seeds, on arrays, memory maps, files and independent labels."""
    from helpers import PUBLIC, data, make

    X, y = data(24)
    np.save(folder / "X.npy", X)
    paths = []
    for number, image in enumerate(X):
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    Y = np.stack([y == 0, y != 1], axis=1).astype(int)
    given = {
        "array": (X, y, {}),
        "memory map": (np.load(folder / "X.npy", mmap_mode="r"), y, {}),
        "files": (np.array(paths), y, {"image_size": (8, 8)}),
        "labels": (X, Y, {}),
    }
    for name in PUBLIC:
        for kind, (images, labels, params) in given.items():
            for seed in SEEDS if kind == "array" else SEEDS[:1]:
                fitted = make(
                    name, random_state=seed, augment="flips", early_stopping=True,
                    validation_fraction=0.3, batch_size=8, **params,
                ).fit(images, labels)  # fmt: skip
                record[f"{name}, {kind}, {seed}"] = {
                    "weights": digest(list(fitted.weights_)),
                    "probabilities": digest(fitted.predict_proba(images)),
                    "history": digest(dict(fitted.history_)),
                    "labels": digest(fitted.predict(images)),
                }


def options(record, folder):
    """Fit one network with each of many options, one after the other."""
    from helpers import data, make

    X, y = data(32)
    for option in (
        {"augment": "basic"}, {"augment": "distortion"}, {"augment": "dihedral"},
        {"augment": ["rotate", "crop", "intensity", "blur"]}, {"augment": "flip_rotate"},
        {"mixup": 0.4}, {"cutmix": 1.0}, {"focal_gamma": 2.0}, {"class_weight": "balanced"},
        {"oversample": "augment"}, {"oversample": "duplicate"}, {"normalize": "whiten"},
        {"optimizer": "muon"}, {"optimizer": "adamw", "weight_decay": 0.01}, {"l2": 0.01},
        {"clipnorm": 0.5}, {"accumulate_steps": 2}, {"lr_schedule": "cosine"},
        {"lr_schedule": "one_cycle"}, {"lr_schedule": "plateau"}, {"label_smoothing": 0.1},
        {"tta": "flips"}, {"precision": "float32"}, {"precision": "mixed_bfloat16"},
        {"loss": "focal"}, {"recipe": "fast"}, {"recipe": "best", "epochs": 3},
        {"groups": np.arange(32) // 2},
    ):  # fmt: skip
        groups = {name: option.pop(name) for name in ("groups",) if name in option}
        name = f"CNNClassifier, {option or 'groups'}"
        fitted = make("CNNClassifier", validation_fraction=0.25, **option).fit(X, y, **groups)
        record[name] = {"all": digest([fitted.predict_proba(X), *fitted.weights_])}


def meta(record, folder):
    """Ensembles, calibration, searches, evaluations and their pages."""
    import keras
    from helpers import data, make
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    from kmedclf import CalibratedClassifier, EnsembleClassifier, evaluation
    from kmedclf.search import StagedSearchCV, TunerSearchCV

    X, y = data(48)
    keras.utils.set_random_seed(0)
    cnn, mlp = make("CNNClassifier"), make("MLPClassifier")
    ensemble = EnsembleClassifier(
        [("cnn", cnn), ("mlp", mlp)], n_seeds=2
    ).fit(X, y)  # fmt: skip
    record["ensemble"] = {"proba": digest(ensemble.predict_proba(X))}
    calibrated = CalibratedClassifier(cnn.fit(X, y)).fit(X, y)
    record["calibrated"] = {"proba": digest(calibrated.predict_proba(X))}
    shared = {"cv": StratifiedKFold(2), "random_state": 0}
    searches = {
        "grid": GridSearchCV(cnn, {"filters": [2, 4], "kernel_size": [3]}, cv=StratifiedKFold(2)),
        "staged": StagedSearchCV(cnn, [{"filters": [2, 4]}, {"learning_rate": [1e-3, 1e-2]}],
                                 **shared),
        "halving": StagedSearchCV(
            cnn, [{"filters": [2, 4]}], search="halving", factor=3, **shared
        ),
        "tuner": TunerSearchCV(cnn, {"filters": [2, 4], "kernel_size": [3, 5]}, max_trials=3,
                               **shared),
    }  # fmt: skip
    for name, search in searches.items():
        search.fit(X, y)
        record[name] = {"results": digest(search.cv_results_), "best": digest(search.best_params_)}
    one, two = (
        evaluation.evaluate(model, X, y, n_bootstrap=200, random_state=0)
        for model in (ensemble, calibrated)
    )
    Y = np.stack([y == 0, y != 1], axis=1).astype(int)
    labels = evaluation.evaluate(
        make("MLPClassifier").fit(X, Y), X, Y, n_bootstrap=200, random_state=0
    )
    for name, report in (("classes", one), ("labels", labels)):
        evaluation.write_page(folder / f"{name}.html", report, X=X)
        record[f"report of {name}"] = {
            "numbers": digest(report.to_dict()),
            "page": digest(text(folder / f"{name}.html")),
            "text": digest(str(report)),
        }
    comparison = evaluation.compare({"a": one, "b": two}, random_state=0)
    record["comparison"] = {"text": digest(str(comparison))}


def commands(record, folder):
    """Train, search and reproduce a study on the command line."""
    from typer.testing import CliRunner

    from kmedclf.cli import app

    def invoke(*command):
        done = CliRunner().invoke(app, [str(part) for part in command])
        assert done.exit_code == 0, done.output
        return done

    run, search, study = (folder / name for name in ("run", "search", "study"))
    invoke("train", "cnn", "--data", "synthetic", "--epochs", 2, "--out", run)
    record["train"] = {
        "metrics": digest(json.loads((run / "metrics.json").read_text())),
        "page": digest(text(run / "index.html") if (run / "index.html").exists() else ""),
        "files": digest(sorted(path.name for path in run.iterdir())),
    }
    space = folder / "space.yaml"
    space.write_text("estimator: mlp\nparameters: {units: [2, 4]}\n")
    invoke("search", "mlp", "--data", "synthetic", "--folds", 2, "--space", space, "--epochs", 2,
           "--final-epochs", 2, "--out", search)  # fmt: skip
    record["search"] = {
        "results": digest(json.loads((search / "results.json").read_text())),
        "files": digest(sorted(str(path.relative_to(search)) for path in search.glob("*"))),
    }
    invoke("reproduce", "lung", "--quick", "--data", "synthetic", "--out", study)
    record["study"] = {
        "results": digest(json.loads((study / "results.json").read_text())),
        "files": digest(sorted(path.name for path in study.iterdir())),
    }
    audit = invoke("audit", "--data", "synthetic")
    record["audit"] = {"text": digest(CLOCKS.sub("", audit.stdout))}


def take():
    """Record everything."""
    warnings.simplefilter("ignore")
    record: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        for part in (fits, options, meta, commands):
            part(record, Path(name))
    return record


def differences(a, b):
    """Name what differs between two records."""
    names = sorted({*a, *b})
    return [
        f"{name}: {key}"
        for name in names
        for key in sorted({*a.get(name, {}), *b.get(name, {})})
        if a.get(name, {}).get(key) != b.get(name, {}).get(key)
    ]


if __name__ == "__main__":
    if sys.argv[1] == "--compare":
        before, after = (json.loads(Path(name).read_text()) for name in sys.argv[2:])
        found = differences(before, after)
        print(*found, f"{len(found)} of {sum(map(len, before.values()))} digests differ", sep="\n")
        sys.exit(bool(found))
    Path(sys.argv[1]).write_text(json.dumps(take(), indent=1))
