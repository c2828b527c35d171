"""What the numbers say about a claim, by stated rules: supported, contradicted, or not decided.

A claim is a dict (`CLAIM`): what is claimed, the effect that was measured, on which side of zero it
should be, and a two-sided test. It is supported where its p-value, corrected for its family (Holm),
is below ALPHA and the effect's whole interval lies on that side; contradicted where it lies on the
other; else not decided by this data, with the smallest effect that a power of 80 % would show.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from gz2vit import comparisons
from gz2vit.catalog import read_properties, read_selection
from gz2vit.evaluation import LEVEL, read_predictions
from gz2vit.io import WEIGHTED, command_for, never_there
from gz2vit.paper import FIG4_COUNTS, FIG4_HISTOGRAMS, PUBLISHED_RESULTS

ALPHA, POWER = 0.05, 0.80
SUPPORTED, CONTRADICTED, NOT_DECIDED = "supported", "contradicted", "not decided"
# The families: questions as the report shows them, each with all the claims that answer it.
PAPER_FIG4 = "The paper's Fig. 4, by its own numbers"
OUR_FIG4 = "Fig. 4: is the ViT better on small and faint galaxies?"
ACCURACY = "Which network is the more accurate?"
WEIGHTS = "Do tuned class weights help the rare classes?"
CALIBRATION = "Are the networks as sure as they are right?"
PUBLISHED_NAMES = ("the paper's Linformer", "the paper's ResNet-50")
PUBLISHED_ENDS = {"petroR90_r": 6.3, "dered_r": 16.8}  # outermost whole bins, about a quarter
PAPER_CLAIM = (
    "The paper says of its Fig. 4, judged by eye, that the Vision Transformer (the Linformer) is "
    "better than the CNN (the ResNet-50) on smaller and fainter galaxies."
)
END_FRACTION = 0.25  # "the smallest galaxies": a quarter
VALID_FILE = "validation_predictions.csv"
# `claim` follows "the claim that"; `quantity` names the `effect`, printed `scale` times as large in
# `unit`; `standard_error`: the effect's where there is none; `largest`: possible effect;
# `left_out`: galaxies without a value; `reason`: why no test was made; `note`: for the reader.
CLAIM = {
    **dict.fromkeys(("family", "claim", "quantity", "test", "unit", "reason", "note"), ""),
    **dict.fromkeys(("effect", "low", "high", "p_value", "standard_error"), np.nan),
    **{"n": 0, "left_out": 0, "towards": 1, "largest": np.inf, "scale": 1.0},
}
ENDS = ("effect", "low", "high")
POINTS = {"scale": 100.0, "unit": " points", "largest": 1.0}
VERDICT_COLUMNS = ("family", "claim", "outcome", "sentence", *ENDS, "n",
                   "p_value", "p_corrected", "smallest_effect")  # fmt: skip


class Property(NamedTuple):
    """A column of galaxy_properties.csv in Fig. 4, and the end that the claim is about."""

    column: str
    name: str
    unit: str
    comparative: str
    superlative: str
    towards: int  # 1 where values grow to that end, -1 where they fall

    def scaled(self, values: pd.Series) -> pd.Series:
        """The values as regressions take them: of sizes the logarithm, NaN where there is none."""
        return np.log10(values.where(values > 0)) if self.unit == "arcsec" else values


FIG4_PROPERTIES = (
    Property("petroR90_r", "size", "arcsec", "smaller", "smallest", -1),
    Property("dered_r", "r magnitude", "mag", "fainter", "faintest", 1),
)
FIG4_COLUMNS = [what.column for what in FIG4_PROPERTIES]


def judge(claims: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The verdicts on `claims` (dicts with keys of `CLAIM`), a table with `VERDICT_COLUMNS`."""
    rows = [CLAIM | claim for claim in claims]
    for family in {row["family"] for row in rows}:
        own = [row for row in rows if row["family"] == family]
        p_corrected = comparisons.corrected([row["p_value"] for row in own])
        tested = int(np.isfinite(p_corrected).sum())
        # Normal approximation; ALPHA is divided as in the first step of Holm's correction.
        errors = norm.ppf(1 - ALPHA / max(1, tested) / 2) + norm.ppf(POWER)
        for row, p in zip(own, p_corrected, strict=True):
            unit, smallest = row["unit"], errors * row["standard_error"]
            side = np.sign(row["effect"])
            outcome, by = NOT_DECIDED, " by this data"  # as is whatever has NaN
            if p < ALPHA and side and min(side * row["low"], side * row["high"]) >= 0:
                outcome, by = SUPPORTED if side == row["towards"] else CONTRADICTED, ""
            parts = [f"The claim that {row['claim']} is {outcome}{by}"]
            if row["reason"]:
                parts.append(f"no test was made: {row['reason']}")
            else:
                ends = [row[name] * row["scale"] for name in ENDS]
                half = (ends[2] - ends[1]) / 2  # printed to two digits
                digits = max(0, 1 - int(np.floor(np.log10(half)))) if 0 < half < np.inf else 2
                value, low, high = (f"{end:+.{digits}f}" for end in ends)
                several = f", {p:.2g} corrected for {tested} claims" if tested > 1 else ""
                parts.append(
                    f"{row['quantity']} {value}{unit} ({100 * LEVEL:g} % interval {low} to {high}, "
                    f"n = {row['n']:,}), {row['test']}: p = {row['p_value']:.2g}{several}"
                )
            if by and smallest < np.inf and smallest <= row["largest"]:
                seen = f"{smallest * row['scale']:.2g}{unit} would have been seen"
                parts.append(f"an effect of {seen} four times in five, smaller ones less often")
            elif by and not np.isnan(smallest):
                parts.append("no effect, however large, would have been seen reliably")
            if row["left_out"]:
                parts.append(f"{row['left_out']} galaxies without a value were left out")
            row["sentence"] = "; ".join(filter(None, [*parts, row["note"]])) + "."
            row |= {"outcome": outcome, "p_corrected": p, "smallest_effect": smallest}
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def more_accurate(first: str, second: str, found: Mapping[str, Any], where: str = "") -> dict:
    """That the first model has more galaxies right, by McNemar's test (of `compare_counts`)."""
    counts = f"{found['only_first']} against {found['only_second']}"
    claim = f"{first} classifies more galaxies correctly than {second}{where}"
    test = f"McNemar's test ({found['method']}, {counts})"
    return POINTS | found | {"claim": claim, "quantity": "difference of accuracies", "test": test}


