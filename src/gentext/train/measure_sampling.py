"""What is too long for chapter 11's notebook: the quality of drawn and restored signs, measured on hundreds of them.

    python -m gentext.train.measure_sampling      # a quarter of an hour on two cores; goes on where it was stopped

writes `measured_sampling.csv` beside this file, and the chapter plots it. Three experiments with `diffusion-glyphs`,
each on every third sign of the test set or on as many signs drawn in the scripts of those:

    samplers     quality against network calls
    guidance     quality, agreement with a classifier and diversity against the weight of guidance, and with a guide:
                 another classifier, `noisy-glyph-classifier`, that reads noisy signs and bends, or chooses, or both
    restoration  signs with a piece lost or cracked, filled in, judged by the classifier, beside chapter 4's autoencoder

The file's first line has the digest of both networks' weights: a test refuses numbers that belong to others.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from gentext import data, zoo
from gentext.data.images import ImageSet
from gentext.diffusion import GaussianDiffusion
from gentext.diffusion_classifier import NoisyClassifier
from gentext.diffusion_sampling import SAMPLERS, Denoiser, classifier_guidance, inpaint, karras_grid, starting_noise
from gentext.metrics import frechet_distance, glyph_features, precision_recall, psnr

MEASURED = Path(__file__).parent / "measured_sampling.csv"
MODEL, GUIDE = "diffusion-glyphs", "noisy-glyph-classifier"
EXPERIMENTS = ("samplers", "guidance", "restoration")
STEPS = {"ancestral": (10, 20, 50, 200), "ddim": (10, 20, 50), "heun": (5, 10), "dpm-solver++2m": (5, 10, 20)}
GUIDANCE = (0.0, 1.0, 2.0, 4.0, 8.0)
GUIDED = ("dpm-solver++2m", 20)  # sampler and steps of the guidance experiment
EVERYWHERE = (0.0, math.inf)  # noise levels at which guidance works
MIDDLE = (0.3, 3.0)  # and where the strongest works in a further point (Kynkäänniemi et al. 2024)
# Guidance; strength with which the guide bends beside it; among how many draws it chooses.
LED = ((0.0, 3.0, 1), (1.0, 3.0, 1), (4.0, 12.0, 1), (1.0, 0.0, 4), (2.0, 0.0, 4), (4.0, 5.0, 8))
CLEAN = 0.05  # the noise level at which a guide is asked about finished signs
RESTORE_STEPS = 16
DAMAGED = 0.5  # strength
EVERY = 3  # of the test signs one in three, 146


@dataclass(frozen=True)
class Measured:
    """One number.

    Attributes:
        experiment: samplers, guidance or restoration.
        setting: a sampler, or a way of restoring and the kind of damage.
        calls: of the network, for one sign that is shown. Guidance takes two a step; the guide's are not counted.
        metric: frechet (squared units of glyph features), consistency (share of signs that the classifier takes for
            their script), precision, recall, spread (mean distance in features between two signs of one script), psnr.
        error: standard error over the signs; of the Fréchet distance by bootstrap.
        count: signs.
    """

    experiment: str
    setting: str
    calls: int
    guidance: float
    metric: str
    value: float
    error: float
    count: int

    @property
    def point(self) -> tuple[str, str, int, float]:
        return self.experiment, self.setting, self.calls, self.guidance


Metrics = dict[str, tuple[float, float]]  # name -> value and standard error
Point = tuple[tuple[str, str, int, float], Callable[[], Metrics]]


# ---- drawing and restoring -------------------------------------------------------------------------------------------


def grid(model: GaussianDiffusion, num_steps: int) -> Tensor:
    """Karras et al.'s noise levels down to the lowest that the network was trained on, then 0."""
    return karras_grid(num_steps, sigma_min=model.schedule.sigma(torch.ones(1)).item())


