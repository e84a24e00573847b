"""The two denoising networks: U-Net and diffusion transformer, and what they are told beside the picture."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.nn import Conditioning, DiT, DiTConfig, UNet, UNetConfig, sinusoidal_embedding, sinusoidal_positions
from gentext.nn.dit import DiTBlock
from gentext.nn.unet import PictureAttention, ResidualBlock

few = settings(max_examples=10, deadline=None)
SMALL = {"image_size": 8, "widths": (8, 16), "groups": 4, "head_dim": 8, "condition_width": 32, "num_classes": 3}
SMALL_DIT = {"image_size": 8, "width": 16, "num_layers": 2, "num_heads": 2, "num_classes": 3}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with all its weights off their start, where much is 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(seed), dtype=parameter.dtype))
    return model.eval()


def small(kind: str, **changes) -> nn.Module:
    torch.manual_seed(0)
    return UNet(UNetConfig(**{**SMALL, **changes})) if kind == "unet" else DiT(DiTConfig(**{**SMALL_DIT, **changes}))


def example(n: int = 3, size: int = 8, channels: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(n, channels, size, size, generator=seeded(1))
    return x, torch.linspace(-5, 5, n), torch.arange(n) % 3


both = pytest.mark.parametrize("kind", ["unet", "dit"])


# ---- both networks ---------------------------------------------------------------------------------------------------


@both
def test_the_books_networks_are_small(kind):
    model = UNet(UNetConfig(num_classes=22)) if kind == "unet" else DiT(DiTConfig(num_classes=22))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 1e6 < count < 3e6
    x = torch.randn(2, 1, 32, 32)
    assert model(x, torch.zeros(2), torch.tensor([0, 22])).shape == x.shape
    assert not list(model.buffers()) or kind == "dit"
    assert not any("positions" in name for name in model.state_dict())


@both
def test_an_untrained_network_says_nothing(kind):
    model, inputs = small(kind), example()
    assert (model(*inputs) == 0).all()


@both
def test_every_input_counts_and_examples_do_not_mix(kind):
    model = moved(small(kind)).double()
    x, log_snr, label = example()
    x, log_snr = x.double(), log_snr.double()
    out = model(x, log_snr, label)
    for changed in ((x + 1, log_snr, label), (x, log_snr + 1, label), (x, log_snr, (label + 1) % 3)):
        assert ((model(*changed) - out).abs().flatten(1).max(1).values > 1e-6).all()
    for index in range(3):
        alone = model(x[index : index + 1], log_snr[index : index + 1], label[index : index + 1])
        torch.testing.assert_close(alone, out[index : index + 1], rtol=1e-9, atol=1e-9)


@both
def test_no_label_is_the_null_class(kind):
    model = moved(small(kind))
    x, log_snr, label = example()
    null = torch.full_like(label, 3)
    assert torch.equal(model(x, log_snr), model(x, log_snr, null))
    assert not torch.equal(model(x, log_snr), model(x, log_snr, label))
    unconditional = moved(small(kind, num_classes=0))
    assert torch.equal(unconditional(x, log_snr), unconditional(x, log_snr, label))


@both
def test_every_weight_learns(kind):
    model = moved(small(kind)).train()
    model(*example()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


@both
def test_dropout_only_in_training(kind):
    model = moved(small(kind, dropout=0.5))
    inputs = example()
    assert torch.equal(model(*inputs), model(*inputs))
    model.train()
    assert not torch.equal(model(*inputs), model(*inputs))


@both
def test_a_traced_network_takes_any_batch(kind):
    """What the page's export needs: no shape and no branch depends on the data."""
    model, dim = moved(small(kind)), torch.export.Dim("batch", min=1, max=64)
    shapes = {"x": {0: dim}, "log_snr": {0: dim}, "label": {0: dim}}
    traced = torch.export.export(model, example(4), dynamic_shapes=shapes).module()
    for n in (1, 4, 7):
        torch.testing.assert_close(traced(*example(n)), model(*example(n)))


@both
@few
@given(n=st.integers(1, 3), channels=st.integers(1, 3), size=st.sampled_from([4, 8, 12]))
def test_shapes(kind, n, channels, size):
    model = small(kind, channels=channels, image_size=size)
    x, log_snr, label = example(n, size, channels)
    assert model(x, log_snr, label).shape == x.shape


@both
def test_bad_input_is_refused(kind):
    model, (x, log_snr, label) = small(kind), example()
    with pytest.raises(ValueError, match=r"images must have shape \(n, 1, 8, 8\)"):
        model(x[:, :, :4], log_snr, label)
    with pytest.raises(ValueError, match=r"label must be whole numbers of shape \(3,\), got \(2,\)"):
        model(x, log_snr, label[:2])
    with pytest.raises(ValueError, match="label must be whole numbers"):
        model(x, log_snr, label.float())
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2, or be 3 for none"):
            model(x, log_snr, torch.tensor([0, 1, wrong]))


# ---- the condition ---------------------------------------------------------------------------------------------------


