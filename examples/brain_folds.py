"""Brain MRI: the spread over folds, then one choice of training after the other.

    python examples/brain_folds.py --quick               # synthetic images: two minutes
    python examples/brain_folds.py --data brains.npz --only folds imbalance --epochs 10
    python examples/brain_folds.py --data brains/ --image-size 224 --param weights=imagenet

Five stratified folds are trained and all scored on one test set: mean and standard deviation say
how much a single number is worth. Images that are there twice are left out first, as copies across
splits make every score too good. On the weakest fold follow, one at a time: weights and copies for
small classes, augmentation sets (one a fold), stopping and schedule with their times, losses,
optimizers, sizes of batches, regularisation, and the head alone against the whole network.

The protocol (SGD at 0.001, momentum 0.9, batches of 32, 10 epochs) is for weights from ImageNet:
random ones need more epochs or larger steps. 'kmedclf reproduce brain' makes the same page.
"""

from study_script import run

if __name__ == "__main__":
    run("brain", __doc__)
