"""Several labels an image: y of zeros and ones, a sigmoid each, in every network."""

import numpy as np
import pytest
from helpers import ENGINE, make, same
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.neural_network import MLPClassifier

import kmedclf
from kmedclf.datasets import make_chest_findings
from kmedclf.inputs.images import Images, Rows
from kmedclf.search import StagedSearchCV
from kmedclf.training import cache
from kmedclf.training.heads import HEADS, head_of
from kmedclf.training.rows import Split

X, y = make_chest_findings(48, 8, random_state=0)
MANY = HEADS["sigmoid"]


def fit(name="MLPClassifier", X=X, y=y, **params):
    given = {key: params.pop(key) for key in ("X_val", "y_val", "sample_weight") if key in params}
    return make(name, **params).fit(X, y, **given)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ENGINE)
def test_answers_as_scikit_learns_own_network_does(name):
    ours = fit(name)
    theirs = MLPClassifier((4,), max_iter=2).fit(X.reshape(len(X), -1) / 255.0, y)
    proba, logits = ours.predict_proba(X), ours.decision_function(X)
    assert proba.dtype == logits.dtype == np.float32
    assert proba.shape == logits.shape == y.shape
    np.testing.assert_allclose(proba, expit(logits), rtol=1e-6)
    np.testing.assert_array_equal(ours.predict(X), proba > 0.5)
    assert ours.predict(X).dtype == theirs.predict(X.reshape(len(X), -1)).dtype
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.score(X, y) == accuracy_score(y, ours.predict(X))
    assert ours.predict_proba(X[:1]).shape == (1, 4)
    np.testing.assert_allclose(ours.model_.predict(X.astype("f"), verbose=0), proba, atol=1e-6)


@pytest.mark.parametrize("name", ENGINE)
def test_is_saved_remembered_and_read_back(name, tmp_path):
    first = fit(name, memory=tmp_path / "fits")
    again = fit(name, memory=tmp_path / "fits")
    assert same(first, again)
    assert first.history_ == again.history_
    first.save(tmp_path / "one.kmedclf")
    back = kmedclf.load(tmp_path / "one.kmedclf")
    np.testing.assert_array_equal(back.predict_proba(X), first.predict_proba(X))
    np.testing.assert_array_equal(back.predict(X), first.predict(X))


@pytest.mark.parametrize("name", ENGINE)
def test_goes_on_by_epochs(name):
    whole = fit(name, epochs=3)
    part = make(name, epochs=3)
    for _ in range(3):
        part.partial_fit(X, y)
    assert same(whole, part)


def test_learns_what_can_be_seen():
    many, labels = make_chest_findings(400, 16, random_state=1)
    model = fit("CNNClassifier", many[:300], labels[:300], epochs=50, learning_rate=0.01, filters=8)
    assert roc_auc_score(labels[300:], model.predict_proba(many[300:])) > 0.85
    assert model.history_["accuracy"][-1] > max(labels.mean(), 1 - labels.mean())


@pytest.mark.filterwarnings("ignore:y of MLPClassifier.fit has exactly one 1:UserWarning")
def test_exclusive_labels_are_learnt_alike():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 2, 48)
    bright = (rng.integers(0, 128, (48, 4, 4)) + 127 * one[:, None, None]).astype(np.uint8)
    pair = np.stack([1 - one, one], axis=1)
    options = {"epochs": 100, "learning_rate": 0.02, "units": 32, "augment": False}
    apart, together = (fit(X=bright, y=labels, **options) for labels in (pair, one))
    for model in (apart, together):
        assert roc_auc_score(one, model.predict_proba(bright)[:, 1]) > 0.95
    sums = apart.predict_proba(bright).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=0.2)  # though nothing forces them


def test_labels_may_come_in_many_forms():
    plain = fit()
    for form in (y.tolist(), list(y), y.astype(bool), y.astype("f4"), csr_matrix(y)):
        assert same(plain, fit(y=form))


def test_the_order_of_the_images_does_not_matter():
    order = np.random.default_rng(0).permutation(len(X))
    assert same(fit(early_stopping=True), fit(X=X[order], y=y[order], early_stopping=True))


