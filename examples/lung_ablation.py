"""Lung X-rays: nine experiments with four convolutions, and what batch norm and dropout did
=========================================================================================

::

    python examples/lung_ablation.py --quick             # synthetic images: a minute
    python examples/lung_ablation.py --data COVID-19_Radiography_Dataset/ --image-size 128

A folder without train, val and test in it is split 70/20/10, the same part of every class. Each
experiment changes one thing: the kernels, batch norm on the first layer or on all, dropout,
early stopping. One table has test, validation and training accuracy of all nine, the report's
beside; McNemar's test says which of the steps the test images can tell apart. 'kmedclf reproduce
lung' makes the same page.
"""

from study_script import run

if __name__ == "__main__":
    run("lung", __doc__)
