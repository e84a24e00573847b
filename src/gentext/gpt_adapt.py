"""Teaching a trained GPT manners, chapter 15: low-rank adapters, answers to questions, preferences.

Reads from top to bottom: LoRA (Hu et al. 2022), examples of questions with answers, and direct preference optimisation
(Rafailov et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gentext.gpt import GPT
from gentext.nn import Loss

# ---- low-rank adapters -----------------------------------------------------------------------------------------------

TARGETS = ("attention.query_key_value", "attention.output", "mlp.up", "mlp.output")


class LoRALinear(nn.Module):
    """A frozen linear layer and a correction of low rank: W x + (α / r) B A x (Hu et al. 2022, equation 3).

    B begins at 0, so nothing changes until it has learned something.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if not 1 <= rank <= min(base.in_features, base.out_features):
            raise ValueError(
                f"rank must lie in 1..{min(base.in_features, base.out_features)} for a layer of {base.in_features} to "
                f"{base.out_features}, got {rank}"
            )
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha must be positive, got {alpha}")
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features))  # A
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))  # B
        with torch.no_grad():
            self.down.normal_(std=1 / math.sqrt(base.in_features), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that does the same."""
        self.base.weight += self.scale * self.up @ self.down
        return self.base.requires_grad_(True)


def add_lora(
    model: GPT,
    rank: int,
    alpha: float | None = None,
    *,
    targets: Sequence[str] = TARGETS,
    generator: torch.Generator | None = None,
) -> GPT:
    """Freeze a GPT and give layers of every block an adapter, in place; only the adapters can then be trained.

    Args:
        rank: of the corrections, at least 1.
        alpha: α; 2 × rank if None.
        targets: which layers, some of `TARGETS`.

    Raises:
        ValueError: a rank that is too small or too large, an unknown target, or there are adapters already.
    """
    if not targets or not set(targets) <= set(TARGETS):
        raise ValueError(f"targets must be some of {', '.join(TARGETS)}, got {targets}")
    if any(isinstance(module, LoRALinear) for module in model.modules()):
        raise ValueError("this model has adapters already: merge them first")
    alpha = 2.0 * rank if alpha is None else alpha
    made: dict[tuple[int, str], LoRALinear] = {}
    for index, block in enumerate(model.blocks):  # all of them, before anything is changed
        for target in targets:
            linear: Any = block.get_submodule(target)
            made[index, target] = LoRALinear(linear, rank, alpha, generator)
    model.requires_grad_(False)
    for (index, target), adapter in made.items():
        adapter.down.requires_grad_(True)
        adapter.up.requires_grad_(True)
        _replace(model.blocks[index], target, adapter)
    return model


def merge_lora(model: GPT) -> GPT:
    """Work the adapters into the weights, in place: the same function, and a plain GPT again, all of it trainable."""
    for block in model.blocks:
        for target in TARGETS:
            found = block.get_submodule(target)
            if isinstance(found, LoRALinear):
                _replace(block, target, found.merged())
    return model.requires_grad_(True)  # type: ignore[return-value]


def _replace(block: nn.Module, target: str, layer: nn.Module) -> None:
    parent, _, name = target.rpartition(".")
    setattr(block.get_submodule(parent), name, layer)


# ---- questions and answers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """Prompts with their answers, as rows of one length.

    Attributes:
        tokens: (n, T + 1), filled up at the end.
        mask: (n, T + 1), True for the tokens of the answers: what `GPT.loss` and `answer_log_prob` count.
    """

    tokens: Tensor
    mask: Tensor


def answers(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], context: int, fill: int = 0) -> Answers:
    """Rows of prompt + answer. Only answers are to be learned: the model shall not learn to ask.

    Args:
        pairs: ids of a prompt, with all that stands before the answer, and of the answer, with the token that ends it.
        context: of the model; rows have at most one token more.
        fill: any token; what stands after an answer is seen by none of its tokens.

    Raises:
        ValueError: an empty prompt or answer, or one too long for the context.
    """
    if not pairs or not all(len(prompt) and len(answer) for prompt, answer in pairs):
        raise ValueError("answers needs at least one pair, and at least one token in each prompt and answer")
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    if longest > context + 1:
        raise ValueError(f"a prompt and its answer may have {context + 1} tokens together, the longest has {longest}")
    tokens = torch.full((len(pairs), longest), fill, dtype=torch.int64)
    mask = torch.zeros(len(pairs), longest, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(pairs):
        stop = len(prompt) + len(answer)
        tokens[row, :stop] = torch.tensor([*prompt, *answer])
        mask[row, len(prompt) : stop] = True
    return Answers(tokens, mask)


def answer_log_prob(model: GPT, tokens: Tensor, mask: Tensor) -> Tensor:
    """log p(answer | prompt) in nats, the sum over the answer's tokens: (B, T + 1) twice -> (B,)."""
    log_probs = model(tokens[:, :-1]).log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]  # (B, T)
    return (log_probs * mask[:, 1:]).sum(1)


