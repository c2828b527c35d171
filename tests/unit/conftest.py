"""What the unit tests share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def quick_collection() -> Iterator[None]:
    """Leave what is loaded already out of garbage collection while a test runs.

    statsmodels' `multipletests` collects garbage at each call: 0.3 s with PyTorch loaded, and the
    tests of error rates call it hundreds of times.
    """
    gc.freeze()
    yield
    gc.unfreeze()
