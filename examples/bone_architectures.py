"""Bone fractures: AlexNet, ResNet-50, DenseNet, EfficientNet and a transformer, row by row
========================================================================================

::

    python examples/bone_architectures.py --quick        # drawn bones: minutes
    python examples/bone_architectures.py --data bones/ --only densenet
    python examples/bone_architectures.py --data bones/ --param weights=null

Each item trains one architecture over the report's list of hyperparameters: one row each, with the
report's minutes and accuracy beside ours. A fifth of the training images validates. The best row is
chosen on them, never on the images it is tested on; AlexNet's is trained five times and ResNet-50's
twice, as the difference of two rows means little beside that of two seeds. How sure right and wrong
predictions were stands below. AlexNet, ResNet-50 and EfficientNet start from ImageNet weights;
weights=null starts them from random ones. The page says where the images are found, and marks what
the report leaves open. All rows together are a day on a GPU: --only and --epochs make them fewer.
What is too large for the device trains with accumulate_steps=4, and the same result but for batch
norm.
"""

from study_script import run

if __name__ == "__main__":
    run("bone", __doc__)
