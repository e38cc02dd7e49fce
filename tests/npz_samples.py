"""Files like MedMNIST's, drawn for the tests."""

import io

import numpy as np

COUNTS = {"train": 12, "val": 5, "test": 7}


def arrays(n_classes=3, channels=3, size=28, counts=COUNTS, multilabel=False):
    rng = np.random.default_rng(0)
    made = {}
    for split, n in counts.items():
        shape = (n, size, size, 3) if channels == 3 else (n, size, size)
        made[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        columns = rng.integers(0, 2, (n, n_classes), dtype=np.uint8)
        single = (np.arange(n) % n_classes).astype(np.uint8)[:, None]
        made[f"{split}_labels"] = columns if multilabel else single
    return made


def packed(made):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **made)
    return buffer.getvalue()


def one_sentence(error):
    """The message; it ends once, whatever dots paths, names and addresses have inside."""
    message = str(error.value)
    assert message.count(". ") <= 1, message  # the house's "... must be X. Got Y instead."
    assert "\n" not in message
    return message
