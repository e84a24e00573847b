"""Published weights of GPT-2 and Llama in our GPT, chapter 15.

What they are called there and here, and which way round they lie. Nothing of a checkpoint is run: configurations are
JSON, weights are safetensors; pickled ones are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gentext.gpt import GPT, GPTConfig

INDEX = "model.safetensors.index.json"
Take = Callable[[str], Tensor]


def from_pretrained(source: str | Path, dtype: torch.dtype = torch.float32) -> GPT:
    """A GPT with the weights of a Hugging Face checkpoint, in evaluation mode.

    Args:
        source: a folder with config.json and .safetensors files, as `save_pretrained` writes it; or a name on the hub,
            such as "openai-community/gpt2", which is downloaded once and kept in the hub's cache.
        dtype: of the weights in memory.

    Raises:
        ValueError: not a GPT-2 or Llama, a variant that `GPTConfig` has no word for, or files missing or damaged.
        OSError: the hub cannot be reached, or knows no such model.
    """
    folder = Path(source) if Path(source).is_dir() else download(str(source))
    settings = read_json(folder / "config.json")
    kind = settings.get("model_type")
    if kind not in READERS:
        raise ValueError(f"{folder} holds a model of type {kind!r}; {' and '.join(READERS)} can be read")
    read_config, read_weights = READERS[kind]
    try:
        config = read_config(settings)
    except KeyError as error:
        raise ValueError(f"{folder / 'config.json'} has no entry {error.args[0]!r}: the file is not whole") from None
    tensors = read_tensors(folder)
    taken: set[str] = set()

    def take(name: str) -> Tensor:
        if name not in tensors:
            raise ValueError(f"the weights in {folder} lack {name!r}: the files are not whole")
        taken.add(name)
        return tensors[name].to(dtype)

    with torch.random.fork_rng(devices=[]):  # initial values are overwritten: leave the caller's randomness alone
        model = GPT(config).to(dtype)
    state = read_weights(config, take)
    unknown = sorted(name for name in set(tensors) - taken if not name.endswith(IGNORED))
    if unknown:
        raise ValueError(f"the weights in {folder} have {unknown[0]!r}, for which this model has no place")
    for name, tensor in state.items():
        wanted = model.state_dict()[name].shape
        if tensor.shape != wanted:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)} in {folder}, config.json asks for {tuple(wanted)}"
            )
    model.load_state_dict(state, strict=not config.tied)
    return model.eval()


# ---- GPT-2 -----------------------------------------------------------------------------------------------------------

# Masks that old checkpoints carry along, and a copy of tied embeddings.
IGNORED = (".attn.bias", ".attn.masked_bias", "lm_head.weight", ".rotary_emb.inv_freq")


def gpt2_config(settings: dict[str, Any]) -> GPTConfig:
    activation = settings.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh"):
        raise ValueError(f"GPT-2 with the activation {activation!r} cannot be read: gelu_new can")
    if not settings.get("scale_attn_weights", True) or settings.get("scale_attn_by_inverse_layer_idx", False):
        raise ValueError("GPT-2 with another scale of attention than 1/√d cannot be read")
    return GPTConfig.gpt2(
        settings["vocab_size"],
        context=settings["n_positions"],
        num_layers=settings["n_layer"],
        num_heads=settings["n_head"],
        width=settings["n_embd"],
        mlp_width=settings.get("n_inner"),
        norm_eps=settings.get("layer_norm_epsilon", 1e-5),
        tied=settings.get("tie_word_embeddings", True),
    )


def gpt2_weights(config: GPTConfig, take: Take) -> dict[str, Tensor]:
    state = {
        "token_embedding.weight": take("wte.weight"),
        "position_embedding.weight": take("wpe.weight"),
        "norm.weight": take("ln_f.weight"),
        "norm.bias": take("ln_f.bias"),
    }
    for index in range(config.num_layers):
        ours, theirs = f"blocks.{index}", f"h.{index}"
        for norm, name in (("attention_norm", "ln_1"), ("mlp_norm", "ln_2")):
            for part in ("weight", "bias"):
                state[f"{ours}.{norm}.{part}"] = take(f"{theirs}.{name}.{part}")
        for linear, name in (
            ("attention.query_key_value", "attn.c_attn"),
            ("attention.output", "attn.c_proj"),
            ("mlp.up", "mlp.c_fc"),
            ("mlp.output", "mlp.c_proj"),
        ):
            # GPT-2 multiplies x W with W (in, out), torch's linear layer x Wᵀ with W (out, in).
            state[f"{ours}.{linear}.weight"] = take(f"{theirs}.{name}.weight").T.contiguous()
            state[f"{ours}.{linear}.bias"] = take(f"{theirs}.{name}.bias")
    return with_head(state, config, take)


# ---- Llama -----------------------------------------------------------------------------------------------------------


def llama_config(settings: dict[str, Any]) -> GPTConfig:
    if settings.get("hidden_act", "silu") != "silu":
        raise ValueError(f"Llama with the activation {settings['hidden_act']!r} cannot be read: silu can")
    if settings.get("attention_bias", False) or settings.get("mlp_bias", False):
        raise ValueError("Llama with biases cannot be read")
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    if (settings.get("head_dim") or width // heads) * heads != width:
        raise ValueError(
            f"Llama with heads of {settings['head_dim']} cannot be read: width / heads is {width // heads}"
        )
    # transformers 5 keeps all about positions in one entry, earlier versions in two.
    rotary = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind != "default":
        raise ValueError(f"Llama with rotary positions of the kind {kind!r} cannot be read: only plain ones")
    return GPTConfig.llama(
        settings["vocab_size"],
        context=settings["max_position_embeddings"],
        num_layers=settings["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=settings.get("num_key_value_heads"),
        width=width,
        mlp_width=settings["intermediate_size"],
        norm_eps=settings.get("rms_norm_eps", 1e-6),
        rotary_base=rotary.get("rope_theta", settings.get("rope_theta", 10_000.0)),
        tied=settings.get("tie_word_embeddings", False),
    )


def llama_weights(config: GPTConfig, take: Take) -> dict[str, Tensor]:
    state = {"token_embedding.weight": take("embed_tokens.weight"), "norm.weight": take("norm.weight")}
    for index in range(config.num_layers):
        ours, theirs = f"blocks.{index}", f"layers.{index}"
        state[f"{ours}.attention_norm.weight"] = take(f"{theirs}.input_layernorm.weight")
        state[f"{ours}.mlp_norm.weight"] = take(f"{theirs}.post_attention_layernorm.weight")
        for linear, names in (
            ("attention.query_key_value", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("attention.output", ("self_attn.o_proj",)),
            ("mlp.up", ("mlp.gate_proj", "mlp.up_proj")),
            ("mlp.output", ("mlp.down_proj",)),
        ):
            state[f"{ours}.{linear}.weight"] = torch.cat([take(f"{theirs}.{name}.weight") for name in names])
    return with_head(state, config, take)


READERS: dict[str, tuple[Callable[[dict[str, Any]], GPTConfig], Callable[[GPTConfig, Take], dict[str, Tensor]]]] = {
    "gpt2": (gpt2_config, gpt2_weights),
    "llama": (llama_config, llama_weights),
}


def with_head(state: dict[str, Tensor], config: GPTConfig, take: Take) -> dict[str, Tensor]:
    if not config.tied:
        state["head.weight"] = take("lm_head.weight")
    return state


# ---- files -----------------------------------------------------------------------------------------------------------


def download(name: str) -> Path:
    """The folder of a model of the hub, in its cache."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise ValueError(f"there is no folder {name}")
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=["config.json", "*.safetensors", INDEX]))
    except ImportError:
        raise ValueError("downloading needs the package huggingface_hub: pip install huggingface_hub") from None
    except Exception as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(
            f"there is no folder {name!r} here, and it could not be had from the Hugging Face hub ({why}): "
            "give the path of a folder with config.json and .safetensors files, or connect to the network"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"there is no file {path}: a checkpoint's folder has one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} cannot be read (it holds no settings): fetch it again")
    return content


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's .safetensors files, under their names in the bare model (no "transformer.")."""
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(Path(str(name)).name == name for name in shards.values()):
            raise ValueError(f"{folder / INDEX} cannot be read (no weight_map): fetch it again")
        files = [folder / name for name in sorted(set(shards.values()))]
    else:
        files = [folder / "model.safetensors"]
    tensors: dict[str, Tensor] = {}
    for path in files:
        if not path.is_file():
            pickled = sorted(folder.glob("*.bin"))
            hint = (
                f"{pickled[0].name} is pickled and not read, convert it with save_pretrained" if pickled else "fetch it"
            )
            raise ValueError(f"there is no file {path}: {hint}")
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():
                    tensors[name.removeprefix("transformer.").removeprefix("model.")] = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]}): fetch it again") from None
    return tensors
