"""Types of parameters, and the training parameters that all estimators share.

An annotated field declares constructor argument, type, check and default in one line; see
`kmedclf.utils.annotated`.
"""

from __future__ import annotations

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import os
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Literal, TypeAlias

import joblib
import keras
import numpy as np
import tensorflow as tf
from sklearn.utils._param_validation import Interval

from kmedclf import augmentation
from kmedclf.augmentation import test_time
from kmedclf.recipes import AUTO, Auto
from kmedclf.utils.annotated import Words

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

LEAST, MOST = 1e-19, 1e19
"""Range of factors of a gradient: optimizers square it, and float32 ends at 1e-38 and 3e38."""

FACTORS = {"clipnorm": LEAST, "focal_alpha": LEAST, "l2": 0.0}
"""Parameters that are such factors, and their smallest values."""


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingParameters:
    """The training parameters that all estimators share.

    Parameters
    ----------
    recipe : {"auto", "reference", "fast", "best", "transfer"}, default="auto"
        Values of the parameters that are "auto". "reference" trains like a published study,
        "fast" reaches a good accuracy in the least time, "best" the highest accuracy. The last
        two may change the network as well, and rotate and mirror images: set ``augment`` for
        X-rays. "transfer" trains a network that has ``weights``: the last layer first, then all
        others at a smaller rate. "auto" is "transfer" with ``weights`` from elsewhere, otherwise
        "reference". `kmedclf.recipes.RECIPES` lists all values; any value but "auto" overrides
        them.
    epochs : int or "auto", default="auto"
        Maximum number of epochs; 200 in the reference.
    batch_size : int or "auto", default="auto"
        Images per gradient step; 16 or 32 in the reference.
    optimizer : str, default="auto"
        Name of a Keras optimizer; "adam" in the reference, "sgd" for the MLP. "muon" updates
        kernels of convolutions too, as matrices, and the last layer by AdamW. As in Keras, "Adam"
        is "adam".
    learning_rate : float, "auto" or None, default="auto"
        Learning rate; None, as in the reference, is Keras' default for the chosen optimizer,
        which makes a search over optimizers fair.
    momentum : float, default=0.0
        Momentum of the optimizer "sgd"; ignored by the others.
    nesterov : bool, default=False
        Whether to use Nesterov momentum.
    weight_decay : float, "auto" or None, default="auto"
        Decoupled weight decay of Keras' optimizers: each step subtracts this share of every
        kernel, times the learning rate, but nothing of biases and normalisation. None, as in the
        reference, is Keras' default: 0.004 of all weights for "adamw" and "muon", otherwise 0.
    l2 : float, default=0.0
        Penalty on the sum of the squares of all kernels, added to the loss that is minimised but
        not to the one that is reported.
    clipnorm : float or None, default=None
        Maximum norm of the gradient of all weights together; a longer one is scaled down.
    accumulate_steps : int, default=1
        Number of parts of a batch that pass through the network one after the other, before one
        gradient step on their sum. Saves memory for the same ``batch_size``. Batch normalisation
        sees single parts, and XLA is not used.
    lr_schedule : {"auto", "step", "plateau", "cosine", "one_cycle"} or None, default="auto"
        Learning rate schedule; None, as in the reference, is a constant rate. "step" multiplies
        it by ``lr_factor`` every ``lr_step`` epochs. "plateau" does so after ``lr_patience``
        epochs without an improvement of the monitored value, which is that of training without
        validation data. "cosine" decreases it to 0 over ``epochs`` like half a cosine. "one_cycle"
        increases it from 1/25 to 1, then decreases it to 1/250,000 of ``learning_rate``. Every
        ``fit`` restarts the schedule; ``partial_fit`` spreads one schedule over ``epochs`` calls.
    lr_step : int, default=5
        Epochs between two steps of "step".
    lr_factor : float, default=0.1
        Factor of the learning rate for "step" and "plateau".
    lr_patience : int, default=10
        Epochs without improvement after which "plateau" lowers the learning rate.
    lr_warmup : float or None, default=None
        Share of all steps during which the learning rate rises. None is 0.25 for "one_cycle" and
        0 for "cosine"; ignored by the others.
    loss : {"crossentropy", "focal"}, default="crossentropy"
        Loss that training minimises, and that early stopping monitors as "loss".
    focal_alpha : float, default=0.25
        Factor of the focal loss; ``class_weight`` sets one per class.
    focal_gamma : float, default=2.0
        Exponent of the focal loss, up to 20; 0 makes it cross entropy.
    label_smoothing : float or "auto", default="auto"
        Share of each label that is spread evenly over all classes, or for multilabel targets over
        0 and 1. Applies to the training and the validation loss. 0 in the reference.
    early_stopping : bool or "auto", default="auto"
        Stop when the monitored validation value no longer improves. The validation set is
        ``X_val`` if given, otherwise a part split off the training rows. True in the reference.
    monitor : {"accuracy", "loss"}, default="accuracy"
        Validation value to monitor. For multilabel targets, accuracy is the share of right labels
        among all labels of all images.
    stop_against : {"best", "previous"}, default="best"
        What early stopping compares an epoch with: the best value so far, which it must exceed by
        more than ``tol`` to be an improvement; or the epoch before, where only a value that is
        worse by more than ``tol`` counts as an epoch without improvement.
    n_iter_no_change : int, default=20
        Epochs in a row without improvement after which training stops.
    min_epochs : int, default=30
        Epochs before which training does not stop; limited to ``epochs``.
    tol : float, default=0.0
        Smallest change that counts as an improvement; see ``stop_against``.
    tol_mode : {"absolute", "relative"}, default="absolute"
        Whether ``tol`` is in units of the monitored value, or a fraction of what it is compared
        with.
    validation_fraction : float, default=0.1
        Share of the training rows to split off for early stopping, stratified by class, or by the
        rarest label of each image for multilabel targets. With ``groups``, whole groups are split
        off.
    validation_split : float, default=0.0
        Share of the training rows to validate on in every epoch, without stopping early; split off
        like ``validation_fraction``, which it replaces, and not the last rows as in Keras. 0 is
        none.
    restore_best : bool, default=True
        Whether early stopping restores the weights of the best epoch, or keeps the last ones.
    class_weight : {"balanced", "inverse"}, dict or None, default=None
        Weight of each class in the loss, computed from the training set. "balanced" is
        n / (k * count); "inverse" is proportional to 1 / count and sums to 1; a dict maps original
        labels to weights. For multilabel targets, the ones and zeros of each label are two such
        classes, and a dict maps column numbers to the weights of ones.
    oversample : {"duplicate", "augment"} or None, default=None
        Repeat images of smaller classes until all classes are as large as the largest, in the
        training set only. "augment" augments the copies and nothing else. Copies keep their sample
        weights, and count for class weights. Must be None for multilabel targets.
    augment : bool, str, keras.layers.Layer or list of them, default="auto"
        Augmentation of the training images. True is "flip_rotate": flips in both directions and
        a rotation by up to 0.2 turns, suitable for cells but not for most X-rays. Others are
        "mirror", "flips", "dihedral", "shift", "rotate", "crop", "basic", "intensity",
        "distortion", "blur" and any Keras layer that keeps the shape of an image; a list applies
        several in turn. Layers see one image at a time, as float32 on the scale of X. False is no
        augmentation. "auto" is the recipe's value for images, True in the reference, and False
        for flat vectors.
    mixup : float, default=0.0
        Alpha of MixUp: each image is blended with another, and so are labels and weights. Its own
        share is the larger of x and 1 - x, with x from Beta(alpha, alpha). 0 is off.
    cutmix : float, default=0.0
        Alpha of CutMix: a rectangle of each image is replaced by that of another. The rest of the
        image has the same share as in ``mixup``. 0 is off; with both, each image draws one of
        the two.
    tta : {"mirror", "flips", "dihedral", "shift"}, list of them or None, default=None
        Test-time augmentation: predictions average probabilities over views of an image.
        "mirror" is the image and its mirror image; "flips" adds both upside down, 4 views;
        "dihedral" is the 8 symmetries of the square; "shift" is the image and 4 shifts by
        2 pixels. A list combines views: ["mirror", "shift"] has 10. May be changed after
        ``fit``, as training and validation use a single view.
    precision : {"auto", "float32", "mixed", "mixed_bfloat16", "mixed_float16"}, default="auto"
        Precision of all layers but the last; "mixed" chooses for the device. "float32" in the
        reference.
    strategy : str, list of str, tf.distribute.Strategy or None, default=None
        Devices that share one training, as with Keras' ``MirroredStrategy``: each computes the
        gradient of its part of a batch, and one step is taken on their sum. "mirrored" is all GPUs,
        or without a GPU all logical CPUs of TensorFlow; a list names some, as ["GPU:0", "GPU:1"].
        "multi_worker" is those of all processes in ``TF_CONFIG``, which run the same program on the
        same data, with an integer ``random_state``; the first one writes the ``checkpoint``. They
        wait for each other for ``KMEDCLF_JOIN_SECONDS``, an environment variable, or ten minutes.
        ``batch_size`` is that of all devices together. Batch normalisation sees the part of its
        device. The last rows of an epoch that fill no batch, and validation, use one device.
    jit_compile : bool or "auto", default="auto"
        Whether XLA compiles training steps; "auto" uses it where measurements showed a gain.
    image_shape : tuple of int or None, default=None
        Shape (h, w) or (h, w, c) of one image if X is flat, (n, d).
    image_size : int, tuple of int or "auto", default="auto"
        Size (h, w) to which image files are resized, or the side of a square; 64 in the reference,
        224 in "transfer". Ignored for arrays.
    channels : {1, 3}, default=3
        Number of channels to read image files with: grey or RGB.
    resize : {"stretch", "pad", "crop"}, default="stretch"
        Whether to distort an image file of other proportions, to pad it with black, or to crop it.
    on_error : {"raise", "skip"}, default="raise"
        Whether ``fit`` refuses unreadable files, or skips them with a warning and lists them in
        ``skipped_``. ``predict`` always refuses them.
    max_pixels : int or None, default=None
        Maximum number of pixels, height times width, of an image file. A larger one is refused
        before it is decoded, since a small file can claim any size. None is the environment
        variable ``KMEDCLF_MAX_PIXELS``, or 67,108,864 (8192 × 8192) if it is not set.
    cache : "memory", path-like or None, default=None
        Cache of decoded image files for later epochs and fits: the memory of the process, or a
        folder shared by all processes. None decodes files again in every epoch.
    cache_limit : int or str, default="4G"
        Maximum size of the cache in bytes, or with K, M or G. Images that do not fit are decoded
        every time.
    memory : str, path-like, joblib.Memory or None, default=None
        Folder to store fits in: a fit with the same parameters, data, integer ``random_state``,
        library versions and arithmetic (kind of CPU, oneDNN, threads) is loaded instead of
        repeated, so that a search can resume after a crash. Not used with ``callbacks``. Features
        of a frozen network are stored there as well, by image.
    memory_limit : int, str or None, default="10G"
        Maximum size of the fits in that folder, and of the features, in bytes, or with K, M or G.
        The least recently used fits are evicted first.
    checkpoint : str, path-like or None, default=None
        File that keeps the last epoch of an unfinished fit, like Keras' ``BackupAndRestore``. After
        a crash or Ctrl-C, the same ``fit`` goes on from it, with the result of a fit that was not
        interrupted, bit for bit; with other parameters, data, code or versions it is refused.
        Short epochs are written together, in at most a tenth of the time; an interruption writes
        the last one. The file is removed when the fit is finished. ``callbacks`` see the other
        epochs only. Of searches, ``memory`` keeps the fits; ``partial_fit`` uses no checkpoint.
    callbacks : list of keras.callbacks.Callback or None, default=None
        Callbacks of the training, called as by Keras, with a model that returns probabilities.
        Values that they add to the logs are stored in ``history_``. They can be copied and pickled
        afterwards. A method ``set_estimator`` of theirs gets the estimator before each training.
    warm_start : bool, default=False
        Whether ``fit`` continues from the weights and the optimizer of the last fit. With
        ``memory``, and neither early stopping nor ``lr_schedule``, a first fit continues from the
        longest stored fit of fewer epochs, with the same result: for searches with
        ``resource="epochs"``.
    random_state : int, RandomState or None, default=None
        Random seed. The same seed, parameters and images, in any order, give the same weights:
        bit for bit on one kind of CPU with the same number of threads. None draws a fresh seed
        and does not use NumPy's global generator.
    verbose : int, default=0
        1 shows a progress bar.
    """

    recipe: Literal["auto", "reference", "fast", "best", "transfer"] = AUTO
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
    stop_against: Literal["best", "previous"] = "best"
    n_iter_no_change: PositiveInt = 20
    min_epochs: PositiveInt = 30
    tol: NonNegativeFloat = 0.0
    tol_mode: Literal["absolute", "relative"] = "absolute"
    validation_fraction: Fraction = 0.1
    validation_split: FractionOrZero = 0.0
    restore_best: bool = True
    class_weight: Literal["balanced", "inverse"] | dict | None = None
    oversample: Literal["duplicate", "augment"] | None = None
    augment: (
        Annotated[str, Words(set(augmentation.NAMES))]
        | bool
        | keras.layers.Layer
        | list[str | keras.layers.Layer]
        | tuple[str | keras.layers.Layer, ...]
        | Auto
    ) = AUTO
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    tta: Annotated[str, Words(set(test_time.NAMES))] | list[str] | tuple[str, ...] | None = None
    precision: Precision | Auto = AUTO
    strategy: (
        Literal["mirrored", "multi_worker"]
        | list[str]
        | tuple[str, ...]
        | tf.distribute.Strategy
        | None
    ) = None
    jit_compile: Literal["auto"] | bool = "auto"
    image_shape: tuple[int, ...] | list[int] | None = None
    image_size: PositiveInt | tuple[int, ...] | list[int] | Auto = AUTO
    channels: Literal[1, 3] = 3
    resize: Literal["stretch", "pad", "crop"] = "stretch"
    on_error: Literal["raise", "skip"] = "raise"
    max_pixels: PositiveInt | None = None
    cache: str | os.PathLike | None = None
    cache_limit: PositiveInt | str = "4G"
    memory: str | os.PathLike | joblib.Memory | None = None
    memory_limit: PositiveInt | str | None = "10G"
    checkpoint: str | os.PathLike | None = None
    callbacks: list[keras.callbacks.Callback] | None = None
    warm_start: bool = False
    random_state: RandomState = None
    verbose: Verbose = 0

    def _check_factors(self) -> None:
        """Refuse parameters that scale gradients out of the range of float32."""
        for key, least in FACTORS.items():
            value = getattr(self, key)
            if value is not None and not least <= value <= MOST:
                raise ValueError(
                    f"The {key!r} parameter of {type(self).__name__} must be between {least:g} "
                    f"and {MOST:g}, so that float32 holds the squares of gradients. Got {value!r} "
                    "instead."
                )
