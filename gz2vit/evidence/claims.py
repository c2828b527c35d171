"""The claims that the suite judges, each as a `Finding` for `verdicts.judge`.

The paper says of its Fig. 4 that the ViT is better than the CNN on smaller and fainter galaxies.
That can mean four things, and each is asked for either property:

1. the galaxies that only the ViT has right are smaller than those that only the CNN has right
   (what the figure shows; it holds as soon as the ViT loses less on small galaxies);
2. the ViT's lead grows, or its lag shrinks, towards small galaxies;
3. the same among galaxies of one class, so that it is not the classes' different sizes;
4. the ViT has more of the smallest galaxies right than the CNN, which is what a reader would take
   "better" to mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from gz2vit.errors import Gz2vitError
from gz2vit.evidence.comparison import Comparison
from gz2vit.evidence.distributions import MIN_GROUP, PERMUTATIONS, Separation, separation
from gz2vit.evidence.intervals import LEVEL, Interval
from gz2vit.evidence.lead import Trend, lead_trend
from gz2vit.evidence.temperature import Calibration
from gz2vit.evidence.trends import compare_at_end
from gz2vit.evidence.verdicts import Finding

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
