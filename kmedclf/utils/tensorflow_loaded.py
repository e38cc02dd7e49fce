"""Importing this module imports TensorFlow, told before how to compute on this CPU.

Whichever module of kmedclf may be the first to need TensorFlow or Keras imports this one before
them (``tests/utils/test_arithmetic.py``).
"""

from kmedclf.utils import arithmetic

arithmetic.load()
