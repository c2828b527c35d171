"""What the numbers say of a claim, by stated rules: supported, contradicted, or not decided.

A claim is about the sign of an effect. At the level alpha it is

- supported, where its p-value, corrected for all claims judged together (Holm), is below alpha,
  and the whole interval of the effect lies on the claim's side of zero;
- contradicted, where the same holds for the other side;
- not decided by this data in every other case. The verdict then adds the smallest effect that data
  of this kind would show with a power of 80 %, at alpha divided by the number of claims (the
  first step of Holm's correction): no effect seen is no proof that there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from gz2vit.calibration import Calibration
from gz2vit.catalog import read_properties, read_selection
from gz2vit.comparisons import (
    MIN_GROUP,
    PERMUTATIONS,
    Comparison,
    Separation,
    Trend,
    compare_at_end,
    compare_counts,
    compare_groups,
    compare_right,
    holm,
    join_predictions,
    lead_trend,
    metric_differences,
    right_table,
    separation,
    with_properties,
)
from gz2vit.evaluation import LEVEL, Interval, metric_intervals, read_predictions
from gz2vit.io import WEIGHTED, Gz2vitError, atomic_path, command_for
from gz2vit.paper import FIG4_COUNTS, FIG4_HISTOGRAMS, PUBLISHED_RESULTS

ALPHA = 0.05
POWER = 0.80
SUPPORTED, CONTRADICTED, NOT_DECIDED = "supported", "contradicted", "not decided"


@dataclass(frozen=True)
class Finding:
    """A claim and what was measured of it, before any judgement.

    `claim`: a clause that follows "the claim that"; `quantity`: what `effect` is; `towards`: 1
    where the claim says that the effect is above zero, -1 below; `test`: the test's name;
    `standard_error`: of the effect if there were none, inf where nothing could be seen; `largest`:
    the largest effect that there can be; `scale` and `unit`: how to print the effect; `reason`:
    why there is no test, if there is none; `note`: what a reader must also know.
    """

    claim: str
    quantity: str
    effect: Interval
    towards: int
    test: str
    p_value: float
    standard_error: float
    largest: float = float("inf")
    scale: float = 1.0
    unit: str = ""
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """A judged claim: its `outcome`, and a `sentence` with all the numbers that it rests on."""

    claim: str
    outcome: str
    sentence: str
    effect: Interval
    p_value: float
    p_corrected: float
    smallest_effect: float


def judge(findings: Sequence[Finding], alpha: float = ALPHA) -> list[Verdict]:
    """The verdicts on `findings`, in their order, corrected for their number (Holm).

    All claims that a reader will see side by side belong into one call. Raises `Gz2vitError` for a
    level outside 0 to 1.
    """
    if not 0 < alpha < 1:
        raise Gz2vitError(f"alpha {alpha} is no level; give a number between 0 and 1")
    corrected = holm([finding.p_value for finding in findings])
    tested = sum(not np.isnan(finding.p_value) for finding in findings)
    return [
        _verdict(finding, float(p), tested, alpha)
        for finding, p in zip(findings, corrected, strict=True)
    ]


def decide(effect: Interval, p_corrected: float, towards: int, alpha: float = ALPHA) -> str:
    """The outcome by the rules of this module; NaN decides nothing."""
    if not p_corrected < alpha:
        return NOT_DECIDED
    ends = sorted((effect.low * towards, effect.high * towards))
    if effect.value * towards > 0 and ends[0] >= 0:
        return SUPPORTED
    if effect.value * towards < 0 and ends[1] <= 0:
        return CONTRADICTED
    return NOT_DECIDED


def smallest_effect(standard_error: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """The effect that a two-sided test at `alpha` finds with probability `power`.

    The usual normal approximation: (z of 1 - alpha/2, plus z of the power) standard errors.
    """
    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * standard_error)


def _verdict(finding: Finding, p_corrected: float, tested: int, alpha: float) -> Verdict:
    """One finding, judged."""
    outcome = decide(finding.effect, p_corrected, finding.towards, alpha)
    smallest = smallest_effect(finding.standard_error, alpha / max(1, tested))
    told = f"{outcome} by this data" if outcome == NOT_DECIDED else outcome
    parts = [f"The claim that {finding.claim} is {told}", _numbers(finding, p_corrected, tested)]
    if outcome == NOT_DECIDED:
        parts.append(_blindness(finding, smallest))
    if finding.note:
        parts.append(finding.note)
    sentence = "; ".join(parts) + "."
    p_value, effect = float(finding.p_value), finding.effect
    return Verdict(finding.claim, outcome, sentence, effect, p_value, p_corrected, smallest)


def _numbers(finding: Finding, p_corrected: float, tested: int) -> str:
    """The effect, its interval and the test, in words."""
    if finding.reason:
        return f"no test was made: {finding.reason}"
    effect, digits = finding.effect, _digits(finding)
    ends = (effect.value, effect.low, effect.high)
    value, low, high = (f"{end * finding.scale:+.{digits}f}" for end in ends)
    p_values = f"p = {finding.p_value:.2g}"
    if tested > 1:
        p_values += f", {p_corrected:.2g} corrected for {tested} claims"
    return (
        f"{finding.quantity} {value}{finding.unit} ({100 * effect.level:g} % interval {low} to "
        f"{high}, n = {effect.galaxies:,}), {finding.test}: {p_values}"
    )


def _digits(finding: Finding) -> int:
    """Decimals to print: two digits of the interval's half-width."""
    half = (finding.effect.high - finding.effect.low) / 2 * finding.scale
    return max(0, 1 - int(np.floor(np.log10(half)))) if 0 < half < np.inf else 2


