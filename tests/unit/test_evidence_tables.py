"""The evidence in tables: every number once, verdicts by question, files that can be read again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gz2vit.calibration import average_precisions, calibrate, probabilities_of
from gz2vit.comparisons import compare_models
from gz2vit.evaluation import Interval
from gz2vit.evidence import (
    Finding,
    Gathered,
    evidence_table,
    judge_families,
    read_verdict_table,
    undecided,
    verdicts_markdown,
    verdicts_table,
    write_table,
)
from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES

pytestmark = pytest.mark.usefixtures("quick_collection")


def predictions(seed: int) -> pd.DataFrame:
    """200 galaxies of seven classes: there is no merger."""
    rng = np.random.default_rng(seed)
    true = np.arange(200) % 7
    chances = rng.dirichlet(np.ones(8), 200) + np.eye(8)[true] * 0.3
    chances /= chances.sum(axis=1, keepdims=True)
    table = pd.DataFrame({"GalaxyID": range(200), "class": true, "pred": chances.argmax(axis=1)})
    return table.assign(**{f"p{index}": chances[:, index] for index in range(8)})


def finding(p_value: float, claim: str) -> Finding:
    return Finding(claim, "lead", Interval(0.2, 0.1, 0.3, 50), 1, "a test", p_value, 0.05)


def test_every_number_has_a_row():
    models = {"vit": predictions(0), "resnet50": predictions(1)}
    found = Gathered(models, {}, {})
    pairs = compare_models(models)
    calibrations = {key: calibrate(one, resamples=10) for key, one in models.items()}
    averages = {
        key: average_precisions(one["class"], probabilities_of(one), resamples=5)
        for key, one in models.items()
    }
    table = evidence_table(found, pairs, calibrations, averages)
    assert table.quantity.value_counts().to_dict() == {
        **{"class_acc": 16, "average_precision": 16, "accuracy_difference": 1},
        **dict.fromkeys(("accuracy", "recall_macro", "f1_macro", "temperature"), 2),
        **dict.fromkeys(("ece_before", "ece_after", "ece_if_calibrated"), 2),
        **dict.fromkeys(("overconfidence", "log_likelihood_gain"), 2),
    }
    own = table[table.model == "resnet50"].set_index(["quantity", "class_name"])
    right = models["resnet50"]["class"] == models["resnet50"].pred
    assert own.value["accuracy", ""] == pytest.approx(right.mean())
    assert own.n["class_acc", CLASS_NAMES[7]] == 0
    assert np.isnan(own.value["average_precision", CLASS_NAMES[7]])
    assert own.value["ece_before", ""] == calibrations["resnet50"].ece_before.value
    assert own.p_value["ece_before", ""] == calibrations["resnet50"].calibrated_p
    last = table.iloc[-1]
    assert (last.model, last.against, last.n) == ("vit", "resnet50", 200)
    assert (last.p_value, last.p_corrected) == (pairs.p_value[0], pairs.p_holm[0])


def test_one_model_and_none():
    one = evidence_table(Gathered({"vit": predictions(0)}, {}, {}), pd.DataFrame(), {}, {})
    assert set(one.quantity) == {"accuracy", "recall_macro", "f1_macro", "class_acc"}
    assert evidence_table(Gathered({}, {}, {}), pd.DataFrame(), {}, {}).empty


def test_claims_are_corrected_within_their_question_only():
    families = judge_families(
        {"first?": [finding(0.03, "A is"), finding(0.04, "B is")], "second?": [finding(0.03, "C")]}
    )
    table = verdicts_table(families)
    assert table.family.tolist() == ["first?", "first?", "second?"]
    assert table.p_corrected.tolist() == pytest.approx([0.06, 0.06, 0.03])
    assert table.outcome.tolist() == ["not decided", "not decided", "supported"]
    assert (table.n == 50).all()
    words = verdicts_markdown(table)
    assert words.count("**first?**") == words.count("**second?**") == 1
    assert "- *supported*: The claim that C is supported" in words


def test_verdicts_come_back_from_their_file(tmp_path: Path):
    told = undecided("first?", "A is better", "resnet50 is not trained")
    assert told.sentence[0] == (
        "The claim that A is better is not decided by this data: resnet50 is not trained."
    )
    path = write_table(tmp_path / "tables" / "verdicts.csv", told)
    again = read_verdict_table(path)
    assert again.sentence.tolist() == told.sentence.tolist()
    assert read_verdict_table(tmp_path / "other.csv").empty
    path.write_text("claim\n")
    with pytest.raises(Gz2vitError, match="no table of verdicts"):
        read_verdict_table(path)
