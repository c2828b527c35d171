"""What tests of several modules share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gz2vit.models import BUILDERS, REGISTERED
from tests.trained_run import make_trained_run

# Started in the background, a shell makes every process ignore Ctrl-C; some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped without one."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


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