def test_sinusoidal_embeddings_are_positions_at_whole_numbers():
    embedding = sinusoidal_embedding(torch.arange(50, dtype=torch.float64), 16)
    interleaved = sinusoidal_positions(50, 16)
    torch.testing.assert_close(embedding, torch.cat([interleaved[:, 1::2], interleaved[:, ::2]], 1))
    for features in (0, 7):
        with pytest.raises(ValueError, match="an even number of at least 2"):
            sinusoidal_embedding(torch.zeros(2), features)


def test_noise_levels_are_told_apart_and_without_jumps():
    told = Conditioning(32, 64, 0).double()
    level = torch.linspace(-20, 15, 700, dtype=torch.float64)
    vectors = sinusoidal_embedding(told.SCALE * level, 32)
    distances = torch.cdist(vectors, vectors)
    far = (level[:, None] - level).abs() > 0.5
    assert distances[far].min() > 0.2
    assert distances.diagonal(1).max() < 1


# ---- the U-Net -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": ()}, "widths, groups and head_dim must be positive"),
        ({"head_dim": 0}, "widths, groups and head_dim must be positive"),
        ({"widths": (30, 64)}, "groups must divide every width and head_dim the last"),
        ({"head_dim": 48}, "head_dim the last"),
        ({"image_size": 30}, "image_size must be a multiple of 4 for so many stages and patches of 1, got 30"),
        ({"image_size": 28, "patch": 2}, "image_size must be a multiple of 8 for so many stages and patches of 2"),
        ({"patch": 0}, "patch must be at least 1, got 0"),
        ({"channels": 0}, "channels, num_blocks and condition_width must be at least 1"),
        ({"num_classes": -1}, "num_classes not negative"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_unets_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**changes)


def test_every_place_sees_every_other():
    """The middle's attention carries news from one corner to the other."""
    model = moved(small("unet", image_size=32, widths=(8, 16, 16))).double()
    x = torch.randn(1, 1, 32, 32, generator=seeded(), dtype=torch.float64, requires_grad=True)
    model(x, torch.zeros(1).double(), torch.zeros(1).long())[0, 0, 0, 0].backward()
    assert (x.grad != 0).all()


def test_patches_save_the_widest_stage():
    """Half the side with four times the channels: the same picture, a quarter of the places to convolve."""
    whole, cut = small("unet", image_size=16, patch=1), small("unet", image_size=16, patch=2)
    sides = {}
    for name, model in (("whole", whole), ("cut", cut)):
        model.down[0].register_forward_hook(lambda _, __, out, name=name: sides.update({name: out.shape[-1]}))
        assert model(*example(size=16)).shape == (3, 1, 16, 16)
    assert sides == {"whole": 16, "cut": 8}


def test_the_condition_scales_and_shifts_each_channel():
    block = moved(ResidualBlock(8, 8, UNetConfig(**SMALL))).double()
    x = torch.randn(2, 8, 4, 4, generator=seeded(), dtype=torch.float64)
    condition = torch.randn(2, 32, generator=seeded(1), dtype=torch.float64)
    scale, shift = block.condition(F.silu(condition)).split(8, dim=1)
    h = block.norm_2(block.conv_1(F.silu(block.norm_1(x))))
    told = torch.stack([h[:, c] * (1 + scale[:, c, None, None]) + shift[:, c, None, None] for c in range(8)], 1)
    torch.testing.assert_close(block(x, condition), x + block.conv_2(F.silu(told)))