def _blindness(finding: Finding, smallest: float) -> str:
    """What effect could have been seen, in words."""
    if not smallest <= finding.largest or np.isinf(smallest):
        return "no effect, however large, would have been seen reliably"
    size = f"{smallest * finding.scale:.2g}{finding.unit}"
    return f"an effect of {size} would have been seen four times in five, smaller ones less often"


# ------------------------------------------------------------------------------------------
# The claims that the suite judges, each as a `Finding` for `verdicts.judge`.
#
# The paper says of its Fig. 4 that the ViT is better than the CNN on smaller and fainter galaxies.
# That can mean four things, and each is asked for either property:
#
# 1. the galaxies that only the ViT has right are smaller than those that only the CNN has right
#    (what the figure shows; it holds as soon as the ViT loses less on small galaxies);
# 2. the ViT's lead grows, or its lag shrinks, towards small galaxies;
# 3. the same among galaxies of one class, so that it is not the classes' different sizes;
# 4. the ViT has more of the smallest galaxies right than the CNN, which is what a reader would take
#    "better" to mean.

POINTS = " points"  # hundredths of a share
END_SHARE = 0.25  # "the smallest galaxies": a quarter
METRIC_NAMES = {
    "accuracy": "accuracy",
    "recall_macro": "macro-averaged recall",
    "f1_macro": "macro-averaged F1",
    "class_acc": "accuracy",
}


@dataclass(frozen=True)
class Property:
    """A column of galaxy_properties.csv as Fig. 4 has it: what the claim says is at which end.

    `comparative`, `superlative`: of the end that the claim is about; `towards`: 1 where values
    grow to that end, -1 where they fall; `logarithm`: whether regressions take its logarithm
    (magnitudes are logarithms already).
    """

    column: str
    name: str
    unit: str
    comparative: str
    superlative: str
    towards: int
    logarithm: bool

    def scaled(self, values: pd.Series) -> pd.Series:
        """The values as regressions take them; NaN where there is no logarithm."""
        return np.log10(values.where(values > 0)) if self.logarithm else values


SIZE = Property("petroR90_r", "size", "arcsec", "smaller", "smallest", -1, True)
MAGNITUDE = Property("dered_r", "r magnitude", "mag", "fainter", "faintest", 1, False)
FIG4_PROPERTIES = (SIZE, MAGNITUDE)


