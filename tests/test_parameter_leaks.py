"""No parameter of one fit leaks into another through the cache of compiled programs."""

import functools

import keras
import pytest
from helpers import NAMES, SLOW, data, get, make, same

from kmedclf.training import cache

X, y = data()


class FasterLearning(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.5


class WatchesBatches(FasterLearning):
    def on_train_batch_end(self, batch, logs=None):
        self.model.optimizer.learning_rate = 0.25


class Rotation(keras.layers.RandomRotation):
    """A layer of a user's own."""


# For each parameter, values to change it to.
VALUES = {
    "activation": ["tanh"],
    "accumulate_steps": [3],
    "augment": [
        "dihedral",
        "intensity",
        ["mirror", "shift"],
        ["mirror", keras.layers.RandomRotation(0.1)],
        Rotation(0.1),
    ],
    "backbone_rate": [0.5],
    "batch_norm": ["first"],
    "batch_size": [7],
    "block_config": [(1,), (2, 1)],
    "blocks": [2],
    "cache": ["memory"],
    "cache_limit": ["1M"],
    "callbacks": [[FasterLearning()], [WatchesBatches()]],
    "channels": [1],
    "checkpoint": [None],
    "class_weight": ["balanced", {1: 7.0}],
    "clipnorm": [0.01],
    "cutmix": [0.5],
    "dense_dropout": [0.1],
    "dense_units": [None],
    "dropout": [0.6],
    "early_stopping": [True],
    "epochs": [1],
    "filters": [3],
    "focal_alpha": [0.5],
    "focal_gamma": [0.5],
    "frozen_batch_norm": [True],
    "global_pooling": ["max"],
    "growth_rate": [3],
    "head_epochs": [1],
    "hidden_dim": [4],
    "image_shape": [(8, 8)],
    "image_size": [5],
    "jit_compile": [True, "auto"],
    "kernel_size": [2],
    "l2": [0.1],
    "label_smoothing": [0.2],
    "layers_per_block": [2],
    "learning_rate": [0.3],
    "loss": ["focal"],
    "lr_factor": [0.3],
    "lr_patience": [1],
    "lr_schedule": ["step", "plateau", "cosine", "one_cycle"],
    "lr_step": [1],
    "lr_warmup": [0.5],
    "max_pixels": [10**6],
    "memory": [None],
    "memory_limit": [None],
    "min_epochs": [1],
    "mixup": [0.5],
    "mlp_dim": [5],
    "momentum": [0.5],
    "monitor": ["loss"],
    "n_iter_no_change": [1],
    "nesterov": [True],
    "normalize": [True],
    "num_heads": [1],
    "num_layers": [2],
    "on_error": ["skip"],
    "optimizer": ["sgd", "lion", "ftrl", "adamw", "muon"],
    "oversample": ["duplicate", "augment"],
    "padding": [1],
    "patch_size": [2],
    "pool_size": [3],
    "pooling": ["average", "global_max"],
    "precision": ["mixed_bfloat16", "mixed_float16"],
    "random_state": [1],
    "recipe": ["fast", "best"],
    "resize": ["pad"],
    "restore_best": [False],
    "stem": ["small"],
    "stem_filters": [3],
    "stem_kernel_size": [2],
    "stem_pooling": [True],
    "stop_against": ["previous"],
    "strategy": ["mirrored"],
    "tol": [0.5],
    "tol_mode": ["relative"],
    "trainable": ["head", 1],
    "tta": ["flips"],
    "units": [5],
    "validation_fraction": [0.4],
    "validation_split": [0.4],
    "variant": ["lite0"],
    "verbose": [1],
    "warm_start": [True],
    "weight_decay": [0.1],
    "weights": [None],  # others are tested in models/test_pretrained.py and models/test_weights.py
    "width": [5],
}
VALUES_OF = {
    ("CNNClassifier", "batch_norm"): [True],
    ("CNNClassifier", "normalize"): [True, "whiten"],
    ("MLPClassifier", "batch_norm"): [True],
    ("AlexNetClassifier", "dense_units"): [5],
    ("ConvNetClassifier", "activation"): [("linear", "relu")],
    ("ConvNetClassifier", "dense_units"): [(5, 3)],
    ("ConvNetClassifier", "filters"): [(3, 4, 4)],
    ("ConvNetClassifier", "kernel_size"): [(3, 1)],
    ("ConvNetClassifier", "pool_size"): [(1, 2)],
    ("ConvNetClassifier", "pooling"): ["average"],
    ("DeepResNetClassifier", "depth"): [34],
    ("EfficientNetClassifier", "depth"): [0.3],
    ("EfficientNetClassifier", "width"): [0.2],
}
# Without effect on the weights of a plain fit, or by chance none here.
IDLE = {
    "cache",
    "cache_limit",
    "channels",
    "checkpoint",
    "early_stopping",
    "frozen_batch_norm",
    "image_shape",
    "image_size",
    "jit_compile",
    "max_pixels",
    "memory",
    "memory_limit",
    "min_epochs",
    "monitor",
    "n_iter_no_change",
    "on_error",
    "resize",
    "restore_best",
    "stem",
    "stop_against",
    "strategy",
    "tol",
    "tol_mode",
    "tta",
    "verbose",
    "warm_start",
    "weights",
}
# Some do something only beside others: these are set in both fits.
STOPPING = {"early_stopping": True, "epochs": 4, "min_epochs": 2, "n_iter_no_change": 2, "tol": 0.1}
FALLING = {"lr_schedule": "plateau", "epochs": 4, "lr_patience": 2, "tol": 0.5}
BESIDE = {
    **dict.fromkeys(
        (
            "min_epochs",
            "monitor",
            "n_iter_no_change",
            "restore_best",
            "stop_against",
            "tol",
            "tol_mode",
            "validation_fraction",
        ),
        STOPPING,
    ),
    "focal_alpha": {"loss": "focal"},
    "focal_gamma": {"loss": "focal"},
    "lr_factor": FALLING,
    "lr_patience": FALLING,
    # whose defaults do nothing in two epochs
    "lr_schedule": {"lr_step": 1, "lr_patience": 1, "tol": 9.0, "epochs": 3},
    "lr_step": {"lr_schedule": "step", "epochs": 4},
    "lr_warmup": {"lr_schedule": "one_cycle"},
    "oversample": {"augment": True},
    "momentum": {"optimizer": "sgd"},
    "nesterov": {"optimizer": "sgd", "momentum": 0.9},
}


TOUCH = {"augment", "batch_size", "clipnorm", "jit_compile", "l2", "loss", "optimizer",
         "precision", "random_state", "strategy", "warm_start", "weight_decay"}  # fmt: skip
"""Shared parameters that reach the layers, statistics or optimizer variables of a network."""


def _changes():
    """Every parameter of every estimator; the shared ones once, and `TOUCH` on a deep network.

    What keeps fits apart is the spec, which all networks have in common. The first value of each
    shared one is tried by default, the others among the slow tests.
    """
    shared = set.intersection(*(set(get(name)._get_param_names()) for name in NAMES))
    for name in NAMES:
        for parameter in get(name)._get_param_names():
            if parameter in shared and name not in (NAMES[-1], "DeepResNetClassifier"):
                continue
            listed = VALUES_OF.get((name, parameter)) or VALUES.get(parameter, ["no value listed"])
            if parameter in shared and name in SLOW:
                listed = listed[:1] if parameter in TOUCH else []
            for number, value in enumerate(listed):
                slow = name in SLOW or (parameter in shared and number > 0)
                marks = [pytest.mark.slow] if slow else []
                yield pytest.param(name, parameter, value, marks=marks)


def _fit(name, **params):
    plain = {"optimizer": "adam", "jit_compile": False, "augment": False}  # the fastest to trace
    return make(name, **{**plain, **params}).fit(X, y)


def _in_an_empty_cache(name, **params):
    """Fit with a network and graphs of its own; other networks are there again afterwards."""
    others = dict(cache._idle)
    cache.clear()
    fitted = _fit(name, **params)
    for spec, idle in others.items():  # the last one is lent first: the one just used
        cache._idle[spec] = [*idle, *cache._idle.get(spec, [])]
    return fitted


@functools.cache
def _fresh(name, **base):
    return _in_an_empty_cache(name, **base).weights_


@pytest.mark.parametrize(("name", "parameter", "value"), list(_changes()))
def test_no_parameter_leaks(name, parameter, value):
    listed = parameter in VALUES or (name, parameter) in VALUES_OF
    assert listed, f"List values to try for {parameter!r} of {name} in VALUES."
    base = BESIDE.get(parameter, {})
    change = {**base, parameter: value}
    base_fresh = _fresh(name, **base)
    changed_fresh = _in_an_empty_cache(name, **change)
    assert parameter in IDLE or not same(changed_fresh.weights_, base_fresh)
    assert same(_fit(name, **base), base_fresh)
    changed_warm = _fit(name, **change)
    assert same(changed_warm, changed_fresh)
    assert changed_warm.history_ == changed_fresh.history_
