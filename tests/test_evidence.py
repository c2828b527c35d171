"""Claims and verdicts: the rules, effects built in or absent, the paper's numbers, run folders."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from gz2vit import comparisons, evidence
from gz2vit.calibration import calibrate
from gz2vit.comparisons import join_predictions
from gz2vit.evaluation import classification_metrics
from gz2vit.evidence import add_properties, claim_fig4, judge, verdict_paragraph
from gz2vit.io import write_json, write_text
from gz2vit.paper import FIG4_COUNTS

SIZE = evidence.FIG4_PROPERTIES[:1]
CLAIM = {
    **{"family": "sizes", "claim": "A is larger", "quantity": "difference", "test": "some test"},
    **{"effect": 0.02, "low": 0.01, "high": 0.03, "n": 1234},
    **{"p_value": 0.01, "standard_error": 0.005},
}
SMALLER = {"effect": -0.02, "low": -0.03, "high": -0.01}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few permutations; statsmodels collects garbage at each correction, 0.1 s with PyTorch."""
    monkeypatch.setattr(comparisons, "PERMUTATIONS", 19)
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        *(({}, "supported"), ({"towards": -1}, "contradicted"), (SMALLER, "contradicted")),
        *((SMALLER | {"towards": -1}, "supported"), (SMALLER | {"high": 0.001}, "not decided")),
        *(({"p_value": 0.05}, "not decided"), ({"p_value": np.nan}, "not decided")),
        *(({"low": -0.001}, "not decided"), ({"low": np.nan, "high": np.nan}, "not decided")),
        ({"effect": 0.0, "low": 0.0, "high": 0.0}, "not decided"),
    ],
)
def test_the_rules(change: dict, outcome: str):
    assert judge([CLAIM | change]).outcome.tolist() == [outcome]


def test_claims_are_corrected_within_their_family_and_sentences_have_the_numbers():
    claims = [CLAIM, CLAIM | {"p_value": 0.03}, CLAIM | {"p_value": np.nan}]
    found = judge([*claims, CLAIM | {"family": "colours", "p_value": 0.03}])
    np.testing.assert_allclose(found.p_corrected, [0.02, 0.03, np.nan, 0.03])
    assert list(found.columns) == list(judge([]).columns) == list(evidence.VERDICT_COLUMNS)
    text = evidence.verdicts_markdown(found)
    assert text.startswith("**sizes**\n\n- *supported*: The claim") and "\n\n**colours**\n" in text
    found = judge([CLAIM | {"scale": 100.0, "unit": " points", "note": "mind this"}])
    for words in ("is larger is supported", "+2.0 points", "+1.0 to +3.0", "n = 1,234", "p = 0.01"):
        assert words in found.sentence[0]
    assert found.sentence[0].endswith("mind this.")
    undecided = judge([CLAIM | {"p_value": 0.6}])
    assert undecided.smallest_effect[0] == pytest.approx(0.014, abs=1e-4)  # (1.96 + 0.84) x 0.005
    assert "an effect of 0.014 would have been seen" in undecided.sentence[0]
    blind = judge([CLAIM | {"p_value": np.nan, "reason": "too few", "largest": 0.001}])
    assert "too few" in blind.sentence[0] and "no effect, however large" in blind.sentence[0]


def fig4_table(n: int, slope: float, lead: float, seed: int) -> pd.DataFrame:
    """Two models on galaxies of known size and magnitude; faint galaxies are hard for both.

    `slope`: what the first model's log odds gain on the second's for one standard deviation of
    smaller size; `lead`: its lead at the mean size.
    """
    rng = np.random.default_rng(seed)
    small, faint, ease = rng.normal(size=(3, n))
    true = rng.integers(4, size=n)
    tables = []
    for chance in (ease + 1 - 0.5 * faint + slope * small + lead, ease + 1 - 0.5 * faint):
        right = rng.random(n) < 1 / (1 + np.exp(-chance))
        pred = np.where(right, true, (true + 1) % 4)
        tables.append(pd.DataFrame({"GalaxyID": np.arange(n), "class": true, "pred": pred}))
    joined = join_predictions(*tables)
    return joined.assign(petroR90_r=8 * 10 ** (-0.15 * small), dered_r=16 + 0.7 * faint)