def claim_more_accurate(first: str, second: str, found: Comparison, where: str = "") -> Finding:
    """That the first model has more galaxies right than the second, by McNemar's test.

    `where` limits the claim, as in ` among the smallest quarter`.
    """
    return Finding(
        claim=f"{first} classifies more galaxies rightly than {second}{where}",
        quantity="difference of accuracies",
        effect=found.difference,
        towards=1,
        test=f"McNemar's test ({found.method}, {found.only_first} against {found.only_second})",
        p_value=found.p_value,
        standard_error=found.standard_error,
        largest=1.0,
        scale=100.0,
        unit=POINTS,
    )


def anderson_darling_words(found: Separation) -> str:
    """The p-value of Anderson and Darling's test, as exact as its permutations can tell."""
    smallest = 1 / (PERMUTATIONS + 1)
    return f"Anderson-Darling p {'=' if found.ad_p > smallest else '<='} {found.ad_p:.2g}"


def claim_apart(first: str, second: str, what: Property, found: Separation) -> Finding:
    """That the galaxies only the first has right are smaller (fainter) than the second's own.

    Kolmogorov and Smirnov's test decides whether the groups differ, the interval of Cliff's delta
    in which way; that both must agree makes the claim's error rate no larger than the test's.
    """
    small = min(found.galaxies) < MIN_GROUP
    reason = f"the groups have {found.galaxies[0]} and {found.galaxies[1]} galaxies; {MIN_GROUP} "
    shift = found.median_shift
    note = (
        f"{anderson_darling_words(found)}, medians {shift.value:+.3g} {what.unit} apart "
        f"({shift.low:+.3g} to {shift.high:+.3g})"
    )
    return Finding(
        claim=f"the galaxies that only {first} has right are {what.comparative} than those that "
        f"only {second} has right",
        quantity=f"Cliff's delta of the {what.name}",
        effect=found.cliffs_delta,
        towards=what.towards,
        test="Kolmogorov-Smirnov",
        p_value=np.nan if small else found.ks_p,
        standard_error=found.standard_error,
        largest=1.0,
        reason=f"{reason}are needed in each" if small else "",
        note=_with_left_out("" if small else note, sum(found.left_out)),
    )


def claim_growing_lead(
    first: str, second: str, what: Property, found: Trend, within_classes: bool = False
) -> Finding:
    """That the first model's lead over the second grows towards smaller (fainter) galaxies."""
    where = ", among galaxies of one class" if within_classes else ""
    return Finding(
        claim=f"{first} gains on {second} towards {what.comparative} galaxies{where}",
        quantity=f"slope of the log odds with the {what.name}",
        effect=found.slope,
        towards=what.towards,
        test=f"likelihood ratio ({found.only_first} against {found.only_second} galaxies)",
        p_value=found.p_value,
        standard_error=found.standard_error,
        unit=" per standard deviation",
        reason=found.reason,
        note=_with_left_out("", found.left_out),
    )


def _with_left_out(note: str, left_out: int) -> str:
    """A note with the number of galaxies without the property."""
    told = f"{left_out} galaxies without a value were left out" if left_out else ""
    return "; ".join(filter(None, (note, told)))


def claim_overconfident(name: str, found: Calibration) -> Finding:
    """That a model is right less often than it says, on average."""
    return _claim_mean(
        f"{name} is surer of its classes than it should be",
        "mean confidence less accuracy",
        found.overconfidence,
        f"ECE {found.ece_before.value:.3f}, and {found.ece_if_calibrated:.3f} for a perfectly "
        f"calibrated model (p = {found.calibrated_p:.2g})",
    )


def claim_scaling_helps(name: str, found: Calibration) -> Finding:
    """That temperature scaling makes a model's probabilities better, by their log likelihood."""
    return _claim_mean(
        f"temperature scaling (T = {found.temperature:.3g}) improves the probabilities of {name}",
        "gain in log likelihood per galaxy",
        found.log_likelihood_gain,
        f"ECE {found.ece_before.value:.3f} before and {found.ece_after.value:.3f} after",
    )