def draw(
    model: GaussianDiffusion,
    labels: Tensor,
    sampler: str,
    num_steps: int,
    guidance: float = 1.0,
    within: tuple[float, float] = EVERYWHERE,
    seed: int = 0,
    guide: NoisyClassifier | None = None,
    strength: float = 0.0,
) -> Tensor:
    """One sign for each label (n,): (n, 1, S, S) in [0, 1] on the CPU. The same seed starts from the same noise.

    Guidance works `within` two noise levels; beyond them the model is as it was trained. A `guide` bends every guess
    by `strength` times its slope, whatever the model has been told.
    """
    device, shape = next(model.parameters()).device, model.config.shape
    generator = torch.Generator().manual_seed(seed)
    sigmas = grid(model, num_steps)
    size = (len(labels), shape.channels, shape.image_size, shape.image_size)
    start = starting_noise(size, sigmas, generator=generator)  # on the CPU: the same on every device
    told = None if guidance == 0 else labels.to(device)  # w = 0 is the model without the class

    def as_told(x: Tensor, sigma: Tensor) -> Tensor:
        return model.denoise(x, sigma, told, guidance if within[0] <= float(sigma[0]) <= within[1] else 1.0)

    denoiser: Denoiser = as_told if guide is None else bent(as_told, guide, labels.to(device), strength)
    fresh = torch.Generator(device).manual_seed(seed + 1)
    return model.pixels(SAMPLERS[sampler](denoiser, start.to(device), sigmas, generator=fresh)).cpu()


def bent(denoiser: Denoiser, guide: NoisyClassifier, label: Tensor, strength: float) -> Denoiser:
    """A denoiser bent towards labels (n,) by the guide's slope, and cut off at black and white, -1 and 1."""

    def log_prob(x: Tensor, sigma: Tensor) -> Tensor:
        return guide.log_prob(x, sigma, label)

    towards = classifier_guidance(denoiser, log_prob, strength)
    return lambda x, sigma: towards(x, sigma).clamp(-1, 1)


