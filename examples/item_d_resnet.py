"""Item (d): a deeper network, and all three compared
==================================================

A small residual network: a stem of 64 kernels, two blocks that each halve the image and double the
kernels, global average pooling, a dense layer. Batch normalisation and shortcuts let seven
convolutions learn as readily as one. The networks of items (a) and (c) are read from the folder, or
trained here; McNemar's test says whether the differences could be luck.
"""

from assignment import laboratory, show

from kmedclf import ResNetClassifier, evaluation
from kmedclf.studies import blood


def main() -> None:
    """Train what is not there yet, then compare."""
    lab = laboratory(__doc__)
    resnet = ResNetClassifier(
        stem_filters=64,
        stem_kernel_size=3,
        stem_pooling=False,
        blocks=2,
        layers_per_block=3,
        dense_units=256,
        epochs=200,
        min_epochs=30,
        n_iter_no_change=20,
        random_state=lab.seed,
    )
    section = blood.residual(lab, resnet)
    show(section, lab)
    page = lab.out / "comparison.html"
    evaluation.write_comparison_page(page, section.comparison)
    print(f"{page}: the comparison with the published results")


if __name__ == "__main__":
    main()