def _claim_mean(claim: str, quantity: str, effect: Interval, note: str) -> Finding:
    """That a mean over galaxies is above zero: Student's test, from Student's interval."""
    degrees = max(1, effect.galaxies - 1)
    half = (effect.high - effect.low) / 2
    error = float(half / t.ppf((1 + effect.level) / 2, degrees))
    reason = "" if error > 0 else "the galaxies do not differ"
    p_value = float("nan") if reason else float(2 * t.sf(abs(effect.value) / error, degrees))
    return Finding(
        claim=claim,
        quantity=quantity,
        effect=effect,
        towards=1,
        test="Student's test",
        p_value=p_value,
        standard_error=float("inf") if reason else error,
        reason=reason,
        note=note,
    )


def claim_better_metric(first: str, second: str, row: pd.Series, level: float = LEVEL) -> Finding:
    """That the first model has the higher metric: a row of `comparison.metric_differences`."""
    effect = Interval(row.difference, row.low, row.high, int(row.galaxies), level)
    name = METRIC_NAMES[row.quantity] + (f" in class {row.class_name}" if row.class_name else "")
    error = (effect.high - effect.low) / (2 * norm.ppf((1 + level) / 2))
    return Finding(
        claim=f"{first} has a higher {name} than {second}",
        quantity=f"difference of {METRIC_NAMES[row.quantity]}",
        effect=effect,
        towards=1,
        test=row.test,
        p_value=row.p_value,
        standard_error=float(error) if error > 0 else float("inf"),
        largest=1.0,
        scale=100.0,
        unit=POINTS,
        reason="" if row.galaxies else "the test set has no such galaxies",
    )


def claim_fig4(
    joined: pd.DataFrame,
    first: str,
    second: str,
    properties: Sequence[Property] = FIG4_PROPERTIES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Finding]:
    """The four claims of this module for each property, to be judged together.

    `joined`: a table of `regions.join_predictions` with its properties. Galaxies without a value
    are left out and counted. Raises `Gz2vitError` where a property's column is missing.
    """
    findings = []
    for what in properties:
        if what.column not in joined:
            raise Gz2vitError(f"the galaxies have no {what.column}; join their properties first")
        values, answers = joined[what.column], (joined.first_right, joined.second_right)
        groups = (values[joined.region == f"only {one}"] for one in ("first", "second"))
        found = separation(*groups, permutations=permutations, seed=seed)
        findings.append(claim_apart(first, second, what, found))
        scaled = what.scaled(values)
        findings.append(claim_growing_lead(first, second, what, lead_trend(*answers, scaled)))
        trend = lead_trend(*answers, scaled, classes=joined.true)
        findings.append(claim_growing_lead(first, second, what, trend, within_classes=True))
        end = compare_at_end(*answers, values, what.towards, END_SHARE)
        where = f" among the {what.superlative} {100 * END_SHARE:g} % of them"
        findings.append(claim_more_accurate(first, second, end, where))
    return findings


# ------------------------------------------------------------------------------------------
# The paper's own Fig. 4: its counts of galaxies, as data that can be drawn and judged.
#
# Source: `paper.FIG4_COUNTS` and `paper.FIG4_HISTOGRAMS`. A galaxy's size or magnitude is known to
# the width of a bin only, and no galaxy's size together with its magnitude.

PUBLISHED_NAMES = ("the paper's Linformer", "the paper's ResNet-50")


def published_edges(column: str) -> np.ndarray:
    """The edges of the published histogram's bins, float64 (bins + 1): arcsec or mag."""
    histogram = FIG4_HISTOGRAMS[column]
    return histogram["low_edge"] + histogram["width"] * np.arange(len(histogram["all"]) + 1)


