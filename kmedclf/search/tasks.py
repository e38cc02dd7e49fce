"""scikit-learn's callbacks (1.9 and later) in our searches: the same tree of tasks as its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

try:
    from sklearn.callback import with_callbacks
except ImportError:  # before 1.9 there is no `set_callbacks` either

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method as it is."""
        return method


class Tasks:
    """Tells the callbacks of a search about its fits.

    Parameters
    ----------
    search : estimator
        Whose callbacks; they are set up here, and ended by `with_callbacks`.
    X, y : array-like
        All rows.
    total : float or None
        Number of fits, None if nobody knows.
    """

    def __init__(self, search: Any, X: Any, y: Any, total: int | None) -> None:
        self._search, self._given, self._number = search, {"X": X, "y": y}, 0
        self._root: Any = None
        self._fits: Any = None
        if getattr(search, "_skl_callbacks", None) or hasattr(search, "_parent_callback_ctx"):
            self._root = search._init_callback_context(max_subtasks=1 + bool(search.refit))
            self._root.call_on_fit_task_begin(estimator=search, **self._given)
            options = {"max_subtasks": total, "sequential_subtasks": False}
            self._fits = self._root.subcontext(task_name="search", **options)
            self._fits.call_on_fit_task_begin(estimator=search)

    def one(self) -> Task:
        """Announce one fit of one candidate, to be made here or in another process."""
        if self._fits is None:
            return Task()
        self._number += 1
        name = "candidate-split-evaluation"
        return Task(self._search, self._fits.subcontext(name, task_id=self._number - 1))

    def end_search(self) -> None:
        """End the part in which candidates are tried."""
        if self._fits is not None:
            self._fits.call_on_fit_task_end(estimator=self._search)

    def refit(self) -> Task:
        """Announce the fit of the winner on all rows."""
        if self._root is None:
            return Task()
        return Task(self._search, self._root.subcontext("refit-with-best-params"))

    def end(self) -> None:
        """End the whole search."""
        if self._root is not None:
            self._root.call_on_fit_task_end(estimator=self._search, **self._given)


class Task:
    """One fit, as callbacks see it; none if there are none."""

    def __init__(self, search: Any = None, context: Any = None) -> None:
        self._search, self._context = search, context

    @contextmanager
    def around(self, estimator: Any, X: Any, y: Any) -> Iterator[None]:
        """Hand callbacks on to an estimator, and call them before and after its fit."""
        if self._context is None:
            yield
            return
        given = {"estimator": self._search, "X": X, "y": y}
        with self._context.propagate_callback_context(estimator):
            self._context.call_on_fit_task_begin(**given)
            yield
        self._context.call_on_fit_task_end(**given)
