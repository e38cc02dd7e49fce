"""Item (c): the best simple CNN, and five test images that it gets wrong.

Method: the winner of a staged search on BloodMNIST, 128 kernels of 3 pixels, max-pooling of 2, Adam
in batches of 16, trained on the full training split for at most 200 epochs (patience 20, at least
30).
"""

import numpy as np
from assignment import arguments, train_and_show

from kmedclf import CNNClassifier
from kmedclf.evaluation import plots


def main() -> None:
    """Train, then look at the mistakes."""
    args = arguments(__doc__)
    small = {"epochs": 5, "filters": 8} if args.quick else {}
    cnn = CNNClassifier(random_state=args.seed, verbose=1, **small)
    report = train_and_show(cnn, "cnn", args)
    wrong = np.flatnonzero(report.y_true != report.y_pred)[:5]
    for index in wrong:
        true, ranked = report.y_true[index], np.argsort(-report.proba[index])
        chances = ", ".join(
            f"{report.class_names[k]} {report.proba[index, k]:.3f}" for k in ranked[:3]
        )
        expected = report.class_names[list(report.classes).index(true)]
        print(f"Test image {index}: expected {expected}; estimated {chances}")
    plots.mistakes(report, args.data.splits["test"][0]).savefig(args.out / "cnn-mistakes.png")
    plots.ranks(report).figure.savefig(args.out / "cnn-ranks.png")


if __name__ == "__main__":
    main()
