"""Figures: charts take and return an Axes, panels a Figure or SubFigure."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
