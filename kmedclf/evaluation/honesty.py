"""What makes good-looking numbers worthless: said in the first place, not in a footnote."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALL = 30
"""Fewer images than this are few."""
FEW = 10
"""Fewer images of one class than this are few."""


def warnings_of(report: Any) -> tuple[str, ...]:
    """Say what a reader must know before the headline numbers; of a report of either kind."""
    said = _of_classes(report) if report.exclusive else _of_labels(report)
    return (*said, *_of_size(report))


def _of_classes(report: Any) -> list[str]:
    found, support = np.unique(report.pred_index), report.confusion.sum(axis=1)
    largest, share = int(support.argmax()), float(support.max() / report.n)
    right = float(report.confusion.trace() / report.n)
    if np.count_nonzero(support) > 1:
        name = report.class_names[largest]
        if len(found) == 1:
            name = report.class_names[found[0]]
            return [
                f"All {report.n:,} images are taken for {name}: the classifier tells nothing "
                f"apart here, and its accuracy is no more than that class's share, {right:.3f}."
            ]
        if right <= share:
            return [
                f"Naming {name} every time would be right for {share:.3f} of these images, the "
                f"classifier is for {right:.3f}: it is no better than that."
            ]
    return []


def _of_labels(report: Any) -> list[str]:
    if not report.y_true.any() or report.y_pred.any():
        return []
    return [
        f"No label is predicted of any of the {report.n:,} images: the accuracy is that of "
        "predicting nothing."
    ]


def _of_size(report: Any) -> list[str]:
    said = []
    counts = {one.name: one.support for one in report.per_class if one.support}
    few = {name: n for name, n in counts.items() if n < FEW}
    if report.n < SMALL:
        images = "1 image" if report.n == 1 else f"{report.n:,} images"
        said.append(
            f"Only {images}: one more or less that is right moves the accuracy by "
            f"{1 / report.n:.3f}, and resampling so few shows too little doubt."
        )
    if few:
        listed = ", ".join(f"{name} {n}" for name, n in list(few.items())[:10])
        more = f" and {len(few) - 10} more" if len(few) > 10 else ""
        kind = "classes" if report.exclusive else "labels"
        said.append(f"Few images of some {kind}, whose scores are uncertain: {listed}{more}.")
    return said
