"""Inventories for intersphinx, written here: the pages are built without a network.

Names that are linked and not listed are an error of the build.
"""

import zlib
from pathlib import Path

# Address of the documentation, then where in it the page of a name is; {0} is the name.
PROJECTS = {
    "sklearn": (
        "https://scikit-learn.org/stable/",
        "modules/generated/{0}.html#{0}",
        {
            "class": [
                "sklearn.calibration.CalibratedClassifierCV",
                "sklearn.linear_model.LogisticRegression",
                "sklearn.model_selection.GridSearchCV",
                "sklearn.model_selection.HalvingGridSearchCV",
                "sklearn.model_selection.StratifiedGroupKFold",
                "sklearn.model_selection.StratifiedKFold",
                "sklearn.pipeline.Pipeline",
                "sklearn.preprocessing.StandardScaler",
            ],
            "function": [
                "sklearn.model_selection.cross_val_score",
                "sklearn.model_selection.cross_validate",
            ],
        },
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        "reference/generated/{0}.html#{0}",
        {"class": ["numpy.memmap", "numpy.ndarray"]},
    ),
    "joblib": (
        "https://joblib.readthedocs.io/en/stable/",
        "generated/{0}.html#{0}",
        {"class": ["joblib.Memory"]},
    ),
}


def write(folder: Path) -> dict[str, tuple[str, str]]:
    """Write one inventory per project; return ``intersphinx_mapping``."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for project, (address, page, names) in PROJECTS.items():
        head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        lines = [
            f"{name} py:{kind} 1 {page.format(name)} -\n"
            for kind, some in names.items()
            for name in some
        ]
        path = folder / f"{project}.inv"
        path.write_bytes(head.encode() + zlib.compress("".join(lines).encode()))
        mapping[project] = (address, str(path))
    return mapping
