"""Data sets: reading, fetching, checking and splitting images of 28×28 pixels.

In come a choice of `conf/dataset/`, which is a `Source`, and the files that it names; out comes a `Dataset`: arrays
of bytes with their labels and their hash. Of this project it knows the errors alone.
"""

from ablations.datasets.digits import Digits
from ablations.datasets.idx import idx_header, read_idx
from ablations.datasets.idx_files import IDX_PARTS, IdxFiles
from ablations.datasets.image_files import DIGITS, ImageFiles
from ablations.datasets.source import Dataset, Source, assemble, split, subset

__all__ = [
    "DIGITS",
    "IDX_PARTS",
    "Dataset",
    "Digits",
    "IdxFiles",
    "ImageFiles",
    "Source",
    "assemble",
    "idx_header",
    "read_idx",
    "split",
    "subset",
]
