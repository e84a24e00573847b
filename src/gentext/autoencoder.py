"""Autoencoders: copy a picture through a code too small to hold it (chapter 4).

An encoder f squeezes an image x into a code h = f(x), a decoder g unfolds it into x̂ = g(h), and both learn to make
the squared error ‖x − x̂‖² small. One class holds the family; its configuration picks the member:

- linear, multilayer perceptron or convolutional networks;
- tied weights: the decoder uses the encoder's matrices, transposed;
- denoising: the encoder sees a damaged image and must give back the whole one (Vincent et al. 2008);
- sparse: the code is nonnegative and pays for what it uses.

Beside it stand the closed form that a linear autoencoder must reach, `PCA` (in `gentext.nn`), and the ruler that says
how far two subspaces are apart, `principal_angles`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.data import DAMAGE_KINDS, damage
from gentext.nn import PCA as PCA  # shared with chapter 2; here it is what a linear autoencoder must reach
from gentext.nn import ConvDecoder, ConvEncoder, Loss, check_codes, check_images, mlp

FIRST_INK = 0.15  # the grey of a decoder's first drawings: about the share of ink in a sign


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Which autoencoder to build. Images are (channels, image_size, image_size) with ink in [0, 1]."""

    image_size: int = 32
    channels: int = 1
    latent_dim: int = 16
    network: Literal["linear", "mlp", "conv"] = "conv"
    width: int = 32  # conv: channels after the first halving
    hidden: tuple[int, ...] = (512, 128)  # mlp: hidden layers of the encoder; the decoder mirrors them
    tied: bool = False  # linear, mlp: decoder matrices are the encoder's, transposed
    nonnegative: bool = False  # h = relu(·), so that a code can be exactly zero
    sparsity: float = 0.0  # weight of the penalty on the code, in squared ink per unit of code
    corruption: tuple[str, ...] = ()  # kinds of `data.damage`; one is drawn for each image of a batch
    corruption_strength: float = 0.5  # in (0, 1], as in `data.damage`

    def __post_init__(self) -> None:
        # A configuration read back from JSON brings lists.
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "corruption", tuple(self.corruption))
        if self.network not in ("linear", "mlp", "conv"):
            raise ValueError(f'network must be "linear", "mlp" or "conv", got {self.network!r}')
        for name in ("image_size", "channels", "latent_dim", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if any(units < 1 for units in self.hidden):
            raise ValueError(f"hidden layers must have at least 1 unit each, got {self.hidden}")
        if self.network == "conv" and (self.tied or self.sparsity):
            raise ValueError('tied weights and sparsity are for network="linear" or "mlp", not "conv"')
        if not (math.isfinite(self.sparsity) and self.sparsity >= 0):
            raise ValueError(f"sparsity must be a number of at least 0, got {self.sparsity}")
        unknown = sorted(set(self.corruption) - set(DAMAGE_KINDS))
        if unknown:
            raise ValueError(f"unknown corruption {', '.join(unknown)}; choose from {', '.join(DAMAGE_KINDS)}")
        if not 0 < self.corruption_strength <= 1:
            raise ValueError(f"corruption_strength must lie in (0, 1], got {self.corruption_strength}")

    @property
    def num_pixels(self) -> int:
        """Numbers in one image: channels × image_size²."""
        return self.channels * self.image_size**2


class Autoencoder(nn.Module):
    """Encoder, decoder and their training loss, as `config` says.

    A linear autoencoder has no squashing anywhere, so it is exactly x̂ = V (W x + b) + c. The others end in a sigmoid,
    which keeps x̂ in (0, 1).
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden if config.network == "mlp" else ()
        sizes = [config.num_pixels, *hidden, config.latent_dim]
        self.encoder: nn.Module
        self.decoder: nn.Module
        if config.network == "conv":
            self.encoder = ConvEncoder(config.channels, config.image_size, config.width, config.latent_dim)
            self.decoder = ConvDecoder(config.latent_dim, config.channels, config.image_size, config.width)
        else:
            self.encoder = mlp(sizes)
            self.decoder = TransposedMLP(self.encoder) if config.tied else mlp(sizes[::-1])
        if config.network != "linear":
            # Begun at mid-grey, the first steps bleach every pixel at once, some so hard that the sigmoid is flat there
            # and learns no more: the decoder draws blank paper for ever.
            nn.init.constant_(list(self.decoder.parameters())[-1], math.log(FIRST_INK / (1 - FIRST_INK)))

    def encode(self, x: Tensor) -> Tensor:
        """Codes h (n, latent_dim) of images x (n, channels, image_size, image_size)."""
        check_images(x, self.config.channels, self.config.image_size)
        h = self.encoder(x if self.config.network == "conv" else x.flatten(1))  # (n, latent_dim)
        return F.relu(h) if self.config.nonnegative else h

    def decode(self, h: Tensor) -> Tensor:
        """Images x̂ (n, channels, image_size, image_size) of codes h (n, latent_dim)."""
        check_codes(h, self.config.latent_dim, name="h")
        out = self.decoder(h)
        if self.config.network != "conv":
            side = self.config.image_size
            out = out.unflatten(1, (self.config.channels, side, side))  # (n, pixels) -> (n, channels, side, side)
        return out if self.config.network == "linear" else torch.sigmoid(out)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction x̂ = g(f(x)), shaped like x."""
        return self.decode(self.encode(x))

    def corrupt(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x as the encoder sees it in training: each image damaged in one kind drawn from `config.corruption`.

        Raises ValueError where there is something to draw and no generator to draw it from.
        """
        check_images(x, self.config.channels, self.config.image_size)
        kinds, strength = self.config.corruption, self.config.corruption_strength
        if not kinds:
            return x
        if generator is None:
            raise ValueError("a denoising autoencoder draws its damage: pass generator=torch.Generator()")
        choice = torch.randint(len(kinds), (len(x),), generator=generator, device=generator.device).to(x.device)
        damaged = x.clone()
        for index, kind in enumerate(kinds):
            rows = choice == index  # (n,)
            if rows.any():
                damaged[rows] = damage(x[rows], kind, strength, generator)
        return damaged

    def sparsity_penalty(self, h: Tensor) -> Tensor:
        """Σ_j |h_j| ‖d_j‖, averaged over the codes h (n, latent_dim); d_j is what one unit of h_j adds.

        d_j is column j of the decoder's first matrix. Without its length the penalty could be evaded: halve every
        code, double every column, and the picture stays the same.
        """
        lengths = self.code_directions().norm(dim=0)  # (latent_dim,)
        return (h.abs() * lengths).sum(dim=1).mean()

    def code_directions(self) -> Tensor:
        """The decoder's first matrix (features, latent_dim); of a linear autoencoder, V (pixels, latent_dim).

        Its columns span what a linear decoder can draw, up to the offset c. Raises ValueError for "conv".
        """
        if self.config.network == "conv":
            raise ValueError(
                'code_directions is for network="linear" or "mlp"; a convolutional decoder has no such matrix'
            )
        if isinstance(self.decoder, TransposedMLP):
            return linear_layers(self.encoder)[-1].weight.T
        return linear_layers(self.decoder)[0].weight

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        """Squared error of the batch's images, summed over pixels, averaged over images, plus the price of the code.

        Args:
            batch: (images, ...) with images (n, channels, image_size, image_size); the rest, labels say, is ignored.
            generator: draws the damage of a denoising autoencoder; not used otherwise.

        Returns:
            terms `squared_error` and, where the configuration asks for it, `sparsity` (already weighted); both in
            squared ink, so the total is their sum.
        """
        x = batch[0]
        h = self.encode(self.corrupt(x, generator))  # (n, latent_dim)
        x_hat = self.decode(h)  # (n, channels, side, side)
        terms = {"squared_error": squared_error(x, x_hat).mean()}
        if self.config.sparsity:
            terms["sparsity"] = self.config.sparsity * self.sparsity_penalty(h)
        return Loss(total=torch.stack(list(terms.values())).sum(), terms=terms)


class TransposedMLP(nn.Module):
    """The mirror image of an MLP: its matrices transposed, in reverse order, with biases of its own (tied weights)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        # In a plain list, so that the shared matrices are registered once, as the encoder's.
        self._mirrored = [encoder]
        self.biases = nn.ParameterList(
            [nn.Parameter(torch.zeros(layer.in_features)) for layer in reversed(linear_layers(encoder))]
        )

    def forward(self, h: Tensor) -> Tensor:
        """(n, encoder outputs) -> (n, encoder inputs)."""
        layers = reversed(linear_layers(self._mirrored[0]))
        for index, (layer, bias) in enumerate(zip(layers, self.biases, strict=True)):
            h = F.linear(F.silu(h) if index else h, layer.weight.T, bias)
        return h


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """The linear layers of a network, first to last."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)]


def squared_error(x: Tensor, x_hat: Tensor) -> Tensor:
    """‖x − x̂‖² of each image, summed over its pixels: (n, ...), (n, ...) -> (n,), in squared ink."""
    if x.shape != x_hat.shape:
        raise ValueError(f"x and x_hat must have the same shape, got {tuple(x.shape)} and {tuple(x_hat.shape)}")
    return (x - x_hat).square().flatten(1).sum(dim=1)


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """Angles between the column spaces of a (d, p) and b (d, q), in radians, largest first: (min(p, q),).

    The cosines are the singular values of Qaᵀ Qb for orthonormal bases Qa, Qb (Björck and Golub 1973). A cosine near 1
    hides a small angle in its last digits, so angles under 45° are read from their sines instead, the singular values
    of (I − Qa Qaᵀ) Qb. Computed in float64 on the CPU. Raises ValueError where columns are linearly dependent or not
    finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[0]:
        raise ValueError(f"a and b must be matrices with as many rows, got {tuple(a.shape)} and {tuple(b.shape)}")
    first, second = orthonormal_basis(a, "a"), orthonormal_basis(b, "b")
    if first.shape[1] < second.shape[1]:
        first, second = second, first
    overlap = first.T @ second  # (max, min)
    cosines = torch.linalg.svdvals(overlap).flip(0).clamp(0, 1)  # rising: largest angle first
    sines = torch.linalg.svdvals(second - first @ overlap).clamp(0, 1)  # falling: largest angle first
    return torch.where(cosines.square() > 0.5, torch.arcsin(sines), torch.arccos(cosines))


def orthonormal_basis(columns: Tensor, name: str = "columns") -> Tensor:
    """An orthonormal basis (d, p), float64 on the CPU, of the span of p independent columns (d, p)."""
    columns = columns.detach().cpu().double()
    if not bool(columns.isfinite().all()):
        raise ValueError(f"the entries of {name} must be finite; some are NaN or infinite")
    left, singular, _ = torch.linalg.svd(columns, full_matrices=False)
    threshold = max(columns.shape) * torch.finfo(torch.float64).eps * singular[:1]
    if columns.shape[1] > columns.shape[0] or not bool((singular > threshold).all()):
        raise ValueError(f"the columns of {name} must be linearly independent; drop those that repeat others")
    return left
