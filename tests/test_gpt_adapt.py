"""LoRA, answers to questions and preferences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gentext.gpt import GPT, GPTConfig, generate
from gentext.gpt_adapt import (
    TARGETS,
    LoRALinear,
    PreferenceTuning,
    add_lora,
    answer_log_prob,
    answers,
    dpo_loss,
    merge_lora,
    preference_data,
)
from gentext.train import FitConfig, TensorData, fit

CONFIGS = {
    "gpt2": GPTConfig.gpt2(11, context=16, num_layers=2, num_heads=2, width=16),
    "llama": GPTConfig.llama(11, context=16, num_layers=2, num_heads=4, num_kv_heads=2, width=16),
}
TOKENS = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(0))


def make(form: str = "llama", seed: int = 0) -> GPT:
    model = GPT(CONFIGS[form]).double().eval()
    model.initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.ndim > 1 else 1)
    return model


# ---- low-rank adapters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", CONFIGS)
@pytest.mark.parametrize("targets", [TARGETS, ("attention.query_key_value",), ("mlp.up", "mlp.output")])
def test_only_adapters_train_and_merging_keeps_the_function(form: str, targets: tuple[str, ...]) -> None:
    model = make(form)
    before, names = model(TOKENS), list(model.state_dict())
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    add_lora(model, rank=3, targets=targets, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(TOKENS), before, rtol=0, atol=0)  # B is 0: nothing has changed yet
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * len(targets) * 2
    assert all(name.endswith((".up", ".down")) for name in trained)

    fit(model, TensorData((TOKENS,)), FitConfig(num_steps=8, batch_size=4, warmup_steps=0, learning_rate=0.05),
        progress=False, device="cpu")  # fmt: skip
    for name, tensor in model.state_dict().items():
        if not name.endswith((".up", ".down")):
            assert torch.equal(tensor, frozen[name.replace(".base", "")]), name
    adapted = model(TOKENS)
    assert not torch.allclose(adapted, before)
    assert generate(model, TOKENS[:, :3], 4, temperature=0).shape == (4, 7)

    merge_lora(model)
    torch.testing.assert_close(model(TOKENS), adapted, rtol=0, atol=1e-12)
    assert list(model.state_dict()) == names
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, LoRALinear) for module in model.modules())


def test_the_correction_by_hand() -> None:
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(5, 4).double(), rank=2, alpha=6.0, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.up.normal_()
    x = torch.randn(3, 5, dtype=torch.float64)
    whole = layer.base.weight + 6.0 / 2 * layer.up @ layer.down
    torch.testing.assert_close(layer(x), x @ whole.T + layer.base.bias, rtol=0, atol=1e-14)
    assert int(torch.linalg.matrix_rank(whole - layer.base.weight)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, r"rank must lie in 1..16 for a layer of 16 to 32, got 0"),
        ({"rank": 17}, "rank must lie in"),
        ({"rank": 2, "alpha": 0.0}, "alpha must be positive"),
        ({"rank": 2, "targets": ()}, "targets must be some of"),
        ({"rank": 2, "targets": ("head",)}, "targets must be some of"),
    ],
)
def test_adapters_that_make_no_sense_change_nothing(options: dict, message: str) -> None:
    model = make()
    with pytest.raises(ValueError, match=message):
        add_lora(model, **options)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, LoRALinear) for module in model.modules())
    add_lora(model, rank=1)
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(model, rank=1)


# ---- questions and answers -------------------------------------------------------------------------------------------


def test_only_answers_are_learned() -> None:
    model = make()
    rows = answers([([1, 2, 3], [4, 5]), ([6], [7, 8, 9, 10])], context=16, fill=0)
    assert rows.tokens.tolist() == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    assert rows.mask.tolist() == [[False, False, False, True, True], [False, True, True, True, True]]
    log_p = model(rows.tokens[:, :-1]).log_softmax(-1)
    by_hand = [log_p[0, 2, 4] + log_p[0, 3, 5], log_p[1, 0, 7] + log_p[1, 1, 8] + log_p[1, 2, 9] + log_p[1, 3, 10]]
    torch.testing.assert_close(answer_log_prob(model, rows.tokens, rows.mask), torch.stack(by_hand), rtol=0, atol=1e-13)
    loss = model.loss((rows.tokens, rows.mask)).total
    torch.testing.assert_close(loss, -sum(by_hand) / 6, rtol=0, atol=1e-13)
    loss.backward()
    untouched = [token for token in range(11) if not bool(model.head.weight.grad[token].any())]
    assert untouched == [], "the softmax touches every token's row of the head"
    short = answers([([1, 2, 3], [4, 5]), ([6], [7])], context=16, fill=9)
    assert short.tokens[1].tolist() == [6, 7, 9, 9, 9]
    alone = answer_log_prob(model, torch.tensor([[6, 7]]), torch.tensor([[False, True]]))
    torch.testing.assert_close(answer_log_prob(model, short.tokens, short.mask)[1:], alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least one pair"),
        ([([], [1])], "at least one token"),
        ([([1], [])], "at least one token"),
        ([([1] * 9, [2] * 9)], "17 tokens together, the longest has 18"),
    ],
)
def test_answers_that_make_no_sense(pairs: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answers(pairs, context=16)


# ---- preferences -----------------------------------------------------------------------------------------------------


def test_dpo_by_hand() -> None:
    chosen, rejected = torch.tensor([-3.0, -2.0]), torch.tensor([-4.0, -1.0])
    base_chosen, base_rejected = torch.tensor([-3.5, -2.5]), torch.tensor([-3.0, -2.0])
    loss = dpo_loss(chosen, rejected, base_chosen, base_rejected, beta=0.5)
    margins = [0.5 * (0.5 - -1.0), 0.5 * (0.5 - 1.0)]  # 0.75 and −0.25
    expected = sum(math.log(1 + math.exp(-margin)) for margin in margins) / 2
    assert loss.total.item() == pytest.approx(expected, abs=1e-6)
    assert loss.terms["margin"].item() == pytest.approx(0.25)
    assert loss.terms["accuracy"].item() == 0.5
    same = dpo_loss(chosen, rejected, chosen, rejected, beta=0.1)
    assert same.total.item() == pytest.approx(math.log(2)), "a model beside itself has no opinion"


def test_dpo_gradient_by_hand() -> None:
    """∂loss/∂log π(y_w) = −β σ(−margin) / pairs (Rafailov et al. 2023, section 4)."""
    chosen = torch.tensor([-3.0, -2.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-4.0, -1.0], dtype=torch.float64, requires_grad=True)
    base = torch.tensor([-3.0, -2.5], dtype=torch.float64)
    dpo_loss(chosen, rejected, base, base, beta=0.3).total.backward()
    margin = 0.3 * (chosen - rejected).detach()
    torch.testing.assert_close(chosen.grad, -0.3 * torch.sigmoid(-margin) / 2)
    torch.testing.assert_close(rejected.grad, 0.3 * torch.sigmoid(-margin) / 2)


def test_dpo_refuses() -> None:
    one, two = torch.zeros(1), torch.zeros(2)
    for beta in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="beta must be positive"):
            dpo_loss(one, one, one, one, beta)
    with pytest.raises(ValueError, match=r"one shape \(pairs,\)"):
        dpo_loss(one, two, one, one, 0.1)
    with pytest.raises(ValueError, match=r"one shape \(pairs,\)"):
        dpo_loss(one[0], one[0], one[0], one[0], 0.1)
    pair = answers([([1], [2])], 16)
    with pytest.raises(ValueError, match="got 1 chosen and 2 rejected"):
        preference_data(make(), pair, answers([([1], [2]), ([1], [3])], 16))


@pytest.mark.parametrize("lora", [False, True])
def test_preferences_are_learned_from_the_reference_on(lora: bool) -> None:
    reference, model = make(), make()
    prompts = [[1, 2], [3], [4, 5, 6]]
    chosen = answers([(prompt, [7, 8]) for prompt in prompts], 16)
    rejected = answers([(prompt, [9, 10, 0]) for prompt in prompts], 16)
    data = preference_data(reference.train(), chosen, rejected, batch_size=2)
    assert reference.training, "left as it was"
    torch.testing.assert_close(data[4], answer_log_prob(reference, chosen.tokens, chosen.mask).detach())
    torch.testing.assert_close(data[5], answer_log_prob(reference, rejected.tokens, rejected.mask).detach())
    if lora:
        add_lora(model, rank=2, generator=torch.Generator().manual_seed(0))
    tuning = PreferenceTuning(model, beta=0.5)
    first = tuning.loss(data)
    assert first.total.item() == pytest.approx(math.log(2), abs=1e-9)
    result = fit(tuning, TensorData(data), FitConfig(num_steps=30, batch_size=3, learning_rate=0.02, warmup_steps=0),
                 progress=False, device="cpu")  # fmt: skip
    last = result.model.loss(data)
    assert last.total.item() < 0.5 * first.total.item()
    assert last.terms["accuracy"].item() == 1
    with pytest.raises(ValueError, match="beta must be positive"):
        PreferenceTuning(model, beta=0.0).loss(data)
