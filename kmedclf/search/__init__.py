"""Searches over hyperparameters, and the spaces they search.

``n_jobs`` trains in several processes. Each gets a share of the cores and, if there are GPUs, one
of them in turn; the environment variable ``KMEDCLF_GPU_IDS``, such as "0,2", restricts the GPUs.
`on_cluster` runs the fits on the workers of a Dask cluster, on this machine or others; `on_ray` on
those of Ray.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
