"""Detects and explains divergence: losses, weights and outputs that are not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kmedclf.training.callbacks import Logs
    from kmedclf.training.loop import TrainingTask


SUSPECT = 1e4
"""Weights beyond this may overflow in a forward pass, even if they are finite."""


ABSURD = 1e8
"""Cross entropy per image beyond which a network has diverged, even if it is finite."""


class Diverged(ValueError):
    """A training diverged, and would do so again."""


def largest(weights: list[np.ndarray]) -> float:
    """Return the largest magnitude among arrays; NaN or infinity if a value is not finite."""
    # Extremes take a tenth of the time of `isfinite`, and no boolean array.
    floats = [array for array in weights if array.size and array.dtype.kind == "f"]
    ends = [float(end(array)) for array in floats for end in (np.min, np.max)]
    return float(np.max(np.abs(ends))) if ends else 0.0


def check_weights(weights: list[np.ndarray], name: str) -> None:
    """Raise ValueError if a network's weights are not finite."""
    if np.isfinite(largest(weights)):
        return
    wrong = [number for number, one in enumerate(weights) if not np.isfinite(largest([one]))]
    raise ValueError(
        f"The weights_ of {name} must be finite. Got NaN or infinity in {len(wrong)} of the "
        f"{len(weights)} arrays, the first in array {wrong[0]}; fit it again."
    )


def check_outputs(logits: np.ndarray, name: str) -> None:
    """Refuse outputs (n, ...) that are not finite."""
    if np.isfinite(logits).all():
        return
    wrong = np.flatnonzero(~np.isfinite(logits).reshape(len(logits), -1).all(axis=1))
    raise ValueError(
        f"{name} must predict finite numbers. Got NaN or infinity for {len(wrong)} of "
        f"{len(logits)} images, the first of them image {wrong[0]}; its weights or these pixels "
        "are too large."
    )


def is_sound(logs: Logs, weight: float) -> bool:
    """Whether the losses of an epoch are those of a network that learns."""
    # A loss of 1e30 is finite, but the accuracy beside it is that of a guess.
    losses = [logs[name] for name in ("loss", "val_loss") if name in logs]
    return all(np.isfinite(loss) and loss <= ABSURD * max(weight, 1.0) for loss in losses)


def explain(task: TrainingTask, epoch: int, logs: Logs) -> str:
    """Say in which epoch a training diverged, and how, as the start of a sentence."""
    kinds = "loss", "val_loss", "largest weight"
    values = ", ".join(f"{name} {logs[name]:.3g}" for name in kinds if name in logs)
    return f"The training of {task.spec.estimator.__name__} diverged in epoch {epoch} ({values})"


def advice(task: TrainingTask) -> str:
    """Say what to change in this training's parameters; a clause without a full stop."""
    schedule, options = task.schedule, dict(task.spec.options)
    rate = schedule.learning_rate
    lower = [f"'learning_rate' (now {'that of Keras' if rate is None else f'{rate:g}'})"]
    given: dict[str, Any] = {"weight_decay": schedule.weight_decay, "l2": schedule.l2}
    given |= {name: options.get(name) for name in ("momentum", "focal_alpha")}
    lower += [f"{name!r}" for name, value in given.items() if value]
    if dict(task.spec.architecture).get("backbone_rate", 0.0) > 1:
        lower.append("'backbone_rate'")
    if task.rows.weight.max() > 10:
        lower.append("the weights of samples and classes")
    other = [] if "clipnorm" in options else ["set 'clipnorm'"]
    if task.spec.precision == "mixed_float16":
        other.append("take precision='mixed_bfloat16'")
    if task.spec.scale == 1.0:
        other.append("scale X")
    return " or ".join([f"lower {', '.join(lower)}", *other])
