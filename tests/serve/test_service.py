"""The service, asked over real sockets: what it answers, and what it refuses."""

import json
import os
import re
import threading

import numpy as np
import pytest
from fastapi import FastAPI
from file_samples import TWELVE, dicom, pillow
from helpers import data, make
from image_samples import picture, save
from PIL import Image
from serving import BOUNDARY, form, running
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import kmedclf
from kmedclf import CalibratedClassifier, EnsembleClassifier, ImageFeatures, programs
from tests.inputs.test_bombs import png_bomb
from tests.serve.conftest import CLASSES

X, y = data()
SUFFIXES = ("png", "jpg", "tif", "bmp", "dcm")


def pictures(folder):
    """Write pictures of several formats and sizes: their paths, and files to send."""
    paths = [
        save(folder / f"{i}.{suffix}", picture(12 + i, 9, seed=i))
        for i, suffix in enumerate(SUFFIXES)
    ]
    twelve = folder / "twelve bits.dcm"
    twelve.write_bytes(dicom(TWELVE, BitsStored=12, HighBit=11))
    paths.append(twelve)
    return paths, [(path.name, path.read_bytes()) for path in paths]


def shares(answer):
    """The probabilities of an answer, as float32 (n, k)."""
    status, content = answer
    assert status == 200, content
    rows = [list(one["probabilities"].values()) for one in content["predictions"]]
    return np.array(rows, np.float32)


@pytest.fixture(scope="module")
def cnn():
    return make("CNNClassifier").fit(X, y)


@pytest.fixture(scope="module")
def client(cnn):
    limited = kmedclf.serve.app(cnn, max_bytes=100_000, max_images=8)
    with running(limited) as found:
        yield found


def test_answers_are_those_of_predict_proba_bit_for_bit(client, cnn, tmp_path):
    paths, files = pictures(tmp_path)
    answer = client.files(*files)
    np.testing.assert_array_equal(shares(answer), cnn.predict_proba(paths))
    assert [one["name"] for one in answer[1]["predictions"]] == [name for name, _ in files]
    for path, (_, content) in zip(paths, files, strict=True):
        kind = "application/dicom" if path.suffix == ".dcm" else "image/any"
        alone = client.ask("POST", "/predict", content, Content_Type=kind)
        np.testing.assert_array_equal(shares(alone), cnn.predict_proba([path]))
    # Whole numbers of JSON are int64
    answer = client.arrays({"images": X[:5].tolist()})
    np.testing.assert_array_equal(shares(answer), cnn.predict_proba(X[:5]))
    assert answer[1]["calibrated"] is False


