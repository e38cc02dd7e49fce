"""Recipes: data that stand in for parameters at "auto", and for no others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from helpers import PUBLIC, data, get, make, same
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils._param_validation import validate_parameter_constraints

import kmedclf
from kmedclf import CNNClassifier, EfficientNetClassifier, ImageClassifier, MLPClassifier, recipes
from kmedclf.utils.annotated import parameter_constraints

NAMES = list(recipes.RECIPES)
SCRATCH = [name for name in NAMES if name != "transfer"]


def left_to_recipes(parameters):
    """Name the parameters at "auto", but for two that have an "auto" of their own."""
    return [k for k, v in parameters.items() if v == "auto" and k not in ("jit_compile", "stem")]


@pytest.mark.parametrize("recipe", NAMES)
@pytest.mark.parametrize("name", PUBLIC)
def test_a_recipe_gives_every_parameter_a_value_that_it_may_have(name, recipe):
    found = recipes.parameters(get(name)(recipe=recipe))
    assert not left_to_recipes(found)
    constraints = parameter_constraints(get(name))
    validate_parameter_constraints(constraints, found, caller_name=name)


def test_a_recipe_names_only_parameters_and_classes_that_there_are():
    for recipe in recipes.RECIPES.values():
        for name, values in recipe.items():
            cls = getattr(kmedclf, name, EfficientNetClassifier)
            known = CNNClassifier().get_params() if cls is ImageClassifier else cls().get_params()
            assert set(values) <= set(known)


@pytest.mark.parametrize("recipe", SCRATCH)
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
def test_a_fit_equals_that_with_the_recipe_spelt_out(name, recipe):
    X, y = data()
    by_name = make(name, recipe=recipe)
    spelt = get(name)(**recipes.parameters(by_name) | {"recipe": "reference"})
    assert left_to_recipes(by_name.get_params())
    assert not left_to_recipes(spelt.get_params())
    assert same(by_name.fit(X, y).weights_, spelt.fit(X, y).weights_)


@pytest.mark.parametrize("recipe", NAMES)
def test_any_other_value_wins_even_one_that_is_the_references(recipe):
    usual = recipes.parameters(CNNClassifier())
    for name, value in usual.items():
        made = CNNClassifier(recipe=recipe, **({} if name == "recipe" else {name: value}))
        assert recipes.parameters(made)[name] == (recipe if name == "recipe" else value)


@pytest.mark.parametrize("again", [clone, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_keep_what_was_left_to_the_recipe(again):
    made = again(MLPClassifier(recipe="best", units=7))
    assert made.get_params() == MLPClassifier(recipe="best", units=7).get_params()
    assert recipes.parameters(made)["units"] == 7
    assert recipes.parameters(made.set_params(recipe="reference"))["optimizer"] == "sgd"


def test_a_subclass_has_the_recipes_of_its_parent_and_its_own_values_win():
    class Small(CNNClassifier):
        """A small one."""

        batch_size: int = 5

    found = recipes.parameters(Small(recipe="best"))
    assert found["batch_size"] == 5
    assert found["optimizer"] == recipes.parameters(CNNClassifier(recipe="best"))["optimizer"]


@pytest.mark.parametrize("recipe", SCRATCH)
def test_flat_vectors_are_not_augmented(recipe):
    X, y = data()
    flat = X.reshape(len(X), -1)
    one = make("MLPClassifier", recipe=recipe).fit(flat, y)
    other = make("MLPClassifier", recipe=recipe, augment=False).fit(flat, y)
    assert same(one.weights_, other.weights_)


@pytest.mark.parametrize("recipe", SCRATCH)
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier", "ResNetClassifier"])
def test_networks_of_recipes_have_at_most_2_5_million_parameters(name, recipe):
    model = get(name)(recipe=recipe).build_model((28, 28, 3), 8)
    assert sum(one.shape.num_elements() for one in model.weights) <= 2_500_000


def test_recipes_can_be_searched_and_saved(tmp_path):
    X, y = data()
    search = GridSearchCV(make("MLPClassifier"), {"recipe": SCRATCH}, cv=2).fit(X, y)
    search.best_estimator_.save(tmp_path / "model.kmedclf")
    again = kmedclf.load(tmp_path / "model.kmedclf")
    assert again.get_params() == search.best_estimator_.get_params()
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [(None, "reference"), ("own.kmedclf", "reference"), ("imagenet", "transfer"),
     ("elsewhere", "transfer"), ("elsewhere.kmedclf", "reference")],
)  # fmt: skip
def test_networks_that_start_from_weights_of_others_are_transferred(weights, chosen):
    found = recipes.parameters(EfficientNetClassifier(weights=weights))
    assert found["recipe"] == chosen
    assert found["frozen_batch_norm"] == (chosen == "transfer")
    assert found["image_size"] == (224 if chosen == "transfer" else (64, 64))
    named = EfficientNetClassifier(weights=weights, recipe="fast", image_size=99)
    assert recipes.parameters(named)["recipe"] == "fast"
    assert recipes.parameters(named)["image_size"] == 99


@pytest.mark.parametrize("name", ["MLPClassifier", "EfficientNetClassifier"])
def test_there_is_nothing_to_transfer_without_weights(name):
    with pytest.raises(ValueError, match=f"'recipe' parameter of {name} must not be 'transfer' wi"):
        make(name, recipe="transfer").fit(*data())


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="'recipe' parameter of CNNClassifier must be"):
        CNNClassifier(recipe="quick").fit(*data())


@pytest.mark.filterwarnings("ignore:X of .* holds values up to:UserWarning")
@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
def test_what_is_normalised_does_not_depend_on_the_scale_of_the_images(name):
    X, y = data()
    X = X.astype(np.float32)
    scaled = X * np.float32([8, 1, 4]) + np.float32([0, 64, 0])
    # Moving statistics forget where they started in some sixty steps; the order of images, which
    # comes from their content, must not matter.
    options = {"normalize": True, "augment": False, "epochs": 80, "batch_size": 48}
    found = [make(name, **options).fit(one, y) for one in (X, scaled)]
    one, other = (fit.predict_proba(x) for fit, x in zip(found, (X, scaled), strict=True))
    np.testing.assert_allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("name", ["MLPClassifier", "CNNClassifier"])
def test_dropout_is_drawn_by_the_seed_and_left_out_in_use(name):
    X, y = data()
    fits = [make(name, dropout=0.5, random_state=seed).fit(X, y) for seed in (0, 0, 1)]
    assert same(fits[0], fits[1])
    assert not same(fits[0], fits[2])
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[0].predict_proba(X))
