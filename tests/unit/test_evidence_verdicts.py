"""Verdicts: the rules one by one, the correction, the sentence, and their rate of error."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from gz2vit.comparisons import compare_counts, compare_right
from gz2vit.evaluation import Interval
from gz2vit.evidence import Finding, claim_more_accurate, decide, judge, smallest_effect
from gz2vit.io import Gz2vitError

pytestmark = pytest.mark.usefixtures("quick_collection")


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 100)


@pytest.mark.parametrize(
    ("ends", "p_value", "towards", "outcome"),
    [
        ((0.1, 0.3), 0.01, 1, "supported"),
        ((0.1, 0.3), 0.01, -1, "contradicted"),
        ((-0.3, -0.1), 0.01, 1, "contradicted"),
        ((-0.3, -0.1), 0.01, -1, "supported"),
        ((0.1, 0.3), 0.05, 1, "not decided"),  # below alpha, not at it
        ((-0.1, 0.3), 0.01, 1, "not decided"),  # test and interval disagree
        ((0.1, 0.3), np.nan, 1, "not decided"),
        ((np.nan, np.nan), 0.01, 1, "not decided"),
        ((0.0, 0.0), 0.01, 1, "not decided"),
    ],
)
def test_rules(ends: tuple[float, float], p_value: float, towards: int, outcome: str):
    assert decide(interval(*ends), p_value, towards) == outcome


def finding(p_value: float, **changes: object) -> Finding:
    told = {"claim": "A is better than B", "quantity": "lead", "effect": interval(0.1, 0.3)}
    told |= {"towards": 1, "test": "a test", "p_value": p_value, "standard_error": 0.05}
    return Finding(**(told | changes))


def test_claims_judged_together_are_corrected():
    alone = judge([finding(0.03)])[0]
    assert alone.outcome == "supported"
    two = judge([finding(0.03), finding(0.9), finding(np.nan, reason="no galaxies")])
    assert [one.p_corrected for one in two[:2]] == pytest.approx([0.06, 0.9])
    assert [one.outcome for one in two] == ["not decided"] * 3
    assert two[0].smallest_effect == pytest.approx((norm.ppf(1 - 0.05 / 4) + 0.8416) * 0.05, 1e-4)


def test_the_sentence_has_the_numbers():
    sentence = judge([finding(0.03, scale=100, unit=" points", note="and more")])[0].sentence
    assert sentence == (
        "The claim that A is better than B is supported; lead +20 points (95 % interval +10 to "
        "+30, n = 100), a test: p = 0.03; and more."
    )
    two = [finding(0.03, effect=Interval(0.2, 0.1, 0.31, 12345)), finding(0.04)]
    sentence = judge(two)[0].sentence
    assert "lead +0.20 (95 % interval +0.10 to +0.31, n = 12,345)" in sentence
    assert "p = 0.03, 0.06 corrected for 2 claims" in sentence
    assert "is not decided by this data" in sentence
    assert "an effect of 0.15 would have been seen four times in five" in sentence


def test_what_could_not_be_seen():
    blind = judge([finding(np.nan, reason="there are 2 galaxies", standard_error=np.inf)])[0]
    assert "no test was made: there are 2 galaxies; no effect, however large" in blind.sentence
    bounded = judge([finding(0.5, standard_error=0.5, largest=1.0)])[0]
    assert "no effect, however large" in bounded.sentence


def test_alpha_must_be_a_level():
    with pytest.raises(Gz2vitError, match="alpha 5 "):
        judge([finding(0.1)], alpha=5)


def answers(n: int, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random(n) < 0.6 + gain, rng.random(n) < 0.6


def test_the_smallest_effect_is_seen_four_times_in_five():
    error = compare_right(*answers(300, 0.0, seed=0)).standard_error
    gain = smallest_effect(error)
    outcomes = []
    for seed in range(400):
        found = claim_more_accurate("A", "B", compare_right(*answers(300, gain, seed)))
        outcomes.append(judge([found])[0].outcome)
    # The exact test is somewhat cautious: 80 % is what the normal approximation promises.
    assert 0.68 < outcomes.count("supported") / 400 < 0.88
    assert outcomes.count("contradicted") == 0


def test_false_alarms_at_the_stated_rate():
    decided = 0
    for seed in range(200):
        pairs = [answers(250, 0.0, seed=1000 + 3 * seed + model) for model in range(3)]
        claims = [claim_more_accurate("A", "B", compare_right(*pair)) for pair in pairs]
        decided += any(one.outcome != "not decided" for one in judge(claims))
    assert 1 <= decided <= binom.ppf(0.999, 200, 0.05)


def test_the_papers_own_counts():
    found = claim_more_accurate("the ViT", "the CNN", compare_counts(24009, 1116, 2683, 3383))
    verdict = judge([found])[0]
    assert verdict.outcome == "contradicted"
    assert "difference of accuracies -5.02 points" in verdict.sentence
    assert "1116 against 2683" in verdict.sentence
