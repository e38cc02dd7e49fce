"""Tests of MLflow are collected where it is installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("mlflow") else ["test_mlflow.py"]
