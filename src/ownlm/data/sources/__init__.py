"""From the user's paths, queries and data sets to raw documents, and a named failure for all that cannot be read."""

from .fetch import fetch_source
from .listing import content_key, list_units
from .options import Columns, ReadLimits, SourceOptions
from .reader import read_unit
from .records import REASONS, Failure, RawDocument, Unit

__all__ = [
    "REASONS",
    "Columns",
    "Failure",
    "RawDocument",
    "ReadLimits",
    "SourceOptions",
    "Unit",
    "content_key",
    "fetch_source",
    "list_units",
    "read_unit",
]
