"""Recipes: named sets of training and network parameters.

A parameter set to ``"auto"`` takes the recipe's value; any other value overrides the recipe.
``fast`` and ``best`` rotate and mirror images, and shift them unless the network is an MLP. That
suits cells and slices, but not most X-rays: set ``augment`` for those. ``transfer`` is for networks
that start from weights trained on other images, and stands for "auto" where they do.
``benchmarks/accuracy.py`` measures the recipes.

References
----------
L. Smith, N. Topin, "Super-convergence: very fast training of neural networks using large learning
rates", 2018. J. Howard, S. Ruder, "Universal language model fine-tuning for text classification",
ACL 2018 (the head first, slower layers below it). I. Loshchilov, F. Hutter, "Decoupled weight decay
regularization", ICLR 2019. C. Szegedy et al., "Rethinking the Inception architecture for computer
vision", CVPR 2016 (label smoothing). Whitened patches: `kmedclf.models._layers`. Muon:
`kmedclf.training.optimizers`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from kmedclf.base import ImageClassifier


Auto: TypeAlias = Literal["auto"]
AUTO: Auto = "auto"

_PLAIN: dict[str, Any] = {"batch_norm": False, "dropout": 0.0, "normalize": False}
_ONE_CYCLE: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
    "lr_schedule": "one_cycle",
    "label_smoothing": 0.1,
    "early_stopping": False,
    "augment": ("dihedral", "shift"),
}
_MLP: dict[str, Any] = {
    "units": 512, "batch_norm": True, "augment": True, "precision": "float32",
}  # fmt: skip
_RESNET: dict[str, Any] = {"optimizer": "muon", "learning_rate": 5e-3}
_CNN: dict[str, Any] = {"normalize": "whiten", "learning_rate": 1e-2}

RECIPES: dict[str, dict[str, dict[str, Any]]] = {
    "reference": {
        "ImageClassifier": {
            "epochs": 200,
            "batch_size": 32,
            "optimizer": "adam",
            "learning_rate": None,
            "weight_decay": None,
            "lr_schedule": None,
            "label_smoothing": 0.0,
            "early_stopping": True,
            "augment": True,
            "precision": "float32",
            "image_size": (64, 64),
        },
        "PretrainedClassifier": {
            "head_epochs": 0,
            "backbone_rate": 1.0,
            "frozen_batch_norm": False,
        },
        "MLPClassifier": {**_PLAIN, "units": 128, "batch_size": 16, "optimizer": "sgd"},
        "CNNClassifier": {**_PLAIN, "batch_size": 16},
    },
    "fast": {
        "ImageClassifier": {**_ONE_CYCLE, "epochs": 20, "precision": "mixed"},
        "MLPClassifier": {**_MLP, "epochs": 60},
        "CNNClassifier": {**_CNN, "epochs": 30},
        "ResNetClassifier": {**_RESNET, "epochs": 15},
    },
    "best": {
        "ImageClassifier": {**_ONE_CYCLE, "epochs": 60, "precision": "mixed"},
        "MLPClassifier": {**_MLP, "epochs": 200},
        "CNNClassifier": {**_CNN, "epochs": 60},
        "ResNetClassifier": {**_RESNET, "epochs": 60},
    },
    "transfer": {
        "ImageClassifier": {
            **_ONE_CYCLE,
            "epochs": 12,
            "batch_size": 16,
            "augment": ("mirror", "shift"),
            "image_size": 224,
        },
        "PretrainedClassifier": {
            "head_epochs": 4,
            "backbone_rate": 0.1,
            "frozen_batch_norm": True,
        },
    },
}
"""Parameters by recipe and class, inherited by subclasses.

All inherit from ``reference``, which follows a published study on BloodMNIST.
"""


HEAD_ALONE: dict[str, Any] = {"augment": False, "epochs": 60}
"""What ``transfer`` sets otherwise where only the last layer is trained, in seconds."""


def chosen(recipe: str, weights: Any) -> str:
    """Return what a ``recipe`` stands for, "auto" or a name, with the weights to start from."""
    if recipe != AUTO:
        return recipe
    # A model of one's own goes on with images like those it was trained on.
    own = weights is None or os.fspath(weights).endswith(".kmedclf")
    return "reference" if own else "transfer"


def values_of(recipe: str, bases: Iterable[str], trainable: Any = None) -> dict[str, Any]:
    """Collect a recipe's values for a class, given by the names of its bases, farthest first."""
    given: dict[str, Any] = {}
    bases = list(bases)
    for name in ("reference", recipe):
        for base in bases:
            given |= RECIPES[name].get(base, {})
    return given | HEAD_ALONE if recipe == "transfer" and trainable == "head" else given


def parameters(estimator: ImageClassifier) -> dict[str, Any]:
    """Return all parameters of an estimator, with the recipe's values in place of "auto"."""
    values = estimator.get_params(deep=False)
    recipe = chosen(estimator.recipe, values.get("weights"))
    bases = [base.__name__ for base in reversed(type(estimator).__mro__)]
    given = {**values_of(recipe, bases, values.get("trainable")), "recipe": recipe}
    return {
        name: given[name] if name in given and _is_auto(value) else value
        for name, value in values.items()
    }


def applied(estimator: ImageClassifier) -> ImageClassifier:
    """Return a copy of an estimator with the recipe's values in place of "auto"."""
    # Not a clone, which would lose the fitted attributes.
    copied = copy.copy(estimator)
    copied.__dict__.update(parameters(estimator))
    return copied


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == AUTO
