"""Public sets of images: where those of each study are found, and what is drawn without them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from kmedclf.datasets import sources


class PublicSet(NamedTuple):
    """The images of a report, as they are published.

    Attributes
    ----------
    title : str
        Name of the set where it is published.
    address : str
        Page that offers it.
    layout : str
        What ``--data`` must be, in words that follow "``--data`` takes".
    drawn : str
        Name in `kmedclf.datasets.sources.DRAWN` of the synthetic images of this kind.
    side : int or None
        Height and width to which a study resizes files; None leaves the default of the data.
    note : str
        What else must be known, in sentences.
    """

    title: str
    address: str
    layout: str
    drawn: str
    side: int | None = 224
    note: str = ""

    def where(self) -> str:
        """Say where the images are found, and how they must lie, in sentences."""
        note = f" {self.note}" if self.note else ""
        return f"{self.title}, {self.address}. --data takes {self.layout}.{note}"

    def source_of(self, study: str, source: str) -> str:
        """Return the data to read: "synthetic" stands for the synthetic images of the study's kind.

        Raises
        ------
        ValueError
            If ``source`` names synthetic images of another kind.
        """
        kinds = {one.drawn for one in PUBLIC.values()}
        if source not in kinds or source == self.drawn:
            return source
        if source == "synthetic":
            return self.drawn
        raise ValueError(
            f"--data of the study {study} must be images of its own kind, such as {self.drawn}. "
            f"Got {source!r}, {sources.DRAWN[source][0]}, instead."
        )

    def side_of(self, source: str, size: int | None, *, quick: bool) -> int | None:
        """Return the side at which a study reads images: the report's, if the user gives none."""
        if size is not None or self.side is None or not _is_resized(source):
            return size
        return min(self.side, sources.SIDE) if quick else self.side


PUBLIC = {
    "blood": PublicSet(
        "BloodMNIST",
        "https://medmnist.com",
        "its name, bloodmnist, which downloads it, or its file bloodmnist.npz",
        "synthetic",
        side=None,
    ),
    "lung": PublicSet(
        "COVID-19 Radiography Database",
        "https://www.kaggle.com/datasets/tawsifurrahman/covid19-radiography-database",
        "the folder COVID-19_Radiography_Dataset, with the folders COVID, Lung_Opacity, Normal and "
        "Viral Pneumonia in it",
        "synthetic-lungs",
        note="The report names no address; this set has its classes and its numbers of images.",
    ),
    "chest": PublicSet(
        "Covid-19 Image Dataset",
        "https://www.kaggle.com/datasets/pranavraikokte/covid19-image-dataset",
        "the folder Covid19-dataset, with folders train and test of Covid, Normal and Viral "
        "Pneumonia in it, or a folder of three such folders without splits",
        "synthetic-chests",
        note="The report names no set; this one has its three classes, but fewer images.",
    ),
    "brain": PublicSet(
        "Brain Tumor Classification (MRI)",
        "https://www.kaggle.com/datasets/sartajbhuvaji/brain-tumor-classification-mri",
        "the folder with Training and Testing in it, each with the folders glioma_tumor, "
        "meningioma_tumor, no_tumor and pituitary_tumor",
        "synthetic-brains",
    ),
    "bone": PublicSet(
        "Bone fracture detection using x-rays",
        "https://www.kaggle.com/datasets/vuppalaadithyasairam/bone-fracture-detection-using-xrays",
        "the folder with train and val in it, each with the folders fractured and not fractured",
        "synthetic-bones",
        note="Its val holds the 600 images on which the report tests.",
    ),
}
"""The images of each study, by its name."""


def _is_resized(source: str) -> bool:
    """Say whether data come in any size: drawn images and files, but no arrays."""
    return source in sources.DRAWN or Path(source).expanduser().is_dir()
