"""gz2vit.sim2real: features of drawn galaxies, sides whose difference is known, small trainings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from papermill import execute_notebook
from papermill.exceptions import PapermillExecutionError

from gz2sim.canvas import offsets_px, turned
from gz2sim.folder import simulate
from gz2vit import sim2real
from gz2vit.catalog import read_data_folder, write_selection
from gz2vit.images import pack_images
from gz2vit.io import Gz2vitError, read_json
from gz2vit.paper import CLASS_NAMES
from gz2vit.sim2real import FEATURES, REAL, SIMULATED, feature_distances, measure_image
from gz2vit.training import load_classifier
from tests.folders import make_folder

NOTEBOOK = Path(__file__).parents[1] / "notebooks/23_transfer_simulated.ipynb"
SIDE = 424
GALAXIES = 24  # the fewest that can be simulated
ALONE, REAL_ALONE, FINE_TUNED, LARGEST = "simulated", "real", "fine_tuned", "largest_class"


def radius_of(ratio: float = 1.0, angle_deg: float = 0.0, shift_px: float = 0.0) -> np.ndarray:
    """Elliptical radius (H, W) in pixels, the long axis turned by `angle_deg`."""
    x, y = offsets_px(SIDE)
    along, across = turned(x - shift_px, y, np.deg2rad(angle_deg))
    return np.hypot(along, across / ratio)


def image_of(light: np.ndarray, colour: tuple = (1.0, 1.0, 1.0), noise: float = 3.0) -> np.ndarray:
    """Light (H, W) or (H, W, 3) in a colour on a sky of level 10 with white noise, uint8."""
    sky = np.random.default_rng(1).normal(10, noise, (SIDE, SIDE, 3))
    light = light.reshape(SIDE, SIDE, -1) * np.array(colour)
    return np.clip(np.rint(light + sky), 0, 255).astype(np.uint8)


DISK = 150 * np.exp(-radius_of() / 14.0)
STAR = 200 * np.exp(-((radius_of(shift_px=150) / 6) ** 2))


@pytest.mark.parametrize("angle_deg", [0, 35, 90])
@pytest.mark.parametrize("ratio", [0.35, 0.7, 1.0])
def test_the_axis_ratio_is_the_drawn_one(ratio: float, angle_deg: float):
    found = measure_image(image_of(150 * np.exp(-radius_of(ratio, angle_deg) / 14.0)))
    assert found["axis_ratio"] == pytest.approx(ratio, abs=0.06)


@pytest.mark.parametrize(("colour", "ratio"), [((1.2, 1.0, 0.6), 2), ((0.6, 1.0, 1.2), 0.5)])
def test_colours_are_the_drawn_ones(colour: tuple, ratio: float):
    found = measure_image(image_of(DISK, colour))
    assert found["redness"] == pytest.approx(2.5 * np.log10(ratio), abs=0.05)
    assert found["colour_gradient"] == pytest.approx(0, abs=0.1)
    assert found["colour_saturation"] > 0.4
    red, blue = (np.exp(-radius_of() / size)[..., None] for size in (8, 25))
    light = 150 * red * np.array([1.0, 0.7, 0.4]) + 60 * blue * np.array([0.5, 0.7, 1.0])
    assert measure_image(image_of(light))["colour_gradient"] > 0.2  # red within blue


def test_the_sky_is_the_drawn_one():
    found = measure_image(image_of(DISK, noise=6.0))
    sky = [found[f"sky_{name}"] for name in ("level", "noise", "colour_noise")]
    assert sky == pytest.approx([10, 6 / np.sqrt(3), 6 * np.sqrt(2)], rel=0.1)  # cut off at 0
    assert found["sky_grain"] == pytest.approx(1, abs=0.1)
    coarse = np.random.default_rng(1).normal(30, 6, (SIDE // 4, SIDE // 4))
    grained = image_of(np.kron(coarse, np.ones((4, 4))) + DISK, noise=0)
    assert measure_image(grained)["sky_grain"] == pytest.approx(4, abs=0.4)


def test_asymmetry_concentration_saturation_and_neighbours():
    clump = 120 * np.exp(-((radius_of(shift_px=25) / 8) ** 2))
    even, odd = (measure_image(image_of(light, noise=6.0)) for light in (DISK, DISK + clump))
    assert abs(even["asymmetry"]) < 0.05 and odd["asymmetry"] > 0.15
    assert odd["clumpiness"] > even["clumpiness"]
    flat = measure_image(image_of(120.0 * (radius_of() < 40)))
    peaked = measure_image(image_of(230 * np.exp(-((radius_of() / 4) ** 0.5))))
    # Of an even disk 20 and 80 % lie inside sqrt(0.2) and sqrt(0.8) of its radius: 5 log 2.
    assert flat["concentration"] == pytest.approx(5 * np.log10(2), abs=0.1)
    assert flat["radius_px"] == pytest.approx(43, abs=3)  # outskirts count
    assert peaked["concentration"] > flat["concentration"] + 0.8
    assert peaked["gini"] > flat["gini"] + 0.2
    bright = measure_image(image_of(400.0 * (radius_of() < 40)))
    assert bright["saturated_percent"] == pytest.approx(100 * (40 / 45) ** 2, abs=3)
    _, galaxy, sky, others = sim2real.find_outline(image_of(DISK + STAR))
    middle, star = (SIDE // 2, SIDE // 2), (SIDE // 2, SIDE // 2 + 150)
    assert galaxy[middle] and not galaxy[star] and not sky[star] and others == 1


@pytest.mark.parametrize("light", [np.zeros((SIDE, SIDE)), STAR], ids=["none", "far away"])
def test_without_a_galaxy_only_the_sky_is_measured(light):
    found = measure_image(image_of(light))
    assert list(found) == list(FEATURES) and found["sky_noise"] > 1
    assert np.isnan(found["redness"]) and np.isnan(found["asymmetry"])
    flat = measure_image(np.zeros((SIDE, SIDE, 3), np.uint8))
    assert flat["sky_level"] == 0 and np.isnan(flat["sky_grain"])


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a selection and image caches of galaxies that pass for real ones."""
    root = tmp_path_factory.mktemp("real")
    folder = read_data_folder(make_folder(root / "mine"))
    write_selection(root / "out", folder, folder.tables, "smoke")
    for split, ids in ((split, list(table.galaxyID)) for split, table in folder.tables.items()):
        pack_images(list(map(folder.image_path, ids)), ids, root / "out/store" / split, 64)
    return root / "out"