def test_accuracy_is_that_of_all_labels():
    model = fit(X_val=X[:20], y_val=y[:20], early_stopping=True, restore_best=False)
    expected = np.mean(model.predict(X[:20]) == y[:20])
    assert model.history_["val_accuracy"][-1] == pytest.approx(expected)
    logits = model.decision_function(X[:20])
    losses = np.logaddexp(0, logits) - y[:20] * logits
    assert model.history_["val_loss"][-1] == pytest.approx(losses.mean(), rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "focal", "focal_gamma": 0.5, "focal_alpha": 1.0},
        {"label_smoothing": 0.2},
        {"mixup": 0.4, "cutmix": 0.4, "class_weight": "balanced"},
        {"class_weight": "inverse", "accumulate_steps": 2},
        {"class_weight": {1: 3.0}, "early_stopping": True, "monitor": "loss"},
        {"augment": "mirror", "tta": "mirror"},
    ],
    ids=str,
)
def test_options_of_training_have_an_effect(options):
    name = "CNNClassifier"
    changed, plain = fit(name, **options), fit(name)
    assert not np.array_equal(changed.predict_proba(X), plain.predict_proba(X))
    assert np.isfinite(changed.history_["loss"]).all()
    assert all(np.isfinite(one).all() for one in changed.weights_)


def test_losses_are_kerass_of_each_label():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    labels = tf.constant(rng.integers(0, 2, (6, 3)), tf.float32)
    logits = tf.constant(rng.normal(size=(6, 3)) * 40, tf.float32)
    share = 1 / (1 + np.exp(-np.clip(logits, -16, 16).astype("f8")))
    right = np.where(labels, share, 1 - share)
    for gamma in (0.0, 0.5, 2.0):
        loss = MANY.loss({"focal_alpha": 0.25, "focal_gamma": gamma}, 3)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            values = loss(labels, logits)
        expected = 0.25 * (1 - right) ** gamma * -np.log(np.maximum(right, 1e-7))
        np.testing.assert_allclose(values, expected, rtol=2e-2, atol=1e-5)
        assert np.isfinite(tape.gradient(values, logits)).all()
    losses = MANY.loss({}, 3)(labels, logits).numpy()
    assert losses.shape == (6, 3)
    np.testing.assert_allclose(losses, np.logaddexp(0, logits) - labels * logits, atol=1e-5)


@pytest.mark.parametrize("class_weight", [None, "balanced", "inverse", {2: 5.0}])
def test_class_weights_are_those_of_each_label(class_weight):
    weigh = MANY.weigher(class_weight, y.astype("f"), np.arange(4), "It")
    for j, column in enumerate(y.T):
        of_one = HEADS["softmax"]
        given = {1: class_weight.get(j, 1.0)} if isinstance(class_weight, dict) else class_weight
        alone = of_one.weigher(given, column.astype(np.int32), np.arange(2), "It")
        np.testing.assert_allclose(weigh(y.astype("f"))[:, j], alone(column))


def test_a_weight_repeats_an_image():
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    repeated = np.repeat(np.arange(len(X)), weight)
    assert same(fit(sample_weight=weight), fit(X=X[repeated], y=y[repeated]))


@pytest.mark.parametrize("n", [6, 48, 300])
def test_the_inner_split_has_every_frequent_label_on_both_sides(n):
    _, labels = make_chest_findings(n, 8, random_state=3)
    labels = np.concatenate([labels, np.zeros((n, 1), int)], axis=1)
    labels[0, 4] = 1  # on one image only
    images = Images(np.zeros((n, 1, 1, 1), np.uint8), 1.0)
    rows = Rows(images, np.arange(n), labels.astype("f"), np.ones(n, np.float32))
    train, held = Split(0.2, None, 0)(rows, MANY, "It")
    assert len(held) == np.ceil(0.2 * n)
    assert sorted([*train.index, *held.index]) == list(range(n))
    if n == 300:
        np.testing.assert_allclose(
            held.y[:, :4].mean(axis=0), train.y[:, :4].mean(axis=0), atol=0.1
        )