# ---- preferences -----------------------------------------------------------------------------------------------------


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Loss:
    """Direct preference optimisation (Rafailov et al. 2023, equation 7): a classifier of pairs, made of two models.

        loss = −log σ(β [(log π(y_w) − log π_ref(y_w)) − (log π(y_l) − log π_ref(y_l))])

    Args:
        chosen, rejected: (B,) log p of the better and the worse answer under the model that learns, nats.
        reference_chosen, reference_rejected: (B,) the same under the model it started from.
        beta: β, how dear it is to leave the reference; small values allow more.

    Returns:
        the loss in nats per pair, with the terms "margin" (the mean of β [...]) and "accuracy" (share of pairs with a
        positive one).
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be positive, got {beta}")
    shapes = {tuple(part.shape) for part in (chosen, rejected, reference_chosen, reference_rejected)}
    if len(shapes) > 1 or chosen.ndim != 1:
        raise ValueError(f"the four log-probabilities must have one shape (pairs,), got {sorted(shapes)}")
    margin = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))  # (B,)
    accuracy = (margin > 0).to(margin.dtype).mean()
    return Loss(-F.logsigmoid(margin).mean(), {"margin": margin.mean().detach(), "accuracy": accuracy})


class PreferenceTuning(nn.Module):
    """A GPT with the objective of `dpo_loss`, for `gentext.train.fit`.

    The batch is what `preference_data` gives: the reference's log-probabilities are computed once, beforehand, and no
    second model is held in memory.
    """

    def __init__(self, model: GPT, beta: float = 0.1) -> None:
        super().__init__()
        self.model = model
        self.beta = beta

    def loss(self, batch: tuple[Tensor, ...], *, generator: torch.Generator | None = None) -> Loss:
        chosen, chosen_mask, rejected, rejected_mask, reference_chosen, reference_rejected = batch
        return dpo_loss(
            answer_log_prob(self.model, chosen, chosen_mask),
            answer_log_prob(self.model, rejected, rejected_mask),
            reference_chosen,
            reference_rejected,
            self.beta,
        )


@torch.no_grad()
def preference_data(reference: GPT, chosen: Answers, rejected: Answers, batch_size: int = 64) -> tuple[Tensor, ...]:
    """Tensors for `TensorData`: both answers with their masks, and their log-probabilities under the reference.

    Raises ValueError if there are not as many rejected as chosen answers.
    """
    if len(chosen.tokens) != len(rejected.tokens):
        raise ValueError(
            f"each pair has two answers, got {len(chosen.tokens)} chosen and {len(rejected.tokens)} rejected"
        )
    was_training = reference.training
    reference.eval()
    device = reference.token_embedding.weight.device
    known = []
    for side in (chosen, rejected):
        parts = zip(side.tokens.split(batch_size), side.mask.split(batch_size), strict=True)
        known.append(torch.cat([answer_log_prob(reference, t.to(device), m.to(device)).cpu() for t, m in parts]))
    reference.train(was_training)
    return (chosen.tokens, chosen.mask, rejected.tokens, rejected.mask, *known)
