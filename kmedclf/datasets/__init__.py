"""Data sets: MedMNIST by name, files like it by path, synthetic blood cells, and an audit."""

from kmedclf.datasets._found import Audit
from kmedclf.datasets.audit import audit
from kmedclf.datasets.loading import info, load
from kmedclf.datasets.registry import DatasetInfo, names
from kmedclf.datasets.synthetic import make_blood_cells

__all__ = ["Audit", "DatasetInfo", "audit", "info", "load", "make_blood_cells", "names"]
