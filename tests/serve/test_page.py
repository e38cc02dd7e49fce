"""What the page of `kmedclf app` gets from its service."""

import base64
import io
import shutil
import time

import numpy as np
import pytest
from helpers import data, make
from PIL import Image
from serving import running

import kmedclf
from kmedclf import runs
from kmedclf.datasets import sources
from kmedclf.inputs.image_files import MemoryFile

X, y = data()


def page(model):
    return running(kmedclf.serve.app(model, page=True))


def png(image):
    made = io.BytesIO()
    Image.fromarray(image).save(made, "PNG")
    return made.getvalue()


def decoded(base64_of_webp):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(base64_of_webp))).convert("RGBA"))


def explained(client, image, name="cell.png"):
    """Ask until the training images have been read."""
    for _ in range(600):
        status, found = client.files((name, png(image)), path="/explain")
        assert status == 200, found
        if "still being read" not in found["similar_words"]:
            return found
        time.sleep(0.05)
    raise AssertionError("the training images were never read")


@pytest.fixture(scope="module")
def client(run_folder):
    with page(run_folder) as found:
        yield found


def test_an_image_is_explained(client, run_folder):
    with np.load(run_folder.parent / "cells.npz") as cells:
        train, labels = cells["train_images"], cells["train_labels"]
        names = cells["class_names"]
    estimator = kmedclf.load(run_folder / "model.kmedclf")
    found = explained(client, train[7], "/home/jane/<b>7.png")
    proba = estimator.predict_proba(train[7:8])[0]
    assert list(found["probabilities"].values()) == proba.tolist()
    assert found["name"] == "<b>7.png"
    assert found["explained"] == names[proba.argmax()]
    np.testing.assert_allclose(decoded(found["picture"])[..., :3], train[7], atol=60)  # webp
    # The most similar training image is the image itself
    assert found["similar"][0]["name"] == "training image 7"
    assert found["similar"][0]["cosine"] == pytest.approx(1, abs=1e-4)
    cosines = [one["cosine"] for one in found["similar"]]
    assert cosines == sorted(cosines, reverse=True)
    for one in found["similar"]:
        assert one["label"] == names[labels[int(one["name"].split()[-1])]]
        assert decoded(one["picture"]).shape == (8, 8, 4)
    assert "100 training images" in found["similar_words"]


def test_the_heat_map_is_that_of_grad_cam(client, run_folder):
    from kmedclf.evaluation.plots import gradcam_map
    from kmedclf.pages.gallery import overlay

    estimator = kmedclf.load(run_folder / "model.kmedclf")
    for image in X[:6]:
        found = explained(client, image)
        heat, _ = gradcam_map(estimator, image)
        if heat.any():
            assert found["heat"] == overlay(heat)
        else:
            assert (found["heat"], "no part" in found["heat_words"]) == (None, True)


def test_the_page_says_how_far_to_trust_it(client):
    status, headers, body = client.whole("GET", "/")
    text = body.decode()
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert "this is no medical device" in text
    assert "The probabilities are calibrated" in text
    assert "On 60 test images" in text
    assert "<b>cell</b>" not in text
    assert client.get("/", Host="evil.example")[0] == 421


def test_the_page_asks_for_one_file_at_a_time(client):
    for status, answer in (
        client.files(("a.png", png(X[0])), ("b.png", png(X[1])), path="/explain"),
        client.arrays({"images": X[:1].tolist()}, path="/explain"),
    ):
        assert (status, answer["detail"]) == (400, "The page sends one file at a time.")


@pytest.mark.parametrize("change", ["gone", "other images"])
def test_training_images_that_are_not_there_are_said_to_be_missing(run_folder, tmp_path, change):
    copied = shutil.copytree(run_folder.parent, tmp_path / "copy") / "run"
    environment = (copied / "environment.json").read_text(encoding="utf-8")
    place = str(run_folder.parent / "cells.npz"), str(tmp_path / "copy" / "cells.npz")
    (copied / "environment.json").write_text(environment.replace(*place), encoding="utf-8")
    if change == "gone":
        (tmp_path / "copy" / "cells.npz").unlink()
    else:
        with np.load(place[1]) as cells:
            np.savez(place[1], **{**cells, "train_images": cells["train_images"] ^ 1})
    with page(copied) as client:
        found = explained(client, X[0])
    assert found["similar"] == []
    ending = {"gone": "cells.npz is not where it was.", "other images": "has changed since."}
    assert found["similar_words"].endswith(ending[change])


def test_images_of_a_run_on_both_parts_are_found(run_folder, tmp_path):
    """As those of an AutoClassifier."""
    content = sources.read_data(str(run_folder.parent / "cells.npz"))
    runs.train(make("MLPClassifier", units=64), content.joined(), tmp_path / "run")
    with page(tmp_path / "run") as client:
        found = explained(client, content.splits["val"][0][3])
    assert found["similar"][0]["name"] == "training image 103"
    assert "160 training images" in found["similar_words"]


def test_training_images_in_a_folder_are_named_below_it(tmp_path):
    root = tmp_path / "cells"
    for i, (image, label) in enumerate(zip(X, y, strict=True)):
        path = root / "train" / "abc"[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    content = sources.read_data(str(root), 8)
    runs.train(make("MLPClassifier", units=64), content, tmp_path / "run")
    with page(tmp_path / "run") as client:
        found = explained(client, X[5])
        nearest = f"train/{'abc'[y[5]]}/5.png"
        assert (found["similar"][0]["name"], found["similar"][0]["label"]) == (nearest, "abc"[y[5]])
        (root / nearest).unlink()
        found = explained(client, X[5])
    assert found["similar"] == []  # and the answer is there
    assert found["similar_words"].startswith("The training images cannot be compared with: ")


def test_a_file_of_a_model_without_convolutions_has_neither_map_nor_similar_images(tmp_path):
    make("MLPClassifier").fit(X, y).save(tmp_path / "mlp.kmedclf")
    with page(tmp_path / "mlp.kmedclf") as client:
        found = explained(client, X[0])
        text = client.get("/")[1]
    assert (found["heat"], found["similar"]) == (None, [])
    assert "no convolutions" in found["heat_words"]
    assert "does not say which images it was trained on" in found["similar_words"]
    assert "not calibrated" in text
    assert "No scores are known" in text


def test_files_in_memory_are_read_like_files_of_the_same_bytes(tmp_path):
    """Also by an estimator that keeps decoded images: these are kept nowhere."""
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, X, strict=False):
        Image.fromarray(image).save(path)
    cnn = make("CNNClassifier", cache=str(tmp_path / "cache"), image_size=8).fit(paths, y[:6])
    kept = sorted((tmp_path / "cache").rglob("*.npy"))
    sent = [MemoryFile("same name.png", png(image ^ 3)) for image in X[:6]]
    for path, image in zip(paths, X, strict=False):
        Image.fromarray(image ^ 3).save(path)
    np.testing.assert_array_equal(cnn.predict_proba(sent), cnn.predict_proba(paths))
    assert kept
    assert len(sorted((tmp_path / "cache").rglob("*.npy"))) == len(kept) + 6  # of the paths alone
    with pytest.raises(ValueError, match=r"^same name.png is not an image that can be read"):
        cnn.predict_proba([MemoryFile("same name.png", b"none")])
