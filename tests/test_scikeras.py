"""Every public name that the estimators have from scikeras: it works, or says why it does not.

Names are found in `scikeras.wrappers.KerasClassifier`: its attributes, its constructor's
parameters, and the attributes that its documentation promises after a fit.
"""

import inspect
import re

import keras
import numpy as np
import pytest
from helpers import PUBLIC, QUICK, data, get, make, same
from scikeras.wrappers import KerasClassifier
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from kmedclf import ImageClassifier, load, routing

X, y = data(24)
WORDS = np.array(["blast", "basophil", "platelet"])[y]
LABELS = np.stack([y == 0, y < 2], axis=1).astype(int)

# ImageClassifier takes scikeras' names before it asks a network for anything: no deep ones.
every = pytest.mark.parametrize("name", QUICK)

ATTRIBUTES = {name for name in dir(KerasClassifier) if not name.startswith("_")}
PARAMETERS = set(inspect.signature(KerasClassifier).parameters) - {"kwargs"}
DOCUMENTED = inspect.getdoc(KerasClassifier).partition("Attributes\n")[2]
AFTER_FIT = set(re.findall(r"^(\w+_) : ", DOCUMENTED, re.M))


# -- attributes and methods ------------------------------------------------------------------------


def current_epoch(name):
    estimator = make(name)
    assert estimator.current_epoch == 0
    assert estimator.initialize(X, y).current_epoch == 0
    assert estimator.fit(X, y).current_epoch == 2
    assert estimator.partial_fit(X, y).current_epoch == 3


def feature_encoder(name):
    assert make(name).feature_encoder.fit(X).transform(X) is X
    with pytest.raises(TypeError, match=r"must not define 'feature_encoder'.*Pipeline"):
        type("Own", (get(name),), {"feature_encoder": property(lambda self: None)})


def target_encoder(name):
    estimator = make(name)
    codes = estimator.target_encoder.fit(WORDS).transform(WORDS)
    np.testing.assert_array_equal(codes.ravel(), np.unique(WORDS, return_inverse=True)[1])
    estimator.fit(X, WORDS)
    some = estimator.target_encoder.fit(WORDS[WORDS != "blast"])  # it knows all classes
    np.testing.assert_array_equal(some.classes_, estimator.classes_)
    with pytest.raises(TypeError, match=r"must not define 'target_encoder'.*Pipeline"):
        type("Own", (get(name),), {"target_encoder": property(lambda self: None)})


def fit(name):
    given = {"epochs": 1, "batch_size": 8, "verbose": 0, "initial_epoch": 0, "shuffle": True}
    estimator = make(name).fit(X, y, **given)
    assert same(estimator, make(name, epochs=1, batch_size=8).fit(X, y))
    assert (estimator.epochs, estimator.get_params()) == (2, make(name).get_params())
    held = make(name).fit(X, y, validation_data=(X[:8], y[:8], np.arange(8)))
    expected = make(name).fit(X, y, X_val=X[:8], y_val=y[:8], sample_weight_val=np.arange(8))
    assert held.history_ == expected.history_
    seen = []
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    make(name).fit(X, y, callbacks=[stop])
    assert seen == [0, 1]
    weighed = make(name).fit(X, WORDS, class_weight={"blast": 5.0})
    assert same(weighed, make(name, class_weight={"blast": 5.0}).fit(X, WORDS))
    with pytest.raises(TypeError, match=r"\.fit must get its own arguments.*Got 'epocks'"):
        make(name).fit(X, y, epocks=1)
    with pytest.raises(ValueError, match=r"'steps_per_epoch' argument of .*\.fit must be None"):
        make(name).fit(X, y, steps_per_epoch=1)
    with pytest.raises(ValueError, match=r"'validation_data' argument of .*\.fit must be a tuple"):
        make(name).fit(X, y, validation_data=X)