@pytest.mark.parametrize("name", ENGINE)
def test_later_fits_trace_nothing(name):
    fit(name, class_weight="balanced", X_val=X, y_val=y).predict(X)
    before = cache.stats()
    for n, given in ((48, {}), (30, {"batch_size": 7}), (21, {"class_weight": {0: 2.0}})):
        fit(name, X[:n], y[:n], early_stopping=True, **given).predict(X[:n])
    assert cache.stats()["traces"] == before["traces"]
    assert cache.stats()["builds"] == before["builds"]


def test_groups_stay_together_where_labels_are_many():
    groups = np.arange(len(X)) // 4
    model = make("MLPClassifier", early_stopping=True, validation_fraction=0.25)
    assert len(model.fit(X, y, groups=groups).history_["val_loss"]) == 2


def test_a_label_nobody_has_is_learnt_as_absent():
    empty = np.concatenate([y, np.zeros((len(y), 1), int)], axis=1)
    model = fit(y=empty, epochs=30, learning_rate=0.01, class_weight="balanced")
    assert not model.predict(X)[:, 4].any()
    assert np.isfinite(model.predict_proba(X)).all()


def test_is_cross_validated_and_searched():
    cv = KFold(2, shuffle=True, random_state=0)
    found = cross_validate(make("MLPClassifier"), X, y, cv=cv, scoring="roc_auc")["test_score"]
    for score, (train, test) in zip(found, cv.split(X), strict=True):
        model = fit(X=X[train], y=y[train])
        assert score == roc_auc_score(y[test], model.decision_function(X[test]))
    grid = {"learning_rate": [0.001, 0.01], "class_weight": [None, "balanced"]}
    search = GridSearchCV(make("MLPClassifier"), grid, cv=cv, scoring="roc_auc").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == y.shape
    stages = [{"learning_rate": [0.001, 0.01]}, {"batch_size": [16, 48]}]
    staged = StagedSearchCV(make("MLPClassifier"), stages, cv=cv, scoring="roc_auc").fit(X, y)
    assert staged.best_params_.keys() == {"learning_rate", "batch_size"}


def test_heads_do_not_share_a_program_or_go_on_from_each_other():
    model = make("MLPClassifier", warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"shape \(n, 4\), one column a label. Got \(48,\)"):
        model.fit(X, y[:, 0])
    model = make("MLPClassifier", warm_start=True).fit(X, y[:, 0])
    with pytest.raises(ValueError, match=r"shape \(n,\).* Got \(48, 4\)"):
        model.fit(X, y)
    assert head_of(y) is MANY
    assert fit(y=y[:, :2])._spec != fit(y=y[:, 0])._spec


BAD = {
    "a continuous y": ({"y": y + 0.25}, ["only 0 and 1", "0.25"]),
    "counts": ({"y": y * 2}, ["only 0 and 1", "Got 2"]),
    "words": ({"y": np.where(y, "yes", "no")}, ["only 0 and 1", "Got '"]),
    "NaN": ({"y": np.where(y, np.nan, 0)}, ["only 0 and 1", "nan"]),
    "too few rows": ({"y": y[:-1]}, ["48", "47"]),
    "fewer labels in y_val": ({"X_val": X, "y_val": y[:, :3]}, ["(n, 4)", "(48, 3)"]),
    "one label in y_val": ({"X_val": X, "y_val": y[:, 0]}, ["(n, 4)", "(48,)"]),
    "other values in y_val": ({"X_val": X, "y_val": y * 3}, ["y_val", "only 0 and 1", "Got 3"]),
    "oversample": ({"oversample": "duplicate"}, ["'oversample'", "None", "'duplicate'"]),
    "an unknown label": ({"class_weight": {7: 1.0}}, ["'class_weight'", "0, 1, 2, 3", "7"]),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_used_is_refused_in_one_sentence(what):
    given, words = BAD[what]
    with pytest.raises(ValueError, match="MLPClassifier") as error:
        fit(**given)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert message.count(". ") <= 1
    assert "\n" not in message


def test_partial_fit_knows_its_columns():
    make("MLPClassifier").partial_fit(X, y, classes=[0, 1, 2, 3])
    with pytest.raises(ValueError, match=r"0 to 3\. Got 0, 1 instead"):
        make("MLPClassifier").partial_fit(X, y, classes=[0, 1])
