"""Item (b): how validation accuracy moves with the number of kernels and their size
=================================================================================

One convolution, ReLU, max-pooling of 2, softmax. Every combination of size and number is trained in
three stratified folds and scored on the fold left out; the mean is its score, and the standard
deviation over folds says how far to trust it. Started again, the script goes on where it was.
"""

from assignment import laboratory, show

from kmedclf.studies import blood


def main() -> None:
    """Search, print the table, draw the chart."""
    lab = laboratory(__doc__)
    grid = {"kernel_size": [3, 5, 7], "filters": [8, 16, 32, 64, 128]}
    show(blood.kernels(lab, grid), lab)


if __name__ == "__main__":
    main()
