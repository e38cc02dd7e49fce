"""Grad-CAM: maps, panels, and their place in report pages."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from page_parts import data_of
from PIL import Image

from kmedclf import CNNClassifier, MLPClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.evaluation import evaluate, plots, write_page
from kmedclf.evaluation.plots.grad_cam import gradcam_maps, has_convolutions
from kmedclf.pages.gallery import GRADCAM_IMAGES

SHORT = {"epochs": 1, "early_stopping": False, "random_state": 0}
X, Y = make_blood_cells(40, random_state=0)


@pytest.fixture(scope="module")
def cnn():
    return CNNClassifier(filters=2, **SHORT).fit(X, Y)


@pytest.fixture(scope="module")
def mlp():
    return MLPClassifier(units=2, **SHORT).fit(X, Y)


@pytest.fixture(scope="module")
def report(cnn):
    return evaluate(cnn, X, Y, n_bootstrap=0)


def test_gradcam_of_a_convolutional_network(cnn):
    image = make_blood_cells(1, random_state=1)[0][0]
    heat, index = plots.gradcam_map(cnn, image)
    assert heat.shape == (13, 13)
    assert 0 <= heat.min() <= heat.max() <= 1
    assert index == cnn.predict_proba(image[None])[0].argmax()
    assert plots.gradcam_map(cnn, image, index=3)[1] == 3
    assert isinstance(plots.gradcam(cnn, image, name="b_$"), Axes)


def test_gradcam_without_convolutions_says_so(cnn, mlp):
    with pytest.raises(ValueError, match=r"with convolutions\. Got MLPClassifier instead"):
        plots.gradcam(mlp, X[0])
    assert has_convolutions(cnn)
    assert not has_convolutions(mlp)


def test_maps_of_many_images_are_those_of_each(cnn):
    classes = np.arange(6, dtype=np.uint8)  # as compact as those of a report
    maps, found = gradcam_maps(cnn, X[:6], index=classes)
    np.testing.assert_array_equal(found, classes)
    for image, k, heat in zip(X, classes, maps, strict=False):
        alone, _ = plots.gradcam_map(cnn, image, index=int(k))
        np.testing.assert_allclose(heat, alone, atol=1e-5)


@pytest.mark.parametrize("form", ["arrays", "wide", "files"])
def test_maps_are_of_what_the_network_sees(form, tmp_path):
    """Of 16 bits, which a picture shows as 8: dark images would have been explained."""
    deep = X[:12, ..., 0].astype(np.uint16) * 257
    paths = [str(tmp_path / f"{i}.png") for i in range(12)]
    for path, one in zip(paths, deep, strict=True):
        Image.fromarray(one).save(path)
    options = {"image_size": 28, "channels": 1} if form == "files" else {}
    given = {"arrays": deep, "wide": deep.astype(np.int64), "files": np.array(paths)}[form]
    model = CNNClassifier(filters=4, **SHORT, **options).fit(given, Y[:12])
    maps, found = gradcam_maps(model, given[:3])
    np.testing.assert_array_equal(found, model.predict_proba(given[:3]).argmax(axis=1))
    same = CNNClassifier(filters=4, **SHORT).fit(deep, Y[:12])
    np.testing.assert_allclose(maps, gradcam_maps(same, deep[:3])[0], atol=1e-5)
    report = evaluate(model, given, Y[:12], n_bootstrap=0)
    plots.explanations(model, report, given, indices=[0, 1])
    plt.close("all")
    if form != "files":
        with pytest.raises(ValueError, match="16-bit integer images"):
            gradcam_maps(model, X[:3, ..., 0])


def test_a_map_known_by_hand():
    """A network that sums pixels up: they are what speaks for the one class, none for the other."""
    import keras

    inputs = x = keras.layers.Input((4, 4, 1))
    x = keras.layers.Conv2D(1, 1, use_bias=False)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(x))
    model.set_weights([np.ones((1, 1, 1, 1)), np.array([[1.0, -1.0]])])
    image = np.arange(16.0).reshape(4, 4, 1)
    maps, chosen = gradcam_maps(model, [image, image], index=[0, 1])
    np.testing.assert_allclose(maps[0], image[..., 0] / 15, rtol=1e-6)
    assert not maps[1].any()
    assert gradcam_maps(model, [image])[1].tolist() == [0] == chosen[:1].tolist()


def test_panel_shows_the_true_class_of_mistakes_only(cnn, report):
    wrong, right = report.surest_mistakes(3), np.flatnonzero(report.right)[:2].tolist()
    for indices, rows in ((wrong, 3), (right, 2), ([*wrong, *right], 3)):
        fig = plots.explanations(cnn, report, X, indices=indices)
        assert len(fig.axes) == rows * len(indices)
        assert [ax.get_title() for ax in fig.axes[: len(indices)]] == [
            f"image {i}" for i in indices
        ]
    plt.close("all")


def test_panel_reads_files(cnn, report, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    shown = [
        np.asarray(plots.explanations(cnn, report, images, indices=[0, 1]).axes[2].images[1]._A)
        for images in (X, list(map(str, paths)))
    ]
    np.testing.assert_array_equal(*shown)
    plt.close("all")


def test_pages_of_convolutional_networks_have_maps(cnn, mlp, report, tmp_path):
    path = tmp_path / "report.html"
    write_page(path, report, X=X, model=cnn)
    shown = data_of(path)
    assert all("g" in one for one in list(shown["images"].values())[:GRADCAM_IMAGES])
    assert "This is no proof" in path.read_text(encoding="utf-8")
    assert not plt.get_fignums()
    for options in ({"X": X, "model": mlp}, {"X": X}, {"model": cnn}):
        write_page(path, report, **options)
        assert "This is no proof" not in path.read_text(encoding="utf-8")
        assert '"g":' not in path.read_text(encoding="utf-8")
