"""A search space is data: one YAML file, turned into whatever a search wants to have."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any, Self, TypeAlias

from kmedclf.search.candidates import Stage

Grid: TypeAlias = dict[str, Any] | list[dict[str, Any]]


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of an estimator to search, in ordered stages.

    Parameters
    ----------
    estimator : type
        Class whose parameters they are.
    stages : tuple of Stage
        What to search, in order; a flat space is one stage.
    subset : float or None, default=None
        Share of the images that it is meant to be searched on, which ``kmedclf search`` does;
        elsewhere it goes to the ``subset`` parameter of a search. None is all.

    Examples
    --------
    >>> from kmedclf.search import SearchSpace
    >>> space = SearchSpace.load("cnn")
    >>> [stage.name for stage in space.stages]
    ['data', 'kernels', 'pooling', 'training']
    >>> space.stage_grids()[1]
    {'kernel_size': [3, 5, 7], 'filters': [8, 16, 32, 64, 128]}
    """

    estimator: type
    stages: tuple[Stage, ...]
    subset: float | None = None

    @classmethod
    def load(cls, name: str | Path, estimator: type | None = None) -> Self:
        """Read a space that comes with the package, or a file of one's own.

        Parameters
        ----------
        name : str or path-like
            A name out of `names`, or the path of a YAML file.
        estimator : type, optional
            Class whose parameters are searched; by default the one that the file names. An
            estimator that is not part of kmedclf must be given here.

        Returns
        -------
        SearchSpace
            The space, every value in it accepted by the estimator.

        Raises
        ------
        ValueError
            With file and line, if the file is not a space of the estimator.
        FileNotFoundError
            If there is no such file or name.
        """
        path = cls.find(name)
        from kmedclf.search import reading  # loads TensorFlow; `names` and `find` need not

        return cls(*reading.read(path, estimator))

    @classmethod
    def find(cls, name: str | Path) -> Path:
        """Find the file of a space, by its name or path.

        Raises
        ------
        FileNotFoundError
            If there is no such file or name.
        """
        path = Path(name)
        if path.suffix not in (".yaml", ".yml") and not path.is_file():
            path = _shipped().get(str(name), path)
        if not path.is_file():
            near = difflib.get_close_matches(str(name), cls.names(), n=2, cutoff=0.5)
            meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
            raise FileNotFoundError(
                f"A search space must be one of {', '.join(cls.names())} or the path of a YAML "
                f"file. Got {str(name)!r} instead{meant}"
            )
        return path

    @staticmethod
    def names() -> list[str]:
        """List the spaces that come with the package."""
        return sorted(_shipped())

    def fixed(self, parameters: Mapping[str, Any]) -> Self:
        """Take parameters out of the space: they are what they are, and are not searched.

        A search sets what its space has, whatever the estimator's own parameters are, as
        scikit-learn's searches do. This is the way to let the estimator's own stand.

        Parameters
        ----------
        parameters : mapping of str to object
            Names and values; those that the space does not have change nothing.

        Returns
        -------
        SearchSpace
            Without them, and without stages that had nothing else. Of alternatives only those are
            left that have the value among their candidates, if there are any.

        Examples
        --------
        >>> from kmedclf.search import SearchSpace
        >>> space = SearchSpace.load("cnn").fixed({"augment": False, "pooling": "max"})
        >>> space.stage_grids()[0], space.stage_grids()[2]
        ({'class_weight': [None, 'inverse']}, {'pool_size': [2, 3, 4, 5]})
        """
        stages = [stage.fixed(parameters) for stage in self.stages]
        return replace(self, stages=tuple(stage for stage in stages if stage.alternatives))

    def flat(self) -> Stage:
        """Give all stages as one."""
        groups = product(*(stage.alternatives for stage in self.stages))
        return Stage(
            "all", tuple({k: v for one in group for k, v in one.items()} for group in groups)
        )

    def param_grid(self) -> Grid:
        """Give all stages as one grid, as GridSearchCV takes it.

        Returns
        -------
        dict of str to list, or list of such dicts
            A list where a stage has alternatives.

        Raises
        ------
        ValueError
            If a range has no finite list of values.
        """
        return _single(self.flat().grids())

    def stage_grids(self) -> list[Grid]:
        """Give one grid for each stage.

        Returns
        -------
        list of dict of str to list
            In order; a list of dicts where a stage has alternatives.

        Raises
        ------
        ValueError
            If a range has no finite list of values.
        """
        return [_single(stage.grids()) for stage in self.stages]

    def distributions(self) -> Grid:
        """Give all stages as lists and distributions, as RandomizedSearchCV takes them.

        Returns
        -------
        dict of str to list or Range, or list of such dicts
            A list where a stage has alternatives.
        """
        return _single(self.flat().distributions())

    def hyperparameters(self, hp: Any) -> dict[str, Any]:
        """Register all parameters with KerasTuner and read values back.

        Parameters
        ----------
        hp : keras_tuner.HyperParameters
            Where to.

        Returns
        -------
        dict
            Parameters of the estimator, with one value each.
        """
        return {k: v for stage in self.stages for k, v in stage.hyperparameters(hp).items()}


def _single(grids: list[dict[str, Any]]) -> Grid:
    return grids[0] if len(grids) == 1 else grids


def _shipped() -> dict[str, Path]:
    # An editable installation does not map the checkout's folder into the package.
    checkout = Path(__file__).parents[2]
    folder: Any = checkout / "search_spaces"
    if not (folder.is_dir() and (checkout / "setup.cfg").is_file()):
        folder = resources.files("kmedclf") / "search_spaces"
    return {Path(file.name).stem: file for file in folder.iterdir() if file.name.endswith(".yaml")}
