"""Simulated galaxies beside real ones: measured alike, told apart, and what they teach.

Both sides' images are measured in grey levels (0 to 255) of the JPEG that a network sees, after the
survey's asinh stretch: these are no fluxes, and serve to compare images with images. Shapes and
the Gini coefficient are photutils'; concentration and asymmetry follow Conselice 2003 (ApJS 147, 1)
in definition, the concentration with the light inside the galaxy's outline.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from astropy.stats import mad_std
from photutils.segmentation import SegmentationImage, SourceCatalog, detect_sources
from photutils.utils.exceptions import NoDetectionsWarning
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from gz2sim.folder import simulate
from gz2vit.catalog import read_data_folder, read_selection
from gz2vit.comparisons import MIN_GROUP, cliffs_delta
from gz2vit.evaluation import RESAMPLES, check_bootstrap, percentile_bounds, wilson_interval
from gz2vit.images import LabelledImages, open_split, pack_images, read_image
from gz2vit.io import CHECKPOINT, Gz2vitError, atomic_path, write_text
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, CROP_PX
from gz2vit.predict import predict
from gz2vit.training import (
    TrainingSettings,
    build_network,
    finish_training,
    load_classifier,
    train_model,
)

REAL, SIMULATED = "real", "simulated"
# Names of the features, and what they are called on an axis.
FEATURES = {
    "redness": "colour, 2.5 log R/B",
    "colour_gradient": "colour, inside less outside",
    "colour_saturation": "colour saturation",
    "concentration": "concentration",
    "asymmetry": "asymmetry",
    "clumpiness": "clumpiness",
    "gini": "Gini coefficient",
    "axis_ratio": "axis ratio",
    "radius_px": "radius (px)",
    "brightness": "mean level of the galaxy",
    "saturated_percent": "saturated pixels (%)",
    "neighbours": "other objects",
    "sky_level": "sky level",
    "sky_noise": "sky noise",
    "sky_colour_noise": "sky noise, R less B",
    "sky_grain": "grain of the sky noise",
}

# ---- Features of an image ----------------------------------------------------------------------

SMOOTHING_PX = 2.0  # before objects are looked for: about the seeing of a typical cutout
THRESHOLD = 3.0  # standard deviations of the smoothed sky
LEAST_LEVELS = 1.0  # the threshold at least: a sky that JPEG has made all one level has no noise
LEAST_PIXELS = 25  # of an object: 5 x 5
OUTSKIRTS_PX = 31  # side of the square by which objects are widened before the rest is sky
FARTHEST_PX = 50.0  # from the middle to the galaxy: petroR90, by the rule of the cutouts
SATURATED = 250  # a level from which a pixel counts as saturated
SPARSE = 7  # every so many sky pixels give its level: some 20,000 of them, to 0.02 grey levels
BLOCK_PX = 4  # side of the blocks of the grain


def measure_galaxies(paths: Sequence[Path | str]) -> pd.DataFrame:
    """The `FEATURES` of each image, one row per path; NaN without a galaxy."""
    bar = tqdm(paths, desc="measuring galaxies", unit="galaxy")
    return pd.DataFrame([measure_image(read_image(Path(path))) for path in bar], columns=FEATURES)


def measure_image(image: np.ndarray) -> dict[str, float]:
    """The `FEATURES` of an image, uint8 (H, W, 3).

    Those of the galaxy are NaN where none stands out within `FARTHEST_PX` of the middle, those of
    the sky where objects cover all of the image.
    """
    light, galaxy, sky, others = find_outline(image)
    grey = light.mean(axis=2)
    found = dict.fromkeys(FEATURES, np.nan) | {"neighbours": float(others)}
    if sky.any():
        noise = float(grey[sky].std())
        rows, columns = (side // BLOCK_PX * BLOCK_PX for side in grey.shape)
        blocks = (rows // BLOCK_PX, BLOCK_PX, columns // BLOCK_PX, BLOCK_PX)
        means = grey[:rows, :columns].reshape(blocks).mean(axis=(1, 3))
        whole = sky[:rows, :columns].reshape(blocks).all(axis=(1, 3))
        # 1 for noise that is independent from pixel to pixel, BLOCK_PX where blocks have one level.
        grain = BLOCK_PX * means[whole].std() / noise if whole.any() and noise > 0 else np.nan
        found |= {
            "sky_level": float(image[sky].mean()),
            "sky_noise": noise,
            "sky_colour_noise": float((light[..., 0] - light[..., 2])[sky].std()),
            "sky_grain": float(grain),
        }
    if galaxy.any():
        found |= _galaxy_features(light, galaxy, sky)
        found["saturated_percent"] = 100.0 * float((image[galaxy] >= SATURATED).any(1).mean())
    return found


def find_outline(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Take an image, uint8 (H, W, 3), apart into the galaxy in the middle, other objects, and sky.

    Returns the light above the sky, float32 (H, W, 3); masks (H, W) of the galaxy, and of the sky
    without the outskirts of objects; and the number of other objects.
    """
    levels = image.astype(np.float32)
    smooth = cv2.GaussianBlur(levels.mean(axis=2), (0, 0), SMOOTHING_PX)
    sky, noise = _clipped(smooth[::BLOCK_PX, ::BLOCK_PX])
    threshold = max(THRESHOLD * noise, LEAST_LEVELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)  # an empty image is an answer
        found = detect_sources(smooth - sky, threshold, LEAST_PIXELS)
    labels = np.zeros(smooth.shape, np.int32) if found is None else found.data
    galaxy = np.zeros(labels.shape, bool)
    ys, xs = np.nonzero(labels)
    if len(ys):
        distance = np.hypot(ys - (labels.shape[0] - 1) / 2, xs - (labels.shape[1] - 1) / 2)
        nearest = int(distance.argmin())
        if distance[nearest] <= FARTHEST_PX:
            galaxy = labels == labels[ys[nearest], xs[nearest]]
    # The faint outskirts of objects are no sky.
    near = cv2.dilate((labels > 0).astype(np.uint8), np.ones((OUTSKIRTS_PX,) * 2, np.uint8))
    empty = near == 0 if (near == 0).any() else labels == 0
    some = levels[empty][::SPARSE]
    level = [_clipped(channel)[0] for channel in some.T] if len(some) else 0
    # An island in an object's outskirts is hardly brighter than the threshold.
    peaks = ndimage.maximum(smooth - sky, labels, np.unique(labels[(labels > 0) & ~galaxy]))
    others = int((np.array(peaks) > 2 * threshold).sum())
    return levels - np.float32(level), galaxy, empty, others


