"""gz2vit.inspection.projection: groups stay together, the seed decides, threads stay."""

import numpy as np
import pytest
import torch

from gz2vit.features import project
from gz2vit.io import Gz2vitError


def test_two_groups_stay_apart_and_threads_as_they_were():
    rng = np.random.default_rng(0)
    centres = np.repeat([[1.0, 0, 0, 0, 0], [0, 0, 0, 1.0, 0]], 15, axis=0)
    vectors = torch.from_numpy(centres + 0.05 * rng.normal(size=(30, 5))).float()
    threads = torch.get_num_threads()
    points = project(vectors, neighbours=5, seed=1)
    assert torch.get_num_threads() == threads
    assert points.dtype == np.float32
    assert points.shape == (30, 2)
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert (distance.argmin(axis=1) // 15 == np.arange(30) // 15).all()
    np.testing.assert_array_equal(points, project(vectors, neighbours=5, seed=1))


def test_too_few_galaxies():
    with pytest.raises(Gz2vitError, match=r"vectors of shape \(3, 5\) are too few for a map"):
        project(torch.zeros(3, 5))