def partial_fit(name):
    parts = make(name)
    for part in (X[:12], X[12:]):
        parts.partial_fit(part, y[: len(part)], classes=[0, 1, 2], verbose=0)
    assert len(parts.history_["loss"]) == 2
    for argument in ("epochs", "initial_epoch"):
        with pytest.raises(TypeError, match=rf"partial_fit must get no '{argument}'"):
            parts.partial_fit(X, y, **{argument: 1})


def initialize(name):
    estimator = make(name).initialize(X, WORDS)
    assert estimator.initialized_
    assert estimator.history_ == {"loss": [], "accuracy": []}
    proba = estimator.predict_proba(X)
    assert proba.shape == (24, 3)
    assert set(estimator.predict(X)) <= set(WORDS)
    assert same(make(name).initialize(X, WORDS), estimator)
    assert not same(make(name, random_state=1).initialize(X, WORDS), estimator)
    # Training begins with these very weights.
    one, first = make(name, epochs=1), make(name, epochs=1).initialize(X, WORDS)
    assert same(first.partial_fit(X, WORDS), one.fit(X, WORDS))
    assert same(estimator.fit(X, WORDS), make(name).fit(X, WORDS))


def initialized_(name):
    estimator = make(name)
    assert not estimator.initialized_
    with pytest.raises(NotFittedError):
        estimator.predict(X)
    assert estimator.fit(X, y).initialized_


def predict(name):
    estimator = make(name).fit(X, WORDS)
    plain = estimator.predict(X)
    np.testing.assert_array_equal(estimator.predict(X, batch_size=5, verbose=0), plain)
    with pytest.raises(TypeError, match=r"\.predict must get X alone.*Got 'steps'"):
        estimator.predict(X, steps=1)


def predict_proba(name):
    estimator = make(name).fit(X, y)
    plain = estimator.predict_proba(X)
    np.testing.assert_array_equal(estimator.predict_proba(X, batch_size=5, verbose=0), plain)
    with pytest.raises(TypeError, match="Got 'callbacks'"):
        estimator.predict_proba(X, callbacks=[])


def score(name):
    estimator, weight = make(name).fit(X, y), np.arange(24)
    expected = accuracy_score(y, estimator.predict(X), sample_weight=weight)
    assert estimator.score(X, y, sample_weight=weight) == expected


def scorer(name):
    assert get(name).scorer([0, 1], [0, 0]) == 0.5
    balanced = staticmethod(
        lambda true, pred, **given: balanced_accuracy_score(true, pred, **given)
    )
    own = type("Own", (get(name),), {"scorer": balanced, "__module__": __name__})
    estimator = own(**make(name).get_params()).fit(X, y)
    assert estimator.score(X, y) == balanced_accuracy_score(y, estimator.predict(X))


def get_params(name):
    assert make(name).get_params()["epochs"] == 2
    assert set(make(name).get_params()) == set(inspect.signature(get(name)).parameters)


ROUTED = {
    "optimizer__learning_rate": ("learning_rate", 0.05),
    "optimizer__momentum": ("momentum", 0.9),
    "optimizer__nesterov": ("nesterov", True),
    "optimizer__weight_decay": ("weight_decay", 0.1),
    "optimizer__global_clipnorm": ("clipnorm", 1.0),
    "loss__label_smoothing": ("label_smoothing", 0.1),
    "loss__gamma": ("focal_gamma", 1.0),
    "loss__alpha": ("focal_alpha", 0.5),
    "fit__epochs": ("epochs", 1),
    "fit__batch_size": ("batch_size", 4),
    "fit__validation_split": ("validation_split", 0.25),
    "compile__optimizer": ("optimizer", "sgd"),
    "compile__jit_compile": ("jit_compile", False),
}