def test_eight_threads_share_one_network(client, cnn):
    """Whoever else asks, an answer is that of the image alone."""
    files = [("cell.png", pillow("PNG", one)) for one in X[:8]]
    expected = [cnn.predict_proba(one[None]) for one in X[:8]]
    client.files(files[0])
    built, wrong = programs.stats()["builds"], []

    def ask(i):
        for _ in range(5):
            if not np.array_equal(shares(client.files(files[i])), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert programs.stats()["builds"] == built


def mixed_sizes(folder):
    """An ensemble whose members read files at different sizes."""
    paths = [save(folder / f"{i}.png", one) for i, one in enumerate(X)]
    sides = [("a", make("CNNClassifier", image_size=8)), ("b", make("MLPClassifier", image_size=6))]
    return EnsembleClassifier(sides).fit(list(map(str, paths)), y)


def threshold_of_sensitivity(_):
    two = np.minimum(y, 1)
    model = make("MLPClassifier").fit(X, two)
    return CalibratedClassifier(model, sensitivity=0.9).fit(X, two)


def several_labels(_):
    return make("MLPClassifier").fit(X, np.eye(3, dtype=int)[y] | np.eye(3, dtype=int)[y[::-1]])


def pipeline(_):
    features = ImageFeatures(network=make("CNNClassifier").fit(X, y))
    return make_pipeline(features, LogisticRegression()).fit(X, y)


def file_of_a_model(folder):
    make("MLPClassifier").fit(X, y).save(folder / "model.kmedclf")
    return folder / "model.kmedclf"


KINDS = (mixed_sizes, threshold_of_sensitivity, several_labels, pipeline, file_of_a_model)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_served(kind, tmp_path):
    model = kind(tmp_path)
    estimator = kmedclf.load(model) if isinstance(model, os.PathLike) else model
    paths = [save(tmp_path / f"sent-{i}.png", picture(9, 12, seed=i)) for i in range(3)]
    with running(kmedclf.serve.app(model)) as client:
        answer = client.files(*[(path.name, path.read_bytes()) for path in paths])
        facts = client.get("/model")[1]
    proba = estimator.predict_proba(list(map(str, paths)))
    np.testing.assert_array_equal(shares(answer), np.float32(proba))
    for one, row, label in zip(
        answer[1]["predictions"], proba, estimator.predict(list(map(str, paths))), strict=True
    ):
        if kind is several_labels:
            assert facts["multilabel"]
            assert one["labels"] == [str(i) for i in np.flatnonzero(label)]
            assert (one["label"], one["probability"], one["abstained"]) == (None, None, False)
        elif kind is threshold_of_sensitivity:  # it decides below even odds, too
            assert facts["calibrated"]
            assert answer[1]["threshold"] == 0
            assert (one["label"], one["abstained"]) == (str(label), False)
        else:
            unsure = bool(row.max() < 0.5)
            assert one["abstained"] == unsure
            assert (one["label"], one["labels"]) == (
                (None, []) if unsure else (str(label), [str(label)])
            )


@pytest.mark.slow
def test_an_auto_classifier_is_served(tmp_path):
    auto = kmedclf.AutoClassifier(time_limit=1, random_state=0).fit(X, y)
    auto.save(tmp_path / "auto.kmedclf")
    with running(kmedclf.serve.app(tmp_path / "auto.kmedclf")) as client:
        answer = client.arrays({"images": X[:3].tolist()})
        assert client.get("/model")[1]["calibrated"]
    np.testing.assert_array_equal(shares(answer), np.float32(auto.predict_proba(X[:3])))


def test_below_the_threshold_there_is_no_answer(client, cnn):
    proba = cnn.predict_proba(X[:8])
    middle = float(np.sort(proba.max(axis=1))[4])
    answer = client.arrays({"images": X[:8].tolist()}, path=f"/predict?threshold={middle}")
    assert answer[1]["threshold"] == middle
    for one, row in zip(answer[1]["predictions"], proba, strict=True):
        assert one["abstained"] == (row.max() < middle)
        assert one["label"] == (None if one["abstained"] else str(row.argmax()))
        assert one["probability"] == row.max()
    assert {one["abstained"] for one in answer[1]["predictions"]} == {True, False}
    for text in ("2", "-0.1", "nan", "high"):
        status, content = client.arrays({"images": X[:1].tolist()}, f"/predict?threshold={text}")
        assert (status, content["detail"]) == (
            422, f"The 'threshold' of a request must be in [0, 1]. Got {text!r}.",
        )  # fmt: skip


GOOD = pillow("PNG", X[0])
STACK = pillow("TIFF", X[0], save_all=True, append_images=[Image.new("L", (8, 8))])
REFUSED_FILES = {
    "truncated": (422, "cell.png is not an image that can be read (", GOOD[:80]),
    "empty": (422, "cell.png is not an image that can be read (it is empty).", b""),
    "text": (422, "cell.png is not an image that can be read (no known format).", b"no image"),
    "bomb": (413, "A request must have at most 100,000 bytes. It has more.", png_bomb()),
    "stack": (422, "cell.png must hold one image. It holds 2.", STACK),
}


@pytest.mark.parametrize("what", REFUSED_FILES)
def test_a_file_is_refused_in_one_sentence(client, what):
    wanted, sentence, content = REFUSED_FILES[what]
    status, answer = client.files(("good.png", GOOD), ("/home/jane/cell.png", content))
    assert status == wanted
    assert answer.keys() == {"detail"}
    assert answer["detail"].startswith(sentence)
    assert "\n" not in answer["detail"]


def test_a_small_file_of_many_pixels_is_refused(cnn):
    with running(kmedclf.serve.app(cnn)) as client:
        status, answer = client.files(("bomb.png", png_bomb()))
    assert status == 422
    assert re.match(r"bomb.png must have at most [\d,]+ pixels", answer["detail"])


ARRAYS = {
    "text names files": {"images": ["/etc/passwd"]},
    "text in lists": {"images": [["/etc/passwd"]]},
    "null": {"images": [[None, 1]]},
    "ragged": {"images": [[1, 2], [3]]},
    "one number": {"images": 5},
    "empty": {"images": []},
    "no images": {"pixels": [[1]]},
    "a list": [[1, 2]],
    "another shape": {"images": X[:1, :4].tolist()},
    "scaled": {"images": (X[:1] / 255).tolist()},
    "too large": {"images": (X[:1].astype(int) + 256).tolist()},
    "not a number": b'{"images": [[[[NaN]]]]}',
    "deep": b'{"images": ' + b"[" * 50_000,
    "no JSON": b"\xff{",
}


@pytest.mark.parametrize("what", ARRAYS)
def test_arrays_that_are_no_images_are_refused_in_one_sentence(client, what):
    status, answer = client.arrays(ARRAYS[what])
    assert status in (400, 422)
    assert answer.keys() == {"detail"}
    assert "passwd" not in answer["detail"]
    assert answer["detail"].endswith((".", "..."))


def chunks(n):
    for _ in range(n):
        yield bytes(10_000)


def test_requests_are_bounded(client):
    form_kind = f"multipart/form-data; boundary={BOUNDARY}"
    many = form(*[("a.png", GOOD)] * 9)
    for body, kind, status in (
        (bytes(100_001), "image/png", 413),
        (chunks(11), "image/png", 413),  # nobody says how long it is
        (many, form_kind, 413),
        (json.dumps({"images": X[:9, :1, :1].tolist()}), "application/json", 413),
        (GOOD, "multipart/form-data", 400),
        (b"no form", form_kind, 400),
        (form(), form_kind, 400),
        (GOOD, "text/plain", 415),
    ):
        found, answer = client.ask("POST", "/predict", body, Content_Type=kind)
        assert found == status, answer
        assert answer.keys() == {"detail"}
    assert client.get("/health") == (200, {"status": "ok"})


def test_only_own_names_and_own_pages_may_ask(client, cnn):
    own = f"127.0.0.1:{client.port}"
    for host, origin, status in (
        (own, None, 200),
        ("localhost", None, 200),
        ("[::1]:80", None, 200),
        (own, f"http://{own}", 200),
        ("evil.example", None, 421),  # DNS rebinding
        ("127.0.0.1.evil.example:80", None, 421),
        ("localhost:80@evil.example", None, 421),
        ("", None, 421),
        (own, "http://evil.example", 403),
        (own, f"http://localhost:{client.port}", 403),
        (own, "null", 403),  # a sandboxed frame, or a file
    ):
        headers = {"Host": host, **({"Origin": origin} if origin else {})}
        found, answer = client.files(("cell.png", GOOD), **headers)
        assert found == status, (host, origin, answer)
    for mode, status in (("cors", 403), ("no-cors", 403), ("navigate", 200)):
        given = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode}
        assert client.get("/health", **given)[0] == status
    with running(kmedclf.serve.app(cnn, hosts=["cells.hospital.example"])) as other:
        assert other.get("/health", Host="cells.hospital.example")[0] == 200
        assert other.get("/health", Host="localhost")[0] == 421


