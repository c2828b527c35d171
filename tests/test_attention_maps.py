"""Which galaxies are looked at, and their maps on disk."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from torch import nn

from gz2vit.attention import attribution_maps, predict_probabilities
from gz2vit.attention_maps import (
    choose_lists,
    draw_test_images,
    load_sample,
    map_galaxies,
    open_model,
    open_models,
    read_all_predictions,
    read_maps,
    read_sample,
    write_maps,
    write_sample,
)
from gz2vit.evaluation import PROBABILITY_COLUMNS
from gz2vit.io import Gz2vitError
from gz2vit.paper import FIG5_GALAXY_IDS
from gz2vit.training import build_network, finish_training, train_model
from tests.trained_run import KEYS, SETTINGS, open_splits

# True class, class predicted, certainty of twelve test galaxies g0 ... g11; 5 is unbarred spirals,
# 0 round ellipticals, 7 mergers.
GALAXIES = [
    *((5, 5, 0.9), (5, 5, 0.7), (5, 5, 0.8), (0, 0, 0.6), (0, 0, 0.95), (5, 0, 0.9), (5, 0, 0.4)),
    *((7, 7, 0.5), (7, 7, 0.9), (7, 2, 0.99), (7, 0, 0.3), (3, 3, 0.8)),
]


def predictions(rows: list[tuple[int, int, float]] = GALAXIES) -> pd.DataFrame:
    """A table as `read_all_predictions` returns it."""
    table = pd.DataFrame(rows, columns=["class", "pred", "certainty"])
    for number, name in enumerate(PROBABILITY_COLUMNS):
        table[name] = (1 - table.certainty) / 7
        table.loc[table.pred == number, name] = table.certainty
    return table.set_index(pd.Index([f"g{row}" for row in range(len(rows))], name="GalaxyID"))


def choose(*extra: str, count: int = 3, seed: int = 0, chosen: tuple = (), **other: pd.DataFrame):
    """Lists of a selection that holds the test galaxies and some more."""
    ids = [*predictions().index, *extra]
    selection = SimpleNamespace(tables={"test": pd.DataFrame({"galaxyID": ids})})
    return choose_lists(selection, {"vit": predictions(), **other}, "vit", count, seed, chosen)


def test_lists_of_galaxies():
    lists = choose()
    assert lists["A"] == ["g0", "g2", "g4", "g3", "g5", "g6"]  # stand-ins, surest first
    assert lists["B"] == ["g8", "g7", "g9", "g10"]  # recognised mergers, then the others
    known = [str(one) for one in FIG5_GALAXY_IDS["A"][1:3]]
    assert choose(*known)["A"] == known  # the paper's own
    other = predictions([(5, 0, 0.8), *GALAXIES[1:9], (7, 7, 0.999), *GALAXIES[10:]])
    lists = choose(count=2, cnn=other)
    # of all models together: g9: 0.99 for class 2 and 0.999 for its own; g0: 0.9 for its own and
    # 0.8 for another
    assert lists["mistakes"] == ["g5", "g6"]
    assert lists["classes"] == ["g4", "g11", "g2", "g8"]  # classes 0, 3, 5, 7; others have none
    first, again, other = (choose("t1", count=2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["random"] != other["random"]
    assert set(first["mergers"]) <= {"g7", "g8", "g9", "g10"}
    assert "chosen" not in first
    assert choose("t1", chosen=("t1", "g3"))["chosen"] == ["t1", "g3"]
    with pytest.raises(Gz2vitError, match="17"):
        choose(chosen=(17,))


def test_a_sample_keeps_images_classes_and_lists_on_disk(trained_run: Path, tmp_path: Path):
    train, _, test = open_splits(trained_run)
    lists = {"one": [test.cache.galaxy_ids[row] for row in (5, 2)] + [train.cache.galaxy_ids[2]]}
    lists["two"] = [train.cache.galaxy_ids[2]]
    sample = read_sample(trained_run, lists)
    assert len(sample.galaxy_ids) == 3  # each galaxy once
    with pytest.raises(Gz2vitError, match="attention"):
        load_sample(tmp_path)
    # ids that look like missing values survive
    lists["one"].append("NA")
    more = {"class_index": np.append(sample.class_index, 0)}
    more |= {"images": np.concatenate([sample.images, sample.images[:1]])}
    sample = replace(sample, galaxy_ids=(*sample.galaxy_ids, "NA"), **more)
    write_sample(tmp_path, sample)
    for one in (sample, load_sample(tmp_path)):
        assert one.lists == lists
        rows = one.rows("one")
        expected = [(test, 5), (test, 2), (train, 2)]
        assert rows[3] == 3
        assert one.class_index[rows[:3]].tolist() == [own.class_index[n] for own, n in expected]
        for row, (own, number) in zip(rows[:3], expected, strict=True):
            np.testing.assert_array_equal(one.images[row], own.cache[number])
        assert one.rows("two").tolist() == [rows[2]]
        assert one.rows("three").tolist() == []


@pytest.mark.parametrize("key", KEYS)
def test_a_model_sees_its_images_as_in_its_evaluation(trained_run: Path, key: str):
    test, model = open_splits(trained_run)[2], open_model(trained_run, key)
    some, every = (draw_test_images(trained_run, count, seed=3) for count in (5, 10**6))
    np.testing.assert_array_equal(every, test.cache[:])
    assert len({image.tobytes() for image in some}) == 5
    found = predict_probabilities(model.network, model.prepare(test.cache[:]))
    table = read_all_predictions(trained_run, [key])[key]
    assert table.index.tolist() == list(test.cache.galaxy_ids)
    np.testing.assert_allclose(found, table[list(PROBABILITY_COLUMNS)], atol=2e-3)


def test_models_that_are_missing_or_cannot_be_built_are_left_out(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """One trained with a network that was changed on the page: a second head."""
    (tmp_path / "models").mkdir()
    for key in KEYS:
        (tmp_path / "models" / key).symlink_to(trained_run / "models" / key)
    settings = replace(SETTINGS, model_key="odd", architecture="linformer", max_epoch=1)
    network, (train, valid, _) = build_network(settings), open_splits(trained_run)
    network.mlp_head = nn.Sequential(network.mlp_head, nn.Linear(8, 8))
    train_model(network, settings, train, valid, tmp_path / "models" / "odd")
    finish_training(tmp_path / "models" / "odd")
    capsys.readouterr()
    models, left_out = open_models(tmp_path)
    assert list(models) == KEYS  # the paper's first, then the run's own
    assert list(left_out) == ["odd"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("odd")]
    assert "mlp_head" in line
    assert "register_model" in line
    assert list(open_models(tmp_path, ["vit", "convnext"])[0]) == ["convnext"]
    assert "vit is left out" in capsys.readouterr().out
    for key in ("vit", "odd"):
        with pytest.raises(Gz2vitError, match=key):
            open_models(tmp_path, [key])


def test_predictions_of_other_galaxies_are_refused(trained_run: Path, tmp_path: Path):
    for key, cut in zip(KEYS, (0, 1), strict=True):
        lines = (trained_run / "models" / key / "predictions.csv").read_text().splitlines()
        (tmp_path / "models" / key).mkdir(parents=True)
        path = tmp_path / "models" / key / "predictions.csv"
        path.write_text("\n".join(lines[: len(lines) - cut]))
    with pytest.raises(Gz2vitError, match=KEYS[1]):
        read_all_predictions(tmp_path, KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_maps_are_those_of_the_network_on_disk_too(trained_run: Path, tmp_path: Path, key: str):
    model, images = open_model(trained_run, key), open_splits(trained_run)[2].cache[:3]
    maps = map_galaxies(model, images)
    expected = attribution_maps(model.network, model.prepare(images))
    if key == "convnext":  # a CNN: one kind, no heads
        no_heads = expected["class"][:, None][:, :0]
        expected |= {"attention": expected["class"], "heads": no_heads}
    found = {"attention": maps.average, "heads": maps.heads, "class": maps.of_class}
    for name, one in found.items():
        np.testing.assert_allclose(one, expected[name], atol=1e-5)
    with pytest.raises(Gz2vitError, match=rf"{key}\.npz"):
        read_maps(tmp_path, key)
    write_maps(tmp_path, key, maps)
    again = read_maps(tmp_path, key)
    for name, value in vars(maps).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert again.seen


def test_a_network_without_maps_has_the_reason(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, images = open_model(trained_run, "convnext"), open_splits(trained_run)[2].cache[:]
    maps = map_galaxies(model, images[:2])

    def refuse(*_words: object) -> None:
        raise Gz2vitError("it has no planes")

    monkeypatch.setattr("gz2vit.attention.class_activation", refuse)
    write_maps(tmp_path, "convnext", map_galaxies(model, images[:2]))
    empty = read_maps(tmp_path, "convnext")
    assert not empty.seen
    assert "it has no planes" in empty.method
    assert (empty.average.shape, empty.heads.shape) == ((2, 1, 1), (2, 0, 1, 1))
    np.testing.assert_array_equal(empty.probability, maps.probability)
