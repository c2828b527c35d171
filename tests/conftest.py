"""Fixtures that tests of several modules share."""

from pathlib import Path

import pytest

from tests.trained_run import make_trained_run


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two trained models; tests only read it."""
    return make_trained_run(tmp_path_factory.mktemp("trained") / "results" / "demo")
