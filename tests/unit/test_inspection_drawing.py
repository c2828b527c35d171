"""gz2vit.inspection.drawing: from samples and maps to figures, or to words why there is none."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from gz2vit.attention_maps import GalaxyMaps, Sample, draw_first, draw_heads, draw_list
from gz2vit.paper import FIG5_GALAXY_IDS
from gz2vit.plots.style import description

DATA = {"profile": "demo", "name": "24 galaxies", "simulated": False}
PAPERS = str(FIG5_GALAXY_IDS["B"][0])


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def sample() -> Sample:
    images = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    lists = {"A": ["g1", "g0"], "B": [PAPERS], "random": ["g0"]}
    return Sample(("g0", "g1", PAPERS), np.array([0, 5, 7]), images, lists)


@pytest.fixture
def maps() -> dict[str, GalaxyMaps]:
    rng = np.random.default_rng(1)
    found = {}
    for key, heads in (("vit", 3), ("resnet50", 0)):
        probability = rng.dirichlet(np.ones(8), 3)
        arrays = (rng.random((3, 4, 4)), rng.random((3, heads, 4, 4)), rng.random((3, 4, 4)))
        found[key] = GalaxyMaps(*arrays, probability, "attention rollout", "evidence")
    return found


def shown(figure: plt.Figure) -> list[list[np.ndarray]]:
    """What the panels of a figure show, line by line."""
    lines: dict[int, list[np.ndarray]] = {}
    for axes in figure.axes:
        line = lines.setdefault(axes.get_subplotspec().rowspan.start, [])
        line += [np.asarray(image.get_array()) for image in axes.images]
    return [lines[number] for number in sorted(lines)]


def words_of(figure: plt.Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def test_heads_are_those_of_the_lists_galaxies_in_its_order(sample: Sample, maps: dict):
    figure = draw_heads(sample, "A", maps, "vit", DATA)
    for line, row in zip(shown(figure), (1, 0), strict=True):
        expected = [sample.images[row], maps["vit"].average[row], *maps["vit"].heads[row]]
        for one, other in zip(line, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    assert "stand-ins: the paper's galaxies are not in this run" in words_of(figure)
    assert "ViT (vit), attention rollout" in words_of(figure)


def test_the_papers_galaxies_are_called_so(sample: Sample, maps: dict):
    words = words_of(draw_heads(sample, "B", maps, "vit", DATA))
    assert "the paper's galaxies, as far as this run has them" in words
    assert "galaxies are" not in words_of(draw_heads(sample, "random", maps, "vit", DATA))


def test_one_galaxy_is_the_lists_first(sample: Sample, maps: dict):
    figure = draw_first(sample, "A", maps, "vit", DATA)
    above, below = shown(figure)
    np.testing.assert_array_equal(above[0], sample.images[1])
    np.testing.assert_array_equal(above[1], maps["vit"].average[1])
    np.testing.assert_array_equal(np.stack(below), maps["vit"].heads[1])


@pytest.mark.parametrize(
    ("key", "name", "why"),
    [
        ("hf_vit", "A", "hf_vit is not among the mapped models, vit, resnet50; train it"),
        ("resnet50", "A", "resnet50 is a CNN and has no attention heads; name a transformer"),
        ("vit", "mergers", "the test galaxies have none of this kind"),
    ],
)
def test_what_cannot_be_drawn_says_why(sample: Sample, maps: dict, key: str, name: str, why: str):
    for draw in (draw_heads, draw_first):
        figure = draw(sample, name, maps, key, DATA)
        assert why in " ".join(figure.axes[0].texts[0].get_text().split())
    assert "is not drawn" in description(figure)


def test_models_stand_side_by_side(sample: Sample, maps: dict):
    for kind in ("average", "of_class"):
        figure = draw_list(sample, "A", maps, DATA, kind)
        for line, row in zip(shown(figure), (1, 0), strict=True):
            expected = [sample.images[row], *(getattr(one, kind)[row] for one in maps.values())]
            for one, other in zip(line, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    own = maps["vit"].probability[1]
    told = [axes.get_xlabel() for axes in figure.axes]
    assert any(word.endswith(f"{100 * own.max():.0f}%") for word in told)
    figure = draw_list(sample, "mergers", maps, DATA)
    assert "none of this kind" in " ".join(figure.axes[0].texts[0].get_text().split())