def claim_fig4(
    joined: pd.DataFrame, first: str, second: str,
    properties: Sequence[Property] = FIG4_PROPERTIES, ends: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The claims for each property, of a table of `join_predictions` with its properties.

    "Better on small galaxies" can mean that those which only the first has right are smaller than
    the second's own (what the figure shows; it holds as soon as the first loses less on small
    ones), that its lead grows towards small ones, also among galaxies of one class, or that it has
    more of the smallest right (beyond `ends`, by column, or the quarter), as a reader takes it.
    """
    claims = []
    for what in properties:
        values, about = joined[what.column], {"family": OUR_FIG4, "towards": what.towards}
        groups = [values[joined.region == f"only {one}"] for one in ("first", "second")]
        found = comparisons.separation(*groups)
        one, two = found["first"], found["second"]
        # Of Cliff's delta where the groups are alike (Mann & Whitney 1947).
        error = np.sqrt((one + two + 1) / (3 * one * two)) if one * two else np.inf
        claim = {
            "claim": f"the galaxies that only {first} has right are {what.comparative} than those "
            f"that only {second} has right",
            "quantity": f"Cliff's delta of the {what.name}",
            **{"effect": found["cliffs_delta"], "n": one + two, "left_out": found["left_out"]},
            **{"low": found["delta_low"], "high": found["delta_high"], "largest": 1.0},
            **{"standard_error": error, "test": "Kolmogorov-Smirnov"},
        }
        if min(one, two) < (least := comparisons.MIN_GROUP):
            few = f"the groups have {one} and {two} galaxies"
            claim["reason"] = f"{few}; {least} are needed in each"
        else:
            sign = "=" if found["ad_p"] > 0.001 else "<="
            claim["note"] = f"Anderson-Darling p {sign} {found['ad_p']:.2g}"
            claim["p_value"] = found["ks_p"]
        claims.append(about | claim)
        for classes in (None, joined.true) if "true" in joined else (None,):
            answers = joined.first_right, joined.second_right
            found = comparisons.lead_trend(*answers, what.scaled(values), classes)
            within = "" if classes is None else ", among galaxies of one class"
            counts = f"{found['only_first']} against {found['only_second']} galaxies"
            claim = f"{first} gains on {second} towards {what.comparative} galaxies{within}"
            words = {"claim": claim, "quantity": f"slope of the log odds with the {what.name}"}
            words |= {"test": f"likelihood ratio ({counts})", "unit": " per standard deviation"}
            claims.append(about | found | words)
        far = values * what.towards
        edge = np.nanquantile(far, 1 - END_FRACTION, method="higher") * what.towards
        edge = (ends or {}).get(what.column, edge)
        inside = far >= edge * what.towards
        share, side = inside.sum() / values.count(), "up to" if what.towards < 0 else "from"
        where = f" among the {what.superlative} {100 * share:.0f} % of them "
        where += f"({side} {edge:.1f} {what.unit})"
        found = comparisons.compare_right(joined.first_right[inside], joined.second_right[inside])
        claims.append({"family": OUR_FIG4, **more_accurate(first, second, found, where)})
    return claims


def claim_published_fig4() -> list[dict[str, Any]]:
    """Which network is better, and `claim_fig4` by the published counts (without true classes)."""
    claims = [more_accurate(*PUBLISHED_NAMES, comparisons.compare_counts(*FIG4_COUNTS.values()))]
    for what in FIG4_PROPERTIES:
        galaxies = published_galaxies(what.column)
        claims += claim_fig4(galaxies, *PUBLISHED_NAMES, [what], PUBLISHED_ENDS)
    return [claim | {"family": PAPER_FIG4} for claim in claims]


def published_edges(column: str) -> np.ndarray:
    """The edges of the bins of the paper's Fig. 4, float64 (bins + 1): arcsec or mag."""
    histogram = FIG4_HISTOGRAMS[column]
    return histogram["low_edge"] + histogram["width"] * np.arange(len(histogram["all"]) + 1)


