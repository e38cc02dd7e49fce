"""Item (a): a multilayer perceptron with one hidden layer, its test accuracy and mistakes
=======================================================================================

One hidden layer on the flattened pixels. Neurons, activation, optimizer and size of the batches won
a staged search on BloodMNIST; `kmedclf reproduce blood --only perceptron_search` repeats it.
Training may take 200 epochs, but ends 20 epochs after the best validation accuracy, and that
epoch's weights are kept; in the first 30 epochs it does not end, as the accuracy is restless there.
Images of cells have no up and no left: in training they are flipped and turned at random, which is
the default for images.
"""

from assignment import laboratory, show

from kmedclf import MLPClassifier
from kmedclf.studies import blood


def main() -> None:
    """Show the images; train, then show accuracy, confusion matrix, curves and mistakes."""
    lab = laboratory(__doc__)
    mlp = MLPClassifier(
        units=128,
        activation="relu",
        optimizer="sgd",
        batch_size=16,
        epochs=200,
        min_epochs=30,
        n_iter_no_change=20,
        random_state=lab.seed,
    )
    show(blood.images(lab), lab)
    show(blood.perceptron(lab, mlp), lab)


if __name__ == "__main__":
    main()
