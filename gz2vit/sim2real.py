"""Simulated galaxies beside real ones: measured alike, told apart, and what they teach.

Both sides are measured in grey levels (0 to 255) of the JPEG that a network sees, after the
survey's asinh stretch: these are no fluxes, and serve to compare images with images.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from astropy.nddata import block_reduce
from astropy.stats import mad_std
from photutils.segmentation import SegmentationImage, SourceCatalog
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
from gz2vit.evaluation import percentile_bounds, resample_table, wilson_interval
from gz2vit.images import read_image
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_COUNT, CLASS_NAMES

BOTH = REAL, SIMULATED = "real", "simulated"
FEATURES = {  # and what they are called on an axis
    "redness": "colour, 2.5 log R/B", "colour_gradient": "colour, inside less outside",
    "colour_saturation": "colour saturation", "concentration": "concentration",
    "asymmetry": "asymmetry", "clumpiness": "clumpiness", "gini": "Gini coefficient",
    "axis_ratio": "axis ratio", "radius_px": "radius (px)",
    "brightness": "mean level of the galaxy", "saturated_percent": "saturated pixels (%)",
    "neighbours": "other objects", "sky_level": "sky level", "sky_noise": "sky noise",
    "sky_colour_noise": "sky noise, R less B", "sky_grain": "grain of the sky noise",
}  # fmt: skip

# ---- Features of an image ----------------------------------------------------------------------

SMOOTHING_PX = 2.0  # before objects are looked for: about the seeing of a typical cutout
# Of an object: deviations above the smoothed sky, but this many levels (a sky that JPEG has made
# all one level has no noise); pixels; side of the square by which it is widened to its outskirts.
THRESHOLD, LEAST_LEVELS, LEAST_PIXELS, OUTSKIRTS_PX = 3.0, 1.0, 25, 31
FARTHEST_PX = 50.0  # from the middle to the galaxy: petroR90, by the rule of the cutouts
SATURATED, BLOCK_PX = 250, 4  # the level of a saturated pixel; side of the blocks of the grain
SPARSE = 7  # every so many sky pixels give its level: some 20,000 of them, to 0.02 grey levels


def measure_galaxies(paths: Sequence[Path | str]) -> pd.DataFrame:
    """The `FEATURES` of each image, one row per path; NaN without a galaxy."""
    bar = tqdm(paths, desc="measuring galaxies", unit="galaxy")
    return pd.DataFrame([measure_image(read_image(Path(path))) for path in bar], columns=FEATURES)


def measure_image(image: np.ndarray) -> dict[str, float]:
    """The `FEATURES` of an image, uint8 (H, W, 3); NaN without a galaxy, or without empty sky.

    Concentration and asymmetry as in Conselice 2003 (ApJS 147, 1), within the galaxy's outline.
    """
    light, galaxy, sky, others = find_outline(image)
    grey = light.mean(axis=2)
    found = dict.fromkeys(FEATURES, np.nan) | {"neighbours": float(others)}
    if sky.any():
        found["sky_level"] = float(image[sky].mean())
        found["sky_noise"] = noise = float(grey[sky].std())
        found["sky_colour_noise"] = float((light[..., 0] - light[..., 2])[sky].std())
        means = block_reduce(grey, BLOCK_PX, np.mean)[block_reduce(sky, BLOCK_PX, np.all)]
        if len(means) and noise > 0:
            # 1 for noise independent from pixel to pixel, BLOCK_PX where blocks have one level
            found["sky_grain"] = float(BLOCK_PX * means.std() / noise)
    if not galaxy.any():
        return found
    shape = SourceCatalog(grey, SegmentationImage(galaxy.astype(np.int32)))
    x, y = float(shape.x_centroid[0]), float(shape.y_centroid[0])
    ys, xs = np.nonzero(galaxy)
    levels, radius = grey[galaxy], np.hypot(ys - y, xs - x)
    # The radii of 20 and 80 % of the light, half a pixel at least.
    order = np.argsort(radius)
    grown = np.maximum(levels[order], 0).cumsum()
    places = np.searchsorted(grown, np.multiply((0.2, 0.8), grown[-1]))
    inner, outer = np.maximum(radius[order[places]], 0.5)
    smooth = cv2.GaussianBlur(grey, (0, 0), max(SMOOTHING_PX, outer / 4))[galaxy]
    # Asymmetry: the difference from the image turned by 180 degrees, less what noise makes of it.
    other_y, other_x = round(2 * y) - ys, round(2 * x) - xs
    high, wide = grey.shape
    inside = (other_y >= 0) & (other_y < high) & (other_x >= 0) & (other_x < wide)
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
    return found | {
        "saturated_percent": 100.0 * float((image[galaxy] >= SATURATED).any(1).mean()),
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


def find_outline(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Take an image, uint8 (H, W, 3), apart into the galaxy in the middle, other objects, and sky.

    Returns the light above the sky, float32 (H, W, 3), masks (H, W) of the galaxy and of the sky
    without the outskirts of objects, and the number of other objects.
    """
    levels = image.astype(np.float32)
    smooth = cv2.GaussianBlur(levels.mean(axis=2), (0, 0), SMOOTHING_PX)
    sky, noise = _clipped(smooth[::BLOCK_PX, ::BLOCK_PX])
    threshold = max(THRESHOLD * noise, LEAST_LEVELS)
    labels, _ = ndimage.label(smooth - sky > threshold, np.ones((3, 3)))
    labels[np.bincount(labels.ravel())[labels] < LEAST_PIXELS] = 0
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in labels.shape)
    distance = np.where(labels > 0, np.hypot(rows[:, None], columns), np.inf)
    galaxy = (labels == labels.flat[distance.argmin()]) & (distance.min() <= FARTHEST_PX)
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
    """Mean (grey levels and so their median are whole) and robust deviation without objects."""
    kept = values.ravel()
    for _ in range(5):
        middle, spread = float(np.median(kept)), float(mad_std(kept))
        inside = kept[np.abs(kept - middle) <= THRESHOLD * max(spread, 0.1)]
        if len(inside) == len(kept):
            break
        kept = inside
    return float(kept.mean()), spread


