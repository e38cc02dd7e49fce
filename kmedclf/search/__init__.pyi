from .cluster import on_cluster as on_cluster
from .ray_cluster import on_ray as on_ray
from .spaces import Range as Range
from .spaces import SearchSpace as SearchSpace
from .staged import StagedSearchCV as StagedSearchCV
from .tuner import TunerSearchCV as TunerSearchCV
