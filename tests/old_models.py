"""Model files as kmedclf of 2026-11 wrote them, from a recording of all but their large arrays.

tests/data/models-2026-11.json.gz holds, for one fitted model of every public class and of what can
be in a file, its JSON as written, its small arrays, the shapes of the others, and what it predicted
with these filled as `_filled` fills them.
"""

import functools
import gzip
import io
import json
import zipfile
from pathlib import Path

import numpy as np

RECORDED = Path(__file__).parent / "data" / "models-2026-11.json.gz"
SMALL = 16


@functools.cache
def recorded():
    """Read the recording: by name, JSON, arrays and probabilities."""
    return json.loads(gzip.decompress(RECORDED.read_bytes()))


def write(name, path):
    """Write the file of a model; give its JSON and the probabilities of four images."""
    one = recorded()[name]
    archive(path, one["json"], one["arrays"])
    return json.loads(one["json"]), np.array(one["proba"])


def archive(path, text, arrays):
    """Write a file of JSON and arrays, given or filled."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("estimator.json", text)
        for number, (dtype, shape, values) in enumerate(arrays):
            array = _filled(number, shape) if values is None else np.array(values)
            buffer = io.BytesIO()
            np.save(buffer, array.astype(dtype).reshape(shape))
            file.writestr(f"{number}.npy", buffer.getvalue())


def _filled(number, shape):
    """Numbers in [0, 0.2): as variances as well, they make a network that works."""
    return np.random.default_rng(number).random(shape) * 0.2


def record(folder, images, load):
    """Make the recording out of a folder of model files, with the ``load`` that reads them."""
    found = {}
    for path in sorted(Path(folder).glob("*.kmedclf")):
        with zipfile.ZipFile(path) as file:
            text = file.read("estimator.json").decode()
            numbers = range(len(file.namelist()) - 1)
            arrays = [np.load(io.BytesIO(file.read(f"{number}.npy"))) for number in numbers]
        listed = [
            [one.dtype.str, one.shape, one.tolist() if one.size <= SMALL else None]
            for one in arrays
        ]
        again = path.with_suffix(".again")
        archive(again, text, listed)
        proba = np.asarray(load(again).predict_proba(images), float).round(6).tolist()
        found[path.stem] = {"json": text, "arrays": listed, "proba": proba}
    RECORDED.parent.mkdir(exist_ok=True)
    RECORDED.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))
