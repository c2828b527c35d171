"""Which pixels of a galaxy's image are the galaxy: its own light decides.

Galaxy Zoo 2's cutouts are scaled so that the galaxy's petroR90_r spans 50 of 424 px (Willett et
al. 2013): in the central 224 px the border lies at some 2.2 R90, on the sky.
"""

import numpy as np
from scipy import ndimage

THRESHOLD_SIGMA = 4.0  # of smoothed pixels above the sky: one of noise alone in 30,000
SMOOTHING_SHARE = 1 / 224  # standard deviation, of the image's side: 1 px of the paper's crop
BORDER_SHARE = 1 / 16  # width of the frame that measures the sky: 14 px of 224
CENTRE_SHARE = 1 / 8  # a galaxy whose light begins further from the centre is not this one
CLIP_SIGMA, CLIP_ROUNDS = 3.0, 5  # the frame's pixels with neighbours' light are left out
MAD_TO_SIGMA = 1.4826  # a normal distribution's standard deviation over its median deviation


def segment_galaxy(light: np.ndarray) -> np.ndarray:
    """The pixels of the galaxy in the middle of an image `light` (H, W), bool (H, W).

    Smoothed, more than `THRESHOLD_SIGMA` times the noise above the sky, and connected with the
    centre, or with the nearest such pixel within `CENTRE_SHARE` of the side; none if there is
    none. Sky and noise are those of the frame. A neighbour whose light touches the galaxy's is
    counted with it.
    """
    side = min(light.shape)
    smooth = ndimage.gaussian_filter(light.astype(np.float64), SMOOTHING_SHARE * side)
    sky, noise = measure_sky(smooth)
    # strictly brighter: in a plane without noise nothing is
    labels, _ = ndimage.label(smooth > sky + max(THRESHOLD_SIGMA * noise, 1e-9))
    y, x = np.indices(light.shape)
    from_centre = np.hypot(y - (light.shape[0] - 1) / 2, x - (light.shape[1] - 1) / 2)
    from_centre[labels == 0] = np.inf
    nearest = np.unravel_index(from_centre.argmin(), light.shape)
    if from_centre[nearest] > max(CENTRE_SHARE * side, 1.0):
        return np.zeros(light.shape, dtype=bool)
    return ndimage.binary_fill_holes(labels == labels[nearest])


def measure_sky(light: np.ndarray) -> tuple[float, float]:
    """Level and noise (standard deviation) of the frame of an image (H, W), by clipped medians."""
    width = max(1, round(BORDER_SHARE * min(light.shape)))
    inner = np.zeros(light.shape, dtype=bool)
    inner[width:-width, width:-width] = True
    values = light[~inner]
    for _ in range(CLIP_ROUNDS):
        level = np.median(values)
        noise = MAD_TO_SIGMA * np.median(np.abs(values - level))
        kept = values[np.abs(values - level) <= CLIP_SIGMA * noise]
        if len(kept) == len(values) or len(kept) == 0:
            break
        values = kept
    return float(level), float(noise)
