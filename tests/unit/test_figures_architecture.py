"""Fig. 1 is drawn from a network's own numbers."""

import re
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gz2vit.paper import CLASS_SHORT_NAMES, NETWORKS
from gz2vit.plots.paper_figures import draw_architecture
from gz2vit.plots.style import description

SMALL = {"image_size": 112, "patch_size": 28, "depth": 2, "dim": 32, "k_dim": 8, "heads": 4}


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def words(figure: Figure) -> str:
    return " | ".join(" ".join(text.get_text().split()) for text in figure.axes[0].texts)


def shapes(figure: Figure) -> list[tuple[int, int]]:
    """The shapes that are written below the matrices."""
    found = re.findall(r"\| (\d+) × (\d+) \|", words(figure).replace(" | ", " | | "))
    return [(int(rows), int(columns)) for rows, columns in found]


def test_the_papers_network_has_its_numbers():
    figure = draw_architecture(NETWORKS["linformer"], 2_785_416, "the paper's values")
    told = words(figure)
    for part in (
        "2,785,416 parameters",
        "224 × 224 px, cut into 8 × 8 patches of 28 px",
        "linear projection, 2,352 to 128",  # 3 x 28 x 28
        "N = 65 tokens, 128 wide",
        "× 12 layers",
        "8 heads, 16 wide",
        "MLP, 128 – 512 – 128",
        "N k = 4,160",
        "N² = 4,225",
        *CLASS_SHORT_NAMES,
    ):
        assert part in told, part
    assert figure.get_supxlabel() == "the paper's values"


def test_the_matrices_fit_together_and_are_to_scale():
    figure = draw_architecture(SMALL, 1, "")
    n, k, d = 17, 8, 8
    keys = [(k, n), (n, d), (k, d)]
    assert shapes(figure) == [*keys, *keys, (n, d), (d, k), (n, k), (n, k), (k, d), (n, d)]
    drawn = [one for one in figure.axes[0].patches if type(one) is Rectangle]
    unit = drawn[0].get_width() / n
    for patch, (rows, columns) in zip(drawn, shapes(figure), strict=True):
        assert (patch.get_height(), patch.get_width()) == pytest.approx(
            (rows * unit, columns * unit)
        )


def test_shared_keys_and_values_have_one_projection():
    told = words(draw_architecture(SMALL | {"share_kv": True}, 1, ""))
    assert "| F |" not in told and "FV" not in told and "| V |" not in told
    assert told.count("| EK |") == 3
    assert "E is learned" in told


@pytest.mark.parametrize(
    "network", [NETWORKS["linformer"], SMALL, SMALL | {"heads": 1, "dim": 512}]
)
def test_everything_stays_on_the_paper(network: dict):
    figure = draw_architecture(network, 123_456_789, "")
    figure.canvas.draw()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, text.get_text()
        assert box.y0 >= 0 and box.y1 <= figure.bbox.y1, text.get_text()
    for patch in figure.axes[0].patches:
        box = patch.get_window_extent()
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_a_galaxy_is_shown_where_there_is_one():
    image = np.full((224, 224, 3), 7, dtype=np.uint8)
    with_one = draw_architecture(SMALL, 1, "", image)
    assert (with_one.axes[0].images[0].get_array() == image).all()
    assert with_one.axes[0].get_xlim() == (0, 7)
    assert not draw_architecture(SMALL, 1, "").axes[0].images


def test_the_words_tell_the_whole():
    told = description(draw_architecture(SMALL, 101_960, ""))
    assert "101,960 parameters" in told
    assert "16 patches" in told or "4 by 4 patches" in told
    assert "compares 17 times 8 pairs, not 17 squared" in told


def test_a_missing_size_is_named():
    with pytest.raises(KeyError, match="k_dim"):
        draw_architecture({name: 1 for name in SMALL if name != "k_dim"}, 1, "")
