"""`KerasImageClassifier`: scripts for scikeras run after a change of the import."""

import pickle
import re
import warnings

import keras
import numpy as np
import pytest
from helpers import data, same
from scikeras.wrappers import KerasClassifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from kmedclf import KerasImageClassifier, build_function, load, programs
from kmedclf.evaluation import evaluate

X, y = data(48)
WORDS = np.array(["blast", "basophil", "platelet"])[y]
LABELS = np.stack([y == 0, y < 2], axis=1).astype(int)
Z = X.astype(np.float32)


# -- three scripts, each written for scikeras ------------------------------------------------------


def named(value):
    """Name a case without addresses in memory, which differ from process to process."""
    return re.sub(r" at 0x\w+", "", str(value))


def cnn(meta, filters=4, dropout=0.0):
    """Not compiled: optimizer and loss are parameters of the estimator."""
    units = 1 if meta["target_type_"] == "binary" else meta["n_classes_"]
    last = "softmax" if meta["target_type_"] == "multiclass" else "sigmoid"
    return keras.Sequential([
        keras.Input(meta["X_shape_"][1:]),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(filters, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(units, activation=last),
    ])  # fmt: skip


def mlp(hidden, meta, compile_kwargs):
    """Compiled with what the estimator sends."""
    inputs = keras.Input(meta["X_shape_"][1:])
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    for units in hidden:
        x = keras.layers.Dense(units, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(meta["n_classes_"], activation="softmax")(x))
    model.compile(**compile_kwargs)
    return model


def compiled(rate=0.01):
    """Compiled by itself, as in scripts older than scikeras; fixed sizes, batch normalisation."""
    model = keras.Sequential([
        keras.layers.Input((8, 8, 3)),
        keras.layers.Flatten(),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(3),
        keras.layers.Activation("softmax"),
    ])  # fmt: skip
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def script_of_a_search(cls):
    """Search over the function's and the optimizer's parameters, as scikeras' tutorial does."""
    net = cls(
        model=cnn, loss="sparse_categorical_crossentropy", optimizer="adam", epochs=2, verbose=0,
        model__filters=4, optimizer__learning_rate=0.01, random_state=0,
    )  # fmt: skip
    grid = {"model__filters": [2, 4], "optimizer__learning_rate": [0.001, 0.01]}
    search = GridSearchCV(net, grid, cv=2, error_score="raise").fit(Z, y)
    return search.best_estimator_, search.cv_results_["params"]


def script_of_a_pipeline(cls):
    """Words as labels, class weights, arguments of fit, a pipeline."""
    net = cls(
        mlp, hidden=(8,), loss="sparse_categorical_crossentropy", class_weight="balanced",
        optimizer=keras.optimizers.Adam, optimizer__learning_rate=0.01, verbose=0, random_state=0,
        fit__batch_size=16, predict__batch_size=8, metrics=["accuracy"],
    )  # fmt: skip
    pipe = make_pipeline(FunctionTransformer(), net)
    name = pipe.steps[-1][0]
    pipe.fit(Z, WORDS, **{f"{name}__epochs": 2, f"{name}__validation_split": 0.25})
    return pipe[-1], sorted(pipe[-1].history_)


def script_of_an_old_style(cls):
    """A compiled network, callbacks as classes with routed parameters, partial fits."""
    net = cls(
        build_fn=None, model=compiled, model__rate=0.05, epochs=3, batch_size=16, verbose=0,
        callbacks=[keras.callbacks.EarlyStopping],
        callbacks__monitor="loss", callbacks__patience=5, random_state=0,
    )  # fmt: skip
    net.fit(Z, y).partial_fit(Z, y)
    return net, net.current_epoch


SCRIPTS = [script_of_a_search, script_of_a_pipeline, script_of_an_old_style]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.filterwarnings("ignore")  # scikeras' own
def test_a_script_runs_after_the_import_is_changed(script):
    (ours, said), (theirs, there) = script(KerasImageClassifier), script(KerasClassifier)
    assert said == there
    assert isinstance(ours, KerasClassifier)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.predict(Z).shape == theirs.predict(Z).shape
    assert ours.predict(Z).dtype == theirs.predict(Z).dtype
    assert ours.predict_proba(Z).shape == theirs.predict_proba(Z).shape
    assert set(theirs.history_) <= set(ours.history_)
    # The same network: scikeras' weights in ours give scikeras' probabilities.
    model = ours.model_
    model.set_weights(theirs.model_.get_weights())
    np.testing.assert_allclose(model.predict(Z, verbose=0), theirs.predict_proba(Z), atol=1e-6)
    assert [v.shape for v in ours.weights_] == [v.shape for v in theirs.model_.get_weights()]


def net(model=cnn, **given):
    """Make a small estimator."""
    options = {"loss": "sparse_categorical_crossentropy", "optimizer": "adam", "random_state": 0}
    return KerasImageClassifier(model, **{**options, "epochs": 2, "batch_size": 16, **given})


def test_training_is_that_of_keras():
    """A whole batch without randomness: weights after steps are those of Keras' own fit."""
    ours = net(mlp, hidden=(8,), batch_size=-1, optimizer__learning_rate=0.05, epochs=3)
    start = clone(ours).initialize(Z, y)
    model = start.model_
    model.fit(Z, y, batch_size=48, epochs=3, shuffle=False, verbose=0)
    ours.fit(Z, y)
    for one, other in zip(ours.weights_, model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("target", [y == 1, WORDS, LABELS, np.eye(3, dtype=int)[y]],
                         ids=["binary", "multiclass", "multilabel", "one-hot"])  # fmt: skip
def test_heads(target, tmp_path):
    loss = "binary_crossentropy" if target.ndim == 2 else "sparse_categorical_crossentropy"
    one_hot = target.shape[1:] == (3,)
    function = mlp if one_hot else cnn
    given = {"hidden": (8,)} if one_hot else {}
    estimator = net(function, loss="categorical_crossentropy" if one_hot else loss, **given)
    estimator.fit(X, target)
    assert estimator.predict(X).shape == target.shape
    assert np.isin(estimator.predict(X), target).all()
    assert estimator.score(X, target) > 0
    if not one_hot:
        assert evaluate(estimator, X, target, n_bootstrap=0).n == 48
    outputs = estimator.model_.predict(Z, verbose=0)
    proba = estimator.predict_proba(X)
    expected = np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs
    np.testing.assert_allclose(proba, expected, atol=1e-6)
    estimator.save(tmp_path / "model.kmedclf")
    loaded = load(tmp_path / "model.kmedclf", model=function)
    np.testing.assert_array_equal(loaded.predict_proba(X), proba)
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_one_compiled_network_for_all_rates():
    programs.clear()
    before = programs.stats()["builds"]
    for rate in (0.001, 0.01, 0.1):
        net(compiled, model__rate=rate).fit(X, y)
        net(mlp, hidden=(8,), optimizer__learning_rate=rate).fit(X, y)
    assert programs.stats()["builds"] - before == 2
    rates = [net(compiled, model__rate=rate).fit(X, y).weights_[0] for rate in (0.001, 0.1)]
    assert not np.array_equal(*rates)


def test_other_layers_are_another_network(monkeypatch):
    """What the function reads from outside counts, too."""
    found = []
    for activation in ("relu", "tanh", "relu"):
        monkeypatch.setitem(globals(), "ACTIVATION", activation)
        found.append(net(reads_a_global).fit(X, y))
    assert same(found[0], found[2])
    assert not same(found[0], found[1])


ACTIVATION = "relu"


def reads_a_global(meta):
    return keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4, ACTIVATION),
        keras.layers.Dense(3, activation="softmax"),
    ])  # fmt: skip


