"""A merge without a search: coefficients given by a rule or a file, checkpoints streamed, one file written."""

from wsopt.merge._found import results_file, run_config, run_grouping, table_recipe
from wsopt.merge._merge import Merged, MergeRequest, merge, plan_merge
from wsopt.merge._posthoc import posthoc_recipe
from wsopt.merge._profiles import Profile, parse_profile, profile_recipe
from wsopt.merge._recipe import Recipe
from wsopt.merge._sources import Source, open_config, open_folder
from wsopt.merge._stream import MergeSettings, StreamingMerger
from wsopt.merge._tables import Table, read_table
from wsopt.merge._verify import Verification, verify
from wsopt.merge._write import TensorFile

__all__ = [
    "MergeRequest",
    "MergeSettings",
    "Merged",
    "Profile",
    "Recipe",
    "Source",
    "StreamingMerger",
    "Table",
    "TensorFile",
    "Verification",
    "merge",
    "open_config",
    "open_folder",
    "parse_profile",
    "plan_merge",
    "posthoc_recipe",
    "profile_recipe",
    "read_table",
    "results_file",
    "run_config",
    "run_grouping",
    "table_recipe",
    "verify",
]
