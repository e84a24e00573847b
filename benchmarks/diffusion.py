"""Diffusion: a training step and twenty steps of DPM-Solver++ against diffusers' U-Net and its scheduler.

Both networks have the shape of the recipe's and the same weights, given one as the other. Before anything is timed
both sides must agree: on the loss and its gradients from the same noise, and on the signs that the sampler ends in.
The sampler is timed twice: as each library has it, its own network under its own loop, and both loops over our network.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gentext
from gentext import data
from gentext.diffusion import DiffusionConfig, GaussianDiffusion, NoiseSchedule
from gentext.diffusion_sampling import dpm_solver_2m
from gentext.nn import UNetConfig
from gentext.train import FitConfig
from gentext.train.config import has_fast_bf16
from gentext.train.loop import make_optimizer
from gentext.train.recipes_diffusion import diffusion_glyphs

if __package__:
    from .harness import Report, compare, parse, parser
else:  # python benchmarks/diffusion.py
    from harness import Report, compare, parse, parser

SCHEDULE = NoiseSchedule(kind="linear")  # one that both libraries define alike, to the last digit that matters
LEARNING_RATE = 1e-3


# ---- the same network twice ------------------------------------------------------------------------------------------


class Patched(nn.Module):
    """A UNet2DModel that is given pictures cut into patches, as ours cuts them, and returns its answer whole."""

    def __init__(self, peer: Any, patch: int) -> None:
        super().__init__()
        self.peer, self.patch = peer, patch

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        answer = self.peer(F.pixel_unshuffle(x, self.patch), t, class_labels=label).sample
        return F.pixel_shuffle(answer, self.patch)


def make_models(unet: UNetConfig, device: torch.device) -> tuple[GaussianDiffusion, Any]:
    """Ours, and a UNet2DModel of the same weights. Labels of training are never dropped, estimates never clipped."""
    import diffusers

    torch.manual_seed(0)
    ours = GaussianDiffusion(DiffusionConfig(unet=unet, schedule=SCHEDULE, label_dropout=0, clip=False))
    with torch.no_grad():
        for parameter in ours.parameters():  # much starts at 0, where any two networks agree
            parameter.add_(0.02 * torch.randn(parameter.shape))
    stages, pixels = len(unet.widths), unet.channels * unet.patch**2
    peer: Any = diffusers.UNet2DModel(
        sample_size=unet.image_size // unet.patch, in_channels=pixels, out_channels=pixels, freq_shift=0,
        block_out_channels=unet.widths, down_block_types=("DownBlock2D",) * stages,
        up_block_types=("UpBlock2D",) * stages, layers_per_block=unet.num_blocks, norm_num_groups=unet.groups,
        attention_head_dim=unet.head_dim, time_embedding_dim=unet.condition_width, dropout=unet.dropout,
        num_class_embeds=unet.num_classes + 1, attn_norm_num_groups=unet.groups,
        resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    with torch.no_grad():
        for target, source in matching(peer, ours.network):
            target.copy_(source)
    assert sum(p.numel() for p in peer.parameters()) == sum(p.numel() for p in ours.parameters())
    # Channels last for both: a CPU convolves twice as fast, and the recipe trains so.
    layout = torch.channels_last
    return ours.to(device, memory_format=layout), Patched(peer, unet.patch).to(device, memory_format=layout)


def matching(theirs: Any, network: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Each of their parameters with ours."""

    def sampled(blocks: Any, samplers: str) -> Iterator[nn.Module]:
        for block in blocks:
            yield from block.resnets
            yield from (sampler.conv for sampler in getattr(block, samplers) or ())

    told = network.conditioning
    modules: list[tuple[Any, Any]] = [
        (theirs.time_embedding.linear_1, told.input),
        (theirs.time_embedding.linear_2, told.output),
        (theirs.class_embedding, told.label_embedding),
        (theirs.conv_in, network.input),
        (theirs.conv_norm_out, network.norm),
        (theirs.conv_out, network.output),
    ]
    attention = theirs.mid_block.attentions[0]
    modules += [(attention.group_norm, network.attention.norm), (attention.to_out[0], network.attention.output)]
    layers = [
        *zip(sampled(theirs.down_blocks, "downsamplers"), network.down, strict=True),
        *zip(theirs.mid_block.resnets, (network.middle_1, network.middle_2), strict=True),
        *zip(sampled(theirs.up_blocks, "upsamplers"), network.up, strict=True),
    ]
    names = (("norm1", "norm_1"), ("conv1", "conv_1"), ("time_emb_proj", "condition"), ("norm2", "norm_2"))
    for other, own in layers:
        if isinstance(own, nn.Conv2d):  # between two stages
            modules.append((other, own))
            continue
        modules += [(getattr(other, name), getattr(own, mine)) for name, mine in (*names, ("conv2", "conv_2"))]
        if other.conv_shortcut is not None:
            modules.append((other.conv_shortcut, own.skip))
    for target, source in modules:
        yield from zip(target.parameters(), source.parameters(), strict=True)
    parts = (attention.to_q, attention.to_k, attention.to_v)
    qkv = network.attention.qkv
    for part, weight, bias in zip(parts, qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True):
        yield part.weight, weight
        yield part.bias, bias