def test_parity_of_the_unet_with_diffusers():
    diffusers = pytest.importorskip("diffusers")
    config = UNetConfig(
        image_size=32, channels=2, patch=2, widths=(8, 16, 24), groups=4, head_dim=8, condition_width=32, num_classes=3
    )
    ours = moved(UNet(config)).double()
    peer = diffusers.UNet2DModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        resnet_time_scale_shift="scale_shift",
        freq_shift=0,
        flip_sin_to_cos=True,
        block_out_channels=(8, 16, 24),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        attn_norm_num_groups=4,
        attention_head_dim=8,
        num_class_embeds=4,
    )
    peer = peer.double().eval()
    pairs: list[tuple[nn.Module, nn.Module]] = [
        (peer.time_embedding.linear_1, ours.conditioning.input),
        (peer.time_embedding.linear_2, ours.conditioning.output),
        (peer.class_embedding, ours.conditioning.label_embedding),
        (peer.conv_in, ours.input),
        (peer.conv_norm_out, ours.norm),
        (peer.conv_out, ours.output),
    ]

    def layers(blocks, samplers: str):
        for block in blocks:
            yield from block.resnets
            yield from (sampler.conv for sampler in getattr(block, samplers) or ())

    pairs += zip(layers(peer.down_blocks, "downsamplers"), ours.down, strict=True)
    pairs += zip(peer.mid_block.resnets, (ours.middle_1, ours.middle_2), strict=True)
    pairs += [(peer.mid_block.attentions[0], ours.attention)]
    pairs += zip(layers(peer.up_blocks, "upsamplers"), ours.up, strict=True)
    with torch.no_grad():
        for theirs, own in pairs:
            copy(own, theirs)
    assert sum(p.numel() for p in peer.parameters()) == sum(p.numel() for p in ours.parameters())
    x = torch.randn(4, 2, 32, 32, generator=seeded(), dtype=torch.float64)
    log_snr, label = torch.tensor([-7.0, -0.5, 2.0, 9.0], dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    wanted = F.pixel_shuffle(peer(F.pixel_unshuffle(x, 2), 10 * log_snr, class_labels=label).sample, 2)
    error = ((ours(x, log_snr, label) - wanted).abs().max() / wanted.abs().max()).item()
    assert error < 1e-6  # they compute the sines in float32


def copy(own: nn.Module, theirs: nn.Module) -> None:
    if isinstance(own, ResidualBlock):
        names = {
            "norm_1": "norm1",
            "conv_1": "conv1",
            "condition": "time_emb_proj",
            "norm_2": "norm2",
            "conv_2": "conv2",
        }
        for mine, other in names.items():
            copy(getattr(own, mine), getattr(theirs, other))
        if not isinstance(own.skip, nn.Identity):
            copy(own.skip, theirs.conv_shortcut)
    elif isinstance(own, PictureAttention):
        copy(own.norm, theirs.group_norm)
        copy(own.output, theirs.to_out[0])
        split(own.qkv, theirs)
    else:
        theirs.load_state_dict(own.state_dict())


def split(qkv: nn.Linear, theirs: nn.Module) -> None:
    for linear, weight, bias in zip(
        (theirs.to_q, theirs.to_k, theirs.to_v), qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True
    ):
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


# ---- the transformer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers, num_heads and mlp_ratio must be at least 1"),
        ({"patch": 5}, "patches of side 5 do not fill images of side 32"),
        ({"width": 126}, "width must be a multiple of 4 and of num_heads"),
        ({"num_heads": 3}, "width must be a multiple of 4 and of num_heads"),
        ({"num_classes": -1}, "num_classes must not be negative"),
        ({"dropout": 1.0}, r"dropout lie in \[0, 1\)"),
    ],
)
def test_bad_transformers_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DiTConfig(**changes)


def test_a_block_begins_as_the_identity():
    block = DiTBlock(DiTConfig(**SMALL_DIT))
    x = torch.randn(2, 4, 16, generator=seeded())
    assert torch.equal(block(x, torch.randn(2, 16, generator=seeded())), x)


def test_patches_come_back_where_they_were():
    """A network that reads each patch out as it was put in gives the picture back."""
    model = DiT(DiTConfig(image_size=8, channels=2, patch=2, width=8, num_layers=1, num_heads=2))
    with torch.no_grad():
        model.input.weight.copy_(torch.eye(8).view(8, 2, 2, 2))
        model.input.bias.zero_()
        model.positions.zero_()
        model.output.weight.copy_(torch.eye(8))
    x = torch.randn(3, 2, 8, 8, generator=seeded())
    tokens = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3)  # (n, 4, 4, 8)
    normed = (tokens - tokens.mean(-1, keepdim=True)) / (tokens.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()
    wanted = normed.view(3, 4, 4, 2, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(3, 2, 8, 8)
    torch.testing.assert_close(model(x, torch.zeros(3)), wanted, rtol=1e-5, atol=1e-5)


def test_places_differ():
    """Without positions a transformer would not see where a patch is."""
    model = moved(small("dit")).double()
    x = torch.zeros(1, 1, 8, 8).double()
    patches = model(x, torch.zeros(1).double()).unfold(2, 4, 4).unfold(3, 4, 4).reshape(4, 16)
    assert torch.pdist(patches).min() > 1e-3


def test_parity_of_a_block_with_diffusers():
    pytest.importorskip("diffusers")
    from diffusers.models.attention import FeedForward
    from diffusers.models.attention_processor import Attention
    from diffusers.models.normalization import AdaLayerNormZero

    block = moved(DiTBlock(DiTConfig(**SMALL_DIT))).double()
    norm, attention = AdaLayerNormZero(16).double(), Attention(16, heads=2, dim_head=8, bias=True).double()
    feed = FeedForward(16, activation_fn="gelu-approximate").double()
    with torch.no_grad():
        norm.linear.load_state_dict(block.modulation.state_dict())
        split(block.qkv, attention)
        attention.to_out[0].load_state_dict(block.output.state_dict())
        feed.net[0].proj.load_state_dict(block.up.state_dict())
        feed.net[2].load_state_dict(block.down.state_dict())
    x = torch.randn(2, 4, 16, generator=seeded(), dtype=torch.float64)
    condition = torch.randn(2, 16, generator=seeded(1), dtype=torch.float64)
    h, gate, shift_2, scale_2, gate_2 = norm(x, emb=condition)
    y = x + gate[:, None] * attention(h)
    h = block.norm_2(y) * (1 + scale_2[:, None]) + shift_2[:, None]
    wanted = y + gate_2[:, None] * feed(h)
    got = block(x, condition)
    error = ((got - wanted).abs().max() / wanted.abs().max()).item()
    assert error < 1e-12
    assert math.isfinite(error)