def _clipped(values: np.ndarray) -> tuple[float, float]:
    """Mean and robust standard deviation after objects have been clipped away.

    The mean, because grey levels are whole numbers, and so is their median.
    """
    kept = values.ravel()
    for _ in range(5):
        middle, spread = float(np.median(kept)), float(mad_std(kept))
        inside = kept[np.abs(kept - middle) <= THRESHOLD * max(spread, 0.1)]
        if len(inside) == len(kept):
            break
        kept = inside
    return float(kept.mean()), spread


def _galaxy_features(light: np.ndarray, galaxy: np.ndarray, sky: np.ndarray) -> dict[str, float]:
    """Size, shape, distribution and colours of the galaxy's light, from `find_outline`'s parts."""
    grey = light.mean(axis=2)
    shape = SourceCatalog(grey, SegmentationImage(galaxy.astype(np.int32)))
    x, y = float(shape.x_centroid[0]), float(shape.y_centroid[0])
    ys, xs = np.nonzero(galaxy)
    levels, radius = grey[ys, xs], np.hypot(ys - y, xs - x)
    # The radii of 20 and 80 % of the light, half a pixel at least.
    order = np.argsort(radius)
    grown = np.maximum(levels[order], 0).cumsum()
    places = np.searchsorted(grown, np.multiply((0.2, 0.8), grown[-1]))
    inner, outer = np.maximum(radius[order[places]], 0.5)
    smooth = cv2.GaussianBlur(grey, (0, 0), max(SMOOTHING_PX, outer / 4))[ys, xs]
    # Asymmetry: the difference from the image turned by 180 degrees, less what noise makes of it.
    other_y, other_x = round(2 * y) - ys, round(2 * x) - xs
    inside = (other_y >= 0) & (other_y < grey.shape[0])
    inside &= (other_x >= 0) & (other_x < grey.shape[1])
    own, turned = levels[inside], grey[other_y[inside], other_x[inside]]
    # Two normal numbers of standard deviation s differ by 2 s / sqrt(pi) on average.
    noise = float(mad_std(grey[sky])) if sky.any() else 0.0
    difference = np.abs(own - turned).sum() - 2 / np.sqrt(np.pi) * noise * inside.sum()

    def redness(pixels: np.ndarray) -> float:
        """2.5 log10 of red over blue light of pixels (N, 3), as g - i; at least one level each."""
        red, _, blue = np.maximum(pixels.mean(axis=0), 1.0) if len(pixels) else np.ones(3)
        return float(2.5 * np.log10(red / blue))

    pixels = light[galaxy]  # (N, 3); noise stays in it, so that it averages out
    # Chosen by their own noise, the fainter pixels would be too red or too blue.
    blurred = cv2.GaussianBlur(grey, (0, 0), SMOOTHING_PX)[galaxy]
    bright = blurred >= np.median(blurred)
    high, low = pixels.max(axis=1), np.maximum(pixels.min(axis=1), 0)
    return {
        "concentration": 5 * float(np.log10(outer / inner)),
        "asymmetry": float(difference / np.abs(own).sum()),
        "clumpiness": float(np.maximum(levels - smooth, 0).sum() / np.abs(levels).sum()),
        "gini": float(shape.gini[0]),
        "axis_ratio": float(shape.semiminor_axis[0].value / shape.semimajor_axis[0].value),
        "radius_px": float(np.sqrt(len(ys) / np.pi)),
        "redness": redness(pixels),
        "colour_gradient": redness(pixels[bright]) - redness(pixels[~bright]),
        # Of the light, not the mean of the pixels: where these are faint, noise is a colour, too.
        "colour_saturation": float((high - low).sum() / max(high.sum(), 1)),
        "brightness": float(pixels.mean()),
    }


