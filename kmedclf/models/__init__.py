"""The networks, one file each; ``__init__.pyi`` lists them."""

import kmedclf.utils.tensorflow_loaded  # noqa: F401

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Keras knows the layers of a network once its module is loaded.
for _name in __all__:
    __getattr__(_name)
