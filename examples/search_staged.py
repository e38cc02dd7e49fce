"""Search a simple convolutional network stage by stage, then train the winner for longer
======================================================================================

::

    python examples/search_staged.py             # synthetic cells, two small stages: a minute
    python examples/search_staged.py --blood     # BloodMNIST, the whole space: hours on a CPU

Each stage searches some hyperparameters with three stratified folds of the first 40 % of the
training images; the others stay fixed and winners are carried on. All fits stop early on the same
validation images. With ``--memory FOLDER`` a search that was killed goes on where it was.
"""

import argparse

import numpy as np

from kmedclf import CNNClassifier
from kmedclf.datasets import load, make_blood_cells
from kmedclf.search import SearchSpace, StagedSearchCV

SMALL = [
    {"augment": [True, False]},
    {"kernel_size": [3, 5], "filters": [8, 16, 32]},
]


def main() -> None:
    """Run the search and print what every stage found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blood", action="store_true", help="BloodMNIST and the whole space")
    parser.add_argument("--memory", help="folder in which finished fits are remembered")
    parser.add_argument("--jobs", type=int, default=None, help="fits at the same time")
    args = parser.parse_args()

    if args.blood:
        (X, y), (X_val, y_val), (X_test, y_test) = (
            load("bloodmnist", split) for split in ("train", "val", "test")
        )
        stages, epochs, patience, least = SearchSpace.load("cnn"), 50, 10, 10
        final = {"epochs": 200, "n_iter_no_change": 20, "min_epochs": 30}
    else:
        X, y = make_blood_cells(900, random_state=0)
        X_val, y_val = make_blood_cells(200, random_state=1)
        X_test, y_test = make_blood_cells(400, random_state=2)
        stages, epochs, patience, least = SMALL, 6, 3, 3
        final = {"epochs": 15}

    cnn = CNNClassifier(
        epochs=epochs,
        n_iter_no_change=patience,
        min_epochs=least,
        memory=args.memory,
        random_state=0,
    )
    search = StagedSearchCV(
        cnn,
        stages,
        subset=("first", 0.4),
        refit_params=final,
        n_jobs=args.jobs,
        verbose=1,
    ).fit(X, y, X_val=X_val, y_val=y_val)

    for stage in search.stage_results_:
        table = stage["cv_results"]
        print(f"\n{stage['name']}: {stage['best_params']}")
        for row in np.argsort(table["rank_test_score"], kind="stable"):
            chosen = {name: table["params"][row][name] for name in stage["parameters"]}
            mean, std = table["mean_test_score"][row], table["std_test_score"][row]
            print(f"  {mean:.4f} ± {std:.4f}  {chosen}")
    print(f"\nWinner: {search.best_params_}")
    best = search.best_estimator_
    print(f"Best epoch of the final fit: {best.best_epoch_} of {len(best.history_['loss'])}")
    print(f"Test accuracy: {search.score(X_test, y_test):.4f}")


if __name__ == "__main__":
    main()
