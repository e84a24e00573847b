"""What a test of an assignment is written with: the student's answer, fresh random data, comparisons that teach."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

SEED = "GENTEXT_GRADING_SEED"
# What an answer may call of the package: data and drawing, never a chapter.
OPEN = ("gentext.data", "gentext.plots", "gentext.zoo", "gentext.metrics", "gentext.notebook", "gentext.classroom")


def fresh(stream: int = 0) -> torch.Generator:
    """A generator that nobody can have foreseen: numbers copied from an earlier run are wrong.

    A class is graded within `class_seed`, so that all of it gets the same data. stream: for a second generator.
    """
    given = os.environ.get(SEED)
    seed = int(given) if given else int.from_bytes(os.urandom(4), "little")
    return torch.Generator().manual_seed((seed * 1009 + stream) % 2**63)


@contextmanager
def class_seed(seed: int) -> Iterator[None]:
    """Within, `fresh` gives everybody the same data."""
    before = os.environ.get(SEED)
    os.environ[SEED] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ[SEED]
        else:
            os.environ[SEED] = before


def answer(env: Mapping[str, Any], name: str, *, allow: tuple[str, ...] = (), banned: tuple[str, ...] = ()) -> Any:
    """The student's `name`. If it is a function, one that must do its work itself.

    Calling it while it calls into gentext (beyond data and drawing) fails: a chapter's function is no answer.

    Args:
        allow: modules of gentext that it may call all the same, e.g. because the test hands it one of their objects.
        banned: modules or names of functions that it may not call either, such as "torch.distributions" or "softmax".

    Raises:
        AssertionError: there is no such name, or it is still the placeholder.
    """
    if name not in env:
        raise AssertionError(f"there is no `{name}`: run the cell that defines it, and keep its name")
    value = env[name]
    if value is ...:
        raise AssertionError(f"`{name}` is still `...`: replace it by your answer")
    watched = getattr(value, "watched_from_afar", None)
    if watched is not None:  # it lives in another process, which watches it there
        return watched(name, tuple(allow), tuple(banned))
    return watch(value, name, allow, banned) if callable(value) else value


def watch(function: Callable[..., Any], name: str, allow: tuple[str, ...], banned: tuple[str, ...]) -> Callable:
    def watched(*args: Any, **kwargs: Any) -> Any:
        with borrowed(allow, banned) as seen:
            result = function(*args, **kwargs)
        refuse_borrowed(name, seen)
        return result

    return watched


def refuse_borrowed(name: str, seen: list[str]) -> None:
    if seen:
        raise AssertionError(f"`{name}` calls {seen[0]}: that is the answer, and you are asked to write it yourself")


@contextmanager
def borrowed(allow: tuple[str, ...], banned: tuple[str, ...]) -> Iterator[list[str]]:
    """Collects the names of functions called within that are not the student's to call."""
    seen: list[str] = []

    def within(module: str, prefixes: tuple[str, ...]) -> bool:
        return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            module, called = str(frame.f_globals.get("__name__", "")), frame.f_code.co_name
        elif event == "c_call":
            module, called = str(getattr(arg, "__module__", "") or ""), str(getattr(arg, "__name__", ""))
        else:
            return
        foreign = within(module, ("gentext",)) and not within(module, (*OPEN, *allow))
        if called == "<module>":
            return  # an import alone is no answer
        if (foreign or within(module, banned) or called in banned) and len(seen) < 20:
            seen.append(f"{module}.{called}" if module else called)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield seen
    finally:
        sys.setprofile(before)


def gradients(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The answer's value, and the gradient of its sum by each floating-point tensor among `args`, in their order.

    Raises:
        AssertionError: no gradient comes back.
    """
    afar = getattr(function, "gradients_from_afar", None)  # a gradient cannot travel between processes
    return afar(*args, **kwargs) if afar is not None else differentiate(function, args, kwargs)


def differentiate(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    given = [a.detach().clone().requires_grad_() if is_real(a) else a for a in args]
    value = function(*given, **kwargs)
    if not isinstance(value, Tensor) or not value.requires_grad:
        raise AssertionError("no gradient reaches the arguments: was something detached, or turned into a number?")
    leaves = [a for a in given if is_real(a)]
    found = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
    return value.detach(), tuple(torch.zeros_like(a) if g is None else g for a, g in zip(leaves, found, strict=True))


def is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def close(found: Any, wanted: Any, message: str, *, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Assert that a number or tensor is what was wanted; `message` says what the mistake usually is.

    Raises:
        AssertionError: still a placeholder, another type or shape, NaN, or too far off.
    """
    if found is ... or found is None:
        raise AssertionError(f"the answer is {'still `...`' if found is ... else 'None: is a `return` missing?'}")
    wanted = torch.as_tensor(wanted)
    try:
        found = torch.as_tensor(found)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"a number or tensor is wanted, not {type(found).__name__}") from None
    if found.shape != wanted.shape:
        raise AssertionError(f"the shape must be {tuple(wanted.shape)}, not {tuple(found.shape)}. {message}")
    found, wanted = found.detach().double(), wanted.detach().double()
    if not torch.allclose(found, wanted, rtol=rtol, atol=atol):
        raise AssertionError(f"{difference(found, wanted)}. {message}")


def difference(found: Tensor, wanted: Tensor) -> str:
    if found.isnan().any():
        return "the answer is NaN" if found.ndim == 0 else "the answer contains NaN"
    if found.ndim == 0:
        return f"got {found.item():.6g} where {wanted.item():.6g} is right"
    off = torch.where(found == wanted, 0.0, (found - wanted).abs())  # an infinity that is meant is right
    place = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))  # torch's own loads its compiler
    at = ", ".join(str(i) for i in place)
    value = found[place].item()
    return (
        f"at [{at}] got {value:.6g} where {wanted[place].item():.6g} is right" if math.isfinite(value) else "infinite"
    )


@contextmanager
def raises(error: type[Exception], message: str) -> Iterator[None]:
    """Assert that the code within raises `error`; `message` says why it should."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"this should raise {error.__name__}. {message}")
