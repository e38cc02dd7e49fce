"""Brain MRI: the spread over folds, then one choice of training after the other
=============================================================================

::

    python examples/brain_folds.py --quick               # synthetic slices
    python examples/brain_folds.py --data brains/        # the public set, with Training and Testing
    python examples/brain_folds.py --data brains.npz --only folds copies --param weights=null

Five stratified folds are trained and all scored on one test set: mean and standard deviation say
how much a single number is worth. On the weakest fold follow, one at a time: weights and copies for
small classes, stopping and schedule with their times, losses, optimizers, sizes of batches,
regularisation, and the head alone against the whole network; augmentation sets have a fold each.
Every table has the report's numbers below ours, and every training its curves. At the end the
report's statements are tested on what was trained.

Images that are there twice are left out, unless --keep-copies keeps them, as the report did. Near
copies, such as neighbouring slices of one patient, are counted: scores on them are marked, test
scores are given without them as well, and the item "copies" trains folds that keep them together.

Networks start from ImageNet weights, which are downloaded once, and files are resized to 224
pixels. "--param weights=null" starts from random weights, and the page says so. 'kmedclf reproduce
brain' makes the same page.
"""

from study_script import run

if __name__ == "__main__":
    run("brain", __doc__)
