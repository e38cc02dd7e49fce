"""Data sets: MedMNIST by name, files, folders and tables by path, synthetic cells; an audit."""

from kmedclf.datasets.audit import Audit, audit
from kmedclf.datasets.folders import ImageFiles, load_folder
from kmedclf.datasets.loading import info, load
from kmedclf.datasets.registry import DatasetInfo, names
from kmedclf.datasets.synthetic import make_blood_cells, make_chest_findings
from kmedclf.datasets.synthetic_brains import make_brain_slices
from kmedclf.datasets.synthetic_xrays import make_xrays
from kmedclf.datasets.tables import load_csv

__all__ = [
    "Audit",
    "DatasetInfo",
    "ImageFiles",
    "audit",
    "info",
    "load",
    "load_csv",
    "load_folder",
    "make_blood_cells",
    "make_brain_slices",
    "make_chest_findings",
    "make_xrays",
    "names",
]
