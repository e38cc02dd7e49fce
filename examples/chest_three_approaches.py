r"""Chest X-rays: two convolutions, a ResNet-18 and a vision transformer, and a leak
=================================================================================

::

    python examples/chest_three_approaches.py --quick    # drawn X-rays: minutes
    python examples/chest_three_approaches.py --data xrays/
    python examples/chest_three_approaches.py --data xrays/ --param weights=null

A folder without train, val and test in it is split 70/15/15. Images are read at 224 pixels, and
mirrored in training only. The transformer starts from ImageNet weights; weights=null starts it from
random ones. The last item mirrors all images before the split, as the report did, and counts the
test images that were as good as trained on. Started again, the script reads what is trained;
'kmedclf reproduce chest' makes the same page.
"""

from study_script import run

if __name__ == "__main__":
    run("chest", __doc__)
