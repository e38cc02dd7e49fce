"""Item (a): a multilayer perceptron with one hidden layer, its test accuracy and mistakes.

Method: pixels in [0, 1], flattened; one hidden layer of 128 ReLU neurons; softmax; cross entropy;
SGD in batches of 16; training images flipped and rotated at random. Training stops when the
validation accuracy has not improved for 20 epochs, not before epoch 30, and ends with the weights
of the best epoch. These choices won a staged search on BloodMNIST; ``kmedclf search mlp`` is one.
"""

from assignment import arguments, train_and_show

from kmedclf import MLPClassifier
from kmedclf.evaluation import plots


def main() -> None:
    """Show the data, then train."""
    args = arguments(__doc__)
    labels = {split: y for split, (_, y) in args.data.splits.items()}
    X, y = args.data.splits["train"]
    names = args.data.class_names
    plots.samples(X, y, class_names=names).savefig(args.out / "samples.png")
    plots.class_counts(labels, class_names=names).figure.savefig(args.out / "counts.png")
    short = {"epochs": 5} if args.quick else {}
    train_and_show(MLPClassifier(random_state=args.seed, verbose=1, **short), "mlp", args)


if __name__ == "__main__":
    main()
