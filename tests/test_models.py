"""The networks: the paper's to the last parameter, errors that name what would fit, dropout."""

import copy

import pytest
import torch
from scipy import stats
from torch import nn

from gz2vit.io import Gz2vitError
from gz2vit.models import (
    FUSED,
    MaskDropout,
    OneDnnLinear,
    architecture_of,
    build_model,
    count_flops,
    count_parameters,
    differing_layers,
    fuse_attention,
    head_prefixes,
    register_model,
    use_onednn,
)
from gz2vit.paper import PUBLISHED_RESULTS

SMALL = {
    "linformer": {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "k_dim": 4, "heads": 4},
    "vit": {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "mlp_dim": 8, "heads": 4},
    "resnet50": {},
    "vgg16_bn": {},
    "hf_vit": {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "mlp_dim": 8, "heads": 4},
    "backbone": {"name": "timm/convnext_atto", "image_size": 32},
}


@pytest.mark.parametrize("key", PUBLISHED_RESULTS)
def test_parameter_count_is_the_papers(key: str):
    with torch.device("meta"):  # without memory
        network = build_model(key)
    assert count_parameters(network) == PUBLISHED_RESULTS[key]["parameters"]


@pytest.mark.filterwarnings("ignore:k_dim")
@pytest.mark.parametrize(
    ("name", "sizes", "parameters"),
    [  # other runs that the authors published
        ("linformer", {"patch_size": 14, "dim": 256}, 10_082_056),
        ("linformer", {"patch_size": 28, "k_dim": 512, "share_kv": True}, 2_888_328),
        ("vit", {"depth": 6, "mlp_dim": 32}, 3_503_560),
    ],
)
def test_other_published_runs(name: str, sizes: dict, parameters: int):
    with torch.device("meta"):
        assert count_parameters(build_model(name, **sizes)) == parameters


def test_a_projection_longer_than_the_sequence_is_a_warning():
    with pytest.warns(UserWarning, match="k_dim 18 .* 17 tokens"):
        network = build_model("linformer", **SMALL["linformer"] | {"k_dim": 18})
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 8)


def test_a_frozen_backbone_leaves_the_last_layer_to_learn():
    network = build_model("hf_vit", **SMALL["hf_vit"], freeze_backbone=True)
    assert count_parameters(network, trainable=True) == 16 * 8 + 8
    other = build_model("timm/convnext_atto", image_size=32, freeze_backbone=True)
    assert count_parameters(other, trainable=True) == 320 * 8 + 8


@pytest.mark.parametrize("architecture", SMALL)
def test_images_become_scores_and_gradients_reach_every_parameter(architecture: str):
    """The last layer is known by its name: with its weights at zero, the scores are its bias."""
    model = build_model(architecture, **SMALL[architecture])
    scores = model(torch.randn(2, 3, 32, 32))
    assert (scores.shape, scores.dtype) == ((2, 8), torch.float32)
    scores.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    state, prefixes = model.eval().state_dict(), head_prefixes(model)
    last = [name for name in state if name.startswith(prefixes)][-2:]
    nn.init.zeros_(state[last[0]])
    with torch.no_grad():
        assert torch.equal(model(torch.randn(1, 3, 32, 32))[0], state[last[1]])


def test_floating_point_operations_are_those_of_the_literature():
    """torchvision gives 4.09e9 multiply-adds for its ResNet-50 at 224 px."""
    assert count_flops(build_model("resnet50"), 224) == pytest.approx(2 * 4.09e9, rel=0.01)
    model = build_model("linformer", **SMALL["linformer"]).train()
    count_flops(model, 32)
    assert model.training


def test_any_network_of_timm_by_its_name():
    model = build_model("timm/vit_tiny_patch16_224", image_size=32)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 8)
    with pytest.raises(Gz2vitError, match="convnex_atto.*did you mean .*convnext_atto"):
        build_model("timm/convnex_atto")
    with pytest.raises(Gz2vitError, match="timm/NAME or transformers/NAME"):
        build_model("backbone", name="convnext_atto")


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("vit", {"patch_size": 30}, "patch_size 30 .* image_size 224.* 4, 7, 8, 14"),
        ("vit", {"heads": 7}, "heads 7 .* dim 256.* 1, 2, 4, 8"),
        ("vit", {"mlp_dim": 0}, "mlp_dim is 0"),
        ("vit", {"emb_dropout": 1.0}, "emb_dropout is 1.0"),
        ("linformer", {"k_dim": 0}, "k_dim is 0"),
        ("linformer", {"width": 3}, "'width'.* image_size, patch_size"),
        ("hf_vit", {"heads": 7}, "heads 7 .* dim 768"),
        ("hf_vit", {"depth": True}, "depth is True"),
        ("vgg16_bn", {"num_classes": 0}, "num_classes is 0"),
        ("resnet50", {"dropout": 0.1}, "'dropout'.* num_classes"),
        ("alexnet", {}, "'alexnet'.* linformer"),
    ],
)
def test_what_does_not_fit_is_an_error_with_the_value(name: str, sizes: dict, words: str):
    with pytest.raises(Gz2vitError, match=words):
        build_model(name, **sizes)


def test_differing_layers_are_named():
    first, second = (build_model("linformer", **SMALL["linformer"]) for _ in range(2))
    assert differing_layers(first, second) == []
    second.mlp_head.append(nn.Dropout(0.5))
    assert differing_layers(first, second) == ["mlp_head.2"]
    wider = build_model("linformer", **SMALL["linformer"] | {"dim": 20})
    assert "cls_token" in differing_layers(first, wider)


