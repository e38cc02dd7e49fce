"""Features of EfficientNet-Lite0 in PyTorch, eager and channels last, for `benchmarks.transfer`.

Runs under a Python that has torch, NumPy and safetensors. Batch normalisation is as trained, not
folded into the convolutions; images are bytes in memory, as for this package.
"""

from __future__ import annotations

import time

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from benchmarks import _common

STAGES = [(3, 1, 16, 1, 1), (3, 2, 24, 6, 2), (5, 2, 40, 6, 2), (3, 3, 80, 6, 2),
          (5, 3, 112, 6, 1), (5, 4, 192, 6, 2), (3, 1, 320, 6, 1)]  # fmt: skip
"""Side of the kernels, repeats, channels, expansion and stride of each stage."""


class Conv(nn.Conv2d):
    """A convolution that pads like TensorFlow's "same"."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, groups: int = 1) -> None:
        even = size // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, size, stride, even, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        if self.stride[0] > 1:  # zeros are missing at the far side first
            size, stride, side = self.kernel_size[0], self.stride[0], x.shape[-1]
            missing = max(0, (-(-side // stride) - 1) * stride + size - side)
            near, far = missing // 2, missing - missing // 2
            x = F.pad(x, (near, far, near, far))
        return super().forward(x)


class Block(nn.Module):
    """An inverted bottleneck, with the names of the original."""

    def __init__(self, inputs: int, outputs: int, size: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide, self.skips = inputs * expansion, stride == 1 and inputs == outputs
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = Conv(inputs, wide, 1, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = Conv(wide, wide, size, stride, wide), _norm(wide)
        self._project_conv, self._bn2 = Conv(wide, outputs, 1, 1), _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, inputs, h, w) to (b, outputs, h / stride, w / stride)."""
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class Lite0(nn.Module):
    """The network without its last layer."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0, inputs, blocks = Conv(3, 32, 3, 2), _norm(32), 32, []
        for size, repeats, outputs, expansion, stride in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(inputs, outputs, size, expansion, 1 if repeat else stride))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = Conv(320, 1280, 1, 1), _norm(1280)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (b, 3, h, w) to (b, 1280)."""
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


@torch.inference_mode()
def features(model: nn.Module, images: torch.Tensor, batch: int) -> torch.Tensor:
    """Compute the features of images (n, h, w, 3), uint8."""
    parts = []
    for part in images.split(batch):
        pixels = (part.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        parts.append(model(pixels.contiguous(memory_format=torch.channels_last)))
    return torch.cat(parts)


def main() -> None:
    """Answer requests until there are no more."""
    answers = _common.Answers()
    answers.give(versions={"torch": torch.__version__})
    model = Lite0().eval()
    while request := answers.request():
        if request["do"] == "load":
            missing, _ = model.load_state_dict(load_file(request["weights"]), strict=False)
            model = model.to(memory_format=torch.channels_last)
            answers.give(missing=list(missing))
            continue
        images = torch.from_numpy(_common.noise(request["images"], request["side"])[0])
        began, cpu = time.perf_counter(), time.process_time()
        found = features(model, images, request["batch"])
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        answers.give(seconds=seconds, cpu_seconds=cpu, first=found[0, :8].tolist())


if __name__ == "__main__":
    main()
