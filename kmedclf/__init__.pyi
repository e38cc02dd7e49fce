from . import datasets as datasets
from . import evaluation as evaluation
from . import models as models
from . import programs as programs
from . import search as search
from . import serve as serve
from . import trackers as trackers
from .auto import AutoClassifier as AutoClassifier
from .base import ImageClassifier as ImageClassifier
from .build_function import KerasImageClassifier as KerasImageClassifier
from .calibration import CalibratedClassifier as CalibratedClassifier
from .ensemble import EnsembleClassifier as EnsembleClassifier
from .features import ImageFeatures as ImageFeatures
from .inputs.checks import Unsliced as Unsliced
from .models import *  # noqa: F403
from .persistence import load as load

NETWORKS: tuple[str, ...]
__version__: str
