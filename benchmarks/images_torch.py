"""The contestants of `benchmarks.images` in PyTorch: torchvision's networks, channels last.

Runs under a Python that has torch, torchvision and NumPy, or Pillow and NumPy alone to decode.
A DataLoader's processes decode by torchvision's decoder and hand on bytes, which the network's
process scales; they are kept between epochs, and go on decoding across their ends, as this package
does. The optimizer is the fused Adam, bfloat16 is autocast's. "Compiled" is ``torch.compile`` of
the loss in training, and of the network, in inference mode, in predict.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks import _common

try:
    import torch
    import torchvision
    from torch.nn import functional as F

    Base: Any = torch.utils.data.Dataset
except ImportError:  # Pillow alone
    Base = object


class Files(Base):
    """Image files as tensors (3, side, side), uint8, with their labels."""

    def __init__(self, files: list[str], y: list[int], side: int) -> None:
        self.files, self.y, self.side = files, y, side

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        """Read one."""
        image = torchvision.io.decode_image(self.files[i], torchvision.io.ImageReadMode.RGB)
        if image.shape[1:] != (self.side, self.side):
            size = [self.side, self.side]
            image = torchvision.transforms.functional.resize(image, size, antialias=True)
        return image, self.y[i]


def endless(n: int) -> Any:
    """Yield the numbers of images, shuffled anew in every epoch."""
    while True:
        yield from torch.randperm(n).tolist()


def build(network: str, side: int) -> Any:
    """Build a network of torchvision."""
    models, classes = torchvision.models, _common.CLASSES
    if network == "vit":
        return models.VisionTransformer(
            side, 16 if side >= 96 else 4, num_layers=12, num_heads=12, hidden_dim=768,
            mlp_dim=3072, num_classes=classes,
        )  # fmt: skip
    return getattr(models, network)(weights=None, num_classes=classes)


class Network:
    """A network, its optimizer and its loaders."""

    def __init__(self, case: dict[str, Any], compiled: bool, low: bool, workers: int) -> None:
        torch.compiler.reset()
        self.low, self.n, self.batch = low, len(case["files"]), case["batch"]
        self.model = build(case["network"], case["side"]).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.loss = torch.compile(self._loss) if compiled else self._loss
        self.apply = torch.compile(self._apply) if compiled else self._apply
        files = Files(case["files"], case["y"], case["side"])
        given = {"num_workers": workers, "batch_size": self.batch, "persistent_workers": True}
        loader = torch.utils.data.DataLoader
        self.ordered = loader(files, **given)
        # Epochs of a whole number of batches, so that batches may cross the ends of epochs.
        assert self.n % self.batch == 0
        self.shuffled = iter(loader(files, sampler=endless(self.n), **given))

    @property
    def n_params(self) -> int:
        """Number of trainable weights."""
        return sum(one.numel() for one in self.model.parameters())

    def _apply(self, x: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            return self.model(x.to(memory_format=torch.channels_last).float() / 255).float()

    def _loss(self, x: Any, y: Any) -> Any:
        return F.cross_entropy(self._apply(x), y)

    def train(self) -> float:
        """Train an epoch; the mean loss."""
        self.model.train()
        total = torch.zeros(())
        for _ in range(self.n // self.batch):
            x, y = next(self.shuffled)
            loss = self.loss(x, y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.detach()
        return float(total)

    def predict(self) -> Any:
        """Return logits (n, k)."""
        self.model.eval()
        with torch.inference_mode():
            return torch.cat([self.apply(x) for x, _ in self.ordered])


def with_pillow(request: dict[str, Any]) -> Any:
    """Decode all files with Pillow, in as many threads as there are cores."""
    from PIL import Image

    side = request["side"]

    def read(path: str) -> np.ndarray:
        with Image.open(path) as image:
            image = image.convert("RGB")
            return np.asarray(image if image.size == (side, side) else image.resize((side, side)))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return np.stack(list(pool.map(read, request["files"])))


def decode(way: str, request: dict[str, Any], workers: int, loaders: dict[str, Any]) -> Any:
    """Decode all files once; return the seconds."""
    files, key = request["files"], request["files"][0]
    if way != "pillow" and key not in loaders:  # starting processes is not decoding
        data = Files(files, [0] * len(files), request["side"])
        given = {"num_workers": workers, "batch_size": 32, "persistent_workers": True}
        loaders[key] = torch.utils.data.DataLoader(data, **given)
        list(loaders[key])
    clock = _common.Clock()
    if way == "pillow":
        with_pillow(request)
    else:
        for _ in loaders[key]:
            pass
    return clock.passed()


def main() -> None:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("way", choices=["torch", "pillow"])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--low", action="store_true", help="bfloat16")
    parser.add_argument("--workers", type=int, default=1, help="processes that read files")
    args = parser.parse_args()
    answers, loaders = _common.Answers(), dict[str, Any]()
    if args.way == "pillow":
        import PIL

        versions = {"pillow": PIL.__version__}
    else:
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        torch.manual_seed(0)
    answers.give(versions=versions)
    network: Any = None
    while request := answers.request():
        clock = _common.Clock()
        if request["do"] == "decode":
            answers.give(**decode(args.way, request, args.workers, loaders))
        elif request["do"] == "case":
            network = Network(request, args.compiled, args.low, args.workers)
            answers.give(ready=True)
        elif request["do"] == "train":
            network.train()
            answers.give(**clock.passed())
        elif request["do"] == "stop":
            answers.give(n_params=network.n_params)
        else:
            network.predict()
            answers.give(**clock.passed())


if __name__ == "__main__":
    main()