def test_a_run_tells_what_it_knows(run_folder):
    with running(kmedclf.serve.app(run_folder)) as client:
        facts = client.get("/model")[1]
        answer = client.arrays({"images": X[:1].tolist()})[1]
    assert facts["class_names"] == list(CLASSES)
    assert facts["image_shape"] == [8, 8, 3]
    assert facts["calibrated"]
    assert answer["calibrated"]
    test = json.loads((run_folder / "metrics.json").read_text())["test"]
    assert facts["scores"]["test"] == test
    assert facts["model_card"] == (run_folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "60 validation images" in facts["threshold_reason"]
    assert "no medical device" in facts["notice"]
    assert set(answer["predictions"][0]["probabilities"]) == set(CLASSES)


def test_the_service_describes_itself_and_loads_nothing_from_elsewhere(client):
    described = client.get("/openapi.json")[1]
    assert set(described["paths"]) == {"/predict", "/model", "/health"}
    for path in described["paths"].values():
        for one in path.values():
            assert one["summary"]
            assert one["description"]
    body = described["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/json"} <= set(body)
    assert client.get("/docs")[0] == client.get("/redoc")[0] == 404


def test_the_router_is_part_of_another_application(cnn):
    application = FastAPI()
    application.include_router(kmedclf.serve.router(cnn), prefix="/cells")
    with running(application) as client:
        answer = client.arrays({"images": X[:2].tolist()}, path="/cells/predict")
        np.testing.assert_array_equal(shares(answer), cnn.predict_proba(X[:2]))
        assert client.files(("a.png", b"no image"), path="/cells/predict")[0] == 422


def test_what_cannot_be_served_is_refused_at_once(cnn, tmp_path):
    def keeping():
        network = ImageFeatures(network=cnn, memory=str(tmp_path / "kept"))
        return make_pipeline(network, LogisticRegression()).fit(X, y)

    for model, more, sentence in (
        (cnn, {"threshold": 2}, r"'threshold' parameter of kmedclf.serve.app must be in \[0, 1\]"),
        (3, {}, "'model' parameter of kmedclf.serve.app must be a run folder"),
        (DummyClassifier(), {}, "not fitted"),
        (tmp_path, {}, "must be a folder that 'kmedclf train' wrote"),
        (keeping(), {}, "would keep features of what is uploaded"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            kmedclf.serve.app(model, **more)
