r"""Chest X-rays: two convolutions, a ResNet-18 and a vision transformer, and a leak.

    python examples/chest_three_approaches.py --quick    # synthetic images: a minute
    python examples/chest_three_approaches.py --data xrays/ --image-size 224 \
        --param weights=imagenet

A folder without train, val and test in it is split 70/15/15. Images are mirrored in training only.
The second item mirrors all images before the split, as is often done, and counts the test images
that were as good as trained on. Started again, the script reads what is trained; 'kmedclf reproduce
chest' makes the same page.
"""

from study_script import run

if __name__ == "__main__":
    run("chest", __doc__)