def test_real_galaxies_get_simulated_ones_of_the_same_classes(real_run: Path):
    sides = sim2real.find_sides(real_run, GALAXIES, seed=3)
    assert len(sides[REAL]) == 24, "8 classes, 2 to train with and 1 for validation"
    assert not sides[REAL].galaxy_id.str.startswith("test").any(), "test galaxies have no say"
    assert len(sides[SIMULATED]) == GALAXIES - 8
    chosen = sim2real.match_classes(sides, 2)
    counts = pd.crosstab(chosen.class_index, chosen.origin)
    assert (counts[REAL] == counts[SIMULATED]).all() and counts.max().max() == 2
    assert sim2real.match_classes(sides, 2).equals(chosen)
    sides[SIMULATED] = sides[SIMULATED].query("class_index != 5")
    lost = sim2real.match_classes(sides, 2).query("class_index == 5")
    assert lost.origin.tolist() == [REAL, REAL]


def test_a_simulated_run_has_that_side_alone_and_nothing_to_transfer_to(tmp_path: Path):
    simulate(tmp_path / "data", GALAXIES, seed=3, processes=1)
    folder = read_data_folder(tmp_path / "data")
    write_selection(tmp_path, folder, folder.tables, "smoke")
    found = sim2real.find_sides(tmp_path, GALAXIES, seed=4)
    assert found[REAL].empty and len(found[SIMULATED]) == GALAXIES - 8
    assert not (tmp_path / "realism").exists()
    with pytest.raises(PapermillExecutionError, match="--data DIR"):
        run_transfer(tmp_path)


