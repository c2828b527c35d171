"""gz2vit.realism.sides: who stands on which side, and how many of each class."""

from pathlib import Path

import pandas as pd
import pytest

from gz2sim.folder import simulate
from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.io import Gz2vitError
from gz2vit.sim2real import REAL, SIMULATED, find_sides, match_classes, pictures, thumbnails
from tests.unit.folders import make_folder

GALAXIES = 24  # the fewest that can be simulated


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a selection of real galaxies (as far as the code can know)."""
    root = tmp_path_factory.mktemp("real")
    folder = read_data_folder(make_folder(root / "mine"))
    write_selection(root / "out", folder, folder.tables, "smoke")
    return root / "out"


@pytest.fixture(scope="module")
def sides(real_run: Path) -> dict[str, pd.DataFrame]:
    return find_sides(real_run, GALAXIES, seed=3, processes=1)


def test_real_galaxies_get_simulated_ones_beside_them(real_run: Path, sides: dict):
    assert list(sides) == [REAL, SIMULATED]
    assert len(sides[REAL]) == 24, "8 classes, 2 to train with and 1 for validation"
    assert not sides[REAL].galaxy_id.str.startswith("test").any(), "test galaxies have no say"
    assert (real_run / "realism" / "simulated" / "simulation.json").exists()
    assert all(Path(path).exists() for table in sides.values() for path in table.path)
    assert len(sides[SIMULATED]) == GALAXIES - 8


def test_a_simulated_run_has_that_side_alone(real_run: Path, tmp_path: Path):
    simulate(tmp_path / "data", GALAXIES, seed=3, processes=1)
    folder = read_data_folder(tmp_path / "data")
    write_selection(tmp_path, folder, folder.tables, "smoke")
    found = find_sides(tmp_path, GALAXIES, seed=4)
    assert found[REAL].empty
    assert len(found[SIMULATED]) == GALAXIES - 8
    assert not (tmp_path / "realism").exists()
    alone = match_classes(found, 5)
    assert set(alone.origin) == {SIMULATED}
    shown = pictures(alone, 2)
    assert [len(images) for images in shown[REAL]] == [0] * 8
    assert all(len(images) >= 1 for images in shown[SIMULATED])


def test_classes_are_matched(sides: dict):
    chosen = match_classes(sides, 2)
    counts = pd.crosstab(chosen.class_index, chosen.origin)
    assert (counts[REAL] == counts[SIMULATED]).all()
    assert counts.max().max() == 2
    assert match_classes(sides, 2).equals(chosen)
    lost = {**sides, SIMULATED: sides[SIMULATED].query("class_index != 5")}
    counts = pd.crosstab(match_classes(lost, 2).class_index, match_classes(lost, 2).origin)
    assert (counts[REAL][5], counts[SIMULATED][5]) == (2, 0)


def test_thumbnails_are_the_middle_made_small(sides: dict):
    small = thumbnails(sides[REAL].head(3))
    assert small.shape == (3, 32, 32, 3)
    assert 0 <= small.min() < small.max() <= 1
    assert thumbnails(sides[REAL].head(0)).shape == (0, 32, 32, 3)


def test_without_a_selection_the_step_is_named(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="the step 'select' makes it"):
        find_sides(tmp_path, GALAXIES, 0)