# ---- The two sides -----------------------------------------------------------------------------

# The test galaxies have no say in how the simulation is judged, and by that made.
SPLITS = ("train", "valid")
THUMBNAIL_PX = 32


def find_sides(
    results_dir: Path | str, galaxies: int, seed: int, processes: int | None = None
) -> dict[str, pd.DataFrame]:
    """Galaxies of both sides, {REAL: table, SIMULATED: table} of galaxy_id, class_index, path.

    The real ones are the run's, of SPLITS; `galaxies` simulated ones are made with `seed` in
    `realism/simulated/` of the results folder. A run on simulated galaxies has those alone. Raises
    `Gz2vitError` as `read_selection`, `gz2sim.SimulationError` as `simulate`.
    """

    def listed(folder) -> pd.DataFrame:
        table = pd.concat([folder.tables[split] for split in SPLITS], ignore_index=True)
        table = table.rename(columns={"galaxyID": "galaxy_id", "label1": "class_index"})
        table["path"] = [str(folder.image_path(name)) for name in table.galaxy_id]
        return table[["galaxy_id", "class_index", "path"]]

    selection = read_selection(results_dir)
    own = listed(selection)
    if selection.data["simulated"]:
        return {REAL: own.iloc[:0], SIMULATED: own}
    made = Path(results_dir) / "realism" / "simulated"
    simulate(made, galaxies, seed, processes, replace=True)
    return {REAL: own, SIMULATED: listed(read_data_folder(made))}


