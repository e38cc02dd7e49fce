"""Training options against Keras, scikit-learn or plain arithmetic."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import ENGINE, data, make, run, same
from sklearn.base import clone

import kmedclf
from kmedclf import recipes
from kmedclf.training import program

X, y = data()
FLOAT = X.reshape(48, -1) / np.float32(255)
every_estimator = pytest.mark.parametrize("name", ENGINE)


def _one_step(**options):
    """Weights of an MLP before and after one step on all images, in Keras' order."""
    options = {"epochs": 1, "batch_size": 48, "augment": False, "jit_compile": False, **options}
    still = {**options, "optimizer": "sgd", "learning_rate": 1e-30, "weight_decay": None}
    before, after = (make("MLPClassifier", **given).fit(FLOAT, y) for given in (still, options))
    return before, after


def _keras_step(before, optimizer, loss=None):
    model = keras.Sequential(
        [
            keras.Input((192,)),
            *(
                keras.layers.Dense(units, activation, name=name)
                for units, activation, name in ((8, "relu", "hidden"), (3, None, "logits"))
            ),
        ]
    )
    model.set_weights(before.weights_)
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    vectors = [one for one in model.trainable_variables if len(one.shape) == 1]
    if optimizer.weight_decay:
        optimizer.exclude_from_weight_decay(var_list=vectors)
    model.compile(optimizer, loss)
    target = y if isinstance(loss, keras.losses.SparseCategoricalCrossentropy) else np.eye(3)[y]
    history = model.fit(FLOAT, target, batch_size=48, shuffle=False, verbose=0)
    return model.get_weights(), history.history["loss"][0]


