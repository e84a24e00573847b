"""Weights of transformers' GPT-2 and Llama: the same logits, the same greedy text, and errors of one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gentext.gpt import GPT, generate
from gentext.gpt_pretrained import from_pretrained

transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(29, (3, 20), generator=torch.Generator().manual_seed(0))


def gpt2(**changes: object) -> nn.Module:
    settings = {"vocab_size": 29, "n_positions": 32, "n_embd": 24, "n_layer": 3, "n_head": 4, **changes}
    return build("GPT2LMHeadModel", transformers.GPT2Config(**settings, bos_token_id=0, eos_token_id=0))


def llama(**changes: object) -> nn.Module:
    settings = {
        "vocab_size": 29,
        "max_position_embeddings": 32,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 40,
        "rms_norm_eps": 1e-5,
        **changes,
    }
    return build("LlamaForCausalLM", transformers.LlamaConfig(**settings))


def build(name: str, config: object) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, name)(config).eval()
        with torch.no_grad():  # biases begin at 0, gains at 1: a swapped pair would go unnoticed
            for parameter in model.parameters():
                parameter.add_(0.15 * torch.randn_like(parameter))
    return model


MODELS = {
    "gpt2": gpt2,
    "gpt2, narrow MLP, head apart": lambda: gpt2(n_inner=20, tie_word_embeddings=False),
    "llama": llama,
    "llama, all heads, tied": lambda: llama(num_key_value_heads=6, tie_word_embeddings=True),
    "llama, one key head, slow rotation": lambda: llama(
        num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0}
    ),
}


def exact(model: nn.Module) -> nn.Module:
    """Transformers in float64 throughout: it computes norms and rotary angles in float32 whatever the model is in."""
    model = model.double()
    for module in model.modules():
        name = type(module).__name__
        if name == "LlamaRMSNorm":
            module.forward = lambda x, norm=module: nn.functional.rms_norm(
                x, norm.weight.shape, norm.weight, norm.variance_epsilon
            )
        elif name == "LlamaRotaryEmbedding":
            theta = model.config.rope_parameters["rope_theta"]
            dim = model.config.hidden_size // model.config.num_attention_heads

            def angles(x: Tensor, position_ids: Tensor, theta: float = theta, dim: int = dim) -> tuple[Tensor, Tensor]:
                frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
                angle = (position_ids[..., None].double() * frequency).repeat(1, 1, 2)
                return angle.cos(), angle.sin()

            module.forward = angles
    return model


@pytest.mark.parametrize("name", MODELS)
def test_same_logits(name: str, tmp_path: Path) -> None:
    theirs = MODELS[name]()
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    assert not ours.training
    with torch.no_grad():
        expected = theirs(TOKENS).logits
        assert float(expected.std()) > 0.5, "logits that say nothing would agree easily"
        torch.testing.assert_close(ours(TOKENS), expected, rtol=0, atol=1e-5)
        double = from_pretrained(tmp_path, dtype=torch.float64)
        torch.testing.assert_close(double(TOKENS), exact(theirs)(TOKENS).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_same_gradients_and_loss(name: str, tmp_path: Path) -> None:
    theirs = exact(MODELS[name]())
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path, dtype=torch.float64)
    expected = theirs(TOKENS, labels=TOKENS).loss
    loss = ours.loss((TOKENS,)).total
    torch.testing.assert_close(loss, expected.double(), rtol=0, atol=1e-6)  # theirs takes the logits to float32
    loss.backward()
    expected.backward()
    name_of_embedding = "transformer.wte.weight" if name == "gpt2" else "model.embed_tokens.weight"
    torch.testing.assert_close(
        ours.token_embedding.weight.grad, theirs.get_parameter(name_of_embedding).grad, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_same_greedy_text_and_attention(name: str, tmp_path: Path) -> None:
    theirs = MODELS[name]()
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    expected = theirs.generate(
        TOKENS[:, :5],
        attention_mask=torch.ones(3, 5, dtype=torch.int64),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert torch.equal(generate(ours, TOKENS[:, :5], 20, temperature=0), expected)
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        tables = torch.stack(theirs(TOKENS, output_attentions=True).attentions, 1)
    torch.testing.assert_close(ours.trace(TOKENS).weights, tables, rtol=0, atol=1e-5)


def test_parts_of_a_checkpoint_and_older_names(tmp_path: Path) -> None:
    """Several files with an index; names without "transformer." and with masks, as in the first GPT-2 on the hub."""
    theirs = gpt2()
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    theirs.save_pretrained(tmp_path / "old")
    path = tmp_path / "old" / "model.safetensors"
    state = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    state["h.0.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
    state["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(state, path)
    for folder in ("parts", "old"):
        with torch.no_grad():
            torch.testing.assert_close(
                from_pretrained(tmp_path / folder)(TOKENS), theirs(TOKENS).logits, rtol=0, atol=1e-5
            )


def test_older_ways_to_write_llamas_positions(tmp_path: Path) -> None:
    theirs = llama(rope_parameters={"rope_type": "default", "rope_theta": 300.0})
    theirs.save_pretrained(tmp_path)
    change(tmp_path, rope_parameters=None, rope_theta=300.0, rope_scaling=None)
    with torch.no_grad():
        torch.testing.assert_close(from_pretrained(tmp_path)(TOKENS), theirs(TOKENS).logits, rtol=0, atol=1e-5)


def change(folder: Path, **entries: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def remove(folder: Path, name: str) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    del state[name]
    save_file(state, path)


@pytest.mark.parametrize(
    ("make", "spoil", "message"),
    [
        (gpt2, lambda f: change(f, model_type="bert"), "of type 'bert'; gpt2 and llama can be read"),
        (gpt2, lambda f: change(f, activation_function="relu"), "activation 'relu' cannot be read"),
        (gpt2, lambda f: change(f, scale_attn_by_inverse_layer_idx=True), "another scale of attention"),
        (gpt2, lambda f: change(f, n_embd=20), r"has shape \(.*\) in .*config.json asks for"),
        (gpt2, lambda f: change(f, n_layer=4), "lack 'h.3.ln_1.weight'"),
        (gpt2, lambda f: change(f, n_layer=2), "have 'h.2.attn.c_attn.bias', for which this model has no place"),
        (gpt2, lambda f: change(f, n_head=5), "multiple of num_heads"),
        (gpt2, lambda f: remove(f, "transformer.wpe.weight"), "lack 'wpe.weight': the files are not whole"),
        (gpt2, lambda f: (f / "config.json").unlink(), "there is no file .*config.json"),
        (gpt2, lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (gpt2, lambda f: (f / "config.json").write_text("[1]"), "it holds no settings"),
        (gpt2, lambda f: (f / "model.safetensors").unlink(), "there is no file .*model.safetensors: fetch it"),
        (gpt2, lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pytorch_model.bin is pickled"),
        (gpt2, lambda f: (f / "model.safetensors").write_bytes(b"x" * 50), "is damaged"),
        (
            gpt2,
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b.safetensors"}}'),
            "no weight_map",
        ),
        (llama, lambda f: change(f, hidden_act="gelu"), "activation 'gelu' cannot be read"),
        (llama, lambda f: change(f, attention_bias=True), "with biases cannot be read"),
        (llama, lambda f: change(f, head_dim=8), "heads of 8 cannot be read"),
        (llama, lambda f: change(f, rope_parameters={"rope_type": "llama3"}), "of the kind 'llama3' cannot be read"),
        (llama, lambda f: remove(f, "lm_head.weight"), "lack 'lm_head.weight'"),
    ],
)
def test_what_cannot_be_read_ends_in_one_sentence(make, spoil, message: str, tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    gpt2().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    entries = json.loads(path.read_text())
    del entries["n_positions"]
    path.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="has no entry 'n_positions': the file is not whole"):
        from_pretrained(tmp_path)


def test_names_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    gpt2().save_pretrained(tmp_path)
    asked = []

    def give(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", give)
    assert isinstance(from_pretrained("someone/small-gpt2"), GPT)
    assert asked[0][0] == "someone/small-gpt2"
    assert not any("bin" in pattern for pattern in asked[0][1]["allow_patterns"]), "nothing pickled is fetched"

    def fail(name: str, **options: object) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(OSError, match=r"could not be had from the Hugging Face hub \(no route\).*connect") as caught:
        from_pretrained("someone/small-gpt2")
    assert "\n" not in str(caught.value)
    for path in ("/nowhere/model", "./model", "a/b/c"):
        with pytest.raises(ValueError, match="there is no folder"):
            from_pretrained(path)