def match_classes(sides: Mapping[str, pd.DataFrame], per_class: int, seed: int = 0) -> pd.DataFrame:
    """As many galaxies of each class on both sides, `per_class` at most, drawn with `seed`.

    A column `origin` is REAL or SIMULATED. Where one side has no galaxies, the other's are taken.
    """
    chosen = []
    for index in range(CLASS_COUNT):
        own = {name: table[table.class_index == index] for name, table in sides.items()}
        number = min([per_class, *(len(table) for table in own.values() if len(table))])
        for name, table in own.items():
            drawn = table.sample(min(number, len(table)), random_state=seed)
            chosen.append(drawn.assign(origin=name))
    return pd.concat(chosen, ignore_index=True)


def example_images(galaxies: pd.DataFrame, per_class: int) -> dict[str, list[list[np.ndarray]]]:
    """The first `per_class` images of each side and class: uint8 (224, 224, 3), as networks see.

    `galaxies`: as `match_classes` returns them.
    """

    def examples(side: str, index: int) -> list[np.ndarray]:
        own = galaxies[(galaxies.origin == side) & (galaxies.class_index == index)]
        return [read_image(Path(path), CROP_PX) for path in own.path[:per_class]]

    return {side: [examples(side, k) for k in range(CLASS_COUNT)] for side in (REAL, SIMULATED)}


