"""The networks of `benchmarks.train` in PyTorch, eager or compiled, channels last.

Runs under a Python that has torch and NumPy. Images are float32 in memory, the optimizer is the
fused Adam, bfloat16 is autocast's. Augmentation is `affine_grid` and `grid_sample` on the batch,
outside what is compiled: flips and rotations of the same distribution as the others'.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import _common


class Block(nn.Module):
    """A residual block of three convolutions."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(inputs, filters, 1, stride=2)
        layers: list[nn.Module] = [nn.Conv2d(inputs, filters, 3, 2, 1), nn.BatchNorm2d(filters)]
        for _ in range(2):
            layers += [nn.ReLU(), nn.Conv2d(filters, filters, 3, 1, 1), nn.BatchNorm2d(filters)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, inputs, h, w) to (b, filters, h / 2, w / 2)."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def build(network: str) -> nn.Module:
    """Build a network by its name."""
    if network == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(28 * 28 * 3, 128), nn.ReLU(), nn.Linear(128, _common.CLASSES)
        )
    if network.startswith("cnn_"):
        filters = int(network.removeprefix("cnn_"))
        head = nn.Linear(filters * 13 * 13, _common.CLASSES)
        return nn.Sequential(
            nn.Conv2d(3, filters, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), head
        )
    stem = [nn.ZeroPad2d(1), nn.Conv2d(3, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(
        *stem, Block(64, 128), Block(128, 256), *head, nn.Linear(256, _common.CLASSES)
    )


def augmented(x: torch.Tensor) -> torch.Tensor:
    """Flip at random both ways and turn by up to a fifth of a full turn; borders reflected."""
    n = len(x)
    angle = (torch.rand(n) * 2 - 1) * 0.2 * 2 * math.pi
    flip = torch.randint(0, 2, (2, n)) * 2.0 - 1
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros(n)
    rows = [cos * flip[0], -sin * flip[0], zero, sin * flip[1], cos * flip[1], zero]
    maps = torch.stack(rows, 1).reshape(n, 2, 3)
    grid = nn.functional.affine_grid(maps, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


class Training:
    """One network in training."""

    def __init__(self, case: dict[str, Any], compiled: bool, low: bool) -> None:
        torch.compiler.reset()
        self.batch, self.augment, self.low = case["batch"], case["augment"], low
        self.model = build(case["network"]).to(memory_format=torch.channels_last)
        self.model.train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), fused=True)
        self.loss = torch.compile(self._loss) if compiled else self._loss

    @property
    def n_params(self) -> int:
        """Number of trainable weights."""
        return sum(one.numel() for one in self.model.parameters())

    def _loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            logits = self.model(x)
        return nn.functional.cross_entropy(logits.float(), y)

    def epoch(self, X: torch.Tensor, y: torch.Tensor) -> float:
        """Train one pass over images (n, c, h, w); the mean loss."""
        total = torch.zeros(())
        for index in torch.randperm(len(X)).split(self.batch):
            x = X[index].contiguous(memory_format=torch.channels_last)
            if self.augment:
                x = augmented(x).contiguous(memory_format=torch.channels_last)
            loss = self.loss(x, y[index])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(index)
        return float(total) / len(X)


def main() -> None:
    """Answer requests until there are no more."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--low", action="store_true", help="bfloat16")
    args = parser.parse_args()
    answers = _common.Answers()
    answers.give(rss_mb=_common.rss_mb(), versions={"torch": torch.__version__})
    while case := answers.request():
        images, labels = _common.noise(case["images"])
        scaled = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255
        X = torch.from_numpy(scaled).contiguous(memory_format=torch.channels_last)
        y = torch.from_numpy(labels)
        began = time.perf_counter()
        training = Training(case, args.compiled, args.low)
        training.epoch(X[: case["batch"]], y[: case["batch"]])
        first = time.perf_counter() - began
        turns = _common.Turns(answers, case["epochs"])
        more = turns.begin(first_step_s=first, n_params=training.n_params)
        while more:
            training.epoch(X, y)
            more = turns.ended()
        answers.give(peak_rss_mb=_common.peak_rss_mb())


if __name__ == "__main__":
    main()