def test_a_built_in_effect_is_found_and_nothing_else():
    joined = fig4_table(4000, slope=0.5, lead=0.0, seed=0)
    verdicts = judge(claim_fig4(joined, "the ViT", "the CNN"))
    assert verdicts.outcome.tolist() == ["supported"] * 4 + ["not decided"] * 4
    assert verdicts.effect[1] == pytest.approx(-0.5, abs=0.12)
    words = verdict_paragraph(verdicts, "the ViT", "the CNN", joined)
    assert "supported for the smallest, not decided for the faintest galaxies" in words
    assert "In 0 of 10 bins of r magnitude it is ahead, in 0 behind" in words


def test_the_ends_are_the_smallest_and_the_faintest_quarter():
    joined = fig4_table(100, slope=0.0, lead=0.0, seed=5)
    joined["first_right"] = joined.petroR90_r.rank() <= 10
    joined["second_right"] = joined.dered_r.rank() > 95
    joined.loc[joined.index[0], "dered_r"] = np.nan
    claims = claim_fig4(joined, "A", "B")
    small, faint = claims[3], claims[7]
    assert (small["n"], faint["n"]) == (25, 25)
    assert small["only_first"] > small["only_second"] and claims[5]["left_out"] == 1
    assert faint["only_first"] < faint["only_second"]
    # Losing less on small galaxies is not being better on them.
    joined = fig4_table(4000, slope=0.4, lead=-1.5, seed=2)
    verdicts = judge(claim_fig4(joined, "the ViT", "the CNN", SIZE))
    assert verdicts.outcome.tolist() == ["supported"] * 3 + ["contradicted"]
    words = verdict_paragraph(verdicts, "the ViT", "the CNN", joined)
    assert "contradicted for the smallest galaxies" in words
    assert "a lag that shrinks, not a lead" in words
    assert "In 0 of 10 bins of size it is ahead, in 10 behind" in words
    assert f"the ViT classifies {100 * joined.first_right.mean():.2f} % correctly" in words


def test_error_rates(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparisons, "PERMUTATIONS", 1)
    cases = [(300, 0.0, 100 + seed) for seed in range(60)]
    cases += [(1000, 0.8, 1000 + seed) for seed in range(15)]
    tables = [fig4_table(n, slope, 0.0, seed) for n, slope, seed in cases]
    outcomes = np.array([judge(claim_fig4(one, "A", "B", SIZE)).outcome for one in tables])
    null, found = np.split(outcomes, [60])
    assert (null != "not decided").any(axis=1).sum() <= binom.ppf(0.999, 60, 0.05)
    assert ((found == "supported").mean(axis=0) >= 0.9).all()
    assert not (found == "contradicted").any()


def test_few_galaxies_or_equal_models_decide_nothing():
    joined = fig4_table(30, slope=0.0, lead=0.0, seed=3)
    joined.loc[:4, "petroR90_r"] = np.nan
    verdicts = judge(claim_fig4(joined, "A", "B", SIZE))
    assert verdicts.outcome.tolist() == ["not decided"] * 4
    assert "5 galaxies without a value" in verdicts.sentence[1]
    joined = fig4_table(100, slope=0.0, lead=0.0, seed=4)
    joined = joined.assign(second_right=joined.first_right)
    joined["region"] = np.where(joined.first_right, "both right", "both wrong")
    verdicts = judge(claim_fig4(joined, "A", "B"))
    assert set(verdicts.outcome) == {"not decided"}
    assert "neither ahead nor behind" in verdict_paragraph(verdicts, "A", "B", joined)


def test_the_papers_numbers():
    for column in ("petroR90_r", "dered_r"):
        galaxies = evidence.published_galaxies(column)
        assert len(galaxies) == pytest.approx(31_191, abs=150)  # heights are read off pixels
        counts = galaxies.region.value_counts()
        for name in ("only first", "only second"):
            assert counts[name] == pytest.approx(FIG4_COUNTS[name], rel=0.005)
    verdicts = judge(evidence.claim_published_fig4())
    each = ["supported", "supported", "contradicted"]  # of sizes and of magnitudes
    assert verdicts.outcome.tolist() == ["contradicted", *each, *each]
    assert verdicts.effect[0] == pytest.approx(0.8055 - 0.8558, abs=1e-4)
    words = verdict_paragraph(verdicts, *evidence.PUBLISHED_NAMES)
    assert "80.55 % correctly" in words and "85.58 %" in words
    assert "contradicted for the smallest and the faintest galaxies" in words


