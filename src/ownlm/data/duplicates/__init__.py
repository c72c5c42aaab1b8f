"""Documents that stand in the data more than once: the same text, nearly the same text, the same paragraphs.

The way of a document, each step a file here:

1. ``fingerprint``: a batch of texts becomes hashes; the shards of it lie on disk, mapped into memory.
2. ``pairs``: MinHash bands name the candidates (``bands``), of crowded bands a prefix filter does (``crowds``), and the
   true Jaccard index of their n-gram sets decides (``jaccard``).
3. ``choose``: who belongs together (clusters, for the split), and who is kept.
4. ``paragraphs``: what is cut out of the kept documents.

Nothing in a result depends on the order of documents, files or workers.
"""

from .choose import Choice, choose, find_clusters, preference, rank
from .fingerprint import algorithm, fingerprint, schema
from .options import DuplicateOptions, ParagraphOptions
from .pairs import Pairs, find_pairs
from .paragraphs import Cuts, find_repeated_paragraphs

__all__ = [
    "Choice",
    "Cuts",
    "DuplicateOptions",
    "Pairs",
    "ParagraphOptions",
    "algorithm",
    "choose",
    "find_clusters",
    "find_pairs",
    "find_repeated_paragraphs",
    "fingerprint",
    "preference",
    "rank",
    "schema",
]
