"""From simulated to real galaxies at the smallest size: what starts where, what is kept."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from gz2vit.catalog import SIMULATION_RECORD, write_selection
from gz2vit.io import Gz2vitError, read_json
from gz2vit.sim2real import (
    FINE_TUNED,
    REAL_ALONE,
    SIMULATED_ALONE,
    Plan,
    Trained,
    describe_arms,
    judge_arms,
    make_simulated,
    train_arms,
)
from gz2vit.training import load_classifier
from tests.unit.small_training import SETTINGS, make_results

ONCE = replace(SETTINGS, max_epoch=1)
# With next to no learning rate fine-tuned weights are those that it starts from.
PLAN = Plan(ONCE, ONCE, replace(ONCE, lr=1e-12), seeds=(0, 1), simulated_seeds=(0,))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("transfer"))


@pytest.fixture(scope="module")
def simulated(results: Path) -> tuple:
    return make_simulated(results, 24, seed=1, crop_px=64, processes=1)


@pytest.fixture(scope="module")
def trained(results: Path, simulated: tuple) -> list[Trained]:
    """All arms, trained while the test galaxies are not there."""
    hidden = results / "store" / "hidden"
    (results / "store" / "test").rename(hidden)
    done = train_arms(results, PLAN, simulated)
    hidden.rename(results / "store" / "test")
    return done


def test_all_that_is_simulated_is_learnt_from_or_validated_with(simulated: tuple):
    train, valid = simulated
    assert len(train.store) + len(valid.store) == 24
    assert len(valid.store) == 8
    assert not set(train.store.galaxy_ids) & set(valid.store.galaxy_ids)


def test_the_arms_are_trained_without_the_test_galaxies(trained: list[Trained]):
    found = [(one.arm, one.seed) for one in trained]
    both = [(arm, seed) for seed in (0, 1) for arm in (REAL_ALONE, FINE_TUNED)]
    assert found == [(SIMULATED_ALONE, 0), *both]
    assert [one.galaxies for one in trained] == [16, 48, 48, 48, 48]
    assert not [one for one in trained if (one.folder / "unfinished").exists()]


def test_fine_tuning_starts_from_the_simulated_network(trained: list[Trained]):
    start, *_ = trained
    theirs = load_classifier(start.folder).network.state_dict()
    for one in trained:
        own = load_classifier(one.folder).network.state_dict()
        same = all(torch.allclose(own[key], theirs[key], atol=1e-6) for key in own)
        assert same == (one.arm != REAL_ALONE)
        source = read_json(one.folder / "params.json")["weights"]["source"]
        expected = str(start.folder / "best.ckpt") if one.arm == FINE_TUNED else "none"
        assert source == expected
        assert read_json(one.folder / "params.json")["seed"] == one.seed


def test_what_is_trained_is_kept_and_what_is_not_is_trained(
    results: Path, simulated: tuple, trained: list, capsys: pytest.CaptureFixture
):
    train_arms(results, PLAN, simulated)
    told = capsys.readouterr().out
    assert told.count("trained already") == 5
    assert "epoch" not in told
    longer = replace(PLAN, fine_tuned=replace(PLAN.fine_tuned, max_epoch=2))
    train_arms(results, longer, simulated)
    told = capsys.readouterr().out
    assert told.count("trained already") == 3
    assert told.count("epoch   2/2") == 2


def test_predictions_and_an_account_of_the_trainings(results: Path, trained: list):
    found = judge_arms(results, trained)
    assert {arm: len(tables) for arm, tables in found.items()} == {
        SIMULATED_ALONE: 1,
        REAL_ALONE: 2,
        FINE_TUNED: 2,
    }
    for one in trained:
        written = pd.read_csv(one.folder / "predictions.csv", dtype={"GalaxyID": str})
        assert len(written) == 24
    account = describe_arms(trained)
    assert account.galaxies.tolist() == [16, 48, 48, 48, 48]
    assert account.lr.tolist() == [3e-3, 3e-3, 1e-12, 3e-3, 1e-12]


def test_seeds_are_checked_and_paired():
    for seeds in ((), (0, 0), (-1,), (True,)):
        with pytest.raises(Gz2vitError, match="distinct whole numbers"):
            replace(PLAN, seeds=seeds)
    several = replace(PLAN, seeds=(0, 1, 2), simulated_seeds=(2, 1))
    assert [several.start_of(seed) for seed in several.seeds] == [2, 1, 2]


def test_a_simulated_run_is_told_what_is_needed(tmp_path: Path):
    from gz2vit.catalog import read_data_folder
    from tests.unit.folders import make_folder

    folder = read_data_folder(make_folder(tmp_path / "data"))
    (folder.path / SIMULATION_RECORD).write_text("{}")
    write_selection(tmp_path, folder, folder.tables, "smoke")
    with pytest.raises(Gz2vitError, match="simulated.*--data DIR"):
        make_simulated(tmp_path, 24, seed=1)
    assert not (tmp_path / "transfer").exists()
