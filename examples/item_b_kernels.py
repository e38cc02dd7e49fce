"""Item (b): how validation accuracy moves with the number of kernels and their size.

Method: one convolution, ReLU, max-pooling of 2, softmax; every combination of 3, 5, 7 pixels and 8
to 128 kernels, each in three stratified folds of the first 40 % of the training and validation
images; training stops early on the validation split (patience 10, at least 10, at most 50 epochs).
Shown are mean and standard deviation over folds.
"""

import numpy as np
from assignment import arguments
from sklearn.model_selection import StratifiedKFold

from kmedclf import CNNClassifier
from kmedclf.evaluation import plots
from kmedclf.search import StagedSearchCV


def main() -> None:
    """Search, print the table, draw the chart."""
    args = arguments(__doc__)
    (X, y), (X_val, y_val) = args.data.splits["train"], args.data.splits["val"]
    grid = {"kernel_size": [3, 5, 7], "filters": [8, 16, 32, 64, 128]}
    if args.quick:
        grid = {"kernel_size": [3, 5], "filters": [4, 8]}
    cnn = CNNClassifier(
        epochs=3 if args.quick else 50,
        n_iter_no_change=10,
        min_epochs=10,
        memory=str(args.out / "memory"),  # started again, it goes on where it was
        random_state=args.seed,
    )
    search = StagedSearchCV(
        cnn,
        [grid],
        cv=StratifiedKFold(3),
        subset=None if args.quick else ("first", 0.4),
        refit=False,
        verbose=1,
    ).fit(X, y, X_val=X_val, y_val=y_val)

    results = search.cv_results_
    for row in np.argsort(results["rank_test_score"]):
        mean, std = results["mean_test_score"][row], results["std_test_score"][row]
        print(f"{results['params'][row]}: {mean:.4f} ± {std:.4f}")
    ax = plots.effect(results, "filters", by="kernel_size", log_x=True)
    ax.figure.savefig(args.out / "kernels.png")
    print(f"The chart is {args.out / 'kernels.png'}")


if __name__ == "__main__":
    main()
