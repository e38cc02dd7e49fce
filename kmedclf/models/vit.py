"""The vision transformer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import keras

from kmedclf.models._pretrained import PretrainedClassifier
from kmedclf.models._weights import Published
from kmedclf.parameters import PositiveInt
from kmedclf.training import loop

FEW = 1000
"""Fewer images than these train no large transformer from scratch."""


class ViTClassifier(PretrainedClassifier):
    """Vision transformer: an image is a sentence of patches.

    The defaults are ViT-B; with patches of 16 pixels on images of 224 it has its 86,567,656
    parameters for 1000 classes. ImageNet weights are timm's
    ``vit_base_patch16_224.augreg2_in21k_ft_in1k``; on images of another size their positions are
    resampled.

    Parameters
    ----------
    num_layers : int, default=12
        Encoder blocks.
    patch_size : int or None, default=None
        Side of a patch, in pixels, at most that of the image; None is 16 from 96 pixels or for
        weights from elsewhere, else 4.
    hidden_dim : int, default=768
        Width of a token, a multiple of ``num_heads``.
    num_heads : int, default=12
        Heads of the attention.
    mlp_dim : int, default=3072
        Neurons between the two dense layers of a block.

    Notes
    -----
    At its default size a step takes seconds on a CPU, however small the images: 200 epochs of 16
    images take some ten minutes. Few images want few and narrow layers, as in the example, or
    weights from elsewhere.

    References
    ----------
    A. Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at
    scale", ICLR 2021.

    Examples
    --------
    >>> from kmedclf import ViTClassifier
    >>> from kmedclf.datasets import make_blood_cells
    >>> X, y = make_blood_cells(64, random_state=0)  # synthetic
    >>> vit = ViTClassifier(
    ...     num_layers=1, hidden_dim=8, num_heads=2, mlp_dim=8, epochs=1, random_state=0
    ... )
    >>> vit.fit(X, y).predict(X).shape
    (64,)
    """

    num_layers: PositiveInt = 12
    patch_size: PositiveInt | None = None
    hidden_dim: PositiveInt = 768
    num_heads: PositiveInt = 12
    mlp_dim: PositiveInt = 3072

    takes_presets = True
    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)

    def _train(self, task: loop.TrainingTask) -> loop.TrainingState:
        each = 4 * self.hidden_dim**2 + 2 * self.hidden_dim * self.mlp_dim  # weights of a block
        n_weights, n = self.num_layers * each, len(task.rows)
        if self.weights is None and task.start is None and n_weights > 10_000 * n and n < FEW:
            warnings.warn(
                f"{type(self).__name__} trains {n_weights / 1e6:.0f} million weights from scratch "
                f"on {n} images, at seconds a step on a CPU; lower 'num_layers', 'hidden_dim' and "
                "'mlp_dim', or give 'weights'.",
                UserWarning,
                stacklevel=2,
            )
        return super()._train(task)

    @property
    def smallest_image(self) -> int:  # type: ignore[override]
        """Side in pixels of the smallest images that the network takes; flat vectors excepted."""
        return self.patch_size or (4 if self.weights is None else 16)

    def backbone(self, x: Any) -> Iterator[Any]:
        """Yield tokens (b, 1 + patches, d) behind the patches and every block, then (b, d)."""
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"The 'hidden_dim' parameter of {type(self).__name__} must be a multiple of the "
                f"{self.num_heads} of 'num_heads'. Got {self.hidden_dim} instead."
            )
        height, width = x.shape[1:3]
        auto = 16 if self.weights is not None or min(height, width) >= 96 else 4
        size = self.patch_size or auto
        patch = (min(size, height), min(size, width))  # smaller for a flat vector only
        x = keras.layers.Conv2D(self.hidden_dim, patch, patch, "same", name="patch_embed.proj")(x)
        x = _Tokens(name="tokens")(x)
        yield x
        for layer in range(self.num_layers):
            x = self._block(x, f"blocks.{layer}")
            if layer == self.num_layers - 1:
                x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)[:, 0]
            yield x

    def _block(self, x: Any, name: str) -> Any:
        attention = keras.layers.MultiHeadAttention(
            self.num_heads, self.hidden_dim // self.num_heads, name=f"{name}.attn"
        )
        y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}.norm1")(x)
        x = keras.layers.Add()([x, attention(y, y)])
        y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}.norm2")(x)
        y = keras.layers.Dense(self.mlp_dim, name=f"{name}.mlp.fc1")(y)
        # On CPUs TensorFlow's error function takes twice as long in bfloat16.
        y = keras.layers.Activation("gelu", dtype="float32")(y)
        y = keras.layers.Dense(self.hidden_dim, name=f"{name}.mlp.fc2")(y)
        return keras.layers.Add()([x, y])

    def published(self) -> Published | None:
        """Say which file "imagenet" means, if there is one for these parameters."""
        if (self.num_layers, self.patch_size or 16, self.hidden_dim, self.num_heads,
                self.mlp_dim) != (12, 16, 768, 12, 3072):  # fmt: skip
            return None
        name = "vit_base_patch16_224.augreg2_in21k_ft_in1k"
        url = f"https://huggingface.co/timm/{name}/resolve/main/model.safetensors"
        return Published(f"{name}.safetensors", url)


@keras.saving.register_keras_serializable("kmedclf")
class _Tokens(keras.layers.Layer):
    """Patches (b, h, w, d) to tokens (b, 1 + h w, d): a class token first, positions added."""

    def build(self, shape: tuple[int, ...]) -> None:
        _, height, width, d = shape
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        self.cls_token = self.add_weight((1, 1, d), "zeros", name="cls_token")
        self.pos_embed = self.add_weight((1, 1 + height * width, d), normal, name="pos_embed")
        self.pos_embed.grid = (height, width)  # weights of another grid are resampled

    def call(self, x: Any) -> Any:
        n, _, _, d = keras.ops.shape(x)
        first = keras.ops.broadcast_to(self.cls_token, (n, 1, d))
        patches = keras.ops.reshape(x, (n, -1, d))
        return keras.ops.concatenate([first, patches], axis=1) + self.pos_embed

    def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        n, height, width, d = shape
        return n, 1 + height * width, d