def thumbnails(galaxies: pd.DataFrame) -> np.ndarray:
    """The central squares of `galaxies` (column `path`), averaged down: float32 (N, 32, 32, 3)."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    crops = (read_image(Path(path), CROP_PX) for path in galaxies.path)
    small = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops]
    return np.array(small, np.float32).reshape(-1, *size, 3) / 255.0


# ---- How far apart the features are ------------------------------------------------------------

ALL = "all classes"
KOLMOGOROV_95 = 1.358  # 95 % quantile of Kolmogorov's distribution


def feature_distances(measured: pd.DataFrame, resamples: int = 300, seed: int = 0) -> pd.DataFrame:
    """Kolmogorov and Smirnov's distance of each feature, of all classes together and of each.

    `measured`: columns `origin`, `class_index` and the FEATURES. Columns: `class_name`, `feature`,
    `real`, `simulated` (galaxies with a value), `real_median`, `simulated_median`, `ks` (0 to 1),
    `low`, `high` (95 % bootstrap; NaN with fewer than ten galaxies on a side), `alike` (what two
    samples of these sizes from one distribution stay below in 95 of 100 cases), and `cliffs_delta`
    (-1 to 1, positive where simulated values are larger). NaN where a side has no galaxies.
    """
    check_bootstrap(0.95, resamples)
    rng = np.random.default_rng(seed)
    rows = []
    for index, name in enumerate((ALL, *CLASS_NAMES), start=-1):
        own = measured if name == ALL else measured[measured.class_index == index]
        for feature in FEATURES:
            sides = [
                np.sort(own[feature][own.origin == side].dropna()) for side in (REAL, SIMULATED)
            ]
            sizes = [len(side) for side in sides]
            row = {"class_name": name, "feature": feature, "real": sizes[0], "simulated": sizes[1]}
            row["real_median"], row["simulated_median"] = (
                float(np.median(side)) if len(side) else np.nan for side in sides
            )
            row |= dict.fromkeys(("ks", "low", "high", "alike", "cliffs_delta"), np.nan)
            if min(sizes):
                row["ks"] = kolmogorov_distance(*sides)
                row["alike"] = min(1.0, KOLMOGOROV_95 * float(np.sqrt(sum(sizes) / np.prod(sizes))))
                row["cliffs_delta"] = cliffs_delta(*sides[::-1])
            if min(sizes) >= MIN_GROUP:
                drawn = [
                    kolmogorov_distance(*(np.sort(rng.choice(side, len(side))) for side in sides))
                    for _ in range(resamples)
                ]
                row["low"], row["high"] = map(float, percentile_bounds(np.array(drawn)))
            rows.append(row)
    return pd.DataFrame(rows)


def kolmogorov_distance(first: np.ndarray, second: np.ndarray) -> float:
    """The statistic of two sorted samples (N,) and (M,), as `ks_2samp` has it without a p-value."""
    both = np.concatenate([first, second])
    fractions = [np.searchsorted(side, both, side="right") / len(side) for side in (first, second)]
    return float(np.abs(fractions[0] - fractions[1]).max())


# ---- A classifier that tells real from simulated galaxies --------------------------------------
# Both sides have as many galaxies of each class, so that 0.5 is the accuracy of guessing and of a
# perfect simulation. A stronger classifier would find more: the accuracies are lower bounds.

FOLDS = 5
COMPONENTS = 40  # principal components of the thumbnails: no more than galaxies can support
TREES = {"max_leaf_nodes": 8, "min_samples_leaf": 10}  # small: there are some hundred galaxies
SCORE_COLUMNS = ["looks_at", "method", "galaxies", "accuracy", "low", "high", "auc"]
GIVE_AWAY_COLUMNS = ["feature", "accuracy_lost", "auc_alone"]


def discriminate(measured: pd.DataFrame, thumbs: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """How well real and simulated galaxies are told apart, SCORE_COLUMNS, one row per way.

    `measured`: `origin`, `class_index` and FEATURES; `thumbs`: float (N, H, W, 3) of the same rows.
    `accuracy` (cross-validated) with its 95 % Wilson interval `low` to `high`; `auc`: the chance
    that of a pair the simulated one looks more simulated. An empty table where the sides have fewer
    than `FOLDS` galaxies in common classes.
    """
    kept, features, simulated = _both_sides(measured)
    number = len(simulated)
    if not number:
        return pd.DataFrame(columns=SCORE_COLUMNS)
    pixels = thumbs[kept].reshape(number, -1)
    components = min(COMPONENTS, number * (FOLDS - 1) // FOLDS - 1, pixels.shape[1])
    small = PCA(components, random_state=seed).fit_transform(pixels)  # sees no labels
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    trees = HistGradientBoostingClassifier(**TREES, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    rows = []
    for looks_at, method, classifier, values in (
        ("measured features", "gradient boosting", trees, features),
        ("thumbnails", "logistic regression", line, small),
        ("both", "gradient boosting", trees, np.hstack([features, small])),
    ):
        with threadpool_limits(1):  # faster than several threads on so few galaxies
            judged = cross_val_predict(
                classifier, values, simulated, cv=folds, method="predict_proba"
            )[:, 1]
        right = int(((judged > 0.5) == simulated).sum())
        low, high = map(float, wilson_interval(right, number))
        auc = roc_auc_score(simulated, judged)
        rows.append((looks_at, method, number, right / number, low, high, auc))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def give_aways(measured: pd.DataFrame, seed: int = 0, repeats: int = 3) -> pd.DataFrame:
    """Which features give the simulation away, the most telling first, GIVE_AWAY_COLUMNS.

    `accuracy_lost`: by how much the cross-validated accuracy falls when a feature's values are
    shuffled (0 also where another feature replaces it); `auc_alone`: how well the feature alone
    would tell (0.5 to 1). Empty as in `discriminate`.
    """
    _, values, simulated = _both_sides(measured)
    if not len(simulated):
        return pd.DataFrame(columns=GIVE_AWAY_COLUMNS)
    trees = HistGradientBoostingClassifier(**TREES, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    options = {"n_repeats": repeats, "random_state": seed}
    lost, alone = [], []
    with threadpool_limits(1):
        for learnt, judged in folds.split(values, simulated):
            trees.fit(values[learnt], simulated[learnt])
            found = permutation_importance(trees, values[judged], simulated[judged], **options)
            lost.append(found.importances_mean)
    for column in values.T:
        known = ~np.isnan(column)
        both = len(np.unique(simulated[known])) == 2
        area = roc_auc_score(simulated[known], column[known]) if both else np.nan
        alone.append(max(area, 1 - area))
    columns = (list(FEATURES), np.mean(lost, axis=0), alone)
    table = pd.DataFrame(dict(zip(GIVE_AWAY_COLUMNS, columns, strict=True)))
    return table.sort_values("accuracy_lost", ascending=False, ignore_index=True)


def _both_sides(measured: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of classes that both sides have, their features (N, F), and which are simulated (N,).

    None where a side has fewer than `FOLDS` galaxies of such classes.
    """
    kept = np.flatnonzero(measured.groupby("class_index").origin.transform("nunique") == 2)
    simulated = (measured.origin.iloc[kept] == SIMULATED).to_numpy()
    if min(simulated.sum(), (~simulated).sum()) < FOLDS:
        kept, simulated = kept[:0], simulated[:0]
    return kept, measured[list(FEATURES)].iloc[kept].to_numpy(float), simulated


