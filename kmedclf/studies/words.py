"""Sentences about trainings, generated from the estimators and data.

Parameters set by the user and missing splits are reflected; recipes are resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kmedclf import recipes, runs
from kmedclf.datasets import sources
from kmedclf.evaluation.wording import Epochs, count, epochs_of, percent

SETS = {
    "flip_rotate": "flipped and turned", "flips": "flipped in both directions",
    "mirror": "mirrored", "rotate": "turned by up to 15 degrees",
}  # fmt: skip


def each(say: Callable[[Any], str], estimators: Sequence[Any]) -> str:
    """Describe several estimators, once if they agree, else joined by "or"."""
    return " or ".join(dict.fromkeys(say(one) for one in estimators))


def loss(est: Any) -> str:
    """Describe the loss."""
    used = recipes.parameters(est)
    smoothing = used["label_smoothing"]
    smoothed = f", labels smoothed by {smoothing:g}" if smoothing else ""
    if used["loss"] == "focal":
        return f"focal loss, alpha {used['focal_alpha']:g}, gamma {used['focal_gamma']:g}{smoothed}"
    return f"cross entropy{smoothed}"


def optimizer(est: Any, data: sources.Data) -> str:
    """Describe the optimizer, its learning rate and schedule."""
    used = recipes.parameters(est)
    rate = used["learning_rate"]
    words = [str(used["optimizer"])]
    if rate is not None:
        words.append(f"learning rate {rate:g}")
    if used["momentum"] and used["optimizer"] == "sgd":  # other optimizers ignore it
        words.append(f"momentum {used['momentum']:g}")
    if used["lr_schedule"] == "plateau":
        watched = _watched(used, "val" in data.splits or used["early_stopping"])
        words.append(
            f"times {used['lr_factor']:g} after {count(used['lr_patience'], 'epoch')} without a "
            f"better {watched}"
        )
    elif used["lr_schedule"] == "step":
        words.append(f"times {used['lr_factor']:g} every {count(used['lr_step'], 'epoch')}")
    elif used["lr_schedule"] is not None:
        words.append(f"schedule {used['lr_schedule']}")
    return ", ".join(words)


def batches(est: Any) -> str:
    """Describe the batch size."""
    return f"batches of {recipes.parameters(est)['batch_size']}"


def augmentation(est: Any) -> str:
    """Describe the augmentation in a sentence."""
    augment = recipes.parameters(est)["augment"]
    if augment is False or augment == ():
        return "No augmentation."
    chosen = ["flip_rotate"] if augment is True else augment
    chosen = chosen if isinstance(chosen, list | tuple) else [chosen]
    names = [one if isinstance(one, str) else type(one).__name__ for one in chosen]
    known = [SETS.get(name, f'changed by "{name}"') for name in names]
    return f"Training images are {', '.join(known)} at random, anew in every epoch."


def stopping(est: Any, data: sources.Data) -> str:
    """Describe epochs, early stopping, validation set and kept weights, in sentences."""
    used = recipes.parameters(est)
    n, missing = count(used["epochs"], "epoch"), "The data have no validation split"
    if not used["early_stopping"]:
        kept = f"Training runs for {n}, and the last one's weights stand."
        return kept if "val" in data.splits else f"{kept} {missing}, and nothing validates."
    least = min(used["min_epochs"], used["epochs"])
    kept = "best" if used["restore_best"] else "last"
    if used["epochs"] > 1 and least == used["epochs"]:
        which = f"epoch of best {_watched(used, True)}" if used["restore_best"] else "last epoch"
        said = (
            f"Training runs for {n}, never stops early, and ends with the weights of the {which}."
        )
    else:
        said = (
            f"Training runs for at most {n}, stops when the {_watched(used, True)} {_waits(used)}"
            + (f", not before epoch {least}" if least > 1 else "")
            + f", and ends with the weights of the {kept} epoch."
        )
    if "val" in data.splits:
        return said
    return (
        f"{said} {missing}: {percent(used['validation_fraction'])} of what is trained on validates."
    )


def _waits(used: Mapping[str, Any]) -> str:
    """Describe what early stopping waits for, after the name of the value that it watches."""
    accuracy, by = used["monitor"] == "accuracy", ""
    if used["tol"]:
        relative = used["tol_mode"] == "relative"
        by = f" by {percent(used['tol']) if relative else format(used['tol'], 'g')}"
    waited = used["n_iter_no_change"]
    if used["stop_against"] == "best":
        return f"has not {'risen' if accuracy else 'fallen'}{by} for {count(waited, 'epoch')}"
    more = by.replace("by", "by more than", 1)
    again = f" {waited} times in a row" if waited > 1 else ""
    return f"is {'lower' if accuracy else 'higher'}{more} than in the epoch before{again}"


def sentences(*parts: str) -> str:
    """Join non-empty parts, and capitalize the first letter."""
    text = " ".join(filter(None, parts))
    return text[:1].upper() + text[1:]


def shared(ests: Sequence[Any], data: sources.Data) -> str:
    """Describe how several networks were trained, except for the number of epochs."""
    said = each(loss, ests), each(lambda one: optimizer(one, data), ests), each(batches, ests)
    return sentences(f"{'; '.join(said)}.", each(augmentation, ests))


def training(est: Any, data: sources.Data) -> str:
    """Describe how a network was trained, in sentences."""
    return sentences(shared([est], data), stopping(est, data))


def epochs(est: Any) -> Epochs:
    """Return the epochs of an estimator, and the epoch of its weights."""
    return epochs_of(est.history_, est.best_epoch_, recipes.parameters(est))


def start(est: Any) -> str:
    """Describe the initial weights."""
    weights = getattr(est, "weights", None)
    if weights is None:
        return "random weights"
    return "ImageNet weights" if weights == "imagenet" else "weights trained elsewhere"


def as_named(words: str, wanted: Mapping[str, Any], est: Any) -> str:
    """Name a choice, with the parameters that the user or a quick study overrode."""
    used = recipes.parameters(est)
    other = [
        f"{name} {shown(used[name])}" for name, value in wanted.items()
        if _plain(used[name]) != _plain(value)
    ]  # fmt: skip
    return f"{words}, but {', '.join(other)}" if other else words


def shown(value: Any) -> str:
    """Format a parameter's value: lists with spaces, short numbers."""
    if isinstance(value, list | tuple):
        return " ".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def collapsed(made: Mapping[str, runs.Run], kind: str = "") -> list[str]:
    """List networks that predict a single class for all test images; empty if there are none."""
    names = [name for name, run in made.items() if one_class_only(run)]
    if not names:
        return []
    plural = len(names) > 1
    which = f"{kind}{'s' if plural else ''} " if kind else ""
    which = which[:1].upper() + which[1:]
    take = "take" if plural else "takes"
    return [f"{which}{', '.join(names)} {take} all test images for one class."]


def one_class_only(run: runs.Run) -> str | None:
    """Return the class that a network predicts for all test images, if it is only one."""
    report = run.reports["test"]
    found = np.unique(report.pred_index)
    return report.class_names[found[0]] if len(found) == 1 else None


def _watched(used: Mapping[str, Any], validated: bool) -> str:
    return f"{'validation' if validated else 'training'} {used['monitor']}"


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
