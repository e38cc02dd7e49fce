"""What is shared between estimators survives an error at any point of another's fit or predict."""

import contextlib
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import ENGINE, data, make, same
from sklearn.model_selection import GridSearchCV

import kmedclf
from kmedclf import EnsembleClassifier
from kmedclf.search import StagedSearchCV
from kmedclf.training import cache

X, y = data(24)
# A generator that is closed while the error comes cannot raise it.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ROOTS = tuple(str(Path(one.__file__).parent) for one in (kmedclf, keras))


class Injected(Exception):
    """An error that nobody catches by its kind."""


class Fails:
    """Raises at the k-th function of kmedclf, or of what Keras does for it, that this thread calls.

    Tracing graphs is left out: it calls thousands of functions, and happens once.
    """

    def __init__(self, at, error):
        self.at, self.error, self.seen = at, error, 0

    def __call__(self, frame, event, arg):
        if event == "call" and frame.f_code.co_filename.startswith(ROOTS):
            self.seen += 1
            if self.seen == self.at:
                sys.setprofile(None)
                raise self.error

    def __enter__(self):
        sys.setprofile(self)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)


def count(action):
    with Fails(0, None) as fails:
        action()
    return fails.seen


def actions(name):
    """What may be interrupted, by name: each on an estimator of its own."""
    one = make(name, random_state=5).fit(X, y)
    fitted = make(name, epochs=1, random_state=6).fit(X, y)
    grid = {"learning_rate": [0.01, 0.1]}
    return {
        "fit": lambda: make(name, epochs=1, random_state=9).fit(X, y),
        "fit_validated": lambda: make(name, epochs=1).fit(X, y, X_val=X[:9], y_val=y[:9]),
        "partial_fit": lambda: fitted.partial_fit(X, y),
        "predict": lambda: one.predict(X),
        "predict_proba": lambda: one.predict_proba(X[:5]),
        "grid": lambda: GridSearchCV(
            make(name, epochs=1), grid, cv=2, error_score="raise", refit=False
        ).fit(X, y),
        "staged": lambda: StagedSearchCV(
            make(name, epochs=1), [grid], cv=2, error_score="raise"
        ).fit(X, y),
        "ensemble": lambda: EnsembleClassifier([("a", make(name, epochs=1))], n_seeds=2).fit(X, y),
    }


ACTIONS = ("fit", "fit_validated", "partial_fit", "predict", "predict_proba", "grid", "staged",
           "ensemble")  # fmt: skip
SEVERAL = {"grid", "staged", "ensemble"}
POINTS = 15
"""Of each action in the default run; the slow one tries every point."""


def interrupt_everywhere(name, action, points):
    """Interrupt an action at some of its calls, and compare healthy estimators bit for bit."""
    run = actions(name)[action]
    healthy = [make(name, random_state=seed).fit(X, y) for seed in (0, 1)]
    expected = [one.predict_proba(X) for one in healthy]
    for _ in range(2):
        run()  # all graphs are traced
    n = count(run)
    assert n > 10
    at = range(1, n + 1) if points is None else np.unique(np.linspace(1, n, points, dtype=int))
    for k in at:
        error = KeyboardInterrupt() if k % 2 else Injected(k)
        # Not always raised: some functions run only where a program was lost before.
        with contextlib.suppress(KeyboardInterrupt, Injected), Fails(int(k), error):
            run()
        for one, proba in zip(healthy, expected, strict=True):
            np.testing.assert_array_equal(one.predict_proba(X), proba, err_msg=f"after call {k}")
    again = [make(name, random_state=seed).fit(X, y) for seed in (0, 1)]
    assert all(map(same, again, healthy))
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["CNNClassifier"])
def test_an_error_at_any_call_changes_no_other_estimator(name, action):
    interrupt_everywhere(name, action, POINTS)


def _everywhere():
    """List networks and actions: what runs several fits is the same code for all networks."""
    yield from (("MLPClassifier", action) for action in ACTIONS)
    for name in ("CNNClassifier", "ResNetClassifier"):
        yield from ((name, action) for action in ACTIONS if action not in SEVERAL)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "action"), list(_everywhere()))
def test_an_error_at_every_call_changes_no_other_estimator(name, action):
    # The rest of a ResNet's calls are those of any network, and take five minutes.
    whole = {"predict", "predict_proba"}
    if name != "ResNetClassifier":
        whole.add("partial_fit")
    every = None if action in whole else 400
    interrupt_everywhere(name, action, every)


def _leave_call(training):
    keras.layers.Dropout(0.5)._get_call_context().set_value("training", training)


def _leave_untracked():
    from keras.src.utils.tracking import DotNotTrackScope

    DotNotTrackScope().__enter__()


# What Ctrl-C between two lines of Keras leaves open in a thread.
LEAVE = {
    "tracking": _leave_untracked,
    "values": lambda: keras.StatelessScope().__enter__(),
    "names": lambda: keras.name_scope("left").__enter__(),
    "a call in training": lambda: _leave_call(True),
    "a call in prediction": lambda: _leave_call(False),
    "recomputation": lambda: keras.RematScope("full").__enter__(),
}


