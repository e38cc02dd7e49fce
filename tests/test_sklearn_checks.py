"""scikit-learn's own checks of an estimator, all of them, on every public network."""

import re

import pytest
from helpers import DEEP, PUBLIC, SLOW, SMALL_OF, get
from helpers import SMALL as TINY
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

# Both find scikeras' own `_more_tags`, or the order of its bases, among our ancestors; neither
# can be met by a class that inherits from it. strict xfail: if one passes one day, this says so.
EXPECTED = {
    "check_estimator_tags_renamed": "scikeras defines _more_tags for scikit-learn before 1.6",
    "check_mixin_order": "scikeras puts BaseEstimator before ClassifierMixin",
}

SMALL = {
    "blocks": 1,
    "dense_units": 8,
    "filters": 8,
    "layers_per_block": 1,
    "stem_filters": 8,
    "units": 32,
}
# check_class_weight_classifiers trains for 80 steps: too few for Adam at 0.001 on 8 kernels.
RATES = {"CNNClassifier": 0.01, "ConvNetClassifier": 0.02, "AlexNetClassifier": 0.005}


def _small(name):
    cls = get(name)
    sizes = {**TINY, **SMALL_OF.get(name, {})} if name in DEEP else SMALL
    small = {key: value for key, value in sizes.items() if key in cls._get_param_names()}
    rate = RATES.get(name, 0.02 if name in DEEP else None)
    return cls(**small, learning_rate=rate, epochs=20, early_stopping=False)


@parametrize_with_checks(
    [_small(name) for name in PUBLIC if name not in SLOW],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_sklearn(estimator, check, float32_tolerance):
    check(estimator)


# What a network itself computes; parameters, tags and what is refused are those of its base.
COMPUTED = re.compile(
    r"check_(sample_weight|sample_weights|classifiers_(train|classes|one_label)|methods_|fit2d_1|"
    r"fit_(idempotent|score)|dont_overwrite|dict_unchanged|estimators_(pickle|overwrite)|"
    r"readonly|class_weight|f_contiguous|decision_proba)"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(estimator, check, id=check.func.__name__)
        for estimator, check in estimator_checks_generator(_small("DeepResNetClassifier"))
        if COMPUTED.match(check.func.__name__)
    ],
)
def test_sklearn_on_a_deep_network(estimator, check, float32_tolerance):
    check(estimator)


def test_the_checks_that_fail_exist():
    names = {check.func.__name__ for _, check in estimator_checks_generator(_small(PUBLIC[0]))}
    assert set(EXPECTED) <= names
