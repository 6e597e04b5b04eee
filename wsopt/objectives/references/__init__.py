"""Reference statistics: the record, what is derived from it, the files it is kept in, and how one is made."""

from wsopt.objectives.references._base import Reference, ReferenceFacts
from wsopt.objectives.references._cache import DerivedCache
from wsopt.objectives.references._checks import check_fits
from wsopt.objectives.references._collect import extracting, moments_of, shuffled
from wsopt.objectives.references._file import write_reference
from wsopt.objectives.references._images import ArrayImages, FolderImages, ImageSource
from wsopt.objectives.references._npz import ArrayFile
from wsopt.objectives.references._read import layout_of, read_reference, split_part

__all__ = [
    "ArrayFile",
    "ArrayImages",
    "DerivedCache",
    "FolderImages",
    "ImageSource",
    "Reference",
    "ReferenceFacts",
    "check_fits",
    "extracting",
    "layout_of",
    "moments_of",
    "read_reference",
    "shuffled",
    "split_part",
    "write_reference",
]
