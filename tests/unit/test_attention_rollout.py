"""gz2vit.attention.rollout: the definition, computed a second time with loops, and its refusals."""

import numpy as np
import pytest
import torch

from gz2vit.attention import ROW_SUM_TOLERANCE, attention_rollout, layer_attention, scale_maps
from gz2vit.io import Gz2vitError


def random_attention(layers: int = 4, heads: int = 3, grid: int = 3) -> list[torch.Tensor]:
    """Softmax rows, float32 (2, heads, N, N) for each layer; sharp, so that layers differ."""
    generator = torch.Generator().manual_seed(0)
    tokens = grid**2 + 1
    shape = (2, heads, tokens, tokens)
    return [(2 * torch.randn(shape, generator=generator)).softmax(-1) for _ in range(layers)]


def rollout_by_definition(attentions: list[torch.Tensor], head: int | None) -> np.ndarray:
    """Every entry of every matrix of the paper's recipe, in float64."""
    maps = []
    for galaxy in range(len(attentions[0])):
        tokens = attentions[0].shape[2]
        product = np.eye(tokens)
        for layer in attentions:
            weights = layer[galaxy].double().numpy()
            mean = weights.mean(axis=0) if head is None else weights[head]
            mixed = (mean + np.eye(tokens)) / 2
            after = np.zeros((tokens, tokens))
            for n in range(tokens):
                for m in range(tokens):
                    after[n, m] = sum(mixed[n, j] * product[j, m] for j in range(tokens))
            product = after
        assert product.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
        grid = int((tokens - 1) ** 0.5)
        patches = product[0, 1:].reshape(grid, grid)
        maps.append(patches / patches.max())
    return np.stack(maps)


@pytest.mark.parametrize("head", [None, 0, 2])
def test_rollout_is_the_definition(head: int | None):
    attentions = random_attention()
    maps = attention_rollout(attentions, head)
    assert maps.shape == (2, 3, 3)
    assert maps.dtype == torch.float32
    assert maps.numpy() == pytest.approx(rollout_by_definition(attentions, head), abs=1e-6)


def test_the_last_layer_comes_last():
    """The class token takes from patch 1 in the last layer, which took from patch 3 in the first:
    the other way round nothing would reach it from patch 3."""
    first, last = torch.eye(5), torch.eye(5)
    first[1], last[0] = torch.eye(5)[3], torch.eye(5)[1]
    maps = attention_rollout([first[None, None], last[None, None]])
    # class token: 1/2 of patch 1, whose own half is again from patch 3
    assert maps[0].flatten().tolist() == [1.0, 0.0, 1.0, 0.0]
    turned = attention_rollout([last[None, None], first[None, None]])
    assert turned[0].flatten().tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_class_token_that_looks_nowhere_has_an_empty_map():
    assert attention_rollout([torch.eye(5)[None, None]]).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]
    assert scale_maps(torch.tensor([[[2.0, 1.0]]])).tolist() == [[[1.0, 0.5]]]


def test_half_precision_is_within_the_tolerance():
    rough = [layer.bfloat16() for layer in random_attention(grid=14)]
    assert attention_rollout(rough).amax() == 1.0


def spoilt(value: float) -> list[torch.Tensor]:
    """Attention with one entry replaced in the second layer."""
    attentions = random_attention()
    attentions[1][0, 1, 2, 3] = value
    return attentions


@pytest.mark.parametrize(
    ("attentions", "head", "message"),
    [
        ([], None, "there are no layers"),
        ([torch.eye(5)], None, r"shape \(5, 5\) cannot be rolled out; give \(B, H, N, N\)"),
        ([torch.zeros(0, 1, 5, 5)], None, "cannot be rolled out"),
        ([torch.eye(6)[None, None]], None, "6 tokens are not a class token and a square"),
        ([torch.eye(1)[None, None]], None, "1 tokens are not a class token and a square"),
        ([torch.ones(1, 1, 5, 4) / 4], None, "5 to 4 tokens is not among all of them"),
        (random_attention() + random_attention(grid=2), None, "layer 4 has .* but layer 0 has"),
        (random_attention(), 3, "there is no head 3; the heads are 0 to 2"),
        (random_attention(), -1, "there is no head -1"),
        (spoilt(float("nan")), None, "layer 1 holds values that are not finite"),
        (spoilt(float("inf")), None, "layer 1 holds values that are not finite"),
        (spoilt(-0.5), None, "layer 1 holds -0.5; rollout needs weights that are not negative"),
        (spoilt(2.0), None, "layer 1 sums to .* more or less than 1"),
    ],
)
def test_what_is_no_attention_is_refused(attentions: list, head: int | None, message: str):
    with pytest.raises(Gz2vitError, match=message) as caught:
        attention_rollout(attentions, head)
    assert "\n" not in str(caught.value)


def test_the_tolerance_is_what_it_says():
    for factor, refused in ((0.9, False), (1.1, True)):
        attention = torch.eye(5)[None, None] * (1 + factor * ROW_SUM_TOLERANCE)
        if refused:
            with pytest.raises(Gz2vitError, match=f"within {ROW_SUM_TOLERANCE}"):
                attention_rollout([attention])
        else:
            attention_rollout([attention])


@pytest.mark.parametrize("head", [None, 1])
def test_one_layer_alone_is_the_class_tokens_row(head: int | None):
    attentions = random_attention()
    row = attentions[2].numpy()[:, :, 0, 1:]
    expected = (row.mean(axis=1) if head is None else row[:, head]).reshape(2, 3, 3)
    expected = expected / expected.max(axis=(1, 2), keepdims=True)
    assert layer_attention(attentions, 2, head).numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_is_not_there_is_refused(layer: int):
    with pytest.raises(Gz2vitError, match=f"there is no layer {layer}; the layers are 0 to 3"):
        layer_attention(random_attention(), layer)
