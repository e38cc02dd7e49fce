"""The types of parameters, and the training parameters that all estimators share.

An annotated field is constructor, type, check and default in one line; see
`kmedclf.utils.annotated`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Literal, TypeAlias

import joblib
import keras
import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from kmedclf import augmentation
from kmedclf.augmentation import test_time
from kmedclf.recipes import AUTO, Auto

PositiveInt: TypeAlias = Annotated[int, Interval(Integral, 1, None, closed="left")]
PositiveFloat: TypeAlias = Annotated[float, Interval(Real, 0, None, closed="neither")]
NonNegativeFloat: TypeAlias = Annotated[float, Interval(Real, 0, None, closed="left")]
Fraction: TypeAlias = Annotated[float, Interval(Real, 0, 1, closed="neither")]
FractionOrZero: TypeAlias = Annotated[float, Interval(Real, 0, 1, closed="left")]
RandomState: TypeAlias = Annotated[int | np.random.RandomState | None, "random_state"]
Verbose: TypeAlias = Annotated[int | bool, "verbose"]

Activation: TypeAlias = Literal[
    "elu", "gelu", "leaky_relu", "linear", "mish", "relu", "selu", "sigmoid", "silu", "softplus",
    "softsign", "tanh",
]  # fmt: skip
Optimizer: TypeAlias = Literal[
    "adadelta", "adagrad", "adam", "adamax", "adamw", "ftrl", "lion", "muon", "nadam", "rmsprop",
    "sgd",
]  # fmt: skip
Precision: TypeAlias = Literal["float32", "mixed", "mixed_bfloat16", "mixed_float16"]


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingParameters:
    """The training parameters that all estimators share.

    Parameters
    ----------
    recipe : {"reference", "fast", "best"}, default="reference"
        What parameters that are "auto" stand for. "reference" trains as a published study did;
        "fast" reaches a good accuracy in the least time, "best" the highest one, by means that may
        change the network as well. `kmedclf.recipes.RECIPES` lists them all; any value but "auto"
        wins over them. The last two turn and mirror images: give ``augment`` for X-rays.
    epochs : int or "auto", default="auto"
        Longest training, in passes over the training rows; 200 in the reference.
    batch_size : int or "auto", default="auto"
        Images in a gradient step; 16 or 32 in the reference.
    optimizer : str, default="auto"
        Name of a Keras optimizer; "adam" in the reference, "sgd" for the MLP. "muon" takes
        the kernels of convolutions too, as matrices, and leaves the last layer to AdamW. As in
        Keras, "Adam" is "adam".
    learning_rate : float, "auto" or None, default="auto"
        Learning rate; None, as in the reference, is Keras' default of the chosen optimizer, so
        that a search over optimizers is fair.
    momentum : float, default=0.0
        Momentum of the optimizer "sgd"; the others do not use it.
    nesterov : bool, default=False
        Whether that momentum is Nesterov's.
    weight_decay : float, "auto" or None, default="auto"
        Share of every kernel that a step takes off, times the learning rate: the decoupled decay
        of Keras' optimizers, biases and normalisation excepted. None, as in the reference, is
        Keras' default: 0.004 of all weights for "adamw" and "muon", nothing for the others.
    l2 : float, default=0.0
        Penalty on the sum of the squares of all kernels, added to the loss that is minimised and
        not to the one that is reported.
    clipnorm : float or None, default=None
        Longest gradient, over all weights together; a longer one is scaled down to it.
    accumulate_steps : int, default=1
        Parts in which a batch goes through the network, one after the other, for a gradient step
        of the whole: less memory for the same ``batch_size``. Batch normalisation sees the parts,
        and XLA is not used.
    lr_schedule : {"auto", "step", "plateau", "cosine", "one_cycle"} or None, default="auto"
        How the learning rate changes; None, as in the reference, is not at all. "step" multiplies
        it by ``lr_factor`` every ``lr_step`` epochs, "plateau" after ``lr_patience`` epochs without
        an improvement of the monitored value (that of training where nothing is validated);
        "cosine" lets it fall to 0 over ``epochs`` like half a cosine, "one_cycle" rise to it from
        1/25 of it and fall to 1/250,000.
        Every ``fit`` starts the schedule anew; ``partial_fit`` goes through one of ``epochs``
        calls.
    lr_step : int, default=5
        Epochs between the steps of "step".
    lr_factor : float, default=0.1
        What "step" and "plateau" multiply the learning rate by.
    lr_patience : int, default=10
        Epochs that "plateau" waits.
    lr_warmup : float or None, default=None
        Share of all steps in which the learning rate rises. None is 0.25 for "one_cycle" and 0 for
        "cosine"; the others do not use it.
    loss : {"crossentropy", "focal"}, default="crossentropy"
        What training minimises, and early stopping watches as "loss".
    focal_alpha : float, default=0.25
        Factor of the focal loss; ``class_weight`` sets one per class.
    focal_gamma : float, default=2.0
        Exponent of the focal loss, up to 20; 0 makes it cross entropy.
    label_smoothing : float or "auto", default="auto"
        Share of a label that goes to all classes alike, or of several labels to either side of
        each; of ``loss`` and the validation loss. 0 in the reference.
    early_stopping : bool or "auto", default="auto"
        Stop when the monitored validation value no longer improves. Validates on ``X_val`` where
        it is given, else on a part split off the training rows. True in the reference.
    monitor : {"accuracy", "loss"}, default="accuracy"
        Validation value to watch. Where an image may have several labels, accuracy is the share of
        all of them that are right.
    n_iter_no_change : int, default=20
        Epochs without improvement after which training stops.
    min_epochs : int, default=30
        Epochs before which training does not stop; at most ``epochs`` count.
    tol : float, default=0.0
        Improvement that counts as one.
    tol_mode : {"absolute", "relative"}, default="absolute"
        Whether ``tol`` is in units of the monitored value or a fraction of its best.
    validation_fraction : float, default=0.1
        Share of the training rows split off for early stopping, stratified by class, or by the
        rarest of several labels; whole groups where ``groups`` are given.
    restore_best : bool, default=True
        Whether early stopping ends with the weights of the best epoch rather than the last.
    class_weight : {"balanced", "inverse"}, dict or None, default=None
        Weight of each class in the loss, computed from the rows trained on. "balanced" is
        n / (k count); "inverse" is proportional to 1 / count and sums to 1; a dict maps original
        labels to weights. Where an image may have several labels, ones and zeros of each are two
        such classes, and a dict maps numbers of columns to weights of their ones.
    oversample : {"duplicate", "augment"} or None, default=None
        Repeat the images of smaller classes until all classes have as many as the largest, in the
        part trained on only. "augment" augments the copies and nothing else. Copies keep their
        sample weights; class weights are computed with the copies counted. None where an image may
        have several labels.
    augment : bool, str, keras.layers.Layer or list of them, default="auto"
        Augmentation of the training images. True is "flip_rotate": flips in both directions and
        a rotation by up to 0.2 turns, right for cells and wrong for most X-rays; "mirror",
        "flips", "dihedral", "shift", "rotate", "crop" or the sets "basic", "intensity",
        "distortion" and "blur" are others, and so is any Keras layer that keeps an image's shape;
        a list applies several in turn. Layers see one image at a time, as float32 on the scale
        of X. False is none. "auto" is the recipe's, which is True in the reference, for images and
        False for flat vectors.
    mixup : float, default=0.0
        Alpha of MixUp: each image is blended with another, labels and weights alike, its own share
        being the larger of x and 1 - x with x from Beta(alpha, alpha). 0 is off.
    cutmix : float, default=0.0
        Alpha of CutMix: a rectangle of each image is taken from another, its area as that share.
        0 is off; with both, each image draws one of the two.
    tta : {"mirror", "flips", "dihedral", "shift"}, list of them or None, default=None
        Views of an image over which predictions average probabilities: "mirror" itself and its
        mirror image, "flips" 4 with upside-down, "dihedral" the 8 symmetries of the square,
        "shift" itself and shifted by 2 pixels in 4 directions; a list combines them, so that
        ["mirror", "shift"] are 10. It may be changed after ``fit``: training, validation
        included, sees one view.
    precision : {"auto", "float32", "mixed", "mixed_bfloat16", "mixed_float16"}, default="auto"
        Arithmetic of all layers but the last; "mixed" chooses for the device. "float32" in the
        reference.
    jit_compile : bool or "auto", default="auto"
        Whether training steps are compiled by XLA; "auto" does it where it was measured to pay.
    image_shape : tuple of int or None, default=None
        Shape (h, w) or (h, w, c) of one image if X is flat, (n, d).
    image_size : int or tuple of int, default=(64, 64)
        Size (h, w) at which image files are read, or the side of a square. Arrays have their own.
    channels : {1, 3}, default=3
        Whether image files are read as grey or as RGB.
    resize : {"stretch", "pad", "crop"}, default="stretch"
        Whether an image file of other proportions is distorted, padded with black, or cut.
    on_error : {"raise", "skip"}, default="raise"
        Whether ``fit`` refuses files that cannot be read, or leaves them out with a warning and
        lists them in ``skipped_``. ``predict`` always refuses them.
    max_pixels : int or None, default=None
        Most pixels, height times width, of an image file; a larger one is refused before it is
        decoded, since a small file can claim any size. None is the environment variable
        ``KMEDCLF_MAX_PIXELS``, or else 67,108,864 (8192 × 8192).
    cache : "memory", path-like or None, default=None
        Where images of files are kept once they are decoded, for later epochs and fits: in the
        process' memory, or in a folder, for all processes. None decodes them for every epoch.
    cache_limit : int or str, default="4G"
        Largest size of that in bytes, or with K, M or G. Images beyond it are decoded each time.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder in which fits are remembered: a fit with the same parameters, data, integer
        ``random_state`` and library versions is loaded instead of repeated, so that a search
        started again after a crash goes on where it was. Not used with ``callbacks``.
    memory_limit : int, str or None, default="10G"
        Largest size of that folder in bytes, or with K, M or G; what was not used for longest
        goes first.
    callbacks : list of keras.callbacks.Callback or None, default=None
        Called during training as by Keras, with a model that gives probabilities; numbers that
        they add to the logs reach ``history_``. They can be copied and pickled afterwards.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit's weights and optimizer. With ``memory``, and
        neither early stopping nor ``lr_schedule``, a first fit goes on from the longest remembered
        one of fewer epochs, with the same result: for searches with ``resource="epochs"``.
    random_state : int, RandomState or None, default=None
        Seed of everything random. The same seed, parameters and images give the same weights, in
        whatever order the images come: bit for bit on one kind of CPU with one number of threads.
        None draws a fresh seed and leaves NumPy's global generator alone.
    verbose : int, default=0
        1 shows a progress bar.
    """

    recipe: Literal["reference", "fast", "best"] = "reference"
    epochs: PositiveInt | Auto = AUTO
    batch_size: PositiveInt | Auto = AUTO
    optimizer: Optimizer | Auto = AUTO
    learning_rate: PositiveFloat | Auto | None = AUTO
    momentum: FractionOrZero = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFloat | Auto | None = AUTO
    l2: NonNegativeFloat = 0.0
    clipnorm: PositiveFloat | None = None
    accumulate_steps: PositiveInt = 1
    lr_schedule: Literal["auto", "step", "plateau", "cosine", "one_cycle"] | None = AUTO
    lr_step: PositiveInt = 5
    lr_factor: Fraction = 0.1
    lr_patience: PositiveInt = 10
    lr_warmup: FractionOrZero | None = None
    loss: Literal["crossentropy", "focal"] = "crossentropy"
    focal_alpha: PositiveFloat = 0.25
    focal_gamma: Annotated[float, Interval(Real, 0, 20, closed="both")] = 2.0
    label_smoothing: FractionOrZero | Auto = AUTO
    early_stopping: bool | Auto = AUTO
    monitor: Literal["accuracy", "loss"] = "accuracy"
    n_iter_no_change: PositiveInt = 20
    min_epochs: PositiveInt = 30
    tol: NonNegativeFloat = 0.0
    tol_mode: Literal["absolute", "relative"] = "absolute"
    validation_fraction: Fraction = 0.1
    restore_best: bool = True
    class_weight: Literal["balanced", "inverse"] | dict | None = None
    oversample: Literal["duplicate", "augment"] | None = None
    augment: (
        Annotated[str, StrOptions(set(augmentation.NAMES))]
        | bool
        | keras.layers.Layer
        | list[str | keras.layers.Layer]
        | tuple[str | keras.layers.Layer, ...]
        | Auto
    ) = AUTO
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    tta: Annotated[str, StrOptions(set(test_time.NAMES))] | list[str] | tuple[str, ...] | None = (
        None
    )
    precision: Precision | Auto = AUTO
    jit_compile: Literal["auto"] | bool = "auto"
    image_shape: tuple[int, ...] | list[int] | None = None
    image_size: PositiveInt | tuple[int, ...] | list[int] = (64, 64)
    channels: Literal[1, 3] = 3
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    on_error: Literal["raise", "skip"] = "raise"
    max_pixels: PositiveInt | None = None
    cache: str | os.PathLike | None = None
    cache_limit: PositiveInt | str = "4G"
    memory: str | os.PathLike | joblib.Memory | None = None
    memory_limit: PositiveInt | str | None = "10G"
    callbacks: list[keras.callbacks.Callback] | None = None
    warm_start: bool = False
    random_state: RandomState = None
    verbose: Verbose = 0
