"""Data sets: MedMNIST by name, files like it by path, and synthetic blood cells."""

from kmedclf.datasets.loading import info, load
from kmedclf.datasets.registry import DatasetInfo, names
from kmedclf.datasets.synthetic import make_blood_cells

__all__ = ["DatasetInfo", "info", "load", "make_blood_cells", "names"]
