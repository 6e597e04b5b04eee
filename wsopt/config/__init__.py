"""The config of a run: its TOML layout, loading, and messages about mistakes. Imports neither torch nor numpy."""

from wsopt.config._config import (
    ComponentConfig,
    Config,
    MetricConfig,
    ObjectiveConfig,
    PartConfig,
    PluginFile,
    ReportConfig,
    difference,
    is_split,
    reference_name,
)
from wsopt.config._former import LeftOut
from wsopt.config._load import load_config
from wsopt.config._presets import Convention, conventions
from wsopt.config._schema import json_schema
from wsopt.config._source import expanded, parse_toml
from wsopt.config.params import FidParams, LcscParams, NoParams, Params, RandomParams

__all__ = [
    "ComponentConfig",
    "Config",
    "Convention",
    "FidParams",
    "LcscParams",
    "LeftOut",
    "MetricConfig",
    "NoParams",
    "ObjectiveConfig",
    "Params",
    "PartConfig",
    "PluginFile",
    "RandomParams",
    "ReportConfig",
    "conventions",
    "difference",
    "expanded",
    "is_split",
    "json_schema",
    "load_config",
    "parse_toml",
    "reference_name",
]