def set_params(name):
    estimator = make(name)
    for routed, (own, value) in ROUTED.items():
        assert estimator.set_params(**{routed: value}) is estimator
        assert estimator.get_params()[own] == value
        assert get(name)(**{routed: value}).get_params()[own] == value
    layer = next(iter(inspect.signature(get(name)).parameters))
    assert get(name)(**{f"model__{layer}": 3}).get_params()[layer] == 3
    estimator.set_params(predict__batch_size=7, fit__shuffle=True)  # they change nothing
    for wrong in ("optimizer__beta_3", "model__no", "predict__steps"):
        with pytest.raises(ValueError, match=f"The '{wrong}' parameter of {name} must be one that"):
            make(name).set_params(**{wrong: 1})
    piped = make_pipeline(FunctionTransformer(), make(name))
    step = piped.steps[-1][0]
    grid = {f"{step}__optimizer__learning_rate": [0.01, 0.1]}
    search = GridSearchCV(piped, grid, cv=2, error_score="raise").fit(X, y)
    best = search.best_params_[f"{step}__optimizer__learning_rate"]
    assert same(search.best_estimator_[-1], make(name, learning_rate=best).fit(X, y))


def get_metadata_routing(name):
    with config_context(enable_metadata_routing=True):
        made = make(name).set_fit_request(sample_weight=True).get_metadata_routing()
    assert made.fit.requests["sample_weight"] is True


def requests(method):
    def check(name):
        with config_context(enable_metadata_routing=True):
            estimator = getattr(make(name), f"set_{method}_request")(sample_weight=True)
        found = getattr(estimator.get_metadata_routing(), method).requests
        assert found["sample_weight"] is True

    return check


METHODS = {
    **{one.__name__: one for one in (
        current_epoch, feature_encoder, target_encoder, fit, partial_fit, initialize, initialized_,
        predict, predict_proba, score, scorer, get_params, set_params, get_metadata_routing,
    )},
    **{f"set_{name}_request": requests(name) for name in ("fit", "partial_fit", "score")},
}  # fmt: skip


@every
@pytest.mark.parametrize("attribute", sorted(ATTRIBUTES))
def test_what_is_inherited_works(name, attribute):
    METHODS[attribute](name)


@pytest.mark.parametrize("name", PUBLIC)
def test_no_network_has_its_own_of_what_it_inherits(name):
    """So two deep networks stand for all above."""
    own = [vars(one) for one in get(name).__mro__ if issubclass(one, ImageClassifier)]
    own = {name for one in own[:-1] for name in one}
    generated = {one for one in own if re.fullmatch(r"set_\w+_request", one)}  # by scikit-learn
    assert own & (ATTRIBUTES | AFTER_FIT) == generated


def test_all_is_found():
    for names, least in ((ATTRIBUTES, 17), (PARAMETERS, 16), (AFTER_FIT, 14)):
        assert len(names) >= least
    assert set(METHODS) == ATTRIBUTES


# -- parameters of scikeras' constructor -----------------------------------------------------------

OTHER = {
    "model": lambda: None, "build_fn": lambda: None, "metrics": ["accuracy", "auc"],
    "shuffle": False, "run_eagerly": True,
}  # fmt: skip


@every
@pytest.mark.parametrize("parameter", sorted(PARAMETERS))
def test_parameters_of_scikeras(name, parameter):
    default = inspect.signature(KerasClassifier).parameters[parameter].default
    if parameter in make(name).get_params():  # a parameter here, too, tested as one elsewhere
        return
    assert getattr(make(name), parameter) == default
    assert getattr(get(name)(**{parameter: default}), parameter) == default
    assert make(name).set_params(**{parameter: default}).get_params() == make(name).get_params()
    if parameter in routing.NO_RESULT:
        make(name, **{parameter: 5}).fit(X, y, **{parameter: 5})
        return
    message = f"The '{parameter}' parameter of scikeras must be {default} for {name}: "
    with pytest.raises(ValueError, match=message):
        make(name, **{parameter: OTHER[parameter]})
    with pytest.raises(ValueError, match=message):
        make(name).set_params(**{parameter: OTHER[parameter]})
    with pytest.raises(ValueError, match=message):
        make(name).fit(X, y, **{parameter: OTHER[parameter]})
    estimator = make(name)
    setattr(estimator, parameter, OTHER[parameter])
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)


