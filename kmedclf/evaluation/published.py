"""Published accuracies on MedMNIST."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kmedclf import datasets


class Published(NamedTuple):
    """A published accuracy and its protocol."""

    model: str
    accuracy: float
    resolution: str
    protocol: str
    source: str

    @property
    def words(self) -> str:
        """Resolution, protocol and source, in words."""
        return f"{self.resolution}; {self.protocol}; {self.source}"


def published(dataset: str) -> list[Published]:
    """List the published accuracies on a MedMNIST set; [] if none are known."""
    text = (Path(__file__).parent / "published.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    rows = content["datasets"].get(dataset.lower(), [])
    return [Published(**{**content["common"], **one}) for one in rows]


def protocol_of(
    data: Mapping[str, Any],
    split: str,
    dataset: str | None,
    scored: Mapping[str, Any] | None = None,
) -> tuple[str, str]:
    """Describe resolution, data and split of models, and why published figures are not comparable.

    ``data`` describes the training data, ``scored`` the evaluated data if they may differ, as in
    environment.json. The caveat is "" for the whole official splits of ``dataset``.
    """
    own = scored is None or (
        scored.get("sha256") == data.get("sha256") and scored["name"] == data["name"]
    )
    shape, n = data.get("image_shape") or [], data["n"]
    pixels = " × ".join(str(side) for side in dict.fromkeys(shape[:2]))
    protocol = f"{pixels} px; " if pixels else ""
    official = datasets.info(dataset).n_samples if dataset else {}
    if own and dataset and data["name"] == dataset and split == "test" and n == official:
        return f"{protocol}official splits", ""
    if not own:
        assert scored is not None
        protocol += f"trained on {data['name']}; scored on "
        data, n = scored, scored["n"]
    protocol += f"{data['name']}, {split} split"
    if not dataset:
        return protocol, ""
    ours = f"{n[split]:,} images ({data['name']}, {split} split)" if split in n else data["name"]
    return protocol, (
        f"Not comparable with the published figures: ours are of {ours}, those of the "
        f"{official['test']:,} test images of {dataset}, after training on {official['train']:,}."
    )
