"""Data sets: reading, fetching, checking, splitting and normalising images of 28×28 pixels.

A `Source` is a choice of `conf/dataset/` and loads a `Dataset`; a `Normalizer` is a choice of
`conf/normalization/` and fits a `Normalization`. Pixels stay uint8 until a batch is written into the
network's input buffer.
"""

from ablations.datasets.digits import Digits
from ablations.datasets.idx import idx_header, read_idx
from ablations.datasets.idx_files import IDX_PARTS, IdxFiles
from ablations.datasets.image_files import DIGITS, ImageFiles
from ablations.datasets.normalization import Normalization, Normalizer, Rescaling, Standardization
from ablations.datasets.source import Dataset, Source, assemble, split

__all__ = [
    "DIGITS",
    "IDX_PARTS",
    "Dataset",
    "Digits",
    "IdxFiles",
    "ImageFiles",
    "Normalization",
    "Normalizer",
    "Rescaling",
    "Source",
    "Standardization",
    "assemble",
    "idx_header",
    "read_idx",
    "split",
]
