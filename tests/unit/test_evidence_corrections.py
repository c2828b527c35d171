"""Corrections for many comparisons: worked examples, NaN, and what is no p-value."""

import numpy as np
import pytest

from gz2vit.comparisons import benjamini_hochberg, holm
from gz2vit.io import Gz2vitError


def test_worked_example():
    p_values = [0.01, 0.04, 0.03, 0.005]
    # Holm, from the smallest: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 1 x 0.04, but never falling.
    np.testing.assert_allclose(holm(p_values), [0.03, 0.06, 0.06, 0.02])
    # Benjamini-Hochberg, from the largest: 4/4 x 0.04, 4/3 x 0.03, 4/2 x 0.01, 4/1 x 0.005.
    np.testing.assert_allclose(benjamini_hochberg(p_values), [0.02, 0.04, 0.04, 0.02])


def test_what_was_not_tested_does_not_count():
    np.testing.assert_allclose(holm([0.02, np.nan, 0.03]), [0.04, np.nan, 0.04])
    assert np.isnan(benjamini_hochberg([np.nan])).all()
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, np.inf])
def test_no_p_value(wrong: float):
    with pytest.raises(Gz2vitError, match="is no p-value"):
        holm([0.5, wrong])
