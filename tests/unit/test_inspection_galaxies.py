"""gz2vit.inspection.galaxies: which galaxies are looked at."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gz2vit.attention_maps import (
    choose_lists,
    draw_test_images,
    is_papers_list,
    load_sample,
    read_sample,
    write_sample,
)
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.io import Gz2vitError
from gz2vit.paper import FIG5_GALAXY_IDS
from tests.unit.small_training import open_splits

# True class, class predicted, certainty of twelve test galaxies g0 ... g11; 5 is unbarred spirals,
# 0 round ellipticals, 7 mergers.
GALAXIES = [
    *((5, 5, 0.9), (5, 5, 0.7), (5, 5, 0.8), (0, 0, 0.6), (0, 0, 0.95), (5, 0, 0.9), (5, 0, 0.4)),
    *((7, 7, 0.5), (7, 7, 0.9), (7, 2, 0.99), (7, 0, 0.3), (3, 3, 0.8)),
]


def predictions(rows: list[tuple[int, int, float]] = GALAXIES) -> pd.DataFrame:
    """A table as `read_all_predictions` returns it."""
    shares = np.full((len(rows), 8), 0.0)
    for row, (_, pred, certainty) in enumerate(rows):
        shares[row] = (1 - certainty) / 7
        shares[row, pred] = certainty
    table = pd.DataFrame(shares, columns=list(PROBABILITY_COLUMNS))
    table.insert(0, "class", [row[0] for row in rows])
    table.insert(1, "pred", [row[1] for row in rows])
    return table.set_index(pd.Index([f"g{row}" for row in range(len(rows))], name="GalaxyID"))


def selection(*extra: str) -> SimpleNamespace:
    """A selection that holds the test galaxies and some more."""
    ids = [*predictions().index, *extra]
    return SimpleNamespace(tables={"test": pd.DataFrame({"galaxyID": ids})})


def test_stand_ins_are_of_the_papers_kinds_surest_first():
    lists = choose_lists(selection(), {"vit": predictions()}, "vit", 3, seed=0)
    assert lists["A"] == ["g0", "g2", "g4", "g3", "g5", "g6"]
    assert lists["B"] == ["g8", "g7", "g9", "g10"]  # recognised mergers, then the others
    assert not is_papers_list("A", lists["A"])


def test_the_papers_own_galaxies_come_first():
    there = [str(one) for one in FIG5_GALAXY_IDS["A"][1:3]]
    lists = choose_lists(selection(*there), {"vit": predictions()}, "vit", 3, seed=0)
    assert lists["A"] == there
    assert is_papers_list("A", there)
    assert not is_papers_list("B", there)
    assert not is_papers_list("B", [])


def test_mistakes_are_those_of_all_models_together():
    other = predictions([(5, 0, 0.8), *GALAXIES[1:9], (7, 7, 0.999), *GALAXIES[10:]])
    both = {"vit": predictions(), "cnn": other}
    lists = choose_lists(selection(), both, "vit", 2, seed=0)
    # g9: 0.99 for class 2 and 0.999 for its own; g0: 0.9 for its own and 0.8 for another
    assert lists["mistakes"] == ["g5", "g6"]
    assert lists["classes"] == ["g4", "g11", "g2", "g8"]  # classes 0, 3, 5, 7; others have none


def test_random_and_mergers_depend_on_the_seed_alone():
    words = (selection(), {"vit": predictions()}, "vit", 2)
    first, again, other = (choose_lists(*words, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["random"] != other["random"]
    assert len(first["random"]) == len(first["mergers"]) == 2
    assert set(first["mergers"]) <= {"g7", "g8", "g9", "g10"}


def test_chosen_galaxies_may_be_of_any_split_but_must_be_there():
    words = (selection("t1"), {"vit": predictions()}, "vit", 2, 0)
    assert choose_lists(*words, ["t1", "g3"])["chosen"] == ["t1", "g3"]
    assert "chosen" not in choose_lists(*words)
    with pytest.raises(Gz2vitError, match="galaxy 17 is not among the selected galaxies"):
        choose_lists(*words, [17])


def test_a_sample_keeps_images_classes_and_lists_on_disk(inspected: Path, tmp_path: Path):
    train, _, test = open_splits(inspected)
    lists = {"one": [test.store.galaxy_ids[5], train.store.galaxy_ids[2]]}
    lists["two"] = [train.store.galaxy_ids[2]]
    sample = read_sample(inspected, lists)
    assert len(sample.galaxy_ids) == 2  # each galaxy once
    write_sample(tmp_path, sample)
    for one in (sample, load_sample(tmp_path)):
        assert one.lists == lists
        rows = one.rows("one")
        np.testing.assert_array_equal(one.images[rows[0]], test.store.images[5])
        np.testing.assert_array_equal(one.images[rows[1]], train.store.images[2])
        assert one.class_index[rows].tolist() == [test.class_index[5], train.class_index[2]]
        assert one.rows("two").tolist() == [rows[1]]
        assert one.rows("three").tolist() == []


def test_a_sample_that_is_not_there_names_the_step(tmp_path: Path):
    with pytest.raises(Gz2vitError, match="the step 'attention' makes it"):
        load_sample(tmp_path)


def test_test_images_are_drawn_once_each(inspected: Path):
    images = open_splits(inspected)[2].store.images
    drawn = draw_test_images(inspected, 10, seed=3)
    assert drawn.shape == (10, *images.shape[1:])
    rows = [next(i for i in range(len(images)) if (images[i] == one).all()) for one in drawn]
    assert len(set(rows)) == 10
    assert len(draw_test_images(inspected, 10_000, seed=3)) == len(images)
