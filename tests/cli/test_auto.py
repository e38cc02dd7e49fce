"""kmedclf auto: a folder of images, a limit, and everything a user needs next."""

import pytest
from cli_helpers import invoke, read, refused
from PIL import Image

from kmedclf.datasets import make_blood_cells


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder of 60 images of two classes, and what the command made of it."""
    folder = tmp_path_factory.mktemp("auto")
    X, y = make_blood_cells(120, 12, random_state=0)
    for name, label in (("eosinophil", 1), ("lymphocyte", 4)):
        (folder / "cells" / name).mkdir(parents=True)
        for i, image in enumerate(X[y == label]):
            Image.fromarray(image).save(folder / "cells" / name / f"{i}.png")
    done = invoke(
        "auto", folder / "cells", "--minutes", 0.01, "--out", folder / "run", "--size", 12
    )
    assert done.exit_code == 0, done.output
    return folder, done.stdout


def test_writes_a_run_with_its_page(run):
    folder, printed = run
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"model.kmedclf", "evaluation-test.json", "report.html", "history.json"} <= names
    assert "evaluation-val.json" not in names  # val is trained on
    assert f"kmedclf predict {folder / 'run'}" in printed.replace("\n", "")
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "What was tried" in page
    assert "ensemble, nested" in page
    assert read(folder / "run" / "history.json")["leaderboard"][0]["name"] == "ensemble, nested"


def test_the_page_to_drop_images_on_chooses_its_threshold_on_images_predicted_without_them(run):
    from kmedclf.serve.model import ServedModel

    folder, _ = run
    nested = read(folder / "run" / "evaluation-nested.json")
    found = ServedModel.open(folder / "run", None, "a test").abstention
    assert f"{nested['n']} training images" in found.reason


def test_the_next_command_works(run, tmp_path):
    folder, _ = run
    image = next((folder / "cells" / "lymphocyte").iterdir())
    done = invoke("predict", folder / "run", image)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "path,prediction,probability"


def test_what_is_refused(run, tmp_path):
    folder, _ = run
    assert "holds a run" in refused("auto", folder / "cells", "--out", folder / "run")
    said = refused(
        "auto", folder / "cells", "--out", tmp_path / "run", "--weights", "no.safetensors"
    )
    assert "no.safetensors" in said