# ---- The two sides: the test galaxies have no say in how the simulation is judged, and made ----


def find_sides(results_dir: Path | str, galaxies: int, seed: int) -> dict[str, pd.DataFrame]:
    """Galaxies to learn from, {REAL: table, SIMULATED: table} of galaxy_id, class_index, path.

    The real ones are the run's, `galaxies` simulated ones are made with `seed` in the results
    folder's `realism/simulated/`; a run on simulated galaxies has those alone.
    """

    def listed(folder) -> pd.DataFrame:
        table = pd.concat([folder.tables["train"], folder.tables["valid"]], ignore_index=True)
        paths = [str(folder.image_path(name)) for name in table.galaxyID]
        columns = {"galaxy_id": table.galaxyID, "class_index": table.label1, "path": paths}
        return pd.DataFrame(columns)

    selection = read_selection(results_dir)
    own = listed(selection)
    if selection.data["simulated"]:
        return {REAL: own.iloc[:0], SIMULATED: own}
    made = Path(results_dir) / "realism" / "simulated"
    simulate(made, galaxies, seed, replace=True)
    return {REAL: own, SIMULATED: listed(read_data_folder(made))}


def match_classes(sides: Mapping[str, pd.DataFrame], per_class: int, seed: int = 0) -> pd.DataFrame:
    """As many galaxies of each class on both sides, or of the only one, with column `origin`."""
    chosen = []
    for index, (name, table) in product(range(CLASS_COUNT), sides.items()):
        counts = [(side.class_index == index).sum() for side in sides.values()]
        number = min(per_class, counts[list(sides).index(name)], *filter(None, counts))
        drawn = table[table.class_index == index].sample(number, random_state=seed)
        chosen.append(drawn.assign(origin=name))
    return pd.concat(chosen, ignore_index=True)


# ---- How far apart the features are, and whether a classifier tells the sides apart ------------
# Both have as many galaxies of each class, so that 0.5 is the accuracy of guessing and of a perfect
# simulation. A stronger classifier would find more: the accuracies are lower bounds.

ALL = "all classes"
KOLMOGOROV_95 = 1.358  # 95 % quantile of Kolmogorov's distribution
FOLDS, COMPONENTS = 5, 40  # principal components of thumbnails: no more than galaxies can support
DISTANCE_COLUMNS = ["class_name", "feature", "real", "simulated", "real_median", "simulated_median"]
DISTANCE_COLUMNS += ["ks", "low", "high", "alike", "cliffs_delta"]
SCORE_COLUMNS = ["looks_at", "method", "galaxies", "accuracy", "low", "high", "auc"]
GIVE_AWAY_COLUMNS = ["feature", "accuracy_lost", "auc_alone"]


