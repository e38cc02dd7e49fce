"""Item (c): the best simple CNN, and five test images that it gets wrong
======================================================================

The winner of a staged search on BloodMNIST, trained on the full training split as in item (a). Of
its mistakes the five are shown that it was surest of: they say more than five at random.
"""

from assignment import laboratory, show

from kmedclf import CNNClassifier
from kmedclf.studies import blood


def main() -> None:
    """Train, then look at the mistakes."""
    lab = laboratory(__doc__)
    cnn = CNNClassifier(
        filters=128,
        kernel_size=3,
        pooling="max",
        pool_size=2,
        activation="relu",
        optimizer="adam",
        batch_size=16,
        epochs=200,
        min_epochs=30,
        n_iter_no_change=20,
        random_state=lab.seed,
    )
    show(blood.convolutions(lab, cnn), lab)


if __name__ == "__main__":
    main()