def predictions(n: int, correct: float, seed: int, confident: float = 3.0) -> pd.DataFrame:
    """Predictions of a network with probabilities, `correct` of them right."""
    rng = np.random.default_rng(seed)
    true = np.arange(n) % 5
    logits = rng.normal(size=(n, 8))
    pred = np.where(rng.random(n) < correct, true, (true + 1) % 5)
    logits[np.arange(n), pred] = logits.max(axis=1) + confident
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame({"GalaxyID": np.arange(n).astype(str), "class": true, "pred": pred})
    return table.join(pd.DataFrame(probabilities, columns=[f"p{index}" for index in range(8)]))


def test_claims_on_accuracy_class_weights_and_calibration():
    tables = {"linformer": predictions(200, 0.5, 1), "mine": predictions(200, 0.5, 2)}
    tables["resnet50"] = predictions(200, 0.9, 3)
    verdicts = judge(evidence.claim_accuracy(tables))  # published accuracies decide on the claims
    assert [one.split()[0] for one in verdicts.claim] == ["resnet50", "resnet50", "linformer"]
    assert verdicts.outcome.tolist() == ["supported", "supported", "not decided"]
    assert evidence.claim_accuracy({"mine": tables["mine"]}) == []
    tables = {"vit": predictions(300, 0.5, 1), "vit_weighted": predictions(300, 0.8, 2)}
    verdicts = judge(evidence.claim_class_weights(tables | {"other_weighted": tables["vit"]}))
    assert verdicts.outcome.tolist() == ["supported"]
    metrics = [classification_metrics(one["class"], one.pred) for one in tables.values()]
    recall = [one["recall_macro"] for one in metrics]
    assert verdicts.effect[0] == pytest.approx(recall[1] - recall[0])
    calibrations = {"sure": calibrate(predictions(300, 0.6, 1, confident=4.0), resamples=50)}
    verdicts = judge(evidence.claim_calibration(calibrations))
    assert verdicts.outcome.tolist() == ["supported", "supported"]
    assert verdicts.p_value[0] == pytest.approx(calibrations["sure"].p_value.overconfidence)


def test_what_a_run_offers_and_lacks(tmp_path: Path):
    """One trained model of two, and sizes of all but one galaxy."""
    root, data, ids = tmp_path / "results" / "demo", tmp_path / "mine", list("abcd")
    for split in ("train", "valid", "test"):
        path = root / "selection" / f"gz2_{split}.csv"
        write_text(path, pd.DataFrame({"galaxyID": ids, "label1": 0}).to_csv(index=False))
    write_json(root / "selection" / "data.json", {"folder": str(data)})
    table = pd.DataFrame({"GalaxyID": ids, "class": [0, 1, 2, 3], "pred": [0, 1, 2, 0]})
    write_text(root / "models" / "vit" / "predictions.csv", table.to_csv(index=False))
    properties = {"petroR90_r": [4, 5, 6, ""], "dered_r": 16, "dered_g_r": 0.5}
    table = pd.DataFrame({"galaxyID": ids, **properties})
    write_text(data / "galaxy_properties.csv", table.to_csv(index=False))
    found, missing = evidence.gather_predictions(root, ["vit", "resnet50"])
    assert list(found) == ["vit"] and "--only resnet50" in missing["resnet50"]
    assert evidence.gather_predictions(root, ["vit"], evidence.VALID_FILE)[0] == {}
    joined = join_predictions(found["vit"], found["vit"])
    table, why = add_properties(joined, root)
    assert why == ""
    np.testing.assert_array_equal(table.petroR90_r, [4, 5, 6, np.nan])
    path = data / "galaxy_properties.csv"
    text = path.read_text().replace("a,4", "x,4")
    path.write_text(text)
    assert add_properties(joined, root)[0].petroR90_r.isna().sum() == 2
    for wrong in (text.replace("x,4", "b,4"), "galaxyID,petroR90_r,dered_r,dered_g_r\n"):
        path.write_text(wrong)
        assert str(path) in add_properties(joined, root)[1]
    path.unlink()
    table, why = add_properties(joined, root)
    verdicts = judge([{"family": evidence.OUR_FIG4, "claim": "one is better", "reason": why}])
    assert (verdicts.outcome[0], verdicts.n[0]) == ("not decided", 0)
    assert str(path) in why and str(path) in verdicts.sentence[0]
    assert "not known here" in verdict_paragraph(verdicts, "one", "two", joined)
