"""What the unit tests share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.small_inspection import make_inspected


@pytest.fixture
def quick_collection() -> Iterator[None]:
    """Leave what is loaded already out of garbage collection while a test runs.

    statsmodels' `multipletests` collects garbage at each call: 0.3 s with PyTorch loaded, and the
    tests of error rates call it hundreds of times.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two trained models; tests only read it."""
    return make_inspected(tmp_path_factory.mktemp("inspected"))
