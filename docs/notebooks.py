"""Execute the notebooks in place: ``python docs/notebooks.py [student] [clinician] [researcher]``.

Outputs are committed. What differs from run to run, and bars of progress, is left out.
"""

import re
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat

START = Path(__file__).parent / "start"
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROGRESS = re.compile(r"^[\u2800-\u28ff] |━|^\s*$|^\w+ \d+/\d+ loss ")


def cleaned(outputs: list) -> list:
    """Join what was printed, and drop warnings of libraries, colours and bars of progress."""
    text = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    lines = [line.rstrip() for line in CODES.sub("", text).split("\n")]
    lines = [line.rpartition("\r")[2] for line in lines]  # as a terminal shows them
    lines = [line for line in lines if not PROGRESS.search(line)]
    kept = [one for one in outputs if one.output_type != "stream"]
    for one in kept:
        if "image/png" in one.get("data", {}):
            one.data.pop("text/plain", None)
    if not lines:
        return kept
    return [nbformat.v4.new_output("stream", name="stdout", text="\n".join(lines) + "\n"), *kept]


def execute(path: Path) -> None:
    """Execute a notebook in an empty folder, and write it with its results."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = nbclient.NotebookClient(notebook, resources=resources, record_timing=False)
        client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = cleaned(cell.outputs)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["student", "clinician", "researcher"]:
        execute(START / f"{name}.ipynb")