# ---- From simulated to real galaxies: three trainings of one network ---------------------------
# Simulated galaxies alone; the run's real ones alone; and the real ones from the weights of the
# first (fine-tuning). Best epochs are chosen with validation galaxies of the kind that an arm
# learns from. The test galaxies are opened when every training has ended.

SIMULATED_ALONE, REAL_ALONE, FINE_TUNED = "simulated", "real", "fine_tuned"
LARGEST = "largest_class"
ARM_NAMES = {
    LARGEST: "always the largest class",
    SIMULATED_ALONE: "simulated galaxies alone",
    REAL_ALONE: "real galaxies alone",
    FINE_TUNED: "simulated, then real galaxies",
}
# First arm less the second.
DIFFERENCES = ((FINE_TUNED, REAL_ALONE), (SIMULATED_ALONE, REAL_ALONE))
QUANTITIES = (("accuracy", ""), ("recall_macro", ""), *(("recall", name) for name in CLASS_NAMES))
TRANSFER_COLUMNS = (
    *("arm", "less", "quantity", "class_name", "value", "spread", "low", "high"),
    *("seeds", "galaxies"),
)


def make_simulated(
    results_dir: Path | str,
    galaxies: int,
    seed: int,
    crop_px: int = CROP_PX,
    processes: int | None = None,
) -> tuple[LabelledImages, LabelledImages]:
    """Simulate galaxies and pack them: those to learn from, and those to choose an epoch with.

    Nothing is tested on them, so that their test split is learnt from as well. What exists is
    kept. Raises `Gz2vitError` where the run's own galaxies are simulated too, and as `pack_images`;
    `gz2sim.SimulationError` as `simulate`.
    """
    if read_selection(results_dir).data["simulated"]:
        raise Gz2vitError(
            "this run's galaxies are simulated, so that there are no real ones to test on: pass a "
            "folder of real galaxies with --data DIR"
        )
    home = Path(results_dir) / "transfer"
    simulate(home / "simulated", galaxies, seed, processes, replace=True)
    folder = read_data_folder(home / "simulated")

    def packed(name: str, *splits: str) -> LabelledImages:
        table = pd.concat([folder.tables[split] for split in splits])
        ids = table.galaxyID.tolist()
        paths = [folder.image_path(galaxy_id) for galaxy_id in ids]
        images = pack_images(paths, ids, home / "store" / name, crop_px)
        return LabelledImages(name, images, table.label1.to_numpy())

    return packed("train", "train", "test"), packed("valid", "valid")