@pytest.mark.parametrize(
    ("options", "optimizer"),
    [
        ({"optimizer": "sgd", "momentum": 0.9}, lambda: keras.optimizers.SGD(0.1, 0.9)),
        (
            {"optimizer": "sgd", "momentum": 0.9, "nesterov": True},
            lambda: keras.optimizers.SGD(0.1, 0.9, nesterov=True),
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.3},
            lambda: keras.optimizers.AdamW(0.1, weight_decay=0.3),
        ),
        (
            {"optimizer": "rmsprop", "weight_decay": 0.3},
            lambda: keras.optimizers.RMSprop(0.1, weight_decay=0.3),
        ),
        (
            {"optimizer": "sgd", "clipnorm": 0.01},
            lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.01),
        ),
        (
            {"optimizer": "muon", "weight_decay": 0.3},
            lambda: keras.optimizers.Muon(
                0.1, weight_decay=0.3, adam_weight_decay=0.3, exclude_layers=["logits"]
            ),
        ),
    ],
    ids=["momentum", "nesterov", "adamw", "rmsprop", "clipnorm", "muon"],
)
def test_a_step_is_keras_step(options, optimizer):
    before, after = _one_step(learning_rate=0.1, **options)
    expected, loss = _keras_step(before, optimizer())
    assert after.history_["loss"][0] == pytest.approx(loss, rel=1e-5)
    for one, other in zip(after.weights_, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("focal", [None, {"focal_alpha": 1.0, "focal_gamma": 3.0}])
def test_losses_are_those_of_keras(smoothing, focal):
    options = {"label_smoothing": smoothing, "loss": "focal" if focal else "crossentropy"}
    given = {"label_smoothing": smoothing, "from_logits": True}
    if focal:
        loss = keras.losses.CategoricalFocalCrossentropy(1.0, 3.0, **given)
    else:
        loss = keras.losses.CategoricalCrossentropy(**given)
    options |= {"optimizer": "sgd", "learning_rate": 0.1, **(focal or {})}
    before, after = _one_step(**options)
    expected, value = _keras_step(before, keras.optimizers.SGD(0.1), loss)
    assert after.history_["loss"][0] == pytest.approx(value, rel=1e-5)
    for one, other in zip(after.weights_, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    # What early stopping watches is this loss, too.
    held = make("MLPClassifier", **options).fit(FLOAT, y, X_val=FLOAT, y_val=y)
    own = float(loss(np.eye(3)[y], held.decision_function(FLOAT)))
    assert held.history_["val_loss"][-1] == pytest.approx(own, rel=1e-4)


def test_focal_without_gamma_is_cross_entropy():
    options = {"focal_alpha": 1.0, "focal_gamma": 0.0, "augment": False}
    focal = make("CNNClassifier", loss="focal", **options).fit(X, y)
    plain = make("CNNClassifier", augment=False).fit(X, y)
    np.testing.assert_allclose(focal.history_["loss"], plain.history_["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    "options", [{"loss": "focal"}, {"label_smoothing": 0.1}, {"mixup": 0.3}, {"cutmix": 0.3}]
)
def test_weights_multiply_every_loss(options):
    options = {"optimizer": "sgd", "augment": False, "jit_compile": False, **options}
    twice = make("MLPClassifier", learning_rate=0.01, class_weight={0: 2.5, 1: 2.5, 2: 2.5})
    once = make("MLPClassifier", learning_rate=0.025)
    for one in (twice, once):
        one.set_params(**options).fit(X, y)
    for one, other in zip(twice.weights_, once.weights_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(twice.history_["loss"][0], 2.5 * once.history_["loss"][0], 1e-4)


def test_l2_shrinks_kernels_by_its_gradient():
    rate, l2 = 0.01, 0.5
    before, plain = _one_step(optimizer="sgd", learning_rate=rate)
    _, shrunk = _one_step(optimizer="sgd", learning_rate=rate, l2=l2)
    for start, one, other in zip(before.weights_, plain.weights_, shrunk.weights_, strict=True):
        less = rate * 2 * l2 * start if start.ndim > 1 else 0
        np.testing.assert_allclose(other, one - less, rtol=1e-4, atol=1e-6)
    assert shrunk.history_["loss"] == pytest.approx(plain.history_["loss"])


@pytest.mark.parametrize("parts", [2, 5, 7, 48, 99])
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])  # without batch normalisation
def test_parts_of_a_batch_are_the_batch(name, parts):
    options = {"batch_size": 20, "optimizer": "sgd", "learning_rate": 0.1, "l2": 0.01}
    options |= {"augment": False, "clipnorm": 0.5, "class_weight": "balanced"}
    whole = make(name, **options).fit(X, y)
    split = make(name, **options, accumulate_steps=parts).fit(X, y)
    for one, other in zip(whole.weights_, split.weights_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.history_["loss"], split.history_["loss"], rtol=1e-5)
    assert whole.history_["accuracy"] == split.history_["accuracy"]


def test_parts_with_batch_normalisation_train():
    fit = make("ResNetClassifier", accumulate_steps=4, batch_size=16, epochs=3).fit(X, y)
    assert np.isfinite(fit.history_["loss"]).all()


def test_options_without_effect_cost_no_program():
    estimator = kmedclf.CNNClassifier(momentum=0.9, focal_gamma=1.0, lr_schedule="cosine")
    assert program.step_options(recipes.applied(estimator)) == ()
    decaying = [kmedclf.CNNClassifier(weight_decay=x, l2=x) for x in (0.1, 0.2, 0.3)]
    values = {program.step_options(recipes.applied(one)) for one in decaying}
    assert len(values) == 1


OPTIONS = {
    "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01, "l2": 0.001, "clipnorm": 1.0,
    "label_smoothing": 0.1, "mixup": 0.4, "cutmix": 0.4, "oversample": "augment",
    "loss": "focal", "augment": ["mirror", keras.layers.RandomRotation(0.1)],
}  # fmt: skip


@every_estimator
@pytest.mark.filterwarnings("ignore:.*__array__:DeprecationWarning")
def test_all_options_together(name, tmp_path):
    one, again = (make(name, **OPTIONS).fit(X, y) for _ in range(2))
    assert same(one, again)
    assert same(clone(one).fit(X, y), one)
    parts = make(name, **OPTIONS)
    for _ in range(2):
        parts.partial_fit(X, y)
    assert same(parts, one)
    warm = make(name, **OPTIONS, warm_start=True).set_params(epochs=1).fit(X, y).fit(X, y)
    assert same(warm, one)
    one.save(tmp_path / "m.kmedclf")
    loaded = kmedclf.load(tmp_path / "m.kmedclf")
    np.testing.assert_array_equal(loaded.predict_proba(X), one.predict_proba(X))
    assert same(loaded.fit(X, y), one)


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_options_in_low_precision(precision):
    options = {"precision": precision, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 48}
    plain = make("MLPClassifier", **options).fit(X, y)
    for more in ({"weight_decay": 0.5}, {"clipnorm": 1e-3}, {"l2": 0.5}, {"accumulate_steps": 2}):
        fit = make("MLPClassifier", **options, **more).fit(X, y)
        assert np.isfinite(fit.history_["loss"]).all()
        assert "accumulate_steps" in more or not same(fit, plain)
    decayed = make("MLPClassifier", **{**options, "weight_decay": 0.5, "epochs": 1}).fit(X, y)
    full = {**options, "weight_decay": 0.5, "epochs": 1, "precision": "float32"}
    for one, other in zip(decayed.weights_, make("MLPClassifier", **full).fit(X, y).weights_,
                          strict=True):  # fmt: skip
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_training_goes_on_when_the_optimizer_changes():
    fit = make("MLPClassifier", optimizer="sgd", warm_start=True).fit(X, y)
    for momentum in (0.9, 0.5, 0.0):  # the slots of momentum come and go
        fit.set_params(momentum=momentum).fit(X, y)
    assert len(fit.history_["loss"]) == 8


def test_a_whole_model_can_be_checkpointed(tmp_path):
    path = tmp_path / "model.keras"
    options = {"weight_decay": 0.1, "l2": 0.1, "clipnorm": 1.0, "label_smoothing": 0.1}
    checkpoint = keras.callbacks.ModelCheckpoint(str(path))
    fit = make("MLPClassifier", **options, callbacks=[checkpoint]).fit(X, y)
    saved = keras.models.load_model(path, compile=False)
    assert same(saved.get_weights(), fit.weights_)


def test_fits_with_options_are_remembered(tmp_path):
    def fit(**changes):
        layers = ["mirror", keras.layers.RandomRotation(0.1)]
        options = {**OPTIONS, "augment": layers, "memory": str(tmp_path), **changes}
        return make("MLPClassifier", **options).fit(X, y)

    def entries():
        return len(list(tmp_path.rglob("*.kmedclf-fit")))

    assert same(fit(), fit())
    assert entries() == 1
    changes = [{"l2": 0.1}, {"weight_decay": 0.1}, {"mixup": 0.1}, {"oversample": "duplicate"}]
    changes += [{"lr_schedule": "cosine"}, {"augment": keras.layers.RandomRotation(0.2)}]
    for number, change in enumerate(changes, 2):
        fit(**change)
        assert entries() == number


SPACE = """
estimator: cnn
parameters:
  weight_decay: {low: 1.0e-4, high: 0.1, type: float, scale: log}
  lr_schedule: [null, one_cycle, plateau]
  lr_warmup: [null, 0.2]
  loss: [crossentropy, focal]
  oversample: [null, augment]
  augment: [basic, [mirror, crop, rotate]]
  mixup: [0.0, 0.2]
"""


def test_spaces_hold_options(tmp_path):
    from kmedclf.search import SearchSpace

    path = tmp_path / "options.yaml"
    path.write_text(SPACE)
    found = SearchSpace.load(path).distributions()
    assert found["lr_schedule"] == [None, "one_cycle", "plateau"]
    drawn = found["weight_decay"].rvs(random_state=0)
    make("CNNClassifier", weight_decay=drawn, lr_schedule="one_cycle", epochs=1).fit(X, y)
    path.write_text(SPACE.replace("plateau", "linear"))
    with pytest.raises(ValueError, match="'lr_schedule' parameter of CNNClassifier must be"):
        SearchSpace.load(path)


@pytest.mark.slow
def test_running_out_of_memory_says_what_to_lower():
    code = """
import keras
from helpers import data
from kmedclf import ImageClassifier

class Huge(ImageClassifier):
    def features(self, x):
        x = keras.layers.UpSampling2D(200_000)(x)
        return keras.layers.GlobalMaxPooling2D()(x)

try:
    Huge(epochs=1, augment=False, early_stopping=False).fit(*data())
except MemoryError as error:
    print(error)
"""
    assert "Huge ran out of memory with images of shape (8, 8, 3). Lower 'batch_size'" in run(code)


def test_soft_labels_leave_the_fast_path_alone():
    loss = program.make_loss(make("CNNClassifier").fit(X, y)._spec)
    logits = tf.random.stateless_normal([48, 3], [1, 2])
    np.testing.assert_allclose(loss(y, logits), loss(np.eye(3, dtype="f")[y], logits), rtol=1e-5)
