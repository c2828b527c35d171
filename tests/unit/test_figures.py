"""What is drawn: the right numbers in the right places, and the same files each time."""

import io
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from gz2vit.io import Gz2vitError
from gz2vit.paper import CLASS_NAMES, FIG3_CONFUSION_PERCENT
from gz2vit.plots.extra_figures import draw_class_composition, draw_learning_curves
from gz2vit.plots.paper_figures import (
    FIG2_TITLES,
    NO_GALAXY,
    draw_confusion,
    draw_confusion_pair,
    draw_examples,
    draw_galaxies,
    draw_mistakes,
    draw_published_pair,
)
from gz2vit.plots.style import description, png_bytes, save_figure

DATA = {"profile": "demo", "name": "2,640 galaxies of real_gz2", "simulated": False}
METRICS = [
    {"model": "linformer", "class_weights": [1.0] * 8, "accuracy": 0.5, "epochs": 3}
    | {"weights": "none"},
    {
        "model": "linformer_weighted",
        "class_weights": [0.19, 0.21, 0.98, 0.38, 0.53, 0.66, 1.81, 3.23],
    }
    | {"accuracy": 0.4, "epochs": 3, "weights": "none"},
]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def picture(grey: int) -> np.ndarray:
    return np.full((32, 32, 3), grey, dtype=np.uint8)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def words(figure: Figure) -> str:
    """All that stands in a figure, its panels' titles and its footer included."""
    parts = [figure.get_supxlabel(), *(text.get_text() for text in figure.texts)]
    for axes in figure.axes:
        parts += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel(), *texts(axes)]
    return " | ".join(parts)