def train_arms(
    results_dir: Path | str,
    arms: Mapping[str, TrainingSettings],
    simulated: tuple[LabelledImages, LabelledImages],
    seeds: Sequence[int],
    simulated_seeds: Sequence[int],
    acceleration: str = "auto",
) -> pd.DataFrame:
    """Train every arm with every seed, in `transfer/models/<arm>/<seed>/`; one row per network.

    A fine-tuning starts from the simulated network of the same seed, or of the first of
    `simulated_seeds` where there is none. Networks trained already are kept. `simulated`: as
    `make_simulated` returns them. Columns: `arm`, `seed`, `galaxies` (learnt from last), `lr`,
    `epochs`, `best_epoch`, `valid_acc` (of the arm's own kind of galaxies), `folder`. Raises
    `Gz2vitError` for seeds that are not distinct whole numbers, and as `train_model`.
    """
    for given in (seeds, simulated_seeds):
        whole = all(type(seed) is int and seed >= 0 for seed in given)
        if not given or not whole or len(set(given)) < len(given):
            raise Gz2vitError(
                f"the seeds are {list(given)}: pass distinct whole numbers, 0 or more"
            )
    real = open_split(results_dir, "train"), open_split(results_dir, "valid")
    home = (Path(results_dir) / "transfer" / "models").resolve()
    order = [(SIMULATED_ALONE, seed, simulated) for seed in simulated_seeds]
    order += [(arm, seed, real) for seed in seeds for arm in (REAL_ALONE, FINE_TUNED)]
    rows = []
    for arm, seed, (train, valid) in order:
        folder, settings = home / arm / str(seed), replace(arms[arm], seed=seed)
        if arm == FINE_TUNED:
            start = seed if seed in simulated_seeds else simulated_seeds[0]
            weights = home / SIMULATED_ALONE / str(start) / CHECKPOINT
            settings = replace(settings, weights=str(weights))
        galaxies = len(train.cache)
        print(f"{arm}, seed {seed}: {galaxies:,} galaxies to learn from", flush=True)
        network = build_network(settings)
        train_model(network, settings, train, valid, folder, acceleration=acceleration)
        finish_training(folder)
        history = pd.read_csv(folder / "history.csv")
        best = history.loc[history.valid_acc.idxmax()]
        row = {"arm": arm, "seed": seed, "galaxies": galaxies, "lr": settings.lr}
        row |= {"epochs": len(history), "best_epoch": int(best.epoch)}
        rows.append(row | {"valid_acc": float(best.valid_acc), "folder": str(folder)})
    return pd.DataFrame(rows)


def judge_arms(results_dir: Path | str, trained: pd.DataFrame) -> dict[str, list[pd.DataFrame]]:
    """The predictions of every network for the run's test galaxies, by arm, in order of seeds.

    `trained`: as `train_arms` returns it. Each is written beside its weights, `predictions.csv`.
    """
    test = open_split(results_dir, "test")
    found: dict[str, list[pd.DataFrame]] = {}
    for arm, folder in zip(trained.arm, map(Path, trained.folder), strict=True):
        predictions = predict(load_classifier(folder), test)
        with atomic_path(folder / "predictions.csv") as temporary:
            predictions.to_csv(temporary, index=False)
        found.setdefault(arm, []).append(predictions)
    return found