@pytest.mark.parametrize("scope", LEAVE)
def test_scopes_that_an_interruption_left_open_change_nothing(scope):
    def in_scope():
        cache.clear()  # the networks are built in it
        LEAVE[scope]()
        found.append(make("CNNClassifier", **options).fit(X, y))
        found.append(expected.predict_proba(X))
        found.append(expected.model_.count_params())

    # Muon treats the last layer apart, and knows it by its name.
    options = {"epochs": 1, "optimizer": "muon", "dropout": 0.5, "batch_norm": True}
    expected, found = make("CNNClassifier", **options).fit(X, y), []
    proba = expected.predict_proba(X)
    thread = threading.Thread(target=in_scope)  # the scopes are a thread's
    thread.start()
    thread.join()
    assert same(found[0], expected)
    np.testing.assert_array_equal(found[1], proba)
    assert found[2] == expected.model_.count_params()
    cache.clear()


@pytest.mark.parametrize("name", ENGINE)
def test_weights_that_do_not_fit_change_no_other_estimator(name):
    healthy, broken = (make(name, random_state=seed).fit(X, y) for seed in (0, 1))
    expected = healthy.predict_proba(X)
    broken.weights_ = [*broken.weights_[:-1], broken.weights_[-1][:-1]]
    for _ in range(2):
        with pytest.raises(ValueError, match="shape"):
            broken.predict(X)
        np.testing.assert_array_equal(healthy.predict_proba(X), expected)


@pytest.mark.parametrize("name", ENGINE)
def test_a_change_of_weights_is_seen_or_refused(name):
    estimator = make(name).fit(X, y)
    before = estimator.predict_proba(X)
    with pytest.raises(ValueError, match="read-only"):
        estimator.weights_[0][...] = 0
    estimator.weights_[-1] = np.array([1, 2, 3], np.float32)  # the list is theirs
    changed = estimator.predict_proba(X)
    assert not np.array_equal(changed, before)
    estimator.weights_[-1][...] = 0  # writable, as it is the user's own
    assert not np.array_equal(estimator.predict_proba(X), changed)


def test_weights_stay_read_only_in_copies_pickles_and_files(tmp_path):
    import copy
    import pickle

    estimator = make("MLPClassifier").fit(X, y)
    estimator.save(tmp_path / "model.kmedclf")
    copies = copy.deepcopy(estimator), pickle.loads(pickle.dumps(estimator))
    for one in (*copies, kmedclf.load(tmp_path / "model.kmedclf"), estimator.partial_fit(X, y)):
        assert not any(weight.flags.writeable for weight in one.weights_)


def test_errors_in_eight_threads_change_no_other_estimator():
    name = "CNNClassifier"
    healthy = [make(name, random_state=seed).fit(X, y) for seed in range(4)]
    expected = [one.predict_proba(X) for one in healthy]
    wrong = []

    def predict(seed):
        for _ in range(20):
            if not np.array_equal(healthy[seed].predict_proba(X), expected[seed]):
                wrong.append(seed)

    def fail(seed):
        broken = make(name, random_state=seed).fit(X, y)
        good = broken.weights_
        for k in range(20):
            broken.weights_ = [*good[:-1], np.full(k + 4, np.float32(1))]
            try:
                broken.predict(X)
            except ValueError:
                pass
            else:
                wrong.append("no error")
            stop = Stops(k % 3)
            try:
                make(name, callbacks=[stop], random_state=seed).fit(X, y)
            except Injected:
                pass
            else:
                wrong.append("no error")

    threads = [threading.Thread(target=target, args=(seed,)) for seed in range(4)
               for target in (predict, fail)]  # fmt: skip
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


class Stops(keras.callbacks.Callback):
    """Raises at the start, in the middle or at the end of a training."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def _raise(self, when):
        if when == self.when:
            raise Injected

    def on_train_begin(self, logs=None):
        self._raise(0)

    def on_epoch_end(self, epoch, logs=None):
        self._raise(1)

    def on_train_end(self, logs=None):
        self._raise(2)


@pytest.mark.parametrize("when", [0, 1, 2])
def test_an_error_in_a_callback_costs_no_new_program(when):
    make("CNNClassifier").fit(X, y)
    before = cache.stats()["builds"]
    for _ in range(3):
        with pytest.raises(Injected):
            make("CNNClassifier", callbacks=[Stops(when)]).fit(X, y)
    assert cache.stats()["builds"] == before


def test_a_program_that_was_interrupted_while_it_was_built_is_not_kept(monkeypatch):
    from kmedclf.training import program

    cache.clear()
    fitted = make("CNNClassifier")

    def half(value):  # once the optimizer has its variables
        raise Injected

    with monkeypatch.context() as patched:
        patched.setattr(program, "_compact", half)
        with pytest.raises(Injected):
            fitted.fit(X, y)
    assert cache.stats()["idle"] == 0
    assert same(fitted.fit(X, y), make("CNNClassifier").fit(X, y))
