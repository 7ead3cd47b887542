"""The data set that needs neither file nor network."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablations.datasets.source import Dataset, Source, assemble, split


@dataclass(frozen=True)
class Digits(Source):
    """The 1,797 handwritten digits bundled with scikit-learn, enlarged to MNIST's format: no network needed.

    8×8 pixels of 0 … 16 become a box of 20×20, bilinearly, centred in 28×28; at the box's edge ink fades
    into the background over one pixel. All in integers, so that every machine gets the same bytes.
    `root` is not used.

    Source: UCI "Optical Recognition of Handwritten Digits", test part (Alpaydin and Kaynak, 1998).
    """

    classes: Sequence[str]

    def load(self) -> Dataset:
        """1,437 training and 360 test images; the test part is stratified and the same for every run."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = enlarge(images.astype(np.int64).reshape(-1, 8, 8))
        labels = labels.astype(np.uint8)
        train, test = split(labels, 0.2, np.random.default_rng(0))
        return assemble(self.name, (images[train], labels[train], images[test], labels[test]), self.classes)


def enlarge(images: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of int (N, 8, 8), 0 … 16, to uint8 (N, 28, 28), 0 … 255: 2.5 for one, centred.

    Output pixel i lies at (4(i − 4) − 3)/10 of the input, so its two weights are whole tenths.
    """
    position = 4 * (np.arange(28)[:, None] - 4) - 3
    tenths = np.maximum(0, 10 - abs(position - 10 * np.arange(8)))
    hundredths = tenths @ images @ tenths.T
    return ((255 * hundredths + 800) // 1600).astype(np.uint8)