def feature_distances(measured: pd.DataFrame, resamples: int = 300, seed: int = 0) -> pd.DataFrame:
    """Kolmogorov and Smirnov's distance of each feature, of all classes together and of each.

    `measured`: `origin`, `class_index`, FEATURES. `real`, `simulated`: galaxies with a value;
    `low`, `high`: the bootstrap's 95 % interval (NaN below ten galaxies); `alike`: two samples of
    one distribution stay below in 95 of 100 cases; `cliffs_delta` > 0: simulated values are larger.
    """
    rng, rows = np.random.default_rng(seed), []
    for name, feature in product((ALL, *CLASS_NAMES), FEATURES):
        own = measured if name == ALL else measured[measured.class_index == CLASS_NAMES.index(name)]
        sides = [own[feature][own.origin == side].dropna().sort_values() for side in BOTH]
        sizes, medians = [len(side) for side in sides], [side.median() for side in sides]
        ks = low = high = alike = np.nan
        if min(sizes):
            ks = kolmogorov_distance(*sides)
            alike = min(1.0, KOLMOGOROV_95 * float(np.sqrt(sum(sizes) / np.prod(sizes))))
        if min(sizes) >= MIN_GROUP:
            drawn = ((rng.choice(side, len(side)) for side in sides) for _ in range(resamples))
            low, high = percentile_bounds(np.array([kolmogorov_distance(*two) for two in drawn]))
        delta = cliffs_delta(*sides[::-1])
        rows.append((name, feature, *sizes, *medians, ks, low, high, alike, delta))
    return pd.DataFrame(rows, columns=DISTANCE_COLUMNS)


def kolmogorov_distance(first: np.ndarray, second: np.ndarray) -> float:
    """scipy's `ks_2samp` of samples (N,) and (M,) without a p-value, which it takes long for."""
    both = np.concatenate([first, second])
    fractions = [np.searchsorted(np.sort(s), both, side="right") / len(s) for s in (first, second)]
    return float(np.abs(fractions[0] - fractions[1]).max())


