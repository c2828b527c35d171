"""Many comparisons at once: p-values that allow for how many there were.

Of 20 comparisons without any effect, one falls below 0.05 by chance. Holm (1979) keeps the chance
of even one false claim at the stated level; Benjamini & Hochberg (1995) keep the share of false
ones among the claims there, which finds more. Both are statsmodels'.
"""

from collections.abc import Sequence

import numpy as np
from statsmodels.stats.multitest import multipletests

from gz2vit.errors import Gz2vitError

PValues = Sequence[float] | np.ndarray


def holm(p_values: PValues) -> np.ndarray:
    """Holm's corrected p-values, float64 (M,), in the order given.

    NaN (no test was possible) stays NaN and does not count as a comparison. Raises `Gz2vitError`
    for a value outside 0 to 1.
    """
    return _corrected(p_values, "holm")


def benjamini_hochberg(p_values: PValues) -> np.ndarray:
    """Benjamini and Hochberg's corrected p-values, float64 (M,); NaN and errors as for `holm`."""
    return _corrected(p_values, "fdr_bh")


def _corrected(p_values: PValues, method: str) -> np.ndarray:
    """statsmodels' correction of those that are numbers."""
    corrected = np.array(p_values, dtype=np.float64)
    tested = ~np.isnan(corrected)
    wrong = corrected[tested & ~((corrected >= 0) & (corrected <= 1))]
    if len(wrong):
        raise Gz2vitError(f"{wrong[0]} is no p-value; give numbers from 0 to 1")
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], method=method)[1]
    return corrected
