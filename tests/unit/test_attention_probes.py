"""gz2vit.attention.probes: classes that a line can part, and some that nothing can."""

import numpy as np
import pytest
import torch

from gz2vit.evaluation import wilson_interval
from gz2vit.features import linear_probe, nearest_neighbours
from gz2vit.io import Gz2vitError


def embeddings(seed: int, count: int = 200) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Two layers: in `told` the class stands in one large feature, in `noise` nowhere."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % 4
    noise = rng.normal(size=(count, 6))
    told = noise.copy()
    told[:, 2] = 1000.0 * classes + rng.normal(size=count)
    told[:, 3] = 1e-3 * (classes % 2)
    layers = {"noise": torch.from_numpy(noise).float(), "told": torch.from_numpy(told).float()}
    return layers, classes


def test_a_probe_finds_what_is_there_and_nothing_else():
    (train, train_classes), (test, test_classes) = embeddings(0), embeddings(1)
    table = linear_probe(train, train_classes, test, test_classes)
    assert list(table.layer) == ["noise", "told"]
    assert table.accuracy[1] > 0.99
    assert 0.1 < table.accuracy[0] < 0.4  # 0.25 by guessing
    assert list(table.galaxies) == [200, 200]
    for row in table.itertuples():
        expected = wilson_interval(round(row.accuracy * 200), 200)
        assert (row.low, row.high) == pytest.approx(expected)


def test_the_test_galaxies_teach_nothing():
    """Test features at another scale: a scaler that had seen them would bring them back."""
    train, classes = embeddings(0)
    far = {layer: 1e6 + 1e3 * vectors for layer, vectors in train.items()}
    table = linear_probe({"told": train["told"]}, classes, {"told": far["told"]}, classes)
    assert table.accuracy[0] < 0.5


def test_neighbours_are_nearest_by_angle():
    vectors = torch.tensor([[1.0, 0.0], [10.0, 1.0], [0.0, 3.0], [-2.0, 0.0], [1.0, 0.0]])
    rows, cosines = nearest_neighbours(vectors, 0, 4)
    assert rows.tolist() == [4, 1, 2, 3]
    assert cosines.tolist() == pytest.approx([1.0, 10 / np.sqrt(101), 0.0, -1.0])
    assert nearest_neighbours(vectors, 4, 1)[0].tolist() == [0]


@pytest.mark.parametrize(("row", "k"), [(-1, 1), (5, 1), (0, 0), (0, 5)])
def test_neighbours_that_are_not_there(row: int, k: int):
    with pytest.raises(Gz2vitError, match="a row from 0 to B - 1 and k from 1 to B - 1"):
        nearest_neighbours(torch.rand(5, 2), row, k)


def test_what_cannot_be_probed():
    layers, classes = embeddings(0)
    with pytest.raises(Gz2vitError, match="layers of training and test embeddings differ"):
        linear_probe(layers, classes, {"told": layers["told"]}, classes)
    with pytest.raises(Gz2vitError, match="layers of training and test embeddings differ"):
        linear_probe({}, classes, {}, classes)
    with pytest.raises(
        Gz2vitError, match=r"training, noise: .* classes of shape \(3,\) do not fit"
    ):
        linear_probe(layers, classes[:3], layers, classes)
    with pytest.raises(Gz2vitError, match="all of one class"):
        linear_probe(layers, np.zeros(200), layers, classes)
    with pytest.raises(Gz2vitError, match="strength is 0; it must be larger than 0"):
        linear_probe(layers, classes, layers, classes, strength=0)
    broken = {"noise": layers["noise"].clone(), "told": layers["told"]}
    broken["noise"][3, 1] = float("nan")
    with pytest.raises(Gz2vitError, match="test, noise: embeddings hold values that are not"):
        linear_probe(layers, classes, broken, classes)
