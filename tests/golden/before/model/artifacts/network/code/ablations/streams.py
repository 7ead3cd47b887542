"""Random streams: everything random in a run comes from its seed, each purpose from a stream of its own.

Because a stream depends on the seed and its purpose alone, all variants of one seed see the same split, the
same order of batches and the same draws for their initial weights: runs pair seed by seed.
"""

import hashlib
from zlib import crc32

import numpy as np


class Streams:
    """The random streams of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def generator(self, purpose: str) -> np.random.Generator:
        """A fresh generator for `purpose` ("split", "order", "init/C1", …), always starting at its beginning."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(crc32(purpose.encode()),)))

    def fingerprint(self, train: np.ndarray, validation: np.ndarray, layers: list[str]) -> str:
        """Sixteen hexadecimal digits that agree exactly where split, batch order and initial draws agree.

        `train` and `validation` are the indices of the split. Batch order and initial weights are represented
        by the first draws of their streams, which do not depend on the variant's shapes.
        """
        digest = hashlib.sha256()
        for indices in (train, validation):
            digest.update(np.ascontiguousarray(indices, "<i8").tobytes() + b"|")
        for purpose in ["order", *(f"init/{layer}" for layer in layers)]:
            digest.update(np.ascontiguousarray(self.generator(purpose).random(16), "<f8").tobytes())
        return digest.hexdigest()[:16]
