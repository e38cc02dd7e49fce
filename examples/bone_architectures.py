"""Bone fractures: AlexNet, ResNet-50, DenseNet, EfficientNet and a transformer, row by row.

    python examples/bone_architectures.py --quick        # synthetic images: two minutes
    python examples/bone_architectures.py --data bones/ --image-size 224 --only densenet
    python examples/bone_architectures.py --data bones/ --image-size 224 --param weights=imagenet

Each item trains one architecture over a list of hyperparameters: one row each, with minutes and
accuracy. The best row is chosen on the validation images, or by training accuracy where there are
none, never on the images it is tested on; AlexNet's is trained five times, as the difference of two
rows means little beside that of two seeds. How sure right and wrong predictions were stands below.
With weights=imagenet those networks start from ImageNet for which such weights are published. All
rows together are a day on a GPU: --only and --epochs make them fewer. What is too large for the
device trains with accumulate_steps=4, and the same result but for batch norm.
"""

from study_script import run

if __name__ == "__main__":
    run("bone", __doc__)