@pytest.mark.parametrize("options", [
    {"augment": True}, {"class_weight": "balanced"}, {"mixup": 0.2}, {"accumulate_steps": 2},
    {"early_stopping": True, "validation_fraction": 0.25}, {"lr_schedule": "cosine"},
    {"oversample": "duplicate"}, {"precision": "mixed_bfloat16"}, {"l2": 0.01},
    {"label_smoothing": 0.1}, {"learning_rate": 0.05}, {"tta": "mirror"},
], ids=named)  # fmt: skip
def test_options_of_the_package(options):
    estimator = net(**options).fit(X, y)
    assert estimator.predict_proba(X).shape == (48, 3)
    plain = net().fit(X, y)
    if "tta" in options:
        assert not np.array_equal(estimator.predict_proba(X), plain.predict_proba(X))
    else:
        assert not same(estimator, plain)


def test_sample_weights_and_memory(tmp_path):
    weight = np.arange(48.0)
    first = net(memory=tmp_path).fit(X, y, sample_weight=weight)
    before = programs.stats()["borrowed"]
    again = net(memory=tmp_path).fit(X, y, sample_weight=weight)
    assert same(first, again)
    assert programs.stats()["borrowed"] - before == 1  # looked at, not trained
    assert not same(first, net().fit(X, y))
    other = net(memory=tmp_path, model__filters=2).fit(X, y, sample_weight=weight)
    assert other.n_params_ != first.n_params_