def times_told(device: torch.device) -> Tensor:
    """What their network must be told for t = 1..T so that it hears what ours does: (T,) float32."""
    return (10 * SCHEDULE.log_snr(torch.arange(1, SCHEDULE.num_steps + 1))).float().to(device)


# ---- training --------------------------------------------------------------------------------------------------------


def reference_loss(
    theirs: Any, scheduler: Any, told: Tensor, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    """Squared error of v at one random step of each image, as diffusers' training scripts have it."""
    x0 = 2 * images - 1
    t = (torch.rand(len(x0), generator=generator, device=x0.device) * len(told)).long()
    noise = torch.randn(x0.shape, generator=generator, device=x0.device)
    value = theirs(scheduler.add_noise(x0, noise, t), told[t], labels)
    return F.mse_loss(value.float(), scheduler.get_velocity(x0, noise, t))


def check_training(ours: GaussianDiffusion, theirs: Any, images: Tensor, labels: Tensor, reference: Callable) -> None:
    """One loss and one gradient from the same noise, without dropout, or there is nothing to compare."""
    ours.eval()
    theirs.eval()
    generator = torch.Generator(images.device).manual_seed(0)
    mine = ours.loss((images, labels), generator=generator).total
    other = reference(generator.manual_seed(0))
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    network: Any = ours.network
    gradients = zip(
        torch.autograd.grad(mine, [network.input.weight, network.conditioning.input.weight]),
        torch.autograd.grad(other, [theirs.peer.conv_in.weight, theirs.peer.time_embedding.linear_1.weight]),
        strict=True,
    )
    for a, b in gradients:
        assert (a - b).norm() <= 1e-2 * b.norm(), "the two do not have the same gradient"


def training_step(
    loss: Callable[[torch.Generator], Tensor], model: nn.Module, device: torch.device, precision: str
) -> Callable[[], None]:
    config = FitConfig(num_steps=1, learning_rate=LEARNING_RATE)
    optimizer = make_optimizer(list(model.parameters()), config, device)  # as `fit` makes it
    generator = torch.Generator(device).manual_seed(0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = loss(generator)
        value.backward()
        optimizer.step()

    return step


# ---- sampling --------------------------------------------------------------------------------------------------------


def make_scheduler(num_steps: int) -> Any:
    import diffusers

    scheduler: Any = diffusers.DPMSolverMultistepScheduler(
        beta_start=SCHEDULE.beta_first, beta_end=SCHEDULE.beta_last, prediction_type="v_prediction", solver_order=2,
        algorithm_type="dpmsolver++", final_sigmas_type="zero", lower_order_final=False,
    )  # fmt: skip
    scheduler.set_timesteps(num_steps)
    return scheduler


@torch.no_grad()
def our_samples(ours: GaussianDiffusion, noise: Tensor, labels: Tensor, sigmas: Tensor) -> Tensor:
    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        return ours.denoise(x, sigma, labels)

    return dpm_solver_2m(denoiser, (1 + sigmas[0] ** 2).sqrt().item() * noise, sigmas)


@torch.no_grad()
def reference_samples(
    velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, scheduler: Any, num_steps: int
) -> Tensor:
    """The loop of diffusers' pipelines. velocity: x_t (n, ...) and t (n,) -> v."""
    scheduler.set_timesteps(num_steps)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        value = velocity(scheduler.scale_model_input(x, t), t.expand(len(x)))
        x = scheduler.step(value, t, x).prev_sample
    return x


def main(argv: Sequence[str] | None = None) -> int:
    recipe = diffusion_glyphs()
    built: Any = recipe.build()
    options = parser(__doc__)
    options.set_defaults(batch_size=recipe.fit.batch_size)
    widths = " ".join(map(str, built.config.unet.widths))
    options.add_argument("--widths", type=int, nargs="+", default=built.config.unet.widths, help=f"stages ({widths})")
    options.add_argument("--steps", type=int, default=20, help="of the sampler")
    options.add_argument("--signs", type=int, default=16, help="drawn at a time")
    arguments = parse(options, argv)
    if arguments.steps < 2 or arguments.signs < 1:
        options.error(f"--steps must be at least 2 and --signs 1, got {arguments.steps} and {arguments.signs}")
    try:
        unet = replace(built.config.unet, widths=tuple(arguments.widths))
    except ValueError as error:
        options.error(str(error))
    device = gentext.device(arguments.device)
    test = data.load("glyphs", "test", size=unet.image_size)
    if arguments.batch_size > len(test):
        options.error(f"--batch-size must be at most {len(test)}, got {arguments.batch_size}")
    images, labels = (tensor[: arguments.batch_size].to(device) for tensor in (test.images, test.labels))
    ours, theirs = make_models(unet, device)
    told = times_told(device)

    import diffusers

    training: Any = diffusers.DDPMScheduler(beta_start=SCHEDULE.beta_first, beta_end=SCHEDULE.beta_last)

    def our_loss(generator: torch.Generator) -> Tensor:
        return ours.loss((images, labels), generator=generator).total

    def their_loss(generator: torch.Generator) -> Tensor:
        return reference_loss(theirs, training, told, images, labels, generator)

    scheduler = make_scheduler(arguments.steps)
    sigmas = scheduler.sigmas.double()
    shape = (arguments.signs, unet.channels, unet.image_size, unet.image_size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    scripts = torch.arange(arguments.signs, device=device) % unet.num_classes

    def by_ours() -> Tensor:
        return our_samples(ours, noise, scripts, sigmas)

    def by_theirs(network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return reference_samples(network, noise, scheduler, arguments.steps)

    def their_network(x: Tensor, t: Tensor) -> Tensor:
        return theirs(x, told[t], scripts)

    log_snr = told / 10

    def our_network(x: Tensor, t: Tensor) -> Tensor:
        return ours.network(x, log_snr[t], scripts)

    check_training(ours, theirs, images, labels, their_loss)
    for network in (their_network, our_network):
        torch.testing.assert_close(by_ours(), by_theirs(network), rtol=1e-3, atol=1e-3)

    count = sum(parameter.numel() for parameter in ours.parameters())
    report = Report(
        f"U-Net of {count / 1e6:.2f} M parameters, {len(images)} signs a training step; then {arguments.steps} steps "
        f"of DPM-Solver++(2M) for {arguments.signs} signs",
        device,
    )

    def add(name: str, mine: Callable[[], object], other: Callable[[], object]) -> None:
        report.comparisons.append(compare(name, mine, other, rounds=arguments.rounds, warmup=1, device=device))

    ours.eval()
    theirs.eval()
    add("sampling", by_ours, lambda: by_theirs(their_network))
    add("sampling, both with our network", by_ours, lambda: by_theirs(our_network))
    ours.train()
    theirs.train()
    for precision in ("fp32", "bf16") if has_fast_bf16(device) else ("fp32",):
        add(
            f"training step, {precision}",
            training_step(our_loss, ours, device, precision),
            training_step(their_loss, theirs, device, precision),
        )
    report.deliver(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
