"""Features in two dimensions, for the eye: UMAP.

Source: McInnes, Healy & Melville 2018, arXiv:1802.03426, by umap-learn. Neighbours stay together;
distances between groups, and the groups' sizes, mean nothing.
"""

import warnings

import numpy as np
import torch

from gz2vit.errors import Gz2vitError

LEAST = 4  # galaxies below which there are no neighbourhoods to keep


def project(vectors: torch.Tensor, neighbours: int = 15, seed: int = 0) -> np.ndarray:
    """Vectors (N, D) as points float32 (N, 2); distances by the cosine, as for neighbours.

    `neighbours`: how many of a galaxy's are to stay near it (fewer where there are not so many).
    With the same seed the same points. Raises `Gz2vitError` for fewer than `LEAST` galaxies.
    """
    if vectors.ndim != 2 or len(vectors) < LEAST:
        raise Gz2vitError(
            f"vectors of shape {tuple(vectors.shape)} are too few for a map; give (N, D) with N "
            f"from {LEAST} on"
        )
    from umap import UMAP  # it compiles for seconds, and is only wanted here

    near, threads = min(neighbours, len(vectors) // 2), torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            # It tells that a seed leaves it one thread, and of groups that nothing connects.
            warnings.simplefilter("ignore", UserWarning)
            made = UMAP(n_neighbors=near, metric="cosine", random_state=seed, init="pca")
            return made.fit_transform(vectors.numpy()).astype(np.float32)
    finally:
        torch.set_num_threads(threads)  # its compiler sets them for the whole process
