from .section import Figure as Figure
from .section import Section as Section
from .section import Table as Table
from .study import Lab as Lab
from .study import Study as Study
from .study import remember as remember
from .study import reproduce as reproduce
from .study import settings_of as settings_of

NAMES: tuple[str, ...]

def get(name: str) -> Study: ...
