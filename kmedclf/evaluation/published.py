"""What others have published on MedMNIST."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import yaml


class Published(NamedTuple):
    """A published accuracy, and how it came about."""

    model: str
    accuracy: float
    pixels: int | None
    protocol: str
    source: str

    @property
    def resolution(self) -> str:
        """Height and width of the images, in words."""
        return "resolution not given" if self.pixels is None else f"{self.pixels} px"

    @property
    def words(self) -> str:
        """Resolution, protocol and source, in words."""
        return f"{self.resolution}; {self.protocol}; {self.source}"


def published(dataset: str) -> list[Published]:
    """List the published accuracies on a MedMNIST set; empty if none are known."""
    text = (Path(__file__).parent / "published.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    return [
        Published(
            one["model"], one["accuracy"], one.get("pixels"), content["protocol"], content["source"]
        )
        for one in content["datasets"].get(dataset.lower(), [])
    ]
