"""Which galaxies there are: class, split, magnitude, size and colour, before anything is drawn.

Sources. SDSS: the radii that Galaxy Zoo 2 publishes for ellipticals, edge-on galaxies and spirals
(percentiles of petroR50_r) and its selection r < 17, petroR90_r > 3 arcsec (Willett et al. 2013).
PAPER (arXiv:2110.01024): the class mix and the magnitude histogram of Fig. 4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from gz2sim import SimulationError

# PAPER: galaxies of the classes 0 to 7, and the parts of each that go into a split.
CLASS_COUNTS = (33898, 39200, 7414, 16349, 20407, 30657, 5925, 2101)
SPLIT_FRACTIONS = {"train": 0.64, "valid": 0.16, "test": 0.20}
# label1 to label4 of each class: the last three merge classes of the first.
LABELS = (
    *((0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (3, 1, 1, 1)),
    *((4, 2, 1, 1), (5, 2, 1, 1), (6, 3, 2, 2), (7, 4, 3, 2)),
)
# One galaxy of each class in each split.
MIN_GALAXIES = len(CLASS_COUNTS) * len(SPLIT_FRACTIONS)

# Willett et al. 2013: selection of the Galaxy Zoo 2 main sample.
FAINTEST_R_MAG = 17.0
SMALLEST_R90_ARCSEC = 3.0
# PAPER, Fig. 4: the histogram falls by a factor 3 from r = 16.6 to 15.7, so log10 N = 0.53 r;
# nothing is seen brighter than r = 12.
MAG_SLOPE_DEX = 0.53
BRIGHTEST_R_MAG = 12.0
# Between constant size (0) and constant surface brightness (0.2 dex per mag).
SIZE_SLOPE_DEX_PER_MAG = 0.14
MEDIAN_R_MAG = 16.43  # FAINTEST_R_MAG - log10(2) / MAG_SLOPE_DEX
LARGEST_R90_ARCSEC = 40.0
# Half of the irregulars are ordinary round or in-between galaxies in spoilt images: not published,
# a guess between what the paper's Fig. 2 shows (1 of 2) and those that we have seen (nearly all).
IRREGULAR, SPOILT_SHARE, SPOILT_CLASSES = 6, 0.5, (0, 1)


# From the green valley to galaxies that form stars at their fastest.
BLUER_MAG = (0.15, 0.6)


@dataclass(frozen=True)
class ClassPopulation:
    """Sizes and colours of one class: R90 at the median magnitude, ln scatter, g - r and scatter.

    `blue_fraction` of the galaxies are bluer by `BLUER_MAG`: young systems among the smooth ones.
    """

    r90_arcsec: float
    r90_ln_scatter: float
    g_r_mag: float
    g_r_scatter_mag: float
    blue_fraction: float


# Sizes: published median petroR50 (2.34, 3.04, 3.41 arcsec for ellipticals, edge-on, spirals)
# times the concentration R90/R50 that goes with them (2.8, 2.6, 2.4), and 20 % more for disks,
# less for mergers, with which the grain of the sky in the cutouts, that is the native pixel in
# units of R90, comes out as in real ones. Scatter: the published 10th and 90th percentiles less
# what the magnitudes bring in (0.32 ln per mag x 0.82 mag = 0.26), again set by that grain.
# Colours: red sequence and blue cloud at redshift 0.08.
CLASS_POPULATIONS = (
    ClassPopulation(7.2, 0.32, 0.86, 0.10, 0.25),
    ClassPopulation(7.2, 0.32, 0.84, 0.12, 0.30),
    ClassPopulation(9.6, 0.28, 0.74, 0.14, 0.40),
    ClassPopulation(10.2, 0.33, 0.78, 0.13, 0.15),
    ClassPopulation(10.0, 0.24, 0.64, 0.11, 0.0),
    ClassPopulation(9.6, 0.24, 0.54, 0.12, 0.0),
    ClassPopulation(6.6, 0.28, 0.42, 0.12, 0.0),
    ClassPopulation(6.8, 0.26, 0.74, 0.13, 0.3),
)


@dataclass(frozen=True)
class Galaxy:
    """What is decided before a galaxy is drawn: magnitudes are free of extinction (AB)."""

    galaxy_id: int
    class_index: int
    r_mag: float
    r90_arcsec: float
    g_r_mag: float
    r_i_mag: float
    # The class that its light is drawn as, which differs for one that is odd only by its image.
    drawn_as: int

    @property
    def spoilt(self) -> bool:
        """Whether it is the image that makes this galaxy odd."""
        return self.drawn_as != self.class_index


def largest_remainder(total: int, shares: Sequence[float], minimum: int) -> list[int]:
    """Whole numbers near `total` x `shares` that sum to `total`, none below `minimum`.

    `shares` sum to 1. Hamilton's method: round down, then give what is left to the largest
    remainders; what a share lacks to `minimum` is taken from the largest counts.
    """
    exact = [total * share for share in shares]
    counts = [math.floor(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for k in order[: total - sum(counts)]:
        counts[k] += 1
    for k in range(len(counts)):
        while counts[k] < minimum:
            counts[counts.index(max(counts))] -= 1
            counts[k] += 1
    return counts


def assign_classes(galaxies: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Class index and split name of galaxy 1, 2, ..., `galaxies`, in a seeded shuffled order.

    Returns (class indices (galaxies,) int64, split names (galaxies,) str): the paper's mix of
    classes, each divided 64/16/20 by itself, with at least one galaxy in each split. Raises
    `SimulationError` below `MIN_GALAXIES`, where a class would be missing from a split.
    """
    if galaxies < MIN_GALAXIES:
        raise SimulationError(
            f"--galaxies {galaxies} is too few: give at least {MIN_GALAXIES}, so that each of the "
            f"{len(CLASS_COUNTS)} classes has a galaxy in each split"
        )
    mix = [count / sum(CLASS_COUNTS) for count in CLASS_COUNTS]
    fractions = list(SPLIT_FRACTIONS.values())
    classes: list[int] = []
    splits: list[str] = []
    counts = largest_remainder(galaxies, mix, minimum=len(SPLIT_FRACTIONS))
    for class_index, count in enumerate(counts):
        classes += [class_index] * count
        parts = largest_remainder(count, fractions, minimum=1)
        splits += np.repeat(list(SPLIT_FRACTIONS), parts).tolist()
    # Galaxies are numbered from 1, so [seed, 0] is a stream that none of them uses.
    order = np.random.default_rng([seed, 0]).permutation(galaxies)
    return np.array(classes)[order], np.array(splits)[order]


