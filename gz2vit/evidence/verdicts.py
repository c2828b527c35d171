"""What the numbers say of a claim, by stated rules: supported, contradicted, or not decided.

A claim is about the sign of an effect. At the level alpha it is

- supported, where its p-value, corrected for all claims judged together (Holm), is below alpha,
  and the whole interval of the effect lies on the claim's side of zero;
- contradicted, where the same holds for the other side;
- not decided by this data in every other case. The verdict then adds the smallest effect that data
  of this kind would show with a power of 80 %, at alpha divided by the number of claims (the
  first step of Holm's correction): no effect seen is no proof that there is none.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from gz2vit.errors import Gz2vitError
from gz2vit.evidence.corrections import holm
from gz2vit.evidence.intervals import Interval

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
