"""Searches over hyperparameters, and the spaces they search.

``n_jobs`` trains in several processes. Each gets a share of the cores and, if there are GPUs, one
of them in turn; the environment variable ``KMEDCLF_GPU_IDS``, such as "0,2", restricts the GPUs.
joblib's other backends run the fits elsewhere, for example Dask::

    with LocalCluster(host="127.0.0.1", dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            search.fit(X, y)

A cluster of several machines should be in a private network: anyone who can connect to a worker
can run code there. As in any such backend, the data are sent with the fits.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
