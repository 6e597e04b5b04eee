"""The config of a run: its TOML layout, loading, and messages about mistakes. Imports neither torch nor numpy."""

from wsopt.config._config import ComponentConfig, Config, ObjectiveConfig, PluginFile, ReportConfig, difference
from wsopt.config._former import LeftOut
from wsopt.config._load import load_config
from wsopt.config._schema import json_schema
from wsopt.config._source import expanded, parse_toml
from wsopt.config.params import FidParams, LcscParams, NoParams, Params, RandomParams

__all__ = [
    "ComponentConfig",
    "Config",
    "FidParams",
    "LcscParams",
    "LeftOut",
    "NoParams",
    "ObjectiveConfig",
    "Params",
    "PluginFile",
    "RandomParams",
    "ReportConfig",
    "difference",
    "expanded",
    "json_schema",
    "load_config",
    "parse_toml",
]