def published_galaxies(column: str) -> pd.DataFrame:
    """The paper's test galaxies, a row each, with the property `column`, the middle of its bin.

    Columns as of `regions.join_predictions`: `first_right`, `second_right`, `region`. Of the
    galaxies that both models have right or both wrong the figure does not say which they are:
    they stand as `both right`; no comparison of two models depends on it.
    """
    histogram, edges = FIG4_HISTOGRAMS[column], published_edges(column)
    middles = (edges[:-1] + edges[1:]) / 2
    first, second = (np.array(histogram[one]) for one in ("only first", "only second"))
    rest = np.array(histogram["all"]) - first - second
    parts = []
    for region, counts in (("only first", first), ("only second", second), ("both right", rest)):
        parts.append(pd.DataFrame({column: np.repeat(middles, counts), "region": region}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(
        first_right=table.region != "only second", second_right=table.region != "only first"
    )


def claim_published_fig4(permutations: int = PERMUTATIONS, seed: int = 0) -> list[Finding]:
    """The claims of `claims.claim_fig4` as the published numbers bear them, to be judged together.

    First, which network is the better one at all; then for size and for magnitude whether the
    groups are apart, the lead grows, and the Linformer is ahead at the end that the paper speaks
    of. The claim within one class needs the galaxies' classes, which were not published.
    """
    findings = [claim_more_accurate(*PUBLISHED_NAMES, compare_counts(*FIG4_COUNTS.values()))]
    for what in FIG4_PROPERTIES:
        table = published_galaxies(what.column)
        values = table[what.column]
        groups = (values[table.region == one] for one in ("only first", "only second"))
        found = separation(*groups, permutations=permutations, seed=seed)
        apart = claim_apart(*PUBLISHED_NAMES, what, found)
        # The medians say nothing: they can only be whole bins apart.
        note = f"{anderson_darling_words(found)}, in bins of {_width(what)}"
        findings.append(replace(apart, note=note))
        answers = (table.first_right, table.second_right)
        trend = lead_trend(*answers, what.scaled(values))
        findings.append(claim_growing_lead(*PUBLISHED_NAMES, what, trend))
        found_there, where = _compare_at_end(what)
        findings.append(claim_more_accurate(*PUBLISHED_NAMES, found_there, where))
    return findings


def _width(what: Property) -> str:
    """How exactly a property is known."""
    return f"{FIG4_HISTOGRAMS[what.column]['width']:.2g} {what.unit}"


def _compare_at_end(what: Property) -> tuple[Comparison, str]:
    """McNemar's test in the outermost whole bins, about `END_SHARE` of all galaxies; and which."""
    histogram, edges = FIG4_HISTOGRAMS[what.column], published_edges(what.column)
    order = slice(None, None, -what.towards)  # from the end that the claim is about
    shares = np.cumsum(histogram["all"][order]) / sum(histogram["all"])
    bins = int(np.abs(shares - END_SHARE).argmin()) + 1
    total, first, second = (
        sum(histogram[name][order][:bins]) for name in ("all", "only first", "only second")
    )
    edge = edges[order][bins]
    where = (
        f" among the {what.superlative} {100 * shares[bins - 1]:.0f} % of them "
        f"({'below' if what.towards < 0 else 'above'} {edge:.1f} {what.unit})"
    )
    return compare_counts(total - first - second, first, second, 0), where


# ------------------------------------------------------------------------------------------
# What there is to weigh in a results folder: predictions of its models, sizes and magnitudes.
#
# A model that was not trained, or a data folder without sizes and magnitudes, is no error here: what
# is missing is told in a sentence that says how to make it, and the rest is weighed.

TEST_FILE, VALID_FILE = "predictions.csv", "validation_predictions.csv"
PROPERTIES_FILE = "galaxy_properties.csv"
FIG4_COLUMNS = tuple(what.column for what in FIG4_PROPERTIES)


@dataclass(frozen=True)
class Gathered:
    """Predictions by model: `test` of all that are trained, `valid` of those that have them;
    `missing`: for the others, by model, a sentence that says how to train it."""

    test: Mapping[str, pd.DataFrame]
    valid: Mapping[str, pd.DataFrame]
    missing: Mapping[str, str]


@dataclass(frozen=True)
class GalaxyTable:
    """`table`: test galaxies and who is right, with sizes and magnitudes unless `missing` says in
    a sentence why not, and what to do; None where a model is not trained."""

    table: pd.DataFrame | None
    missing: str = ""


def gather_predictions(results_dir: Path | str, model_keys: Sequence[str]) -> Gathered:
    """The predictions of `model_keys` (of a model with several seeds its first seed's).

    Raises `Gz2vitError` for a damaged file.
    """
    test, valid, missing = {}, {}, {}
    for key in model_keys:
        path = Path(results_dir).resolve() / "models" / key / TEST_FILE
        if not path.exists():
            missing[key] = f"{key} is not trained: {command_for(path, key)}"
            continue
        test[key] = read_predictions(path)
        if (other := path.with_name(VALID_FILE)).exists():
            valid[key] = read_predictions(other)
    return Gathered(test, valid, missing)


def gather_pair(results_dir: Path | str, first: str, second: str) -> GalaxyTable:
    """Two models' predictions joined, with sizes and magnitudes: what Fig. 4 is drawn from.

    The table is that of `regions.join_predictions` with the columns of `FIG4_PROPERTIES`. Raises
    `Gz2vitError` for damaged files and different test sets.
    """
    found = gather_predictions(results_dir, (first, second))
    if found.missing:
        return GalaxyTable(None, "; ".join(found.missing.values()))
    joined = join_predictions(found.test[first], found.test[second], (first, second))
    return _with_properties(joined, results_dir)


def gather_answers(results_dir: Path | str, found: Gathered) -> GalaxyTable:
    """Which of the models has which galaxy right, with sizes and magnitudes.

    The table is that of `regions.right_table` with the columns of `FIG4_PROPERTIES`. Raises as
    `gather_pair`.
    """
    if not found.test:
        return GalaxyTable(None, "; ".join(found.missing.values()) or "there are no models")
    return _with_properties(right_table(found.test), results_dir)


def _with_properties(table: pd.DataFrame, results_dir: Path | str) -> GalaxyTable:
    """`table` with sizes and magnitudes of the run's data folder, or why it has none."""
    path = Path(read_selection(results_dir).data["folder"]) / PROPERTIES_FILE
    properties = read_properties(path)
    if properties is not None:
        try:
            return GalaxyTable(with_properties(table, properties, FIG4_COLUMNS).table)
        except Gz2vitError as error:
            return GalaxyTable(table, str(error))
    why = (
        f"the galaxies' sizes and magnitudes are not known, because {path} does not exist; put a "
        "table there with the columns galaxyID, petroR90_r (arcsec), dered_r and dered_g_r (mag); "
        "for Galaxy Zoo 2 `python -m gz2vit download` makes it"
    )
    return GalaxyTable(table, why)


# ------------------------------------------------------------------------------------------
# The evidence as tables: one of all numbers, one of all verdicts, written as CSV.
#
# `tables/evidence.csv` has a row for each model and quantity, `tables/verdicts.csv` one for each
# claim; both hold all digits.

EVIDENCE_COLUMNS = (
    *("model", "against", "quantity", "class_name", "value", "low", "high"),
    *("p_value", "p_corrected", "n"),
)
VERDICT_COLUMNS = (
    *("family", "claim", "outcome", "sentence", "effect", "low", "high", "n"),
    *("p_value", "p_corrected", "smallest_effect"),
)


def judge_families(
    families: Mapping[str, Sequence[Finding]], alpha: float = ALPHA
) -> dict[str, list[Verdict]]:
    """The verdicts by family: a question and all the claims that answer it, corrected together."""
    return {name: judge(findings, alpha) for name, findings in families.items()}


def verdicts_table(families: Mapping[str, Sequence[Verdict]]) -> pd.DataFrame:
    """The verdicts as a table with VERDICT_COLUMNS, a row each, in order."""
    rows = []
    for family, verdicts in families.items():
        for one in verdicts:
            effect = (one.effect.value, one.effect.low, one.effect.high, one.effect.galaxies)
            numbers = (*effect, one.p_value, one.p_corrected, one.smallest_effect)
            rows.append((family, one.claim, one.outcome, one.sentence, *numbers))
    return pd.DataFrame(rows, columns=list(VERDICT_COLUMNS))


def undecided(family: str, claim: str, why: str) -> pd.DataFrame:
    """The table of one claim of which nothing can be said, because of `why`."""
    sentence = f"The claim that {claim} is {NOT_DECIDED} by this data: {why}."
    row = {"family": family, "claim": claim, "outcome": NOT_DECIDED, "sentence": sentence, "n": 0}
    return pd.DataFrame([row], columns=list(VERDICT_COLUMNS))


def evidence_table(
    found: Gathered,
    comparisons: pd.DataFrame,
    calibrations: Mapping[str, Calibration],
    precisions: Mapping[str, pd.DataFrame],
) -> pd.DataFrame:
    """All numbers in one table with EVIDENCE_COLUMNS, a row each.

    Of each model the metrics with bootstrap intervals, the calibration, and average precisions (as
    `precision_recall.average_precisions` gives them); of each pair the difference of accuracies
    (`comparisons`, as `comparison.compare_models` gives them; `p_corrected` is Holm's).
    """
    parts = []
    for model, table in found.test.items():
        metrics = metric_intervals(table["class"], table["pred"])
        parts.append(metrics.assign(model=model).rename(columns={"galaxies": "n"}))
        if model in calibrations:
            parts.append(_calibration_rows(model, calibrations[model]))
        if model in precisions:
            names = {"average_precision": "value", "galaxies": "n"}
            own = precisions[model].rename(columns=names)
            parts.append(own.assign(model=model, quantity="average_precision"))
    names = {"first": "model", "second": "against", "difference": "value", "p_holm": "p_corrected"}
    pairs = comparisons.rename(columns=names | {"galaxies": "n"})
    parts.append(pairs.assign(quantity="accuracy_difference"))
    filled = [part.reindex(columns=list(EVIDENCE_COLUMNS)) for part in parts if len(part)]
    if not filled:
        return pd.DataFrame(columns=list(EVIDENCE_COLUMNS))
    # Columns that a part has not are left out before, as pandas asks for.
    table = pd.concat([part.dropna(axis=1, how="all") for part in filled], ignore_index=True)
    table = table.reindex(columns=list(EVIDENCE_COLUMNS))
    words = table[["against", "class_name"]].astype(object)
    return table.assign(**words.where(words.notna(), ""))


def _calibration_rows(model: str, found: Calibration) -> pd.DataFrame:
    """One model's calibration as rows."""
    exact = {"temperature": found.temperature, "ece_if_calibrated": found.ece_if_calibrated}
    intervals = {name: getattr(found, name) for name in ("ece_before", "ece_after")}
    intervals |= {"overconfidence": found.overconfidence}
    intervals |= {"log_likelihood_gain": found.log_likelihood_gain}
    nothing, n = float("nan"), found.ece_before.galaxies
    intervals |= {name: Interval(value, nothing, nothing, n) for name, value in exact.items()}
    rows = [(model, name, one.value, one.low, one.high, n) for name, one in intervals.items()]
    table = pd.DataFrame(rows, columns=["model", "quantity", "value", "low", "high", "n"])
    # The test of the calibration before scaling.
    table.loc[table.quantity == "ece_before", "p_value"] = found.calibrated_p
    return table


def verdicts_markdown(table: pd.DataFrame) -> str:
    """The verdicts as Markdown: each family a heading in bold, each sentence an item."""
    lines = []
    for family, rows in table.groupby("family", sort=False):
        lines += [f"**{family}**", ""]
        lines += [f"- *{row.outcome}*: {row.sentence}" for row in rows.itertuples()] + [""]
    return "\n".join(lines)


def write_table(path: Path | str, table: pd.DataFrame) -> Path:
    """Write a table as CSV, atomically; its path. Raises `Gz2vitError` where it cannot."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    return Path(path)


def read_verdict_table(path: Path | str) -> pd.DataFrame:
    """A table of `verdicts_table` from its file, empty where there is none.

    Raises `Gz2vitError` for a file that is not one.
    """
    if not Path(path).exists():
        return pd.DataFrame(columns=list(VERDICT_COLUMNS))
    table = pd.read_csv(path)
    if list(table.columns) != list(VERDICT_COLUMNS):
        raise Gz2vitError(f"{path} is no table of verdicts; delete it and run again")
    return table


# ------------------------------------------------------------------------------------------
# The questions that a run's models are asked, and the claims that answer each.
#
# What is claimed stands before any number is seen, and is the paper's: of two networks the one with
# the higher published accuracy is the more accurate; tuned class weights raise the macro-averaged
# recall. A network that the paper does not have comes after those that it has. (The tests are
# two-sided: the claim that turns out contradicted is as well tested as one that is supported.)

# The names of the questions, as the report shows them.
PAPER_FIG4 = "The paper's Fig. 4, by its own numbers"
OUR_FIG4 = "Fig. 4: is the ViT better on small and faint galaxies?"
ACCURACY = "Which network is the more accurate?"
WEIGHTS = "Do tuned class weights help the rare classes?"
CALIBRATION = "Are the networks as sure as they are right?"


def ranked(models: Sequence[str]) -> list[str]:
    """Models by published test accuracy, the highest first; then those without one, in order."""
    published = {name: found["test_acc"] for name, found in PUBLISHED_RESULTS.items()}
    return sorted(models, key=lambda name: -published.get(name, 0.0))


def judge_fig4(found: GalaxyTable, first: str, second: str) -> pd.DataFrame:
    """The verdicts on Fig. 4, a table as `tables.verdicts_table`: the paper's, then this run's.

    `found`: of `gather_pair`; where something is missing, nothing can be decided.
    """
    published = verdicts_table(judge_families({PAPER_FIG4: claim_published_fig4()}))
    if found.missing:
        claim = f"{first} is better than {second} on smaller and fainter galaxies"
        return pd.concat([published, undecided(OUR_FIG4, claim, found.missing)])
    ours = judge_families({OUR_FIG4: claim_fig4(found.table, first, second)})
    return pd.concat([published, verdicts_table(ours)], ignore_index=True)


def separate_fig4(found: GalaxyTable) -> pd.DataFrame:
    """The tests and effect sizes of `distributions.compare_groups`, or an empty table."""
    if found.missing:
        return pd.DataFrame(columns=["property", "comparison"])
    return compare_groups(found.table, FIG4_COLUMNS)


def ask_accuracy(predictions: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Of every pair of models, that the one with the higher published accuracy is the better.

    Raises `Gz2vitError` where the test sets differ.
    """
    if len(predictions) < 2:
        return []
    right = right_table(predictions)
    return [
        claim_more_accurate(first, second, compare_right(right[first], right[second]))
        for first, second in combinations(ranked(list(predictions)), 2)
    ]


def ask_class_weights(predictions: Mapping[str, pd.DataFrame]) -> list[Finding]:
    """Of each network that was trained with and without, that class weights raise the recall."""
    findings = []
    for name in predictions:
        plain = name.removesuffix(WEIGHTED)
        if name == plain or plain not in predictions:
            continue
        joined = join_predictions(predictions[name], predictions[plain], (name, plain))
        table = metric_differences(joined.true, joined.first_pred, joined.second_pred)
        row = table[table.quantity == "recall_macro"].iloc[0]
        findings.append(claim_better_metric(name, plain, row))
    return findings


def ask_calibration(calibrations: Mapping[str, Calibration]) -> list[Finding]:
    """Of each model, that it is too sure of its classes, and that scaling mends it."""
    claims = (claim_overconfident, claim_scaling_helps)
    return [claim(name, found) for name, found in calibrations.items() for claim in claims]