@pytest.mark.parametrize("given", [
    {"optimizer": "sgd", "optimizer__momentum": 0.5},
    {"optimizer": lambda: keras.optimizers.RMSprop(0.1)},
    {"optimizer": keras.optimizers.Adam, "optimizer__amsgrad": True},
    {"optimizer": "adamw", "optimizer__weight_decay": 0.5},
    {"loss": keras.losses.SparseCategoricalCrossentropy}, {"loss": "kl_divergence"},
    {"loss": keras.losses.CategoricalCrossentropy, "loss__label_smoothing": 0.2},
    {"loss": "categorical_focal_crossentropy"},
    {"loss": "mean_squared_error"}, {"loss": lambda: keras.losses.CategoricalHinge()},
], ids=named)  # fmt: skip
def test_optimizers_and_losses(given):
    # Made here, not when workers import this module: TensorFlow must be set up before.
    made = {n: v() if getattr(v, "__name__", "") == "<lambda>" else v for n, v in given.items()}
    estimator = net(mlp, hidden=(4,), **made).fit(X, y)
    assert np.isfinite(estimator.history_["loss"]).all()
    copied = clone(net(mlp, hidden=(4,), **made)).fit(X, y)
    assert same(copied, estimator)


def test_initial_weights_of_a_model_and_of_a_function():
    model = compiled()
    before = [w.copy() for w in model.get_weights()]
    for given in (model, lambda: started(before)):
        estimator = net(given, optimizer="sgd").initialize(X, y)
        for one, other in zip(estimator.weights_, before, strict=True):
            np.testing.assert_array_equal(one, other)
        estimator.fit(X, y)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def started(weights):
    model = compiled()
    model.set_weights(weights)
    return model


def test_shapes_of_x():
    flat = net(lambda meta: mlp((4,), {**meta}, {"loss": "sparse_categorical_crossentropy"}))
    for images in (Z.reshape(48, -1), Z[..., 0], Z):
        assert flat.fit(images, y).model_.input_shape[1:] == images.shape[1:]


def test_copies():
    estimator = net().fit(X, y)
    other = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(other.predict_proba(X), estimator.predict_proba(X))
    assert same(other.fit(X, y), estimator.fit(X, y))
    assert clone(estimator).get_params() == estimator.get_params()


def test_a_search_in_two_processes(as_many_threads):
    grid = {"model__filters": [2, 4], "optimizer__learning_rate": [0.01, 0.1]}
    search = GridSearchCV(net(), grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    alone = GridSearchCV(net(), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_ == alone.best_params_
    assert same(search.best_estimator_, alone.best_estimator_)


def two_outputs():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, [keras.layers.Flatten()(image)] * 2)


@pytest.mark.parametrize(("given", "message"), [
    ({"model": lambda: 3}, "must return a keras.Model. Got int"),
    ({"model": two_outputs}, "several inputs or outputs"),
    ({"loss": None}, "'loss' parameter of KerasImageClassifier must be a loss"),
    ({"model": lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)])},
     "with 3 outputs, one for each class or label. Got 5"),
    ({"model": lambda: compiled(keras.optimizers.schedules.CosineDecay(0.1, 9))},
     "'lr_schedule' changes, and no averaged weights. Got a learning rate schedule"),
    ({"batch_size": -3}, "'batch_size' parameter of KerasImageClassifier must be at least 1"),
    ({"run_eagerly": True}, "'run_eagerly' parameter of scikeras must be False"),
], ids=named)  # fmt: skip
def test_one_sentence(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        net(**given).fit(X, y)


def test_metrics_are_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="computes only loss and accuracy"):
        net(metrics=[keras.metrics.AUC]).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(metrics=["accuracy"]).fit(X, y)


def test_loading_needs_the_function(tmp_path):
    net().fit(X, y).save(tmp_path / "model.kmedclf")
    with pytest.raises(ValueError, match=r"give it, as in load\(path, model=build\)"):
        load(tmp_path / "model.kmedclf")
    with pytest.raises(ValueError, match="is not a whole kmedclf model file"):
        load(tmp_path / "model.kmedclf", model=compiled)
    net(reads_a_global).fit(X, y).save(tmp_path / "other.kmedclf")

    def other(meta):
        return keras.Sequential([
            keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(4, "gelu"),
            keras.layers.Dense(3, activation="softmax"),
        ])  # fmt: skip

    with pytest.warns(RuntimeWarning, match="other layers than its 'model' builds"):
        load(tmp_path / "other.kmedclf", model=other)


def test_builds_that_overlap_leave_keras_as_it_was():
    """As threads do: the first to begin may be the first to end."""
    plain = build_function.BaseOptimizer.__init__
    first, second = (build_function._optimizers_with_values() for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert build_function.BaseOptimizer.__init__ is not plain
    second.__exit__(None, None, None)
    assert build_function.BaseOptimizer.__init__ is plain
