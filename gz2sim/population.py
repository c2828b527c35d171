"""Which galaxies there are: class, split, magnitude, size and colour, before anything is drawn.

Sources. SDSS: the radii that Galaxy Zoo 2 publishes for ellipticals, edge-on galaxies and spirals
(percentiles of petroR50_r) and its selection r < 17, petroR90_r > 3 arcsec (Willett et al. 2013).
PAPER (arXiv:2110.01024): the class mix and the magnitude histogram of Fig. 4.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from gz2sim import SimulationError

# PAPER: galaxies of the classes 0 to 7, and the parts of each that go into a split.
CLASS_COUNTS = (33898, 39200, 7414, 16349, 20407, 30657, 5925, 2101)
SPLIT_FRACTIONS = {"train": 0.64, "valid": 0.16, "test": 0.20}
# label1 to label4 (8, 4) of each class: the last three merge classes of the first.
MERGED = (0, 0, 0, 1, 2, 2, 3, 4), (0, 0, 0, 1, 1, 1, 2, 3), (0, 0, 0, 1, 1, 1, 2, 2)
LABELS = np.array((range(8), *MERGED)).T
MIN_GALAXIES = len(CLASS_COUNTS) * len(SPLIT_FRACTIONS)  # one of each class in each split

FAINTEST_R_MAG, SMALLEST_R90_ARCSEC, LARGEST_R90_ARCSEC = 17.0, 3.0, 40.0
# PAPER, Fig. 4: the histogram falls by a factor 3 from r = 16.6 to 15.7, and ends at r = 12.
MAG_SLOPE_DEX, BRIGHTEST_R_MAG = 0.53, 12.0
SIZE_SLOPE_DEX_PER_MAG = 0.14  # between constant size (0) and constant surface brightness (0.2)
MEDIAN_R_MAG = 16.43  # FAINTEST_R_MAG - log10(2) / MAG_SLOPE_DEX
# Half of the irregulars are smooth galaxies in spoilt images: a guess from those that we have seen.
IRREGULAR, SPOILT_SHARE, SPOILT_CLASSES = 6, 0.5, (0, 1)
BLUER_MAG = (0.15, 0.6)  # from the green valley to galaxies that form stars at their fastest
# Sizes: published median petroR50 (2.34, 3.04, 3.41 arcsec for ellipticals, edge-on, spirals)
# times the concentration R90/R50 that goes with them (2.8, 2.6, 2.4), and 20 % more for disks,
# less for mergers, with which the sky's grain in the cutouts comes out as in real ones. Scatter:
# the published 10th and 90th percentiles less what the magnitudes bring in. Colours: red sequence
# and blue cloud at redshift 0.08; some, young systems among the smooth ones, bluer by BLUER_MAG.
# Of each class: R90 (arcsec) at the median magnitude, ln scatter, g - r (mag), scatter, bluer ones.
CLASS_POPULATIONS = (
    *((7.2, 0.32, 0.86, 0.10, 0.25), (7.2, 0.32, 0.84, 0.12, 0.30), (9.6, 0.28, 0.74, 0.14, 0.40)),
    *((10.2, 0.33, 0.78, 0.13, 0.15), (10.0, 0.24, 0.64, 0.11, 0.0), (9.6, 0.24, 0.54, 0.12, 0.0)),
    *((6.6, 0.28, 0.42, 0.12, 0.0), (6.8, 0.26, 0.74, 0.13, 0.3)),
)


@dataclass(frozen=True)
class Galaxy:
    """What is decided before a galaxy is drawn: magnitudes are free of extinction (AB)."""

    class_index: int
    r_mag: float
    r90_arcsec: float
    g_r_mag: float
    r_i_mag: float
    drawn_as: int  # the class of its light, which differs for one that is odd only by its image


def largest_remainder(total: int, shares: Iterable[float], minimum: int) -> list[int]:
    """Whole numbers near `total` x `shares` (of sum 1), none below `minimum`: Hamilton's method."""
    exact = total * np.array(list(shares))
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    while counts.min() < minimum:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts.tolist()


def assign_classes(galaxies: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes (int64) and splits (str) of galaxies 1, 2, ...: the paper's mix, each class split."""
    if galaxies < MIN_GALAXIES:
        raise SimulationError(
            f"--galaxies {galaxies} is too few: give at least {MIN_GALAXIES}, so that each of the "
            f"{len(CLASS_COUNTS)} classes has a galaxy in each split"
        )
    mix = np.divide(CLASS_COUNTS, sum(CLASS_COUNTS))
    counts = largest_remainder(galaxies, mix, len(SPLIT_FRACTIONS))
    parts = [largest_remainder(count, SPLIT_FRACTIONS.values(), 1) for count in counts]
    classes = np.repeat(np.arange(len(counts)), counts)
    splits = np.repeat(list(SPLIT_FRACTIONS) * len(counts), np.ravel(parts))
    # Galaxies are numbered from 1, so [seed, 0] is a stream that none of them uses.
    order = np.random.default_rng([seed, 0]).permutation(galaxies)
    return classes[order], splits[order]


def draw_mag(rng: Generator, brightest: float, faintest: float, slope_dex: float) -> float:
    """A magnitude between two limits from counts that rise as 10^(slope x mag)."""
    least = 10 ** (slope_dex * (brightest - faintest))
    return faintest + math.log10(rng.uniform(least, 1.0)) / slope_dex


def draw_galaxy(class_index: int, rng: Generator) -> Galaxy:
    """Draw magnitude, then size given magnitude, then colours of one galaxy of a class."""
    drawn_as = class_index
    if class_index == IRREGULAR and rng.random() < SPOILT_SHARE:
        drawn_as = int(rng.choice(SPOILT_CLASSES))
    median_r90, ln_scatter, median_g_r, g_r_scatter, bluer = CLASS_POPULATIONS[drawn_as]
    r_mag = draw_mag(rng, BRIGHTEST_R_MAG, FAINTEST_R_MAG, MAG_SLOPE_DEX)
    ln_larger = math.log(10) * SIZE_SLOPE_DEX_PER_MAG * (MEDIAN_R_MAG - r_mag)
    r90 = math.exp(math.log(median_r90) + ln_larger + ln_scatter * rng.standard_normal())
    r90 = min(max(r90, SMALLEST_R90_ARCSEC), LARGEST_R90_ARCSEC)
    g_r = median_g_r + g_r_scatter * rng.standard_normal()
    if rng.random() < bluer:
        g_r -= rng.uniform(*BLUER_MAG)
    # The locus of galaxies at redshift 0.08: r - i = 0.45 (g - r) + 0.03 within 0.03 mag.
    r_i = 0.45 * g_r + 0.03 + 0.03 * rng.standard_normal()
    return Galaxy(class_index, r_mag, r90, g_r, r_i, drawn_as)
