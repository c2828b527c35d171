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
# The groups that take longest come first, so that none is left alone at the end. A file is a group,
# but for the tests of one finished run (`smoke`); SLURM's mostly wait, beside those that compute.
FIRST = ("smoke", "test_cluster", "test_run_all", "test_training", "test_cases", "test_published")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group and order the tests; those marked `gpu` are skipped without one."""
    groups = {}
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        groups[item] = item.get_closest_marker("xdist_group").args[0]
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    items.sort(key=lambda item: (*FIRST, groups[item]).index(groups[item]))


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