def draw_galaxy(galaxy_id: int, class_index: int, rng: Generator) -> Galaxy:
    """Draw magnitude, then size given magnitude, then colours of one galaxy of a class."""
    drawn_as = class_index
    if class_index == IRREGULAR and rng.random() < SPOILT_SHARE:
        drawn_as = int(rng.choice(SPOILT_CLASSES))
    population = CLASS_POPULATIONS[drawn_as]
    # Counts rise as 10^(slope x mag) up to the limit of the sample.
    brightest = 10 ** (MAG_SLOPE_DEX * (BRIGHTEST_R_MAG - FAINTEST_R_MAG))
    r_mag = FAINTEST_R_MAG + math.log10(rng.uniform(brightest, 1.0)) / MAG_SLOPE_DEX
    brighter_mag = MEDIAN_R_MAG - r_mag
    ln_size = math.log(population.r90_arcsec)
    ln_size += math.log(10) * SIZE_SLOPE_DEX_PER_MAG * brighter_mag
    r90 = math.exp(ln_size + population.r90_ln_scatter * rng.standard_normal())
    g_r = population.g_r_mag + population.g_r_scatter_mag * rng.standard_normal()
    if rng.random() < population.blue_fraction:
        g_r -= rng.uniform(*BLUER_MAG)
    # The locus of galaxies at redshift 0.08: r - i = 0.45 (g - r) + 0.03 within 0.03 mag.
    r_i = 0.45 * g_r + 0.03 + 0.03 * rng.standard_normal()
    r90 = min(max(r90, SMALLEST_R90_ARCSEC), LARGEST_R90_ARCSEC)
    return Galaxy(galaxy_id, class_index, r_mag, r90, g_r, r_i, drawn_as)
