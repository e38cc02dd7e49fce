"""Files that cannot be read, and estimators that cannot read files: one sentence, or left out."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import data, make, same

from tests.inputs.test_image_files import BROKEN
from tests.inputs.test_path_input import write

X, y = data()


def net(**params):
    return make("MLPClassifier", **{"image_size": 8, **params})


@pytest.fixture
def paths(tmp_path):
    return write(tmp_path / "images", X).tolist()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(tmp_path, paths, name):
    BROKEN[name](tmp_path / name)
    fitted = net().fit(paths, y)
    before = fitted.weights_
    wrong = [*paths[:20], str(tmp_path / name), *paths[21:]]
    for call in (
        lambda: net().fit(wrong, y),
        lambda: net().fit(paths, y, X_val=wrong, y_val=y),
        lambda: fitted.fit(wrong, y),
        lambda: fitted.predict(wrong),
        lambda: fitted.set_params(on_error="skip").predict_proba(wrong),
    ):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            call()
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert fitted.weights_ is before


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_left_out_if_asked(tmp_path, paths, name):
    BROKEN[name](tmp_path / name)
    wrong = [*paths[:20], str(tmp_path / name), *paths[21:]]
    with pytest.warns(UserWarning, match=r"^1 of the 48 files of the training images cannot"):
        skipped = net(on_error="skip").fit(wrong, y)
    assert skipped.skipped_ == [str(tmp_path / name)]
    rest = np.arange(48) != 20
    assert same(skipped, net().fit(X[rest], y[rest]))
    options = {"early_stopping": True, "min_epochs": 1}
    with pytest.warns(UserWarning, match=r"files of the validation images cannot"):
        watched = net(on_error="skip", **options).fit(paths, y, X_val=wrong, y_val=y)
    assert same(watched, net(**options).fit(X, y, X_val=X[rest], y_val=y[rest]))


def test_nothing_left_to_train_on(tmp_path):
    files = [str(tmp_path / f"{i}.png") for i in range(4)]
    with pytest.raises(
        ValueError, match=r"must hold files that can be read. None can: There is no"
    ):
        net(on_error="skip").fit(files, [0, 1, 0, 1])


def test_a_file_that_breaks_during_training(tmp_path, paths):
    import keras

    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            open(paths[7], "wb").close()

    with pytest.raises(ValueError, match=r"7\.png is not an image that can be read"):
        net(epochs=4, callbacks=[Breaks()]).fit(paths, y)


def test_tensorflow_adds_nothing_on_the_screen(tmp_path, paths):
    code = (
        "import sys, pickle, numpy as np; from kmedclf import CNNClassifier\n"
        f"paths = {paths!r}; y = np.arange(48) % 2\n"
        "model = CNNClassifier(filters=2, epochs=1, image_size=8, early_stopping=False)\n"
        "model.fit(paths, y)\n"
        "open(paths[7], 'wb').write(b'no image')\n"
        "print('now', file=sys.stderr, flush=True)\n"
        "try: model.predict(paths)\n"
        "except ValueError as error: print(error)\n"
    )
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout == f"{paths[7]} is not an image that can be read (no known format).\n"
    assert "Traceback" not in done.stderr.partition("now\n")[2]


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (X / np.float32(255), "was fitted on arrays of numbers that are neither uint8 nor uint16"),
        (
            X.astype(np.int16) - 128,
            "was fitted on arrays of numbers that are neither uint8 nor uint16",
        ),
        (X.reshape(48, -1), r"images of shape (192, 1, 1) cannot be used on image files."),
        (X[..., :2], r"images of shape (8, 8, 2) cannot be used on image files."),
    ],
)
def test_networks_of_arrays_that_no_file_can_be(paths, images, sentence):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        net().fit(images, y).predict(paths)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"image_size": (8, 8, 3)}, "'image_size' parameter of MLPClassifier must be (h, w)"),
        ({"image_size": (8, 0)}, "Got (8, 0) instead."),
        ({"image_size": 0}, "The 'image_size' parameter of MLPClassifier must be"),
        (
            {"image_shape": (8, 8)},
            "'image_shape' parameter of MLPClassifier must be None for files",
        ),
        ({"channels": 2}, "The 'channels' parameter of MLPClassifier must be"),
        ({"resize": "shrink"}, "The 'resize' parameter of MLPClassifier must be"),
        ({"on_error": "ignore"}, "The 'on_error' parameter of MLPClassifier must be"),
        ({"cache": True}, "The 'cache' parameter of MLPClassifier must be"),
        ({"cache": "memory", "cache_limit": "4 cats"}, "The 'cache_limit' parameter of"),
    ],
)
def test_wrong_parameters(paths, params, sentence):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        net(**params).fit(paths, y)
    assert sentence in str(caught.value)


def test_paths_among_other_things(paths):
    with pytest.raises(ValueError, match=r"must hold paths only, or none. Got 3 at 1\."):
        net().fit([paths[0], 3], [0, 1])
