"""What tests of several modules share, and their order."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gz2vit.models import BUILDERS, REGISTERED
from tests.trained_run import make_trained_run

# Started in the background, a shell makes every process ignore Ctrl-C; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The files that take longest come first, so that none is left alone at the end; SLURM's jobs mostly
# wait, beside tests that compute.
FIRST = ("run_all", "cluster", "failing_runs", "training", "cases", "published")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests; those marked `gpu` are skipped without one."""
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    ranks = {f"test_{name}": rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two trained models; tests only read it."""
    return make_trained_run(tmp_path_factory.mktemp("trained") / "results" / "demo")


@pytest.fixture
def builders() -> Iterator[None]:
    """Networks that a test registers are forgotten after it."""
    before = dict(BUILDERS)
    yield
    BUILDERS.clear()
    BUILDERS.update(before)
    REGISTERED.clear()