def published_galaxies(column: str) -> pd.DataFrame:
    """The galaxies of the paper's Fig. 4, like a table of `join_predictions`, at bins' middles."""
    histogram, edges = FIG4_HISTOGRAMS[column], published_edges(column)
    counts = {name: np.array(histogram[name]) for name in ("only first", "only second")}
    counts["both right"] = np.array(histogram["all"]) - sum(counts.values())  # or both wrong
    values = np.concatenate([np.repeat((edges[:-1] + edges[1:]) / 2, n) for n in counts.values()])
    region = np.repeat([*counts], [n.sum() for n in counts.values()])
    right = {"first_right": region != "only second", "second_right": region != "only first"}
    return pd.DataFrame({column: values, "region": region, **right})


def claim_accuracy(predictions: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Of every pair of models, that the one with the higher published accuracy is the better."""
    ranked = sorted(predictions, key=lambda key: -PUBLISHED_RESULTS.get(key, {}).get("test_acc", 0))
    right, claims = comparisons.right_table(predictions) if ranked else None, []
    for one, two in combinations(ranked, 2):
        found = comparisons.compare_right(right[one], right[two])
        claims.append({"family": ACCURACY, **more_accurate(one, two, found)})
    return claims


def claim_class_weights(predictions: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Of each network trained with and without class weights, that they raise the macro recall."""
    words, claims = {"family": WEIGHTS, "quantity": "difference of macro-averaged recall"}, []
    for name, table in predictions.items():
        plain = name.removesuffix(WEIGHTED)
        if name != plain and plain in predictions:
            comparisons.right_table({name: table, plain: predictions[plain]})  # the same test set
            found = comparisons.macro_difference(table, predictions[plain])
            claim = f"{name} has a higher macro-averaged recall than {plain}"
            claims.append(POINTS | found | words | {"claim": claim, "test": "bootstrap"})
    return claims


def claim_calibration(calibrations: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Of each model, by its table of `calibrate`: it is overconfident, and scaling improves it."""
    about, claims = {"family": CALIBRATION, "test": "Student's test"}, []
    for name, table in calibrations.items():
        value, ece = table.value, f"ECE {table.value.ece_before:.3f}"
        perfect = f"{value.ece_if_calibrated:.3f} for a perfectly calibrated model"
        sure = {"claim": f"{name} is overconfident", "quantity": "mean confidence less accuracy"}
        sure["note"] = f"{ece}, and {perfect} (p = {table.p_value.ece_before:.2g})"
        scaling = f"temperature scaling (T = {value.temperature:.3g}) improves the probabilities of"
        gain = {"claim": f"{scaling} {name}", "quantity": "gain in log likelihood per galaxy"}
        gain["note"] = f"{ece} before and {value.ece_after:.3f} after"
        for row, words in (("overconfidence", sure), ("log_likelihood_gain", gain)):
            found = table.loc[row].rename({"value": "effect"}).to_dict() | {"n": int(table.n[row])}
            half = (found["high"] - found["low"]) / 2
            found["standard_error"] = half / t.ppf((1 + LEVEL) / 2, max(1, found["n"] - 1))
            found["reason"] = "" if half > 0 else "the galaxies do not differ"
            claims.append(about | found | words)
    return claims


def gather_predictions(
    results_dir: Path | str, model_keys: Sequence[str], file: str = "predictions.csv"
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """The predictions of trained models (first seed), and what to run for the others."""
    found, missing = {}, {}
    for key in model_keys:
        path = Path(results_dir).resolve() / "models" / key / file
        if path.exists():
            found[key] = read_predictions(path)
            continue
        missing[key] = f"{key}: {never_there(path) or f'not trained, {command_for(path, key)}'}"
    return found, missing


def add_properties(table: pd.DataFrame, results_dir: Path | str) -> tuple[pd.DataFrame, str]:
    """`table` with the data folder's sizes and magnitudes (or NaN), or why it has none."""
    path = Path(read_selection(results_dir).data["folder"]) / "galaxy_properties.csv"
    properties = read_properties(path)
    if properties is None:
        words = f"the galaxies' sizes and magnitudes are not known, because {path} does not exist; "
        words += "put a table there with the columns galaxyID, petroR90_r (arcsec), dered_r and "
        return table, f"{words}dered_g_r (mag); for Galaxy Zoo 2 `gz2vit download` makes it"
    for galaxy_id in properties.galaxyID[properties.galaxyID.duplicated()]:
        return table, f"{path} lists galaxy {galaxy_id} more than once; keep one row of it"
    known = properties.set_index("galaxyID")[FIG4_COLUMNS].reindex(table.index)
    for name in known.columns[known.isna().all()]:
        return table, f"no test galaxy has a {name} in {path}; check its galaxyIDs"
    return table.assign(**known), ""


def verdicts_markdown(table: pd.DataFrame) -> str:
    """The verdicts as Markdown: each family a heading in bold, each sentence an item."""
    items = "- *" + table.outcome + "*: " + table.sentence + "\n"
    families = items.groupby(table.family, sort=False).sum()
    return "\n".join(f"**{family}**\n\n{own}" for family, own in families.items())


def verdict_paragraph(
    verdicts: pd.DataFrame, first: str, second: str,
    joined: pd.DataFrame | None = None, bins: Mapping[str, comparisons.Bins] | None = None,
) -> str:  # fmt: skip
    """`PAPER_CLAIM`, and what the `verdicts` on it support, in plain words.

    With `joined` they are of `claim_fig4`, and the lead is counted in `bins`, by column.
    """
    counts = FIG4_COUNTS if joined is None else comparisons.region_counts(joined)
    total, both = sum(counts.values()), counts["both right"]
    one, two = (100 * (both + counts[f"only {side}"]) / total for side in ("first", "second"))
    lead = _lead_words(comparisons.compare_counts(*counts.values()))
    words = f"{PAPER_CLAIM} Of {total:,} test galaxies {first} classifies {one:.2f} % correctly "
    words += f"and {second} {two:.2f} %: {first} is {lead}."
    conclusions, only_shrinks = {}, False
    for what in FIG4_PROPERTIES:
        ends = f"{first} classifies more galaxies correctly than {second} among "
        gains = f"gains on {second} towards {what.comparative} galaxies"
        ahead = verdicts[verdicts.claim.str.startswith(f"{ends}the {what.superlative}")]
        trend = verdicts.outcome[verdicts.claim.str.startswith(f"{first} {gains}")].tolist()
        if ahead.empty:
            continue
        end = ahead.iloc[0]
        where = end.claim.removeprefix(ends).replace(" of them", "")
        words += f" Among {where} it is {_lead_words(end)}."
        if joined is not None:
            answers = joined.first_right, joined.second_right, joined[what.column]
            number = (bins or {}).get(what.column, comparisons.BINS)
            leads = comparisons.difference_in_bins(*answers, number)
            clear = leads[leads.p_holm < ALPHA].difference
            words += f" In {(clear > 0).sum()} of {len(leads)} bins of {what.name} it is ahead, in "
            words += f"{(clear < 0).sum()} behind (McNemar's test, corrected)."
        one_class = f" (among galaxies of one class: {trend[1]})" if len(trend) > 1 else ""
        words += f" That it {gains} is {trend[0]}{one_class}."
        conclusions.setdefault(end.outcome, []).append(f"the {what.superlative}")
        only_shrinks |= trend[0] == SUPPORTED and end.outcome == CONTRADICTED
    if not conclusions:
        return f"{words} Sizes and magnitudes are not known here, so that the claim is not decided."
    parts = [f"{outcome} for {' and '.join(ends)}" for outcome, ends in conclusions.items()]
    words += f" The claim that {first} is the better one is {', '.join(parts)} galaxies."
    return words + (" What Fig. 4 shows is a lag that shrinks, not a lead." if only_shrinks else "")


def _lead_words(found: Mapping[str, Any]) -> str:
    """A difference of accuracies in words: ahead, behind, or not distinguishable."""
    value, low, high = (100 * found[name] for name in ENDS)
    if low <= 0 <= high:
        interval = f"95 % interval {low:+.2f} to {high:+.2f}"
        return f"neither ahead nor behind ({value:+.2f} points, {interval})"
    near, far = sorted((abs(low), abs(high)))
    side = "ahead" if value > 0 else "behind"
    return f"{side} by {abs(value):.2f} points (95 % interval {near:.2f} to {far:.2f})"
