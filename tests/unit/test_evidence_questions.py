"""What is asked of a run: the paper's order of the networks, class weights, Fig. 4, calibration."""

import numpy as np
import pandas as pd

from gz2vit.calibration import calibrate
from gz2vit.comparisons import join_predictions
from gz2vit.evidence import (
    OUR_FIG4,
    PAPER_FIG4,
    GalaxyTable,
    ask_accuracy,
    ask_calibration,
    ask_class_weights,
    judge,
    judge_fig4,
    ranked,
    separate_fig4,
)


def predictions(share: float, seed: int, n: int = 400) -> pd.DataFrame:
    """Galaxies of four classes, of which about `share` are right."""
    rng = np.random.default_rng(seed)
    true = np.arange(n) % 4
    pred = np.where(rng.random(n) < share, true, (true + 1) % 4)
    table = pd.DataFrame({"GalaxyID": range(n), "class": true, "pred": pred})
    chances = np.full((n, 8), 0.02) + 0.84 * np.eye(8)[pred]
    return table.assign(**{f"p{index}": chances[:, index] for index in range(8)})


def test_the_order_is_the_papers_and_newcomers_come_last():
    models = ["convnext", "linformer", "resnet50", "mine", "hf_vit"]
    assert ranked(models) == ["resnet50", "hf_vit", "linformer", "convnext", "mine"]


def test_every_pair_is_asked_once():
    models = {"linformer": predictions(0.5, 0), "resnet50": predictions(0.9, 1)}
    models["convnext"] = predictions(0.5, 2)
    claims = [one.claim for one in ask_accuracy(models)]
    words = "classifies more galaxies rightly than"
    assert claims == [
        f"resnet50 {words} linformer",
        f"resnet50 {words} convnext",
        f"linformer {words} convnext",
    ]
    outcomes = [one.outcome for one in judge(ask_accuracy(models))]
    assert outcomes == ["supported", "supported", "not decided"]
    assert ask_accuracy({"vit": models["linformer"]}) == []


def test_class_weights_are_asked_of_those_with_and_without():
    models = {"vit": predictions(0.9, 0), "hf_vit_weighted": predictions(0.9, 1)}
    assert ask_class_weights(models) == []
    models["hf_vit"] = predictions(0.5, 2)
    (found,) = ask_class_weights(models)
    assert "hf_vit_weighted has a higher macro-averaged recall than hf_vit" in found.claim
    assert judge([found])[0].outcome == "supported"


def test_calibration_is_asked_twice_of_each_model():
    table = predictions(0.6, 0)  # it says 86 %, and is right in 60 %
    claims = ask_calibration(
        {
            "vit": calibrate(
                table,
                predictions(0.6, 1).assign(GalaxyID=lambda one: one.GalaxyID + 1000),
                resamples=10,
            )
        }
    )
    assert [one.outcome for one in judge(claims)] == ["supported", "supported"]


def test_fig4_is_judged_on_the_papers_numbers_and_on_ours():
    joined = join_predictions(predictions(0.6, 0), predictions(0.6, 1))
    rng = np.random.default_rng(0)
    joined = joined.assign(petroR90_r=rng.uniform(3, 20, 400), dered_r=rng.uniform(14, 17, 400))
    table = judge_fig4(GalaxyTable(joined), "vit", "resnet50")
    assert table.family.value_counts().to_dict() == {PAPER_FIG4: 7, OUR_FIG4: 8}
    assert (
        separate_fig4(GalaxyTable(joined)).property.tolist() == ["petroR90_r"] * 3 + ["dered_r"] * 3
    )


def test_fig4_that_cannot_be_drawn_leaves_the_papers_and_says_why():
    joined = join_predictions(predictions(0.6, 0), predictions(0.6, 1))
    for nothing in (GalaxyTable(None, "vit is not trained"), GalaxyTable(joined, "no sizes")):
        table = judge_fig4(nothing, "vit", "resnet50")
        assert table.family.value_counts().to_dict() == {PAPER_FIG4: 7, OUR_FIG4: 1}
        last = table.iloc[-1]
        assert last.outcome == "not decided"
        assert last.sentence.endswith(f"is not decided by this data: {nothing.missing}.")
        assert separate_fig4(nothing).empty
