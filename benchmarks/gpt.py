"""GPT: a training step and cached generation against transformers' GPT-2 of the same size, in fp32 and bf16.

Both have the same weights. Before anything is timed they must agree on the loss, on gradients and on the text that they
write greedily. Training in bf16 is autocast over float32 weights, generation in bf16 has bf16 weights. Both train with
the same fused AdamW; transformers attends with torch's fused kernel ("sdpa"), its default.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import gentext
from gentext.gpt import GPT, generate
from gentext.gpt_pretrained import from_pretrained
from gentext.train import TextFitConfig
from gentext.train.loop import make_optimizer

if __package__:
    from .harness import Report, compare, parse, parser
else:  # python benchmarks/gpt.py
    from harness import Report, compare, parse, parser


def make_reference(layers: int, width: int, heads: int, context: int, vocab_size: int) -> Any:
    """A GPT2LMHeadModel with random weights and without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocab_size, n_positions=context, n_embd=width, n_layer=layers, n_head=heads,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=None,
        )
    )  # fmt: skip


def same_model(reference: Any, device: torch.device) -> GPT:
    """Ours with the weights of theirs, by the way of a file."""
    with tempfile.TemporaryDirectory() as folder:
        reference.save_pretrained(folder)
        return from_pretrained(folder).to(device)


def check_agreement(model: GPT, reference: Any, tokens: Tensor) -> None:
    """One loss and one gradient, or there is nothing to compare."""
    ours, theirs = model.loss((tokens,)).total, reference_loss(reference, tokens)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    body = reference.transformer
    mine = [model.token_embedding.weight, model.norm.weight, model.blocks[0].attention.query_key_value.weight]
    others = [body.wte.weight, body.ln_f.weight, body.h[0].attn.c_attn.weight]
    for a, b in zip(torch.autograd.grad(ours, mine), torch.autograd.grad(theirs, others), strict=True):
        torch.testing.assert_close(a, b if a.shape == b.shape else b.T, rtol=1e-3, atol=1e-6)


def reference_loss(reference: Any, tokens: Tensor) -> Tensor:
    """Inputs and labels apart: given T + 1 tokens, theirs would read one that predicts nothing."""
    logits = reference(input_ids=tokens[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def training_step(
    loss: Callable[[], Tensor], model: torch.nn.Module, device: torch.device, precision: str
) -> Callable[[], None]:
    config = TextFitConfig(num_steps=1, learning_rate=1e-4, weight_decay=0.1)
    optimizer = make_optimizer(list(model.parameters()), config, device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            value = loss()
        value.backward()
        optimizer.step()

    return step


def reference_generate(reference: Any, prompt: Tensor, num_tokens: int) -> Tensor:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return reference.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=num_tokens, min_new_tokens=num_tokens,
            do_sample=False, use_cache=True, pad_token_id=0,
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__)
    options.set_defaults(batch_size=12)
    for name, value, text in (
        ("layers", 4, "blocks"),
        ("width", 128, "width"),
        ("heads", 4, "heads"),
        ("context", 64, "tokens read in a training step; generation goes on up to so many"),
        ("vocab-size", 1024, "tokens there are"),
        ("prompt", 8, "tokens before the generated ones"),
    ):
        options.add_argument(f"--{name}", type=int, default=value, help=text)
    arguments = parse(options, argv)
    sizes = (arguments.layers, arguments.width, arguments.heads, arguments.vocab_size)
    if min(sizes) < 1 or arguments.width % arguments.heads:
        options.error("--layers, --width, --heads and --vocab-size must be at least 1, and --heads divide --width")
    if not 1 <= arguments.prompt < arguments.context:
        options.error(f"--prompt must lie in 1..{arguments.context - 1}, below --context, got {arguments.prompt}")
    device, batch, context = gentext.device(arguments.device), arguments.batch_size, arguments.context
    reference = make_reference(arguments.layers, arguments.width, arguments.heads, context, arguments.vocab_size)
    model = same_model(reference, device)
    reference = reference.to(device)
    drawn = torch.randint(arguments.vocab_size, (batch, context + 1), generator=torch.Generator().manual_seed(0))
    tokens = drawn.to(device)
    prompt, count = tokens[:, : arguments.prompt], context - arguments.prompt
    check_agreement(model, reference, tokens)
    same = generate(model, prompt, count, temperature=0) == reference_generate(reference.eval(), prompt, count)
    # A tie of two logits to the last digit may fall either way, and the row goes another way from there.
    assert same.double().mean() > 0.9, "the two do not write the same text"

    report = Report(
        f"GPT-2 of {model.num_params / 1e6:.2f} M parameters, {batch} × {context} tokens a step; then {count} tokens "
        f"after {arguments.prompt}, {batch} texts at a time",
        device,
    )

    def add(name: str, ours: Callable[[], object], theirs: Callable[[], object]) -> None:
        found = compare(name, ours, theirs, rounds=arguments.rounds, warmup=1, device=device)
        report.comparisons.append(found)

    model.train()
    reference.train()
    for precision in ("fp32", "bf16"):
        add(
            f"training step, {precision}",
            training_step(lambda: model.loss((tokens,)).total, model, device, precision),
            training_step(lambda: reference_loss(reference, tokens), reference, device, precision),
        )
    model.eval()
    reference.eval()
    for precision in ("fp32", "bf16"):
        if precision == "bf16":
            model.bfloat16()
            reference.bfloat16()
        add(
            f"cached generation, {precision}",
            lambda: generate(model, prompt, count, temperature=0),
            lambda: reference_generate(reference, prompt, count),
        )
    report.deliver(arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
