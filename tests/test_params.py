"""Parameters: written once, checked, documented, and counted."""

import inspect
import re
from dataclasses import MISSING, fields
from numbers import Integral, Real
from typing import Annotated, Literal

import numpy as np
import pytest
from helpers import PUBLIC, get
from sklearn.utils._param_validation import Interval, InvalidParameterError, Options, StrOptions

from kmedclf import CNNClassifier, ImageClassifier, MLPClassifier, parameters
from kmedclf.datasets import make_blood_cells
from kmedclf.utils import annotated

every_public = pytest.mark.parametrize("name", PUBLIC)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (parameters.PositiveInt, [1, 5, np.int64(3)], [0, -1, 1.5, "1", None]),
        (parameters.PositiveFloat, [1e-9, 2, np.float32(3)], [0, -1.0, "1", None, np.nan, np.inf]),
        (parameters.NonNegativeFloat, [0, 0.5], [-0.1, None]),
        (parameters.Fraction, [0.1, 0.99], [0, 1, 1.0, "0.5"]),
        (parameters.PositiveInt | None, [None, 4], [0, "a"]),
        (bool, [True, False, np.True_], ["yes", None]),
        (int, [0, -3], [0.5, "0"]),
        (float, [0.5, -1], ["0", None]),
        (Literal["a", "b"], ["a"], ["c", None, 1]),
        (Literal["auto"] | bool, ["auto", True], ["always"]),
        (Literal[2, 3], [2, 3], [4]),
        (dict | None, [None, {}], [[]]),
        (tuple[int, ...] | list[int] | None, [None, (1, 2), [1]], ["(1, 2)", 3]),
        (Annotated[int, Interval(Integral, 3, 7, closed="both")], [3, 7], [2, 8]),
    ],
)
def test_an_annotation_is_a_constraint(annotation, good, bad):
    class Net(ImageClassifier):
        __annotations__ = {"knob": annotation}
        knob = good[0]

    constraints = annotated.parameter_constraints(Net)
    from sklearn.utils._param_validation import (
        InvalidParameterError,
        validate_parameter_constraints,
    )

    for value in good:
        given = Net(knob=value).get_params()
        validate_parameter_constraints(constraints, given, caller_name="Net")
    for value in bad:
        given = Net(knob=value).get_params()
        with pytest.raises(InvalidParameterError, match=r"^The 'knob' parameter of Net must be"):
            validate_parameter_constraints(constraints, given, caller_name="Net")


def test_constraints_are_those_of_scikit_learn():
    found = annotated.parameter_constraints(CNNClassifier)
    assert [type(one) for one in found["pooling"]] == [annotated.Words]
    assert isinstance(found["pooling"][0], StrOptions)
    assert [type(one) for one in found["filters"]] == [Interval]
    assert found["filters"][0].type is Integral
    assert annotated.constraints(float)[0].type is Real
    assert type(annotated.constraints(Literal[1, 2])[0]) is Options


@every_public
def test_the_constructor_is_explicit(name):
    signature = inspect.signature(get(name))
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert list(signature.parameters) == [field.name for field in fields(get(name))]
    estimator = get(name)()
    for field in fields(get(name)):
        assert field.default is not MISSING
        assert getattr(estimator, field.name) is field.default


@every_public
def test_the_constructor_checks_nothing(name):
    for parameter in inspect.signature(get(name)).parameters:
        estimator = get(name)(**{parameter: Ellipsis})
        assert getattr(estimator, parameter) is Ellipsis


@every_public
def test_unknown_parameters(name):
    meant = r"^A parameter of \w+ must be .* Got 'epoch' instead; did you mean 'epochs'"
    with pytest.raises(TypeError, match=meant):
        get(name)(epoch=3)
    with pytest.raises(ValueError, match=meant):
        get(name)().set_params(epoch=3)


def _words():
    """List every parameter of every network that accepts words, with one of them."""
    for name in PUBLIC:
        for parameter, allowed in annotated.parameter_constraints(get(name)).items():
            words = {w for one in allowed if isinstance(one, StrOptions) for w in one.options}
            if words - {"auto"}:
                yield name, parameter, max(sorted(words), key=len)


@pytest.mark.parametrize(("name", "parameter", "word"), list(_words()))
def test_a_misspelt_word_is_suggested(name, parameter, word):
    known = annotated.parameter_constraints(get(name))
    with pytest.raises(InvalidParameterError, match=f"; did you mean '{word}'.*[?]$"):
        annotated.check(known, {parameter: word + "x"}, name)


def test_a_parameter_needs_a_default():
    with pytest.raises(TypeError, match=r"^The 'depth' parameter of Deep must have an immutable"):

        class Deep(ImageClassifier):
            depth: int


def test_a_mutable_default_is_refused():
    with pytest.raises((TypeError, ValueError), match="sizes"):

        class Deep(ImageClassifier):
            sizes: list[int] = [1]  # noqa: RUF012


def test_a_subclass_of_a_network_inherits():
    class Wide(MLPClassifier):
        """A wider one."""

        units: parameters.PositiveInt = 512

    assert Wide().units == 512
    assert Wide(units=3, epochs=5).get_params() == MLPClassifier(units=3, epochs=5).get_params()
    assert repr(Wide(units=3)) == "Wide(units=3)"
    assert "learning_rate : float" in Wide.__doc__
    assert Wide.__doc__.startswith("A wider one.")


def _documented(cls):
    """Map each documented parameter to what stands behind the colon."""
    text = inspect.cleandoc(cls.__doc__)
    section = re.search(r"Parameters\n-{10}\n(.*?)(?=\n\n\w[\w ]*\n---|\Z)", text, re.S)[1]
    return dict(re.findall(r"^(\w+) : (.+)$", section, re.M))


@every_public
def test_every_parameter_is_documented_with_its_default(name):
    cls = get(name)
    documented = _documented(cls)
    defaults = {key: one.default for key, one in inspect.signature(cls).parameters.items()}
    assert sorted(documented) == sorted(defaults)
    wrong = {
        key: (documented[key], default)
        for key, default in defaults.items()
        if not documented[key].endswith(f"default={default!r}".replace("'", '"'))
    }
    assert not wrong


@every_public
def test_docstring_sections_come_in_order(name):
    text = inspect.cleandoc(get(name).__doc__)
    sections = re.findall(r"^(\w[\w ]*)\n-{3,}$", text, re.M)
    order = ["Parameters", "Attributes", "Raises", "Notes", "References", "Examples"]
    assert sections == [section for section in order if section in sections]
    assert {"Parameters", "Examples"} <= set(sections)


@pytest.mark.parametrize(
    ("name", "trainable", "other"),
    [
        ("MLPClassifier", 302_216, 0),
        ("CNNClassifier", 176_648, 0),
        ("ResNetClassifier", 1_957_768, 2_432),
    ],
)
def test_parameter_counts(name, trainable, other):
    X, y = make_blood_cells(24, 28, random_state=0)
    estimator = get(name)(epochs=1, batch_size=24, early_stopping=False, random_state=0).fit(X, y)
    assert len(estimator.classes_) == 8
    assert estimator.n_params_ == trainable
    assert estimator.n_non_trainable_params_ == other
    assert estimator.model_.count_params() == trainable + other
    assert sum(weight.size for weight in estimator.weights_) == trainable + other