def damaged_and_known(images: Tensor, kind: str, strength: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Damaged pictures (n, 1, S, S), and bool of the same shape: pixels that this damage leaves as they are.

    The same damage on blank ground and on solid ink shows where it cannot have changed anything.
    """
    pictures = (images, torch.zeros_like(images), torch.ones_like(images))
    worn, ground, ink = (data.damage(x, kind, strength, torch.Generator().manual_seed(seed)) for x in pictures)
    return worn, (ground == 0) & (ink == 1)


def restore(
    model: GaussianDiffusion,
    damaged: Tensor,
    known: Tensor,
    resample: int,
    label: Tensor | None = None,
    num_steps: int = RESTORE_STEPS,
    seed: int = 0,
) -> Tensor:
    """Pictures (n, 1, S, S) in [0, 1], filled in where not `known`; the script told if there is a label."""
    device = next(model.parameters()).device
    told = None if label is None else label.to(device)

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        return model.denoise(x, sigma, told)

    filled = inpaint(
        denoiser,
        model.centred(damaged.to(device)),
        known.to(device),
        grid(model, num_steps),
        resample=resample,
        generator=torch.Generator(device).manual_seed(seed),
    )
    return model.pixels(filled).cpu()


# ---- judging ---------------------------------------------------------------------------------------------------------


def judge(images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Share of signs that the zoo's classifier takes for their script, and its standard error."""
    classifier = zoo.load("glyph-classifier")
    with torch.no_grad():
        return share((classifier(images).argmax(1) == labels).double().mean().item(), len(images))


def share(value: float, count: int) -> tuple[float, float]:
    return value, (value * (1 - value) / count) ** 0.5


def spread(features: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean distance between two signs of one script, over the signs that have another of theirs; standard error."""
    same = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)
    paired = same.any(1)
    distance = torch.cdist(features.double(), features.double())
    each = (distance * same).sum(1)[paired] / same.sum(1)[paired]
    return each.mean().item(), (each.std() / len(each) ** 0.5).item()


def quality(signs: Tensor, labels: Tensor, test: ImageSet) -> Metrics:
    """All that is measured of drawn signs (n, 1, S, S); the Fréchet distance to the whole test set."""
    real, drawn = glyph_features(test.images), glyph_features(signs)
    generator = torch.Generator().manual_seed(0)
    again = [
        frechet_distance(real, drawn[torch.randint(len(drawn), (len(drawn),), generator=generator)]) for _ in range(30)
    ]
    found = precision_recall(real, drawn)
    return {
        "frechet": (frechet_distance(real, drawn), torch.tensor(again).std().item()),
        "consistency": judge(signs, labels),
        "precision": share(found.precision, len(drawn)),
        "recall": share(found.recall, len(real)),
        "spread": spread(drawn, labels),
    }


def restored(pictures: Tensor, whole: Tensor, labels: Tensor) -> Metrics:
    found = {"consistency": judge(pictures, labels)}
    decibels = psnr(whole, pictures)
    if bool(decibels.isfinite().all()):  # a broken sign that lost nothing but bare ground has no error at all
        found["psnr"] = decibels.mean().item(), decibels.std().item() / len(whole) ** 0.5
    return found


# ---- the experiments -------------------------------------------------------------------------------------------------


def points(model: GaussianDiffusion, guide: NoisyClassifier, test: ImageSet, every: int = EVERY) -> Iterator[Point]:
    """All points of the three experiments: what they are, and a function that measures them."""
    part = test.subset(torch.arange(0, len(test), every))

    @functools.cache  # two experiments share a point
    def drawn(sampler: str, num_steps: int, guidance: float, within: tuple[float, float] = EVERYWHERE) -> Metrics:
        return quality(draw(model, part.labels, sampler, num_steps, guidance, within), part.labels, test)

    for sampler, counts in STEPS.items():
        for num_steps in counts:
            calls = 2 * num_steps - 1 if sampler == "heun" else num_steps
            yield ("samplers", sampler, calls, 1.0), functools.partial(drawn, sampler, num_steps, 1.0)
    sampler, num_steps = GUIDED
    for weight in GUIDANCE:
        calls = num_steps if weight in (0.0, 1.0) else 2 * num_steps
        yield ("guidance", sampler, calls, weight), functools.partial(drawn, sampler, num_steps, weight)
    levels, strongest = grid(model, num_steps), max(GUIDANCE)
    calls = num_steps + int(((levels >= MIDDLE[0]) & (levels <= MIDDLE[1])).sum())
    name = f"{sampler}, σ from {MIDDLE[0]} to {MIDDLE[1]}"
    yield ("guidance", name, calls, strongest), functools.partial(drawn, sampler, num_steps, strongest, MIDDLE)

    for weight, strength, many in LED:
        calls = many * (num_steps if weight in (0.0, 1.0) else 2 * num_steps)
        work = functools.partial(led, model, guide, part, test, weight, strength, many)
        yield ("guidance", led_name(strength, many), calls, weight), work
    yield from restoration_points(model, part)


def led_name(strength: float, many: int) -> str:
    """The setting of signs that a guide led."""
    return f"{GUIDED[0]}, guide {strength:g}, best of {many}"


def led(
    model: GaussianDiffusion,
    guide: NoisyClassifier,
    part: ImageSet,
    test: ImageSet,
    weight: float,
    strength: float,
    many: int,
) -> Metrics:
    """The quality of signs that a guide bent with this strength, and then chose, one among so many."""
    sampler, num_steps = GUIDED
    draws = [
        draw(
            model,
            part.labels,
            sampler,
            num_steps,
            weight,
            seed=100 * k,
            guide=guide if strength else None,
            strength=strength,
        )
        for k in range(many)
    ]
    return quality(best(draws, guide, part.labels), part.labels, test)


@torch.no_grad()
def best(draws: Sequence[Tensor], guide: NoisyClassifier, labels: Tensor) -> Tensor:
    """Of draws (n, 1, S, S) in [0, 1] of the same labels (n,), for each the one that the guide is surest of."""
    device = next(guide.parameters()).device
    label, clean = labels.to(device), torch.full((len(labels),), CLEAN, device=device)
    sure = [guide.log_prob(GaussianDiffusion.centred(signs.to(device)), clean, label).cpu() for signs in draws]
    return torch.stack(list(draws))[torch.stack(sure).argmax(0), torch.arange(len(labels))]


def restoration_points(model: GaussianDiffusion, part: ImageSet) -> Iterator[Point]:
    autoencoder = zoo.load("denoising-ae-glyphs")

    @torch.no_grad()
    def by_autoencoder(worn: Tensor, known: Tensor) -> Tensor:
        return torch.where(known, worn, autoencoder(worn).clamp(0, 1))  # it too keeps what is known

    def scored(way: Callable[..., Tensor], *arguments: object) -> Metrics:
        return restored(way(*arguments), part.images, part.labels)

    yield ("restoration", "whole", 0, 1.0), lambda: {"consistency": judge(part.images, part.labels)}
    for kind, ways in {"missing": ((1, False), (5, False), (5, True)), "cracks": ((3, False),)}.items():
        worn, known = damaged_and_known(part.images, kind, DAMAGED)
        untouched = functools.partial(restored, worn, part.images, part.labels)
        yield ("restoration", f"{kind}: left as it is", 0, 1.0), untouched
        yield ("restoration", f"{kind}: autoencoder", 0, 1.0), functools.partial(scored, by_autoencoder, worn, known)
        for resample, told in ways:
            name = f"{kind}: {'one pass' if resample == 1 else 'resampled'}{', told the script' if told else ''}"
            label = part.labels if told else None
            point = ("restoration", name, RESTORE_STEPS * resample, 1.0)
            yield point, functools.partial(scored, restore, model, worn, known, resample, label)


# ---- the file --------------------------------------------------------------------------------------------------------


def digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def networks() -> tuple[GaussianDiffusion, NoisyClassifier, str]:
    """The zoo's two networks that are measured, and the digest of their weights."""
    model, guide = zoo.load(MODEL), zoo.load(GUIDE)
    assert isinstance(model, GaussianDiffusion)
    assert isinstance(guide, NoisyClassifier)
    for network in (model, guide):
        network.requires_grad_(False).to(memory_format=torch.channels_last)  # convolutions a third faster on a CPU
    return model, guide, digest(*(zoo.WEIGHTS / f"{name}.safetensors" for name in (MODEL, GUIDE)))


def read(path: Path = MEASURED) -> tuple[str, list[Measured]]:
    """The digest of the weights that were measured, and the numbers. Raises ValueError if the file is no such file."""
    kinds = {entry.name: {"int": int, "float": float}.get(str(entry.type), str) for entry in fields(Measured)}
    with path.open(encoding="utf-8", newline="") as file:
        first, table = file.readline(), csv.DictReader(file)
        if not first.startswith("# weights ") or table.fieldnames != list(kinds):
            raise ValueError(f"{path} holds no measurements: run python -m gentext.train.measure_sampling")
        rows = [Measured(**{name: kinds[name](text) for name, text in row.items()}) for row in table]
    return first.removeprefix("# weights ").strip(), rows


def write(path: Path, weights: str, rows: list[Measured]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# weights {weights}\n")
        table = csv.DictWriter(file, [entry.name for entry in fields(Measured)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(row) for row in rows)
    temporary.replace(path)


def measure(
    model: GaussianDiffusion,
    guide: NoisyClassifier,
    weights: str,
    path: Path = MEASURED,
    test: ImageSet | None = None,
    every: int = EVERY,
    only: Sequence[str] = EXPERIMENTS,
) -> list[Measured]:
    """Measure every point of the experiments `only` that `path` lacks for these weights, and write it after each."""
    test = data.load("glyphs", "test", size=32) if test is None else test
    rows: list[Measured] = []
    if path.exists():
        before, known = read(path)
        rows = known if before == weights else []
    done = {row.point for row in rows}
    for point, work in points(model, guide, test, every):
        if point in done or point[0] not in only:
            continue
        began = time.perf_counter()
        count = len(range(0, len(test), every))
        for metric, (value, error) in work().items():
            rows.append(Measured(*point, metric, float(f"{value:.5g}"), float(f"{error:.2g}"), count))
        write(path, weights, rows)
        told = ", ".join(f"{row.metric} {row.value:.4g}" for row in rows if row.point == point)
        print(f"{time.perf_counter() - began:6.1f} s  {point}: {told}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=EXPERIMENTS)
    only = parser.parse_args().only
    model, guide, weights = networks()
    measure(model, guide, weights, only=only)


if __name__ == "__main__":
    main()