def test_a_network_of_ones_own_is_registered(builders: None):
    register_model("mine", lambda **sizes: nn.Sequential(nn.Flatten(), nn.LazyLinear(8)))
    assert architecture_of("mine") == architecture_of("mine_weighted") == "mine"
    assert build_model("mine", anything=3)(torch.zeros(1, 3, 4, 4)).shape == (1, 8)
    register_model("vit", lambda **sizes: nn.Sequential(build_model("vit", **sizes)))
    for _ in range(2):
        assert isinstance(build_model("vit", **SMALL["vit"]), nn.Sequential)


# ---- Dropout: torch's distribution, torch's generator, torch's gradients


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_with_the_right_probability_and_keeps_the_mean(p: float):
    torch.manual_seed(0)
    count = 1_000_003  # not a multiple of four
    out = MaskDropout(p)(torch.ones(count))
    assert stats.binomtest(int((out == 0).sum()), count, p).pvalue > 1e-3
    assert out[out != 0].unique().tolist() == pytest.approx([1 / (1 - p)])


def test_dropout_keeps_the_mean_in_bfloat16_too():
    """There 1 / 0.9 rounded to 8 bits would shift it by 0.2 %."""
    torch.manual_seed(0)
    values = torch.linspace(1.0, 2.0, 1_000_000).bfloat16()
    out = MaskDropout(0.1)(values)
    kept = out != 0
    ratio = out[kept].double().mean() / values[kept].double().mean()
    assert ratio.item() == pytest.approx(1 / 0.9, rel=2e-4)


def test_dropout_drops_independently():
    """Neighbours share a 64-bit draw; their drops must not depend on each other."""
    torch.manual_seed(1)
    dropped = (MaskDropout(0.5)(torch.ones(400_000)) == 0).view(-1, 4)
    patterns = (dropped.long() * torch.tensor([1, 2, 4, 8])).sum(dim=1)
    assert stats.chisquare(torch.bincount(patterns, minlength=16).numpy()).pvalue > 1e-3


def test_dropout_follows_torchs_generator_and_passes_gradients_where_values_pass():
    values, dropout = torch.randn(50, 4, requires_grad=True), MaskDropout(0.25)
    torch.manual_seed(5)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(5)
    assert torch.equal(dropout(values), first)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert torch.equal(values.grad != 0, first != 0)
    assert values.grad.max().item() == pytest.approx(4 / 3)


def test_dropout_at_its_ends_and_in_evaluation_is_torchs():
    values = torch.randn(20)
    for p in (0.0, 1.0):
        assert torch.equal(MaskDropout(p)(values), nn.Dropout(p)(values))
    assert torch.equal(MaskDropout(0.1).eval()(values), values)


def test_every_dropout_of_a_network_is_replaced():
    linformer = build_model("linformer", **SMALL["linformer"], dropout=0.15)
    dropouts = [part for part in linformer.modules() if isinstance(part, nn.Dropout)]
    assert {(type(part), part.p) for part in dropouts} == {(MaskDropout, 0.15)}


def test_layers_by_onednn_only_round_differently():
    network, images = build_model("vit", **SIZES).eval(), torch.randn(3, 3, 32, 32)
    other = use_onednn(copy.deepcopy(network))
    assert OneDnnLinear in map(type, other.modules())
    with torch.no_grad():
        assert torch.allclose(network(images), other(images), rtol=1e-4, atol=1e-5)
    for one in (network, other):
        one(images).sum().backward()
    gradients = ([part.grad for part in one.parameters()] for one in (network, other))
    assert all(map(torch.equal, *gradients))


SIZES = {"image_size": 32, "patch_size": 8, "depth": 2, "dim": 16, "heads": 2}
LINFORMERS = [("linformer", {"k_dim": 8} | one) for one in
              ({}, {"share_kv": True}, {"one_kv_head": True})]  # fmt: skip


@pytest.mark.parametrize(("name", "sizes"), [*LINFORMERS, ("vit", {}), ("hf_vit", {})])
def test_fused_attention_is_the_librarys(name: str, sizes: dict):
    torch.manual_seed(0)
    network = build_model(name, **SIZES, **sizes).eval()
    images, found = torch.randn(3, 3, 32, 32), []
    for one in (network, fuse_attention(copy.deepcopy(network))):
        scores = one(images)
        scores.square().sum().backward()
        found.append([scores.detach(), *(part.grad for part in one.parameters())])
    assert all(torch.allclose(*pair, rtol=1e-3, atol=1e-5) for pair in zip(*found, strict=True))
    assert network.state_dict().keys() == one.state_dict().keys()
    kinds = ({type(part) for part in each.modules()} for each in (network, one))
    assert next(kinds) != next(kinds) or one.model.config._attn_implementation == "sdpa_unmasked"


@pytest.mark.parametrize("name", ["linformer", "vit"])
def test_fused_attention_drops_in_training_alone(name: str):
    layer = next(
        part for part in fuse_attention(build_model(name, **SIZES, dropout=0.5)).modules()
        if type(part) in FUSED.values()
    )  # fmt: skip
    tokens = torch.randn(2, 17, 16)
    layer.to_out = nn.Identity()
    assert torch.equal(layer.eval()(tokens), layer(tokens))
    once, again = (layer.train()(tokens) for _ in range(2))
    assert not torch.allclose(once, again)
