"""Let KerasTuner's Hyperband choose a perceptron, with cross-validation and from a space file
===========================================================================================

::

    python examples/search_tuner.py                      # synthetic cells: a minute
    python examples/search_tuner.py --tuner bayesian
"""

import argparse

from kmedclf import MLPClassifier
from kmedclf.datasets import make_blood_cells
from kmedclf.search import TunerSearchCV


def main() -> None:
    """Search, and print the trials from the best to the worst."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tuners = ["random", "bayesian", "hyperband"]
    parser.add_argument("--tuner", choices=tuners, default="hyperband")
    parser.add_argument("--space", default="mlp_flat", help="name or path of a search space")
    parser.add_argument("--epochs", type=int, default=9)
    args = parser.parse_args()

    X, y = make_blood_cells(600, random_state=0)
    X_test, y_test = make_blood_cells(400, random_state=1)
    mlp = MLPClassifier(epochs=args.epochs, early_stopping=False, random_state=0)
    search = TunerSearchCV(
        mlp, args.space, tuner=args.tuner, scoring="balanced_accuracy", random_state=0, verbose=1
    ).fit(X, y)

    table = search.cv_results_
    for row in (-table["mean_test_score"]).argsort(kind="stable"):
        mean, std = table["mean_test_score"][row], table["std_test_score"][row]
        print(f"{mean:.3f} ± {std:.3f}  {table['params'][row]}")
    print(f"Winner: {search.best_params_}")
    print(f"Balanced accuracy on test: {search.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    main()