def test_saved_as_pdf_and_png_the_same_each_time(tmp_path: Path):
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([0, 1])
    first = save_figure(figure, tmp_path / "a")
    second = save_figure(figure, tmp_path / "b")
    assert [path.name for path in first] == ["a.pdf", "a.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"CreationDate" not in first[0].read_bytes()
    assert round(Image.open(first[1]).info["dpi"][0]) == 300
    assert len(list(tmp_path.iterdir())) == 4


def test_as_bytes_it_is_closed():
    figure, axes = plt.subplots(figsize=(2, 1))
    first = png_bytes(figure, dpi=50)
    assert Image.open(io.BytesIO(first)).size == (100, 50)
    assert not plt.fignum_exists(figure.number)


def test_fig2_has_a_column_for_each_class_and_two_rows():
    panels = [[picture(10 * index), picture(10 * index + 5)] for index in range(8)]
    figure = draw_examples(panels, DATA)
    upper, lower = figure.axes[:8], figure.axes[8:]
    assert [axes.get_title() for axes in upper] == list(FIG2_TITLES)
    for index in range(8):
        assert upper[index].images[0].get_array()[0, 0, 0] == 10 * index
        assert lower[index].images[0].get_array()[0, 0, 0] == 10 * index + 5
    assert "profile demo, 2,640 galaxies of real_gz2" in words(figure)


def test_fig2_says_where_a_class_has_no_galaxy():
    panels = [[picture(1), picture(2)] for _ in range(7)] + [[picture(3)]]
    figure = draw_examples(panels, DATA)
    assert texts(figure.axes[15]) == [NO_GALAXY]
    assert not texts(figure.axes[7])


def test_fig3_redrawn_from_the_papers_numbers_matches_cell_by_cell():
    exact = [np.array(FIG3_CONFUSION_PERCENT[metric["model"]]) for metric in METRICS]
    # A million galaxies of each class: enough to hold the published tenths of a percent.
    counts = [np.rint(1e6 * one / one.sum(axis=1, keepdims=True)).astype(int) for one in exact]
    for one in counts:
        one[:, 0] += 1_000_000 - one.sum(axis=1)
    figure = draw_confusion_pair(counts, METRICS, DATA)
    for axes, published in zip(figure.axes, exact, strict=True):
        drawn = np.array([float(text.rstrip("%")) for text in texts(axes)]).reshape(8, 8)
        assert np.abs(drawn - published).max() <= 0.2  # its rows add up to 99.8 to 100.2
    assert "class weights = [1, 1, 1, 1, 1, 1, 1, 1]" in figure.axes[0].get_title()
    assert "0.19, 0.21, 0.98, 0.38, 0.53, 0.66, 1.81, 3.23" in figure.axes[1].get_title()
    assert "from scratch" in words(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"{name} (1,000,000)" for name in CLASS_NAMES]


def test_the_papers_own_fig3_has_its_numbers_cell_by_cell():
    figure = draw_published_pair()
    for axes, percent in zip(figure.axes, FIG3_CONFUSION_PERCENT.values(), strict=True):
        assert texts(axes) == [f"{value}%" for row in percent for value in row]
    left, right = (axes.get_title() for axes in figure.axes)
    assert left == "Linformer, accuracy 80.55%\nclass weights = [1, 1, 1, 1, 1, 1, 1, 1]"
    assert right.startswith("Linformer, accuracy 77.42%\nclass weights = [0.19, 0.21, 0.98, ")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "Round Elliptical (6,755)"
    assert "published numbers of arXiv:2110.01024" in words(figure)
    assert "Cigar-shaped taken for Edge-on, 18.1%" not in description(figure).partition("Right")[0]
    assert "Irregular taken for Unbarred, 18.6%" in description(figure).partition("Right")[0]


def test_fig3_says_what_each_network_started_from():
    counts = [np.eye(8, dtype=int)] * 2
    weights = ("/data/models/linformer/best.ckpt", "imagenet")
    metrics = [one | {"weights": name} for one, name in zip(METRICS, weights, strict=True)]
    told = " ".join(draw_confusion_pair(counts, metrics, DATA).get_supxlabel().split())
    assert "left trained from the file linformer/best.ckpt for 3 epochs" in told
    assert "right trained from ImageNet weights for 3 epochs" in told


@pytest.mark.parametrize("gap", [0, 1])
def test_a_model_that_is_not_trained_says_so_in_its_panel(gap: int):
    counts = [np.eye(8, dtype=int), np.eye(8, dtype=int)]
    metrics = list(METRICS)
    counts[gap] = None
    metrics[gap] = {"model": "resnet50", "missing": "resnet50 is not trained: run `./run_all.sh`"}
    figure = draw_confusion_pair(counts, metrics, DATA)
    assert "resnet50 is not trained" in texts(figure.axes[gap])[0]
    assert len(texts(figure.axes[1 - gap])) == 64
    labels = [label.get_text() for label in figure.axes[1 - gap].get_yticklabels()]
    assert labels == [f"{name} (1)" for name in CLASS_NAMES]
    assert "resnet50 is not trained: run" in description(figure)
    assert "trained from scratch for 3 epochs" in words(figure)


def test_a_class_without_galaxies_has_dashes():
    figure = draw_confusion([0, 0, 0, 1], [0, 0, 1, 1])
    cells = np.array(texts(figure.axes[0])).reshape(8, 8)
    assert cells[0].tolist() == ["66.7%", "33.3%"] + ["0.0%"] * 6
    assert (cells[2:] == "–").all()
    assert "4 galaxies, 75.0% of them right" in words(figure)


def test_two_models_of_different_galaxies_are_not_drawn_together():
    counts = [np.eye(8, dtype=int), 2 * np.eye(8, dtype=int)]
    with pytest.raises(Gz2vitError, match="linformer and linformer_weighted were tested on diff"):
        draw_confusion_pair(counts, METRICS, DATA)


def test_composition_shows_every_count():
    index = pd.Index(CLASS_NAMES, name="class_name")
    composition = pd.DataFrame({"train": range(10, 18), "valid": 3, "test": 4}, index=index)
    composition["all"] = composition.sum(axis=1)
    figure = draw_class_composition(composition, DATA)
    shown = texts(figure.axes[0])
    for count in composition.to_numpy().flatten():
        assert f"{count:,}" in shown
    assert figure.axes[0].get_xlabel() == "galaxies"
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    assert sum(widths) == composition["all"].sum()


def test_simulated_data_are_called_so():
    index = pd.Index(CLASS_NAMES)
    composition = pd.DataFrame({"train": 1, "valid": 1, "test": 1, "all": 3}, index=index)
    data = DATA | {"simulated": True, "name": "24 galaxies of mine"}
    assert "simulated" in words(draw_class_composition(composition, data))


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_learning_curves_mark_the_first_best_epoch(epochs: int):
    steps = np.arange(1, epochs + 1)
    history = pd.DataFrame({"epoch": steps, "valid_acc": np.minimum(steps, 7) / 10})
    history = history.assign(train_loss=2 / steps, valid_loss=2.1 / steps, train_acc=steps / 50)
    figure = draw_learning_curves(history)
    loss, accuracy = figure.axes
    best = min(epochs, 7)
    assert accuracy.get_title().startswith(f"best: epoch {best}, validation 0.{best}00")
    assert loss.lines[0].get_ydata().tolist() == history.train_loss.tolist()
    assert loss.lines[1].get_ydata().tolist() == history.valid_loss.tolist()
    figure.canvas.draw()
    ticks = [tick for tick in loss.get_xticks() if 0.5 <= tick <= epochs + 0.5]
    assert all(float(tick).is_integer() for tick in ticks)


def predictions() -> pd.DataFrame:
    """Four galaxies: right, wrong and sure, right, wrong and unsure."""
    table = pd.DataFrame({"class": [0, 1, 2, 3], "pred": [0, 0, 2, 7]})
    probabilities = np.full((4, 8), 0.01)
    probabilities[np.arange(4), table.pred] = [0.9, 0.8, 0.7, 0.6]
    return table.assign(**{f"p{index}": probabilities[:, index] for index in range(8)})


def test_mistakes_come_surest_first():
    images = np.stack([picture(grey) for grey in (0, 1, 2, 3)])
    figure = draw_mistakes(predictions(), images)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.images[0].get_array()[0, 0, 0] for axes in shown] == [1, 3]
    titles = [axes.get_title() for axes in shown]
    assert titles == ["In-between\n→ Round, 80%", "Edge-on\n→ Merger, 60%"]
    assert len([axes for axes in draw_mistakes(predictions(), images, 1).axes if axes.images]) == 1


def test_no_mistakes_are_told():
    table = predictions().query("`class` == pred")
    assert "no mistakes among 2 galaxies" in words(draw_mistakes(table, np.zeros((2, 8, 8, 3))))


def test_mistakes_need_probabilities_and_their_images():
    with pytest.raises(Gz2vitError, match="4 galaxies, but 3 images"):
        draw_mistakes(predictions(), np.zeros((3, 8, 8, 3)))
    with pytest.raises(Gz2vitError, match="no probabilities"):
        draw_mistakes(predictions().drop(columns="p3"), np.zeros((4, 8, 8, 3)))


def test_galaxies_have_their_class_and_id():
    figure = draw_galaxies([picture(1), picture(2)], [7, 0], ["12", "NGC1300"])
    titles = [axes.get_title() for axes in figure.axes if axes.images]
    assert titles == ["Merger\n12", "Round\nNGC1300"]
