"""Random planar distortions of the training images (LeCun et al. 1998, III.A)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PlanarDistortion:
    """Combinations of shift, scaling, squeezing and horizontal shearing, drawn anew for each image.

    A point (x, y) of the original, measured in pixels from the image's centre, moves to

        x' = s·q·x + h·y' + t_x        y' = s/q·y + t_y

    with t_x, t_y uniform in ±`shift` pixels, s uniform in 1 ± `scaling`, q uniform in 1 ± `squeezing`
    (compression in one direction with elongation in the other), and h uniform in ±`shearing`. The paper names
    the four kinds, but not their ranges. What comes in from outside the image is background.
    """

    shift: float
    scaling: float
    squeezing: float
    shearing: float

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Distorted copies of uint8 images (N, height, width)."""
        from scipy.ndimage import affine_transform

        n, height, width = images.shape
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        shift = rng.uniform(-self.shift, self.shift, (n, 2))  # y, x
        scale = rng.uniform(1 - self.scaling, 1 + self.scaling, n)
        squeeze = rng.uniform(1 - self.squeezing, 1 + self.squeezing, n)
        shear = rng.uniform(-self.shearing, self.shearing, n)
        # scipy wants the way back, from a pixel of the result to where its value stood: (y, x) = A (y', x') + o.
        back = np.zeros((n, 2, 2))
        back[:, 0, 0] = squeeze / scale
        back[:, 1, 1] = 1 / (scale * squeeze)
        back[:, 1, 0] = -shear * back[:, 1, 1]
        offset = centre - np.einsum("nij,nj->ni", back, centre + shift)
        # x does not see the vertical shift through the shear: h multiplies y' as it is in the result.
        offset[:, 1] += back[:, 1, 0] * shift[:, 0]
        distorted = np.empty_like(images)
        for image, matrix, start, out in zip(images, back, offset, distorted, strict=True):
            affine_transform(image, matrix, start, output=out, order=1)
        return distorted
