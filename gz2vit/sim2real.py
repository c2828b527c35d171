"""The two sides of the comparison and the features, as tables and figures call them."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import pandas as pd
from astropy.stats import mad_std
from photutils.segmentation import SegmentationImage, SourceCatalog, detect_sources
from photutils.utils.exceptions import NoDetectionsWarning
from scipy import ndimage
from sklearn.base import ClassifierMixin
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

from gz2vit.catalog import DataFolder, read_data_folder, read_selection
from gz2vit.comparisons import MIN_GROUP, cliffs_delta
from gz2vit.evaluation import RESAMPLES, check_bootstrap, percentile_bounds, wilson_interval
from gz2vit.images import LabelledImages, open_split, pack_images, read_image
from gz2vit.io import CHECKPOINT, Gz2vitError, atomic_path, read_json, write_json, write_text
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES, CROP_PX
from gz2vit.predict import predict
from gz2vit.training import TrainingSettings, forget, identity, load_classifier, train_model

REAL, SIMULATED = "real", "simulated"
# Names of the features, and what they are called on an axis.
FEATURES = MappingProxyType(
    {
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
)


# ------------------------------------------------------------------------------------------
# What is measured of a galaxy's picture, real and simulated alike.
#
# Everything is measured in grey levels (0 to 255) of the JPEG that a network sees, after the survey's
# asinh stretch: these are no fluxes, and serve to compare pictures with pictures. Shapes and the Gini
# coefficient are photutils' (`SourceCatalog`); concentration and asymmetry follow Conselice 2003
# (ApJS 147, 1) in definition, the concentration with the light inside the galaxy's outline.

SMOOTHING_PX = 2.0  # before objects are looked for: about the seeing of a typical cutout
THRESHOLD = 3.0  # standard deviations of the smoothed sky
LEAST_LEVELS = 1.0  # the threshold at least: a sky that JPEG has made all one level has no noise
LEAST_PIXELS = 25  # of an object: 5 x 5
OUTSKIRTS_PX = 31  # side of the square by which objects are widened before the rest is sky
FARTHEST_PX = 50.0  # from the middle to the galaxy: petroR90, by the rule of the cutouts
SATURATED = 250  # a level from which a pixel counts as saturated
SPARSE = 7  # every so many sky pixels tell its level: some 20,000 of them, to 0.02 grey levels
BLOCK_PX = 4  # side of the blocks of the grain


@dataclass(frozen=True)
class Outline:
    """A picture taken apart: `light` float32 (H, W, 3) above the sky, and who is where.

    `galaxy` and `sky`: bool (H, W), the pixels of the galaxy in the middle and of no object;
    `others`: the number of other objects.
    """

    light: np.ndarray
    galaxy: np.ndarray
    sky: np.ndarray
    others: int


def measure_galaxies(paths: Sequence[Path | str]) -> pd.DataFrame:
    """The `FEATURES` of each picture, a row each in the order of `paths`; NaN without a galaxy."""
    rows = [
        measure_image(read_image(Path(path)))
        for path in tqdm(paths, desc="measuring galaxies", unit="galaxy")
    ]
    return pd.DataFrame(rows, columns=list(FEATURES))


def measure_image(image: np.ndarray) -> dict[str, float]:
    """The `FEATURES` of a picture, uint8 (H, W, 3).

    Where no galaxy stands out within `FARTHEST_PX` of the middle, its features are NaN and those of
    the sky remain.
    """
    parts = find_outline(image)
    found = dict.fromkeys(FEATURES, np.nan) | _sky_features(image, parts)
    found["neighbours"] = float(parts.others)
    if parts.galaxy.any():
        found |= _shape_features(parts) | _light_features(parts)
        found["saturated_percent"] = 100.0 * float((image[parts.galaxy] >= SATURATED).any(1).mean())
    return found


def find_outline(image: np.ndarray) -> Outline:
    """Find sky and objects of a picture, uint8 (H, W, 3)."""
    levels = image.astype(np.float32)
    smooth = cv2.GaussianBlur(levels.mean(axis=2), (0, 0), SMOOTHING_PX)
    sky, noise = _clipped(smooth[::BLOCK_PX, ::BLOCK_PX])
    threshold = max(THRESHOLD * noise, LEAST_LEVELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoDetectionsWarning)  # an empty picture is an answer
        found = detect_sources(smooth - sky, threshold, LEAST_PIXELS)
    labels = np.zeros(smooth.shape, np.int32) if found is None else found.data
    galaxy = _central(labels)
    # The faint outskirts of objects are no sky.
    near = cv2.dilate((labels > 0).astype(np.uint8), np.ones((OUTSKIRTS_PX,) * 2, np.uint8))
    empty = near == 0 if (near == 0).any() else labels == 0
    some = levels[empty][::SPARSE]
    level = [_clipped(channel)[0] for channel in some.T] if len(some) else 0
    # An island in an object's outskirts is hardly brighter than the threshold.
    peaks = ndimage.maximum(smooth - sky, labels, np.unique(labels[(labels > 0) & ~galaxy]))
    others = int((np.array(peaks) > 2 * threshold).sum())
    return Outline(levels - np.float32(level), galaxy, empty, others)


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


def _central(labels: np.ndarray) -> np.ndarray:
    """The pixels of the object in the middle, bool (H, W); none if it is farther than allowed."""
    ys, xs = np.nonzero(labels)
    if not len(ys):
        return labels > 0
    middle = (np.array(labels.shape) - 1) / 2
    distance = np.hypot(ys - middle[0], xs - middle[1])
    nearest = int(distance.argmin())
    if distance[nearest] > FARTHEST_PX:
        return np.zeros(labels.shape, bool)
    return labels == labels[ys[nearest], xs[nearest]]


def _shape_features(parts: Outline) -> dict[str, float]:
    """Size, shape and distribution of the light."""
    grey = parts.light.mean(axis=2)
    found = SourceCatalog(grey, SegmentationImage(parts.galaxy.astype(np.int32)))
    x, y = float(found.x_centroid[0]), float(found.y_centroid[0])
    ratio = float(found.semiminor_axis[0].value / found.semimajor_axis[0].value)
    ys, xs = np.nonzero(parts.galaxy)
    light, radius = grey[ys, xs], np.hypot(ys - y, xs - x)
    inner, outer = _light_radii(light, radius, (0.2, 0.8))
    total = np.abs(light).sum()
    smooth = cv2.GaussianBlur(grey, (0, 0), max(SMOOTHING_PX, outer / 4))[ys, xs]
    return {
        "concentration": 5 * float(np.log10(outer / inner)),
        "asymmetry": _asymmetry(grey, parts, (x, y)),
        "clumpiness": float(np.maximum(light - smooth, 0).sum() / total),
        "gini": float(found.gini[0]),
        "axis_ratio": ratio,
        "radius_px": float(np.sqrt(len(ys) / np.pi)),
    }


def _light_radii(
    light: np.ndarray, radius: np.ndarray, shares: Sequence[float]
) -> tuple[float, ...]:
    """The radii [px] inside which the `shares` of the light are, half a pixel at least."""
    order = np.argsort(radius)
    grown = np.maximum(light[order], 0).cumsum()
    places = np.searchsorted(grown, np.multiply(shares, grown[-1]))
    return tuple(max(float(radius[order[place]]), 0.5) for place in places)


def _asymmetry(grey: np.ndarray, parts: Outline, centre: tuple[float, float]) -> float:
    """Mean difference from the picture turned by 180 degrees, less what noise alone makes of it."""
    ys, xs = np.nonzero(parts.galaxy)
    turned_x, turned_y = (round(2 * place) for place in centre)
    other_y, other_x = turned_y - ys, turned_x - xs
    inside = (other_y >= 0) & (other_y < grey.shape[0])
    inside &= (other_x >= 0) & (other_x < grey.shape[1])
    light = grey[ys[inside], xs[inside]]
    difference = np.abs(light - grey[other_y[inside], other_x[inside]]).sum()
    # Two normal numbers of standard deviation s differ by 2 s / sqrt(pi) on average.
    noise = float(mad_std(grey[parts.sky])) if parts.sky.any() else 0.0
    expected = 2 / np.sqrt(np.pi) * noise * len(light)
    return float((difference - expected) / np.abs(light).sum())


def _light_features(parts: Outline) -> dict[str, float]:
    """Level and colours of the galaxy; a channel has one grey level at least."""
    pixels = parts.light[parts.galaxy]  # (N, 3); noise stays in it, so that it averages out
    # Chosen by their own noise, the fainter pixels would be too red or too blue.
    grey = cv2.GaussianBlur(parts.light.mean(axis=2), (0, 0), SMOOTHING_PX)[parts.galaxy]
    bright = grey >= np.median(grey)
    high, low = pixels.max(axis=1), np.maximum(pixels.min(axis=1), 0)
    return {
        "redness": _redness(pixels),
        "colour_gradient": _redness(pixels[bright]) - _redness(pixels[~bright]),
        # Of the light, not the mean of the pixels: where these are faint, noise is a colour, too.
        "colour_saturation": float((high - low).sum() / max(high.sum(), 1)),
        "brightness": float(pixels.mean()),
    }


def _redness(pixels: np.ndarray) -> float:
    """2.5 log10 of red over blue light of pixels (N, 3); redder is larger, as g - i is."""
    red, _, blue = np.maximum(pixels.mean(axis=0), 1.0) if len(pixels) else np.ones(3)
    return float(2.5 * np.log10(red / blue))


def _sky_features(image: np.ndarray, parts: Outline) -> dict[str, float]:
    """Level, noise and grain of the sky; NaN where objects cover all of the picture."""
    if not parts.sky.any():
        return {}
    grey = parts.light.mean(axis=2)
    colour = parts.light[..., 0] - parts.light[..., 2]
    noise = float(grey[parts.sky].std())
    rows, columns = (side // BLOCK_PX * BLOCK_PX for side in grey.shape)
    blocks = (rows // BLOCK_PX, BLOCK_PX, columns // BLOCK_PX, BLOCK_PX)
    means = grey[:rows, :columns].reshape(blocks).mean(axis=(1, 3))
    whole = parts.sky[:rows, :columns].reshape(blocks).all(axis=(1, 3))
    # 1 for noise that is independent from pixel to pixel, BLOCK_PX where blocks have one level.
    grain = BLOCK_PX * means[whole].std() / noise if whole.any() and noise > 0 else np.nan
    return {
        "sky_level": float(image[parts.sky].mean()),
        "sky_noise": noise,
        "sky_colour_noise": float(colour[parts.sky].std()),
        "sky_grain": float(grain),
    }


# ------------------------------------------------------------------------------------------
# The two sides of the comparison: real galaxies of a run, and simulated ones, class by class.

# The test galaxies have no say in how the simulation is judged, and by that made.
SPLITS = ("train", "valid")
COLUMNS = ("galaxy_id", "class_index", "path")
THUMBNAIL_PX = 32


def find_sides(
    results_dir: Path | str, galaxies: int, seed: int, processes: int | None = None
) -> dict[str, pd.DataFrame]:
    """The galaxies of both sides, {REAL: table, SIMULATED: table}, with COLUMNS.

    The real ones are those of the run, training and validation; beside them, `galaxies` simulated
    ones are made with `seed` in `realism/simulated/` of the results folder. A run on simulated
    galaxies has those alone, and an empty table of real ones. Raises `Gz2vitError` as
    `simulation.simulate` and `selection.read_selection`.
    """
    selection = read_selection(results_dir)
    folder = Path(selection.data["folder"])
    own = _list_galaxies(selection.tables, folder)
    if selection.data["simulated"]:
        return {REAL: own.iloc[:0], SIMULATED: own}
    made = _simulated_folder(Path(results_dir) / "realism" / "simulated", galaxies, seed, processes)
    return {REAL: own, SIMULATED: _list_galaxies(made.tables, made.path)}


def _simulated_folder(path: Path, galaxies: int, seed: int, processes: int | None) -> DataFolder:
    """A data folder of simulated galaxies, made where it is not there yet."""
    from gz2sim.folder import simulate

    simulate(path, galaxies, seed, processes, replace=True)
    return read_data_folder(path)


def _list_galaxies(tables: Mapping[str, pd.DataFrame], folder: Path) -> pd.DataFrame:
    """The galaxies of SPLITS with their classes and images."""
    rows = pd.concat([tables[split] for split in SPLITS], ignore_index=True)
    paths = [str(folder / "images" / f"{name}.jpg") for name in rows.galaxyID]
    columns = (rows.galaxyID, rows.label1, paths)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def match_classes(sides: Mapping[str, pd.DataFrame], per_class: int, seed: int = 0) -> pd.DataFrame:
    """As many galaxies of each class on both sides, `per_class` at most, drawn with `seed`.

    One table with a column `origin` (REAL or SIMULATED). A class that only one side has is taken
    from that side, so that it is seen; where both have it, their numbers are the same.
    """
    chosen = []
    for index in range(CLASS_COUNT):
        own = {name: table[table.class_index == index] for name, table in sides.items()}
        number = min([per_class, *(len(table) for table in own.values() if len(table))])
        for name, table in own.items():
            drawn = table.sample(min(number, len(table)), random_state=seed)
            chosen.append(drawn.assign(origin=name))
    return pd.concat(chosen, ignore_index=True)


def pictures(galaxies: pd.DataFrame, per_class: int) -> dict[str, list[list[np.ndarray]]]:
    """Of each side and class, in order, the first `per_class` images of `galaxies` (or fewer).

    uint8 (224, 224, 3): the central square that networks see. `galaxies`: as `match_classes`
    returns them.
    """
    found = {}
    for side in (REAL, SIMULATED):
        own = galaxies[galaxies.origin == side]
        chosen = [own.path[own.class_index == index][:per_class] for index in range(CLASS_COUNT)]
        found[side] = [[read_image(Path(path), CROP_PX) for path in paths] for paths in chosen]
    return found


def thumbnails(galaxies: pd.DataFrame) -> np.ndarray:
    """The pictures of `galaxies` (column `path`), small: float32 (N, 32, 32, 3), 0 to 1.

    Of the central square that networks see, averaged down.
    """
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = [
        cv2.resize(read_image(Path(path), CROP_PX), size, interpolation=cv2.INTER_AREA)
        for path in galaxies.path
    ]
    return np.array(small, np.float32).reshape(-1, *size, 3) / 255.0


# ------------------------------------------------------------------------------------------
# How far the simulated galaxies' features lie from the real ones', feature by feature.
#
# The distance is Kolmogorov and Smirnov's: the largest gap between the two cumulative distributions,
# 0 for the same distribution, 1 for two that do not overlap. It is never quite 0 in samples; `alike`
# says what two samples of these sizes from one distribution stay below in 95 of 100 cases.

ALL = "all classes"
DISTANCE_RESAMPLES = 300
KOLMOGOROV_95 = 1.358  # 95 % quantile of Kolmogorov's distribution


def feature_distances(
    measured: pd.DataFrame, resamples: int = DISTANCE_RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """The distance of each feature, of all classes together and of each, a row each.

    `measured`: columns `origin`, `class_index` and the FEATURES. Columns: `class_name`, `feature`,
    `real`, `simulated` (galaxies with a value), `real_median`, `simulated_median`, `ks` (0 to 1),
    `low`, `high` (95 % bootstrap; NaN with fewer than ten galaxies on a side), `alike`, and
    `cliffs_delta` (-1 to 1, positive where the simulated ones have the larger values). NaN where a
    side has no galaxies.
    """
    check_bootstrap(0.95, resamples)
    rng = np.random.default_rng(seed)
    rows = []
    for name in (ALL, *CLASS_NAMES):
        one = name != ALL
        own = measured[measured.class_index == CLASS_NAMES.index(name)] if one else measured
        for feature in FEATURES:
            groups = [own[feature][own.origin == side].dropna() for side in (REAL, SIMULATED)]
            found = _distance(*(np.sort(group.to_numpy()) for group in groups), resamples, rng)
            rows.append({"class_name": name, "feature": feature, **found})
    return pd.DataFrame(rows)


def _distance(
    real: np.ndarray, simulated: np.ndarray, resamples: int, rng: np.random.Generator
) -> dict[str, float]:
    """One row of the table, from sorted values."""
    found = {"real": len(real), "simulated": len(simulated)}
    medians = [float(np.median(side)) if len(side) else np.nan for side in (real, simulated)]
    found |= {"real_median": medians[0], "simulated_median": medians[1]}
    nothing = dict.fromkeys(("ks", "low", "high", "alike", "cliffs_delta"), np.nan)
    if not len(real) or not len(simulated):
        return found | nothing
    sizes = len(real), len(simulated)
    found |= nothing | {"ks": kolmogorov_distance(real, simulated)}
    found["alike"] = min(1.0, KOLMOGOROV_95 * float(np.sqrt(sum(sizes) / np.prod(sizes))))
    found["cliffs_delta"] = cliffs_delta(simulated, real)
    if min(sizes) >= MIN_GROUP:
        drawn = [
            [np.sort(rng.choice(side, len(side))) for side in (real, simulated)]
            for _ in range(resamples)
        ]
        low, high = percentile_bounds(np.array([kolmogorov_distance(*pair) for pair in drawn]))
        found |= {"low": float(low), "high": float(high)}
    return found


def kolmogorov_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Kolmogorov and Smirnov's statistic of two sorted samples (N,) and (M,), neither empty."""
    both = np.concatenate([first, second])
    shares = [np.searchsorted(side, both, side="right") / len(side) for side in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


# ------------------------------------------------------------------------------------------
# A classifier that is told to tell real from simulated galaxies: what it achieves is what is left.
#
# Both sides have as many galaxies of each class, so that 0.5 is the accuracy of guessing and of a
# perfect simulation. Every galaxy is judged by a classifier that has not seen it (cross-validation).
# A stronger classifier would find more: these accuracies bound the distance from below.

FOLDS = 5
COMPONENTS = 40  # principal components of the thumbnails: no more than galaxies can support
SCORE_COLUMNS = ("looks_at", "method", "galaxies", "accuracy", "low", "high", "auc")
GIVE_AWAY_COLUMNS = ("feature", "accuracy_lost", "auc_alone")


def matched(galaxies: pd.DataFrame) -> np.ndarray:
    """Which `galaxies` (`origin`, `class_index`) are of classes that both sides have, bool (N,)."""
    both = galaxies.groupby("class_index").origin.transform("nunique") == 2
    return both.to_numpy(bool)


def discriminate(measured: pd.DataFrame, thumbs: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """How well real and simulated galaxies are told apart, a row for each way, SCORE_COLUMNS.

    `measured`: `origin`, `class_index` and FEATURES; `thumbs`: float (N, H, W, 3) of the same rows.
    `accuracy` (of galaxies not learnt from) with its 95 % Wilson interval `low` to `high`; `auc`:
    the chance that of a pair the simulated one looks more simulated. An empty table where the sides
    have fewer than `FOLDS` galaxies in common classes.
    """
    kept = matched(measured)
    simulated = (measured.origin[kept] == SIMULATED).to_numpy()
    if min(simulated.sum(), (~simulated).sum()) < FOLDS:
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    features = measured.loc[kept, list(FEATURES)].to_numpy(float)
    pixels = thumbs[kept].reshape(len(simulated), -1)
    components = min(COMPONENTS, len(simulated) * (FOLDS - 1) // FOLDS - 1, pixels.shape[1])
    small = PCA(components, random_state=seed).fit_transform(pixels)  # sees no labels
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    ways: Mapping[str, tuple[str, ClassifierMixin, np.ndarray]] = {
        "measured features": ("gradient boosting", _boosting(seed), features),
        "thumbnails": ("logistic regression", line, small),
        "both": ("gradient boosting", _boosting(seed), np.hstack([features, small])),
    }
    with threadpool_limits(1):  # so few galaxies are learnt from sooner by one thread
        rows = [
            (looks_at, method, *_score(classifier, values, simulated, seed))
            for looks_at, (method, classifier, values) in ways.items()
        ]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def _boosting(seed: int) -> HistGradientBoostingClassifier:
    """Small trees, few of them: there are some hundred galaxies to learn from. NaN is a value."""
    return HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=10, random_state=seed
    )


def _folds(seed: int) -> StratifiedKFold:
    return StratifiedKFold(FOLDS, shuffle=True, random_state=seed)


def _score(
    classifier: ClassifierMixin, values: np.ndarray, simulated: np.ndarray, seed: int
) -> tuple[int, float, float, float, float]:
    """Galaxies, accuracy with its interval, area under the curve, of galaxies not learnt from."""
    judged = cross_val_predict(
        classifier, values, simulated, cv=_folds(seed), method="predict_proba"
    )[:, 1]
    right = int(((judged > 0.5) == simulated).sum())
    low, high = wilson_interval(right, len(simulated))
    return len(simulated), right / len(simulated), low, high, roc_auc_score(simulated, judged)


def give_aways(measured: pd.DataFrame, seed: int = 0, repeats: int = 3) -> pd.DataFrame:
    """Which features give the simulation away, the most telling first, GIVE_AWAY_COLUMNS.

    `accuracy_lost`: by how much the accuracy falls, on galaxies not learnt from, when a feature's
    values are shuffled among them (0: nothing depends on it, or another feature tells the same);
    `auc_alone`: how well the feature alone would tell (0.5 to 1). Empty as in `discriminate`.
    """
    kept = matched(measured)
    simulated = (measured.origin[kept] == SIMULATED).to_numpy()
    if min(simulated.sum(), (~simulated).sum()) < FOLDS:
        return pd.DataFrame(columns=list(GIVE_AWAY_COLUMNS))
    values = measured.loc[kept, list(FEATURES)].to_numpy(float)
    with threadpool_limits(1):
        lost = [
            _accuracy_lost(values, simulated, learnt, judged, seed, repeats)
            for learnt, judged in _folds(seed).split(values, simulated)
        ]
    alone = [_auc_alone(column, simulated) for column in values.T]
    columns = (list(FEATURES), np.mean(lost, axis=0), alone)
    table = pd.DataFrame(dict(zip(GIVE_AWAY_COLUMNS, columns, strict=True)))
    return table.sort_values("accuracy_lost", ascending=False, ignore_index=True)


def _accuracy_lost(
    values: np.ndarray,
    simulated: np.ndarray,
    learnt: np.ndarray,
    judged: np.ndarray,
    seed: int,
    repeats: int,
) -> np.ndarray:
    """By how much the accuracy of a fold falls when a feature is shuffled, (features,)."""
    fitted = _boosting(seed).fit(values[learnt], simulated[learnt])
    shuffled = {"n_repeats": repeats, "random_state": seed}
    found = permutation_importance(fitted, values[judged], simulated[judged], **shuffled)
    return found.importances_mean


def _auc_alone(values: np.ndarray, simulated: np.ndarray) -> float:
    """The area under the curve of one feature, in whichever direction it tells; NaN left out."""
    known = ~np.isnan(values)
    if len(np.unique(simulated[known])) < 2:
        return float("nan")
    area = roc_auc_score(simulated[known], values[known])
    return float(max(area, 1 - area))


# ------------------------------------------------------------------------------------------
# What simulated galaxies teach about real ones: the transfer table.
#
# Every number is a mean over the networks (seeds) of an arm, `spread` their sample standard
# deviation. The interval is the bootstrap's over the test galaxies, the same redrawn galaxies for
# every arm, so that differences are paired; it knows nothing of seeds that were not trained.

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
ACCURACY, RECALL_MACRO, RECALL = "accuracy", "recall_macro", "recall"
QUANTITIES = ((ACCURACY, ""), (RECALL_MACRO, ""), *((RECALL, name) for name in CLASS_NAMES))
COLUMNS_TRANSFER = (
    *("arm", "less", "quantity", "class_name", "value", "spread", "low", "high"),
    *("seeds", "galaxies"),
)
TABLE = "transfer"  # tables/transfer.csv and .md


def transfer_table(
    predictions: Mapping[str, Sequence[pd.DataFrame]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """The arms and their differences, a row for each quantity, COLUMNS.

    `predictions`: of each arm the tables of its seeds (`GalaxyID`, `class`, `pred`), all of the
    same test galaxies. `less` is empty, or names the arm that is subtracted. `value`, `spread`,
    `low` and `high` are shares (0 to 1) or differences of shares; NaN for a class without test
    galaxies, `spread` also for a single seed. Raises `Gz2vitError` where test galaxies differ.
    """
    true = _test_galaxies(predictions)
    galaxies = np.array([len(true), len(true), *np.bincount(true, minlength=CLASS_COUNT)])
    drawn = np.random.default_rng(seed).multinomial(
        len(true), np.full(len(true), 1 / len(true)), size=resamples
    )  # (R, N): how often each galaxy is redrawn
    right = {LARGEST: (np.bincount(true).argmax() == true)[None].astype(float)}
    for arm, tables in predictions.items():
        right[arm] = np.array([(table["pred"] == table["class"]) for table in tables], float)
    values = {arm: _quantities(hits, true, np.ones((1, len(true)))) for arm, hits in right.items()}
    draws = {
        arm: _quantities(hits.mean(axis=0, keepdims=True), true, drawn)[0]
        for arm, hits in right.items()
    }
    rows = []
    for arm in right:
        found = values[arm][:, 0]  # (seeds, quantities)
        rows += _rows(arm, "", found.mean(axis=0), _spread(found), draws[arm], galaxies, len(found))
    for first, second in DIFFERENCES:
        if first in right and second in right:
            one, other = values[first][:, 0], values[second][:, 0]
            pairs = one - other if len(one) == len(other) else one[:1] - other
            gained = one.mean(axis=0) - other.mean(axis=0)
            gap = draws[first] - draws[second]
            rows += _rows(first, second, gained, _spread(pairs), gap, galaxies, len(pairs))
    return pd.DataFrame(rows, columns=list(COLUMNS_TRANSFER))


def _test_galaxies(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> np.ndarray:
    """The true classes (N,) of the test galaxies, checked to be the same everywhere."""
    tables = [table for arm in predictions.values() for table in arm]
    if not tables:
        raise Gz2vitError("there are no predictions to compare")
    for table in tables[1:]:
        for column in ("GalaxyID", "class"):
            if table[column].tolist() != tables[0][column].tolist():
                raise Gz2vitError("the networks were tested on different galaxies; test them anew")
    return tables[0]["class"].to_numpy()


def _quantities(hits: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """QUANTITIES of networks whose `hits` are (S, N), float64 (S, R, 10).

    `weights` (R, N): how much each galaxy counts. NaN for a class that is not there.
    """
    member = np.eye(CLASS_COUNT)[true]  # (N, 8)
    totals = weights @ member  # (R, 8)
    caught = np.einsum("sn,rn,nc->src", hits, weights, member, optimize=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(totals > 0, caught / totals, np.nan)
    accuracy = caught.sum(axis=2) / totals.sum(axis=1)
    macro = np.nansum(recall, axis=2) / (totals > 0).sum(axis=1)
    return np.concatenate([accuracy[..., None], macro[..., None], recall], axis=2)


def _spread(found: np.ndarray) -> np.ndarray:
    """Sample standard deviation over seeds (S, Q); NaN for one seed."""
    return found.std(axis=0, ddof=1) if len(found) > 1 else np.full(found.shape[1], np.nan)


def _rows(
    arm: str,
    less: str,
    values: np.ndarray,
    spread: np.ndarray,
    draws: np.ndarray,
    galaxies: np.ndarray,
    seeds: int,
) -> list[tuple]:
    """The rows of one arm, or of a difference; `draws` (R, Q)."""
    low, high = percentile_bounds(draws)
    return [
        (arm, less, *names, values[at], spread[at], low[at], high[at], seeds, galaxies[at])
        for at, names in enumerate(QUANTITIES)
    ]


def write_transfer(
    results_dir: Path | str, table: pd.DataFrame, arms: pd.DataFrame, data: Mapping[str, Any]
) -> list[Path]:
    """Write `tables/transfer.csv` (all digits) and `.md`; their paths.

    `arms`: how each network was trained (`training.transfer.describe_arms`); `data`: the record of
    the selection.
    """
    folder = Path(results_dir) / "tables"
    texts = {"csv": table.to_csv(index=False), "md": to_markdown(table, arms, data)}
    for ending, text in texts.items():
        write_text(folder / f"{TABLE}.{ending}", text)
    return [folder / f"{TABLE}.{ending}" for ending in texts]


def to_markdown(table: pd.DataFrame, arms: pd.DataFrame, data: Mapping[str, Any]) -> str:
    """The tables for reading: what was reached, by how much arms differ, how they were trained."""
    tested = f"{table.galaxies.iloc[0]:,} of {data['name']}, profile {data['profile']}"
    head = ["learnt from", "networks", "accuracy", "macro recall"]
    reached = _lines(table[table.less == ""])
    gained = _lines(table[table.less != ""])
    trained = [[str(value) for value in row] for row in arms.round(4).itertuples(index=False)]
    parts = [
        "# From simulated to real galaxies",
        f"Tested on {tested}. In percent: the mean over the networks of an arm, after ± the sample "
        "standard deviation over them, in brackets the 95 % bootstrap interval over test galaxies.",
        _markdown(head, reached),
        "## Differences",
        "In points, on the same test galaxies.",
        _markdown(head, gained),
        "## The trainings",
        "`valid_acc` is of validation galaxies of the kind that a network learnt from last.",
        _markdown(list(arms.columns), trained),
    ]
    return "\n\n".join(parts) + "\n"


def _lines(table: pd.DataFrame) -> list[list[str]]:
    """A line for each arm or difference: its name, its networks, accuracy, macro recall."""
    lines = []
    for (arm, less), rows in table.groupby(["arm", "less"], sort=False):
        name = ARM_NAMES[arm] + (f", less {ARM_NAMES[less]}" if less else "")
        found = rows.set_index("quantity")
        cells = [_cell(found.loc[quantity]) for quantity in (ACCURACY, RECALL_MACRO)]
        lines.append([name, "" if arm == LARGEST else str(rows.seeds.iloc[0]), *cells])
    return lines


def _cell(row: pd.Series) -> str:
    """`61.2 ± 0.8 [57.0, 65.3]`, in percent; differences with their sign."""
    sign = "+" if row.less else ""
    spread = "" if np.isnan(row.spread) else f" ± {100 * row.spread:.1f}"
    ends = ", ".join(f"{100 * end:{sign}.1f}" for end in (row.low, row.high))
    return f"{100 * row.value:{sign}.1f}{spread} [{ends}]"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = [heading, ["-" * width for width in widths], *rows]
    padded = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(f"| {line} |" for line in padded)


# ------------------------------------------------------------------------------------------
# From simulated to real galaxies: three trainings of one network, tested on real galaxies.
#
# The arms: simulated galaxies alone; the run's real ones alone; and the real ones again, but from the
# weights of the first arm (fine-tuning). Best epochs are chosen with validation galaxies of the kind
# that an arm learns from. The test galaxies are opened when every training has ended.

FOLDER = "transfer"  # in the results folder: everything but the tables
TRAINED = "trained.json"  # in a model's folder: of which training its weights are
SIMULATED_CROP_PX = 224  # of the simulated images; as the step `pack` keeps of the real ones


@dataclass(frozen=True)
class Plan:
    """The trainings of the three arms and their seeds.

    Every seed makes a real and a fine-tuned network; the latter starts from the simulated network
    of the same seed, or of the first of `simulated_seeds` where there is none. Raises `Gz2vitError`
    for no seeds, or the same seed twice.
    """

    simulated: TrainingSettings
    real: TrainingSettings
    fine_tuned: TrainingSettings
    seeds: tuple[int, ...]
    simulated_seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for seeds in (self.seeds, self.simulated_seeds):
            whole = all(type(seed) is int and seed >= 0 for seed in seeds)
            if not seeds or not whole or len(set(seeds)) < len(seeds):
                raise Gz2vitError(
                    f"the seeds are {list(seeds)}; give distinct whole numbers from 0 on"
                )

    def start_of(self, seed: int) -> int:
        """The seed of the simulated network that a fine-tuning starts from."""
        return seed if seed in self.simulated_seeds else self.simulated_seeds[0]


@dataclass(frozen=True)
class Trained:
    """One network that has been trained: its arm and seed, where its `best.ckpt` is.

    `galaxies`: how many it learnt from (last).
    """

    arm: str
    seed: int
    folder: Path
    galaxies: int


def require_real(results_dir: Path | str) -> None:
    """Raise `Gz2vitError` where the run's galaxies are simulated: nothing would be transferred."""
    if read_selection(results_dir).data["simulated"]:
        raise Gz2vitError(
            "this run's galaxies are simulated, so that there are no real ones to test on; give a "
            "folder of real galaxies with --data DIR"
        )


def make_simulated(
    results_dir: Path | str,
    galaxies: int,
    seed: int,
    crop_px: int = SIMULATED_CROP_PX,
    processes: int | None = None,
) -> tuple[LabelledImages, LabelledImages]:
    """Simulate galaxies and pack them: those to learn from, and those to choose an epoch with.

    Nothing is tested on them, so that their test split is learnt from as well. What is there
    already is kept. Raises `Gz2vitError` where the run's own galaxies are simulated too, and as
    `simulation.simulate` and `data.pack_images`.
    """
    from gz2sim.folder import simulate

    require_real(results_dir)
    home = Path(results_dir) / FOLDER
    simulate(home / "simulated", galaxies, seed, processes, replace=True)
    folder = read_data_folder(home / "simulated")
    parts = {"train": ("train", "test"), "valid": ("valid",)}
    train, valid = (
        _pack(folder, name, pd.concat([folder.tables[split] for split in splits]), home, crop_px)
        for name, splits in parts.items()
    )
    return train, valid


def _pack(
    folder: DataFolder, name: str, table: pd.DataFrame, home: Path, crop_px: int
) -> LabelledImages:
    """The galaxies of `table` as an image cache, `store/<name>`."""
    ids = table.galaxyID.tolist()
    paths = [folder.image_path(galaxy_id) for galaxy_id in ids]
    target = home / "store" / name
    store = pack_images(paths, ids, target, crop_px)
    return LabelledImages(name, store, table.label1.to_numpy())


def train_arms(
    results_dir: Path | str,
    plan: Plan,
    simulated: tuple[LabelledImages, LabelledImages],
    acceleration: str = "auto",
) -> list[Trained]:
    """Train every network of `plan`; those that are trained already are kept.

    `simulated`: as `make_simulated` returns them. Raises `Gz2vitError` as `train_model`.
    """
    real = open_split(results_dir, "train"), open_split(results_dir, "valid")
    home = (Path(results_dir) / FOLDER / "models").resolve()
    orders = [(SIMULATED_ALONE, seed, plan.simulated, simulated) for seed in plan.simulated_seeds]
    for seed in plan.seeds:
        start = home / SIMULATED_ALONE / str(plan.start_of(seed))
        tuned = replace(plan.fine_tuned, weights=str(start / CHECKPOINT))
        orders += [(REAL_ALONE, seed, plan.real, real), (FINE_TUNED, seed, tuned, real)]
    trained = []
    for arm, seed, settings, (train, valid) in orders:
        one = Trained(arm, seed, home / arm / str(seed), len(train.store))
        print(f"{arm}, seed {seed}: {one.galaxies:,} galaxies to learn from", flush=True)
        train_once(replace(settings, seed=seed), train, valid, one.folder, acceleration)
        trained.append(one)
    return trained


def train_once(
    settings: TrainingSettings,
    train: LabelledImages,
    valid: LabelledImages,
    model_dir: Path,
    acceleration: str = "auto",
) -> None:
    """`train_model`, unless `model_dir` holds what the same training has made."""
    run, note = identity(settings, train, valid), model_dir / TRAINED
    if note.exists() and (model_dir / CHECKPOINT).exists() and read_json(note) == run:
        print("trained already", flush=True)
        return
    note.unlink(missing_ok=True)
    train_model(settings, train, valid, model_dir, acceleration=acceleration)
    write_json(note, run)
    forget(model_dir)


def judge_arms(
    results_dir: Path | str, trained: Sequence[Trained]
) -> dict[str, list[pd.DataFrame]]:
    """The predictions of every network for the run's test galaxies, by arm, in order of seeds.

    Each is written beside its weights as `predictions.csv`.
    """
    test = open_split(results_dir, "test")
    found: dict[str, list[pd.DataFrame]] = {}
    for one in trained:
        predictions = predict(load_classifier(one.folder), test)
        with atomic_path(one.folder / "predictions.csv") as temporary:
            predictions.to_csv(temporary, index=False)
        found.setdefault(one.arm, []).append(predictions)
    return found


def describe_arms(trained: Sequence[Trained]) -> pd.DataFrame:
    """What each network learnt from (last), and how: a row each.

    Columns: `arm`, `seed`, `galaxies`, `lr`, `epochs` (as many as were trained), `best_epoch`,
    `valid_acc` (of validation galaxies of the arm's own kind).
    """
    rows = []
    for one in trained:
        history = pd.read_csv(one.folder / "history.csv")
        best = history.loc[history.valid_acc.idxmax()]
        rows.append(
            {
                "arm": one.arm,
                "seed": one.seed,
                "galaxies": one.galaxies,
                "lr": read_json(one.folder / "params.json")["parameters"]["lr"],
                "epochs": len(history),
                "best_epoch": int(best.epoch),
                "valid_acc": float(best.valid_acc),
            }
        )
    return pd.DataFrame(rows)