def transfer_table(
    predictions: Mapping[str, Sequence[pd.DataFrame]], resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """The arms and their differences, TRANSFER_COLUMNS, one row per quantity.

    `predictions`: of each arm the tables of its seeds (`GalaxyID`, `class`, `pred`), all of the
    same test galaxies. `less` is empty, or names the arm that is subtracted. `value` is the mean
    over networks, `spread` their sample standard deviation (NaN for one), `low` to `high` the
    bootstrap's interval over the test galaxies, the same redrawn galaxies for every arm, so that
    differences are paired; all are fractions (0 to 1), NaN for a class without test galaxies.
    Raises `Gz2vitError` where test galaxies differ.
    """
    tables = [table for arm in predictions.values() for table in arm]
    if not tables:
        raise Gz2vitError("there are no predictions to compare: train the arms first")
    for table in tables[1:]:
        if not table[["GalaxyID", "class"]].equals(tables[0][["GalaxyID", "class"]]):
            raise Gz2vitError("the networks were tested on different galaxies: test them again")
    true = tables[0]["class"].to_numpy()
    member = np.eye(CLASS_COUNT)[true]  # (N, 8)
    counts = member.sum(axis=0)
    hits = {LARGEST: (true == counts.argmax())[None].astype(float)}  # (networks, galaxies)
    for arm, tested in predictions.items():
        hits[arm] = np.array([table["pred"] == table["class"] for table in tested], float)
    fair = np.full(len(true), 1 / len(true))
    drawn = np.random.default_rng(seed).multinomial(len(true), fair, size=resamples)
    drawn_counts = drawn @ member

    def quantities(caught: np.ndarray, galaxies: np.ndarray) -> np.ndarray:
        """QUANTITIES (..., 10) from galaxies of each class, and those classified right (..., 8)."""
        with np.errstate(invalid="ignore"):
            recall = caught / galaxies
        accuracy = caught.sum(axis=-1) / galaxies.sum(axis=-1)
        return np.column_stack([accuracy, np.nanmean(recall, axis=-1), recall])

    found = {arm: quantities(right @ member, counts) for arm, right in hits.items()}
    draws = {
        arm: quantities(drawn @ (right.mean(axis=0)[:, None] * member), drawn_counts)
        for arm, right in hits.items()
    }
    compared = [(arm, "", found[arm], found[arm].mean(axis=0), draws[arm]) for arm in hits]
    for first, second in DIFFERENCES:
        if first in hits and second in hits:
            one, other = found[first], found[second]
            pairs = one - other if len(one) == len(other) else one[:1] - other
            gained = one.mean(axis=0) - other.mean(axis=0)
            compared.append((first, second, pairs, gained, draws[first] - draws[second]))
    tested = [len(true), len(true), *counts.astype(int).tolist()]
    rows = []
    for arm, less, networks, values, redrawn in compared:
        # Of one network NaN, as pandas has it.
        spread = pd.DataFrame(networks).std()
        numbers = np.column_stack([values, spread, *percentile_bounds(redrawn)]).tolist()
        for names, four, galaxies in zip(QUANTITIES, numbers, tested, strict=True):
            rows.append((arm, less, *names, *four, len(networks), galaxies))
    return pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS))


def write_transfer(
    results_dir: Path | str, table: pd.DataFrame, trained: pd.DataFrame, data: Mapping[str, Any]
) -> list[Path]:
    """Write `tables/transfer.csv` (all digits) and `transfer.md`, and return their paths.

    `trained`: as `train_arms` returns it; `data`: the record of the selection.
    """
    parts: dict[bool, list[dict[str, str]]] = {False: [], True: []}  # arms, differences
    for (arm, less), rows in table.groupby(["arm", "less"], sort=False):
        name = ARM_NAMES[arm] + (f", less {ARM_NAMES[less]}" if less else "")
        networks = "" if arm == LARGEST else str(rows.seeds.iloc[0])
        line = {"learnt from": name, "networks": networks}
        for column, quantity in {"accuracy": "accuracy", "macro recall": "recall_macro"}.items():
            row, sign = rows.set_index("quantity").loc[quantity], "+" if less else ""
            spread = "" if np.isnan(row.spread) else f" ± {100 * row.spread:.1f}"
            ends = f"[{100 * row.low:{sign}.1f}, {100 * row.high:{sign}.1f}]"
            line[column] = f"{100 * row.value:{sign}.1f}{spread} {ends}"
        parts[bool(less)].append(line)
    arms, differences = (
        pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
        for lines in parts.values()
    )
    text = f"""# From simulated to real galaxies

Tested on {table.galaxies.iloc[0]:,} of {data["name"]}, profile {data["profile"]}. In percent: the \
mean over the networks of an arm, after ± the sample standard deviation over them, in brackets the \
95 % bootstrap interval over test galaxies.

{arms}

## Differences

In points, on the same test galaxies.

{differences}

## The trainings

`valid_acc` is of validation galaxies of the kind that a network learnt from last.

{trained.drop(columns="folder").round(4).to_markdown(index=False)}
"""
    tables = Path(results_dir) / "tables"
    write_text(tables / "transfer.csv", table.to_csv(index=False))
    write_text(tables / "transfer.md", text)
    return [tables / "transfer.csv", tables / "transfer.md"]