def two_sides(per_class: int, **shifts: float) -> pd.DataFrame:
    """Normal features, alike on both sides but for those that are shifted on the simulated one."""
    rng, rows = np.random.default_rng(0), 8 * per_class * 2
    table = pd.DataFrame({name: rng.normal(size=rows) for name in FEATURES})
    table["class_index"] = np.tile(np.arange(8), rows // 8)
    table["origin"] = np.repeat([REAL, SIMULATED], rows // 2)
    table.loc[table.origin == SIMULATED, list(shifts)] += list(shifts.values())
    return table


def test_a_shifted_feature_is_found_and_the_others_are_alike():
    table = feature_distances(two_sides(30, redness=1.5), resamples=100)
    overall = table[table.class_name == sim2real.ALL].set_index("feature")
    shifted, others = overall.loc["redness"], overall.drop("redness")
    # Two normal distributions 1.5 apart: 2 Phi(0.75) - 1.
    assert shifted.ks == pytest.approx(0.547, abs=0.08) and shifted.ks > others.ks.max()
    assert shifted.low < shifted.ks < shifted.high and shifted.cliffs_delta > 0.5
    assert shifted.simulated_median > shifted.real_median + 1
    assert (others.ks > others.alike).sum() <= 2, "5 % of 15 by chance"
    assert (table[table.class_name == CLASS_NAMES[3]].real == 30).all()


def test_unknown_values_few_galaxies_and_a_missing_side_are_no_error():
    sides = two_sides(3)
    sides.loc[0, "gini"] = np.nan
    table = feature_distances(sides, resamples=5).set_index(["class_name", "feature"])
    assert table.real[sim2real.ALL, "gini"] == 3 * 8 - 1
    assert table.low[CLASS_NAMES[0]].isna().all() and table.low[sim2real.ALL].notna().all()
    alone = feature_distances(sides[sides.origin == SIMULATED], resamples=5)
    assert alone.ks.isna().all() and alone.simulated_median.notna().all()
    few = sides[(sides.origin == REAL) | (sides.class_index > 6)].reset_index(drop=True)
    thumbs = np.zeros((len(few), 8, 8, 3))
    assert sim2real.discriminate(few, thumbs).empty and sim2real.give_aways(few).empty


@pytest.mark.parametrize(("gini", "brighter"), [(0.0, 0.0), (2.5, 0.0), (0.0, 1.0)])
def test_what_differs_is_told_apart_by_those_who_see_it(gini, brighter):
    sides = two_sides(25, gini=gini)
    thumbs = np.random.default_rng(1).normal(size=(len(sides), 8, 8, 3))
    thumbs[sides.origin == SIMULATED] += brighter
    table = sim2real.discriminate(sides, thumbs).set_index("looks_at")
    assert (table.galaxies == 400).all()
    assert ((table.low < table.accuracy) & (table.accuracy < table.high + 1e-9)).all()
    seen = {"measured features": gini, "thumbnails": brighter, "both": gini or brighter}
    for accuracy, differs in zip(table.accuracy[list(seen)], seen.values(), strict=True):
        assert accuracy > 0.8 if differs else abs(accuracy - 0.5) < 0.1


def test_what_gives_it_away_comes_first():
    telling = sim2real.give_aways(two_sides(25, gini=2.5, asymmetry=-0.8))
    assert telling.feature[0] == "gini" and telling.accuracy_lost[0] > 0.1
    alone = telling.set_index("feature").auc_alone
    # Two normal distributions 2.5 and 0.8 apart: Phi(d / sqrt 2).
    assert alone[["gini", "asymmetry"]].tolist() == pytest.approx([0.961, 0.714], abs=0.05)
    assert alone.min() >= 0.5


def predicted(*right: int) -> pd.DataFrame:
    """Of 60, 20 and 20 galaxies of classes 0, 1 and 5 the first `right` right, the others not."""
    true = np.repeat([0, 1, 5], (60, 20, 20))
    pred = np.where(np.r_[0:60, 0:20, 0:20] < np.repeat(right, (60, 20, 20)), true, 7)
    ids = [f"g{number}" for number in range(len(true))]
    return pd.DataFrame({"GalaxyID": ids, "class": true, "pred": pred})


def test_the_transfer_tables_means_spreads_and_paired_differences():
    arms = {ALONE: [predicted(30, 10, 10)]}
    arms |= {REAL_ALONE: [predicted(60, 0, 0), predicted(50, 10, 0)]}
    arms |= {FINE_TUNED: [predicted(60, 10, 10), predicted(50, 20, 10)]}
    table = sim2real.transfer_table(arms).set_index(["arm", "quantity", "less", "class_name"])

    def cell(arm: str, quantity: str, less: str = "", name: str = "") -> pd.Series:
        return table.loc[arm, quantity, less, name]

    largest = [cell(LARGEST, quantity).value for quantity in ("accuracy", "recall_macro")]
    assert largest == pytest.approx([0.6, 1 / 3])
    alone = cell(ALONE, "accuracy")
    assert alone.value == pytest.approx(0.5) and np.isnan(alone.spread)
    # 50 of 100: 1.96 sqrt(0.25 / 100) to either side.
    assert alone.high - alone.low == pytest.approx(2 * 0.098, abs=0.03)
    row = cell(REAL_ALONE, "recall_macro")  # 1/3 and (5/6 + 1/2 + 0) / 3
    assert row.value == pytest.approx((1 / 3 + 4 / 9) / 2)
    assert row.spread == pytest.approx(np.std([1 / 3, 4 / 9], ddof=1))
    assert (row.seeds, row.galaxies) == (2, 100)
    assert cell(FINE_TUNED, "recall", name=CLASS_NAMES[1]).value == pytest.approx(0.75)
    assert np.isnan(cell(FINE_TUNED, "recall", name=CLASS_NAMES[2]).value)
    row = cell(FINE_TUNED, "accuracy", REAL_ALONE)
    assert (row.value, row.spread) == pytest.approx((0.2, 0.0))
    # Nothing that fine-tuning has wrong is right without: the interval lies above 0.
    assert 0 < row.low < 0.2 < row.high
    assert cell(ALONE, "accuracy", REAL_ALONE).value == pytest.approx(-0.1)
    other = predicted(5, 0, 0).assign(GalaxyID="another")
    with pytest.raises(Gz2vitError, match="different galaxies"):
        sim2real.transfer_table({REAL_ALONE: [predicted(5, 0, 0)], FINE_TUNED: [other]})


def run_transfer(results: Path, **parameters) -> None:
    """Run the notebook; with next to no learning rate fine-tuned weights are what they start as."""
    sizes = {"IMAGE_SIZE": 32, "PATCH_SIZE": 8, "DEPTH": 1, "HIDDEN_DIM": 16, "NUM_HEADS": 2}
    sizes |= {"RESULTS_DIR": str(results), "SIMULATED_GALAXIES": GALAXIES}
    sizes |= {"LR": 3e-3, "FINE_TUNING_LR": 1e-12, "TRANSFER_SEEDS": [0, 1]}
    log = {"progress_bar": False, "log_output": False}
    execute_notebook(NOTEBOOK, results / "transfer.ipynb", sizes | parameters, **log)


def test_three_arms_are_trained_and_kept_and_their_table_is_written(real_run: Path):
    run_transfer(real_run)
    models = real_run / "transfer/models"
    folders = [models / ALONE / "0"]
    folders += [models / arm / seed for seed in "01" for arm in (REAL_ALONE, FINE_TUNED)]
    start = load_classifier(folders[0]).network.state_dict()
    for folder in folders:
        own, arm = load_classifier(folder).network.state_dict(), folder.parent.name
        same = all(np.allclose(own[key], start[key], atol=1e-6) for key in own)
        assert same == (arm != REAL_ALONE)
        record, used = read_json(folder / "params.json"), f"{folders[0]}/best.ckpt"
        assert record["weights"]["source"] == (used if arm == FINE_TUNED else "none")
        assert record["seed"] == int(folder.name)
        assert len(pd.read_csv(folder / "predictions.csv")) == 8
    table = pd.read_csv(real_run / "tables/transfer.csv")
    own = table[table.less.isna() & (table.quantity == "accuracy")].set_index("arm")
    assert own.seeds.to_dict() == {LARGEST: 1, ALONE: 1, REAL_ALONE: 2, FINE_TUNED: 2}
    text = (real_run / "tables/transfer.md").read_text()
    assert f"{100 * own.value[REAL_ALONE]:.1f} ± " in text and "nan" not in text

    times = [(folder / "best.ckpt").stat().st_mtime_ns for folder in folders]
    run_transfer(real_run, FINE_TUNING_EPOCHS=2)
    for folder, old in zip(folders, times, strict=True):
        changed = (folder / "best.ckpt").stat().st_mtime_ns != old
        assert changed == (folder.parent.name == FINE_TUNED)