def discriminate(measured: pd.DataFrame, thumbs: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """How well real and simulated galaxies are told apart, SCORE_COLUMNS, one row per way.

    `measured`: `origin`, `class_index` and FEATURES; `thumbs`: float (N, H, W, 3) of the same rows.
    `low` to `high` is Wilson's 95 % interval of the cross-validated accuracy. The table is empty
    where the sides have fewer than `FOLDS` galaxies in common classes.
    """
    kept, features, simulated, trees, folds = _prepared(measured, seed)
    if not len(kept):
        return pd.DataFrame(columns=SCORE_COLUMNS)
    number, pixels = len(kept), thumbs[kept].reshape(len(kept), -1)
    components = min(COMPONENTS, number * (FOLDS - 1) // FOLDS - 1, pixels.shape[1])
    small = PCA(components, random_state=seed).fit_transform(pixels)  # sees no labels
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    ways = {"measured features": (trees, features), "thumbnails": (line, small)}
    ways |= {"both": (trees, np.hstack([features, small]))}
    options, rows = {"cv": folds, "method": "predict_proba"}, []
    for looks_at, (classifier, values) in ways.items():
        with threadpool_limits(1):  # faster than several threads on so few galaxies
            judged = cross_val_predict(classifier, values, simulated, **options)[:, 1]
        method = "gradient boosting" if classifier is trees else "logistic regression"
        right = int(((judged > 0.5) == simulated).sum())
        interval, auc = wilson_interval(right, number), roc_auc_score(simulated, judged)
        rows.append((looks_at, method, number, right / number, *map(float, interval), auc))
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def give_aways(measured: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Which features give the simulation away, the most telling first, GIVE_AWAY_COLUMNS.

    `accuracy_lost`: by how much the cross-validated accuracy falls when a feature's values are
    shuffled (0 also where another feature replaces it); `auc_alone`: how well the feature alone
    would tell (0.5 to 1). Empty as in `discriminate`.
    """
    kept, values, simulated, trees, folds = _prepared(measured, seed)
    if not len(kept):
        return pd.DataFrame(columns=GIVE_AWAY_COLUMNS)
    lost = []
    with threadpool_limits(1):
        for learnt, judged in folds.split(values, simulated):
            trees.fit(values[learnt], simulated[learnt])
            sample = values[judged], simulated[judged]
            found = permutation_importance(trees, *sample, n_repeats=3, random_state=seed)
            lost.append(found.importances_mean)
    sides = [pd.DataFrame(values[own], columns=FEATURES) for own in (~simulated, simulated)]
    deltas = [cliffs_delta(*(side[name].dropna() for side in sides)) for name in FEATURES]
    columns = list(FEATURES), np.mean(lost, axis=0), (1 + np.abs(deltas)) / 2
    table = pd.DataFrame(dict(zip(GIVE_AWAY_COLUMNS, columns, strict=True)))
    return table.sort_values("accuracy_lost", ascending=False, ignore_index=True)


def _prepared(measured: pd.DataFrame, seed: int) -> tuple:
    """Rows of classes that both sides have, if `FOLDS` on each: their features and sides; trees."""
    kept = np.flatnonzero(measured.groupby("class_index").origin.transform("nunique") == 2)
    simulated = (measured.origin.iloc[kept] == SIMULATED).to_numpy()
    if min(simulated.sum(), (~simulated).sum()) < FOLDS:
        kept = kept[:0]
    features = measured[list(FEATURES)].to_numpy(float)[kept]
    small = {"max_leaf_nodes": 8, "min_samples_leaf": 10}  # there are some hundred galaxies
    trees = HistGradientBoostingClassifier(**small, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return kept, features, simulated, trees, folds


# ---- From simulated to real galaxies: the trainings of notebook 23, beside each other ----------

SIMULATED_ALONE, REAL_ALONE, FINE_TUNED = "simulated", "real", "fine_tuned"
LARGEST = "largest_class"
DIFFERENCES = ((FINE_TUNED, REAL_ALONE), (SIMULATED_ALONE, REAL_ALONE))  # the one less the other
QUANTITIES = [("accuracy", ""), ("recall_macro", ""), *(("recall", name) for name in CLASS_NAMES)]
TRANSFER_COLUMNS = ["arm", "less", "quantity", "class_name"]
TRANSFER_COLUMNS += ["value", "spread", "low", "high", "seeds", "galaxies"]


def transfer_table(predictions: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """The arms and their differences, TRANSFER_COLUMNS, one row per quantity.

    `predictions`: of each arm the tables of its seeds (`GalaxyID`, `class`, `pred`). `less` is
    empty, or the arm that is subtracted. `value` is the mean over networks, `spread` their standard
    deviation (NaN for one), `low` to `high` the bootstrap's interval over test galaxies, redrawn
    alike for every arm; all are fractions (0 to 1), NaN for a class without test galaxies.
    """
    tables = [table for arm in predictions.values() for table in arm]
    if any(not t[["GalaxyID", "class"]].equals(tables[0][["GalaxyID", "class"]]) for t in tables):
        raise Gz2vitError("the networks were tested on different galaxies: test them again")
    true = tables[0]["class"].to_numpy()
    member = np.eye(CLASS_COUNT)[true]  # (N, 8)
    counts = member.sum(axis=0)
    drawn = resample_table(np.ones(len(true), dtype=int))
    drawn_counts = drawn @ member

    def quantities(caught: np.ndarray, galaxies: np.ndarray) -> np.ndarray:
        """QUANTITIES (..., 10) from galaxies of each class, and those classified right (..., 8)."""
        with np.errstate(invalid="ignore"):
            recall = caught / galaxies
        accuracy = caught.sum(axis=-1) / galaxies.sum(axis=-1)
        return np.column_stack([accuracy, np.nanmean(recall, axis=-1), recall])

    hits = {LARGEST: (true == counts.argmax())[None].astype(float)}  # (networks, galaxies)
    for arm, tested in predictions.items():
        hits[arm] = np.array([table["pred"] == table["class"] for table in tested], float)
    found, draws = {}, {}
    for arm, right in hits.items():
        found[arm] = quantities(right @ member, counts)
        draws[arm] = quantities(drawn @ (right.mean(axis=0)[:, None] * member), drawn_counts)
    pairs = [(arm, "") for arm in hits]
    pairs += [pair for pair in DIFFERENCES if hits.keys() >= set(pair)]
    rows, tested = [], [len(true), len(true), *counts.astype(int).tolist()]
    for arm, less in pairs:
        networks, values, redrawn = found[arm], found[arm].mean(axis=0), draws[arm]
        if less:
            values, redrawn = values - found[less].mean(axis=0), redrawn - draws[less]
            networks = networks[: None if len(networks) == len(found[less]) else 1] - found[less]
        spread = pd.DataFrame(networks).std()  # of one network NaN, as pandas has it
        numbers = np.column_stack([values, spread, *percentile_bounds(redrawn)]).tolist()
        for names, four, galaxies in zip(QUANTITIES, numbers, tested, strict=True):
            rows.append((arm, less, *names, *four, len(networks), galaxies))
    return pd.DataFrame(rows, columns=TRANSFER_COLUMNS)