@every
def test_validation_split(name):
    plain = make(name, validation_split=0.25).fit(X, y)
    assert len(plain.history_["val_accuracy"]) == 2
    assert same(make(name).fit(X, y, validation_split=0.25), plain)
    stopped = make(name, early_stopping=True, restore_best=False, validation_fraction=0.25)
    assert stopped.fit(X, y).history_ == plain.history_


@every
@pytest.mark.parametrize("parameter", ["random_state", "warm_start", "callbacks", "class_weight"])
def test_parameters_in_common(name, parameter):
    value = {"random_state": np.random.RandomState(3), "warm_start": True, "callbacks": [],
             "class_weight": "balanced"}[parameter]  # fmt: skip
    assert make(name, **{parameter: value}).fit(X, y).get_params()[parameter] is value


# -- what scikeras documents after a fit -----------------------------------------------------------


def expected(name, estimator):
    encoded = np.unique(WORDS, return_inverse=True)[1]
    return {
        "model_": lambda: (
            estimator.model_.count_params()
            == estimator.n_params_ + estimator.n_non_trainable_params_
        ),
        "history_": lambda: {"loss", "accuracy"} <= estimator.history_.keys(),
        "initialized_": lambda: estimator.initialized_,
        "target_encoder_": lambda: (
            np.array_equal(estimator.target_encoder_.transform(WORDS).ravel(), encoded)
            and np.array_equal(
                estimator.target_encoder_.inverse_transform(estimator.predict_proba(X)),
                estimator.predict(X),
            )
        ),
        "feature_encoder_": lambda: estimator.feature_encoder_.transform(X) is X,
        "n_outputs_expected_": lambda: estimator.n_outputs_expected_ == 1,
        "n_outputs_": lambda: estimator.n_outputs_ == 1,
        "target_type_": lambda: estimator.target_type_ == "multiclass",
        "y_shape_": lambda: (estimator.y_shape_, estimator.y_ndim_) == ((24,), 1),
        "y_dtype_": lambda: estimator.y_dtype_ == WORDS.dtype,
        "X_shape_": lambda: estimator.X_shape_ == X.shape,
        "X_dtype_": lambda: estimator.X_dtype_ == np.uint8,
        "n_features_in_": lambda: estimator.n_features_in_ == X.shape[1],
        "classes_": lambda: np.array_equal(estimator.classes_, np.unique(WORDS)),
        "n_classes_": lambda: estimator.n_classes_ == 3,
    }


@every
def test_attributes_after_a_fit(name, tmp_path):
    unfitted = make(name)
    fitted = make(name).fit(X, WORDS)
    fitted.save(tmp_path / "model.kmedclf")
    for estimator in (fitted, load(tmp_path / "model.kmedclf")):
        known = expected(name, estimator)
        assert AFTER_FIT <= known.keys()
        for attribute, holds in known.items():
            assert holds(), attribute
            assert attribute == "initialized_" or not hasattr(unfitted, attribute)


@every
def test_kinds_of_targets(name):
    several = make(name).fit(X, LABELS)
    assert several.target_type_ == "multilabel-indicator"
    np.testing.assert_array_equal(several.target_encoder_.transform(LABELS), LABELS)
    assert (several.n_classes_, several.n_outputs_) == (2, 1)
    assert make(name).fit(X, y == 1).target_type_ == "binary"


@every
def test_an_initialized_estimator_is_saved(name, tmp_path):
    estimator = make(name).initialize(X, y)
    estimator.save(tmp_path / "model.kmedclf")
    loaded = load(tmp_path / "model.kmedclf")
    assert same(loaded, estimator)
    np.testing.assert_array_equal(loaded.predict_proba(X), estimator.predict_proba(X))
