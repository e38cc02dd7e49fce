"""Training of the last layer alone: the frozen network below it runs once an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kmedclf.augmentation import ONE_OF, test_time
from kmedclf.inputs.file_array import Store
from kmedclf.inputs.images import Images, Rows
from kmedclf.models._features import FeaturePass, FeatureSpec
from kmedclf.training import cache, loop, network
from kmedclf.training.loop import TrainingState, TrainingTask
from kmedclf.training.program import CompiledNetwork

MOST_BYTES = 2**31
"""Most memory that features of all images may take; beyond it the network runs in every epoch."""

FEW = {"mirror", "flips", "dihedral"}
"""Augmentations with so few views that all are computed; test-time augmentation has the same."""


@dataclass(frozen=True)
class HeadSpec(network.Spec):
    """The last layer of a network, from the features of an image's views (b, v, 1, d)."""

    def outputs(self, estimator: Any, x: Any) -> Any:
        """Map the features of the first view to logits (b, k)."""
        return estimator._classify(x[:, 0, 0], self)


def train(
    task: TrainingTask,
    callbacks: Sequence[keras.callbacks.Callback],
    find_store: Callable[[], Store],
) -> TrainingState:
    """Train a network, from features if its head alone is trained; return the whole state.

    ``find_store`` returns where features are kept.
    """
    if not _applies(task, callbacks):
        return loop.train(task, callbacks)
    views = tuple(str(one) for one in task.augment)
    several = [rows for rows in (task.rows, task.validation_rows) if rows is not None]
    with tf.device(None), cache.borrow(FeatureSpec.below(task.spec)) as program:
        per_image = program.model.output.shape[-1] * 4 * test_time.count(views)
        fits = per_image * sum(map(len, several)) <= MOST_BYTES
        if fits:
            below, store = _start(program, task), find_store()
            train_rows, *held = (_embedded(program, rows, views, store) for rows in several)
    if not fits:
        return loop.train(task, callbacks)
    shape = train_rows.images.shape
    head = task.spec.turned_into(HeadSpec, image_shape=shape, scale=1.0, start="")
    start = task.start and replace(task.start, weights=task.start.weights[len(below) :])
    on_features = replace(
        task,
        spec=head,
        rows=train_rows,
        validation_rows=held[0] if held else None,
        augment=(ONE_OF,) if views else (),
        start=start,
    )
    state = loop.train(on_features, callbacks)
    n_params = state.n_params[0], sum(one.size for one in below)
    return replace(state, weights=[*below, *state.weights], n_params=n_params)


def _applies(task: TrainingTask, callbacks: Sequence[keras.callbacks.Callback]) -> bool:
    """Whether a training can use features: of the head, with views that can be counted."""
    alone = dict(task.spec.architecture).get("trainable") == "head"
    countable = set(task.augment) <= FEW and not task.schedule.mixes
    views = countable and (not task.augment or task.spec.image_shape[1] > 1)
    # A user's callback gets the whole network as its model.
    return alone and views and all(getattr(one, "only_watches", False) for one in callbacks)


def _start(program: CompiledNetwork, task: TrainingTask) -> list[np.ndarray]:
    """Give the network below the head the weights that the training begins with; return them."""
    if task.start is not None:
        below = task.start.weights[: len(program.model.weights)]
        program.load(below)
        return below
    program.reset(np.random.SeedSequence([task.seed, 0]), None, {})
    network.adapt(program.model, task.rows, task.spec.scale, task.seed)
    return program.weights()


def _embedded(program: CompiledNetwork, rows: Rows, views: tuple[str, ...], store: Store) -> Rows:
    """Replace the images of rows by the features of their views, as images (v, 1, d)."""
    index, place = np.unique(rows.index, return_inverse=True)
    features = FeaturePass(program, rows.images, views, store).features(index)
    return replace(rows, images=Images(features[:, :, None], 1.0), index=place)
