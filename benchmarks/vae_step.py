"""Training a VAE: gentext's step and its `fit` against the plainest PyTorch there is for the same network.

The reference is what one would write on one page: layers in a row, the bound in four lines, torch's Adam with its
defaults, a DataLoader. Before anything is timed, both are given the same weights, images and noise, and must agree
on the bound and on every gradient.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import gentext
from gentext import data
from gentext.train import FitConfig, TensorData, fit
from gentext.train.loop import make_optimizer
from gentext.vae import VAE, VAEConfig

if __package__:
    from .harness import Report, compare, parse, parser
else:  # python benchmarks/vae_step.py
    from harness import Report, compare, parse, parser

CONFIG = VAEConfig(image_size=32, latent_dim=16, width=16, hidden=(128,))
LEARNING_RATE = 1e-3


class PlainVAE(nn.Module):
    """The architecture of `VAE(CONFIG)`, written down."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(64 * 16, 128), nn.SiLU(),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(16, 128), nn.SiLU(),
            nn.Linear(128, 64 * 16), nn.Unflatten(1, (64, 4, 4)), nn.SiLU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.SiLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )  # fmt: skip
        self.to_posterior = nn.Linear(128, 32)

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        mean, log_var = self.to_posterior(self.encoder(x)).chunk(2, dim=1)
        logits = self.decoder(mean + torch.exp(0.5 * log_var) * noise)
        distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        rate = 0.5 * torch.sum(mean**2 + torch.exp(log_var) - 1 - log_var)
        return (distortion + rate) / len(x)


def same_weights(model: VAE, plain: PlainVAE) -> None:
    """Copy the weights of `model` to `plain`. Both register encoder, decoder and posterior in this order."""
    ours, theirs = list(model.parameters()), list(plain.parameters())
    assert [p.shape for p in ours] == [p.shape for p in theirs]
    with torch.no_grad():
        for source, target in zip(ours, theirs, strict=True):
            target.copy_(source)


def check_agreement(model: VAE, plain: PlainVAE, images: Tensor, labels: Tensor) -> None:
    """Both compute one bound and one gradient, or there is nothing to compare."""
    generator = torch.Generator(images.device).manual_seed(0)
    ours = model.loss((images, labels), generator=generator).total
    noise = torch.randn(len(images), 16, generator=generator.manual_seed(0), device=images.device)
    theirs = plain.loss(images, noise)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-3)
    gradients = zip(
        torch.autograd.grad(ours, list(model.parameters())),
        torch.autograd.grad(theirs, list(plain.parameters())),
        strict=True,
    )
    for mine, other in gradients:
        assert (mine - other).norm() <= 1e-3 * other.norm() + 1e-4


def our_step(model: VAE, images: Tensor, labels: Tensor) -> Callable[[], None]:
    generator = torch.Generator(images.device).manual_seed(0)
    config = FitConfig(num_steps=1, learning_rate=LEARNING_RATE)
    optimizer = make_optimizer(list(model.parameters()), config, images.device)  # as `fit` makes it

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss((images, labels), generator=generator).total.backward()
        optimizer.step()

    return step


def plain_step(plain: PlainVAE, images: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(plain.parameters(), lr=LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        plain.loss(images, torch.randn(len(images), 16, device=images.device)).backward()
        optimizer.step()

    return step


def our_loop(model: VAE, train: TensorData, steps: int, batch_size: int, device: torch.device) -> Callable[[], None]:
    config = FitConfig(
        num_steps=steps, batch_size=batch_size, learning_rate=LEARNING_RATE, precision="fp32", clip_norm=None,
        schedule="constant", warmup_steps=0,
    )  # fmt: skip

    def loop() -> None:
        fit(model, train, config, progress=False, device=device)

    return loop


def plain_loop(plain: PlainVAE, train: TensorData, steps: int, batch_size: int) -> Callable[[], None]:
    device = train.device

    def loop() -> None:
        optimizer = torch.optim.Adam(plain.parameters(), lr=LEARNING_RATE)
        loader = DataLoader(TensorDataset(*train.tensors), batch_size=batch_size, shuffle=True, drop_last=True)
        done, losses = 0, []
        while done < steps:
            for images, _ in loader:
                optimizer.zero_grad()
                loss = plain.loss(images, torch.randn(len(images), 16, device=device))
                loss.backward()
                optimizer.step()
                losses.append(loss.item())  # the curve that everyone keeps
                done += 1
                if done == steps:
                    break

    return loop


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=20, help="training steps in one timing of the whole loop")
    arguments = parse(options, argv)
    device, size = gentext.device(arguments.device), arguments.batch_size
    torch.manual_seed(0)
    signs = data.load("glyphs", "train", size=32).to(device)
    if size > len(signs):
        options.error(f"--batch-size must be at most {len(signs)}, the training signs, got {size}")
    images, labels = signs.images[:size], signs.labels[:size]

    model, plain = VAE(CONFIG).to(device), PlainVAE().to(device)
    same_weights(model, plain)
    check_agreement(model, plain, images, labels)
    count = sum(parameter.numel() for parameter in model.parameters())
    report = Report(f"VAE of {count / 1e6:.2f} M parameters, 32×32 signs, batches of {size}", device)
    report.comparisons.append(
        compare(
            "one step, same batch",
            our_step(model, images, labels),
            plain_step(plain, images),
            rounds=arguments.rounds,
            device=device,
        )
    )
    train = TensorData((signs.images, signs.labels))
    report.comparisons.append(
        compare(
            f"{arguments.steps} steps, data included",
            our_loop(model, train, arguments.steps, size, device),
            plain_loop(plain, train, arguments.steps, size),
            rounds=arguments.rounds,
            warmup=1,
            device=device,
        )
    )
    report.deliver(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
