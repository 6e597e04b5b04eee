"""Engines: where candidates are evaluated."""

from wsopt.engines._base import Engine
from wsopt.engines._evaluator import Evaluator, EvaluatorSpec, Rendered, check_device, check_devices
from wsopt.engines._inprocess import InProcessEngine
from wsopt.engines._metrics import Metric, Metrics, build_metrics, make_objective
from wsopt.engines._race import check_race
from wsopt.engines._remember import RememberingEngine

__all__ = [
    "Engine",
    "Evaluator",
    "EvaluatorSpec",
    "InProcessEngine",
    "Metric",
    "Metrics",
    "RememberingEngine",
    "Rendered",
    "build_metrics",
    "check_device",
    "check_devices",
    "check_race",
    "make_objective",
]
