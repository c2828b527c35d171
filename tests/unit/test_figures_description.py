"""What a figure shows, in words."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gz2vit.paper import CLASS_NAMES
from gz2vit.plots.extra_figures import draw_class_composition, draw_learning_curves
from gz2vit.plots.style import LONGEST, describe, description, save_figure


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_given_words_are_kept_on_one_line_and_saved(tmp_path: Path):
    figure, axes = plt.subplots()
    assert describe(figure, "A line\n  that rises: Δ = 2.") is figure
    assert description(figure) == "A line that rises: Δ = 2."
    pdf, png = save_figure(figure, tmp_path / "a")
    assert Image.open(png).info["Description"] == "A line that rises: Δ = 2."
    assert b"/Subject" in pdf.read_bytes()


def test_without_words_the_panels_tell():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([0, 4], [1, 3], label="training")
    left.set(title="Loss\nof all", xlabel="epoch", xlim=(0, 4), ylabel="loss", ylim=(1, 3))
    right.bar(["round", "edge-on"], [1, 2])
    right.set_xlabel("class")
    right.text(0, 0, "none")
    left.legend()
    assert description(figure) == (
        "A figure of 2 panels; panel 1: Loss of all, x axis epoch from 0 to 4, y axis loss from 1 "
        "to 3, showing training; panel 2: x axis class (round, edge-on), none"
    )


def test_one_panel_or_none():
    figure, axes = plt.subplots()
    axes.set_axis_off()
    assert description(figure) == "A figure."
    axes.set_title("Votes")
    assert description(figure) == "A figure: Votes"


def test_too_many_texts_are_left_out_and_long_words_cut():
    figure, axes = plt.subplots()
    for number in range(64):
        axes.text(0, 0, f"cell {number}")
    assert "cell" not in description(figure)
    told = description(describe(figure, "word " * 1000))
    assert len(told) <= LONGEST
    assert told.endswith("word …")


def test_learning_curves_tell_their_ends():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "valid_loss": [2.5, 1.5]})
    history = history.assign(train_acc=[0.1, 0.5], valid_acc=[0.4, 0.3])
    told = description(draw_learning_curves(history))
    assert "training loss from 2 to 1, validation loss from 2.5 to 1.5" in told
    assert "training accuracy from 0.1 to 0.5, validation accuracy from 0.4 to 0.3" in told
    assert told.endswith("Best epoch: 1, validation accuracy 0.400.")


def test_bars_tell_their_counts():
    index = pd.Index(CLASS_NAMES)
    table = pd.DataFrame({"train": 1, "valid": 1, "test": 1, "all": np.arange(1000, 1008)}, index)
    data = {"profile": "demo", "name": "galaxies", "simulated": False}
    told = description(draw_class_composition(table, data))
    assert "Round Elliptical 1,000" in told and "Merger 1,007" in told
