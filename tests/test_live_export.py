"""What `gentext export` writes for the browser: ONNX that says what torch says, small, lossless, without traces."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from gentext import zoo
from gentext.autoencoder import Autoencoder, AutoencoderConfig
from gentext.live import FIGURES, EmbeddingMap, LatentExplorer, embedding_map, export, latent_explorer
from gentext.live.export import export_all
from gentext.live.network import Network
from gentext.live.onnx_file import export_network
from gentext.vae import VAE, VAEConfig

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

TOLERANCE = 1e-4


def session(path) -> "ort.InferenceSession":
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def rounded(model: nn.Module) -> nn.Module:
    """The model with weights that float16 holds exactly, as the zoo's are."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    return model.eval()


def random_inputs(network: Network, batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    shapes = {name: tensor.shape for name, tensor in zip(network.inputs, network.example(batch), strict=True)}
    inputs = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    if "label" in inputs:
        inputs["label"] = torch.arange(batch).float() % 3
    return inputs


def largest_difference(network: Network, path, batch: int) -> float:
    """Between ONNX and torch, relative where numbers exceed 1: tokens that make no text cost a hundred nats."""
    inputs = random_inputs(network, batch)
    expected = network.run(inputs)
    found = session(path).run(list(network.outputs), {name: value.numpy() for name, value in inputs.items()})
    return max(
        float((np.abs(expected[name].numpy() - value) / np.maximum(1, np.abs(value))).max())
        for name, value in zip(network.outputs, found, strict=True)
    )


MODELS = {
    "vae": VAE(VAEConfig(latent_dim=4, width=4, hidden=(16,))),
    "conditional": VAE(VAEConfig(latent_dim=4, network="mlp", hidden=(16,), num_classes=3)),
    "gaussian": VAE(VAEConfig(latent_dim=4, network="mlp", hidden=(16,), likelihood="gaussian")),
    "autoencoder": Autoencoder(AutoencoderConfig(latent_dim=4, width=4)),
    "linear": Autoencoder(AutoencoderConfig(latent_dim=4, network="linear")),
    "tied": Autoencoder(AutoencoderConfig(latent_dim=4, network="mlp", hidden=(16,), tied=True)),
}


def networks_of(model: nn.Module) -> dict[str, Network]:
    label = {"label": ()} if getattr(model.config, "num_classes", 0) else {}
    if isinstance(model, VAE):
        return {
            "encoder": Network(
                latent_explorer.PosteriorNetwork(model), {"x": (1, 32, 32), **label}, ("mean", "log_var")
            ),
            "decoder": Network(latent_explorer.LikelihoodNetwork(model), {"z": (4,), **label}, ("image",)),
        }
    return {
        "encoder": Network(embedding_map.EncoderNetwork(model), {"x": (1, 32, 32)}, ("h",)),
        "decoder": Network(embedding_map.DecoderNetwork(model), {"h": (4,)}, ("image",)),
    }


@pytest.mark.parametrize("name", MODELS)
def test_onnx_agrees_with_torch_at_any_batch_size(name, tmp_path):
    for part, network in networks_of(rounded(MODELS[name])).items():
        path = export_network(tmp_path / f"{part}.onnx", network)
        for batch in (1, 2, 7):
            assert largest_difference(network, path, batch) < TOLERANCE


def test_float16_storage_halves_the_file_and_changes_no_bit(tmp_path):
    model = rounded(VAE(VAEConfig(latent_dim=4, width=8, hidden=(32,))))
    network = networks_of(model)["decoder"]
    path = export_network(tmp_path / "decoder.onnx", network)
    stored = onnx.load(path)
    assert path.stat().st_size < 2.2 * sum(p.numel() for p in model.decoder.parameters()) + 8_000

    # The same graph with the weights written out in float32 again: the runtime must answer bit for bit the same.
    casts = {node.output[0]: node.input[0] for node in stored.graph.node if node.op_type == "Cast"}
    halves = {tensor.name: tensor for tensor in stored.graph.initializer}
    nodes = [node for node in stored.graph.node if node.op_type != "Cast"]
    for whole, half in casts.items():
        values = onnx.numpy_helper.to_array(halves[half])
        assert values.dtype == np.float16
        halves[half].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), whole))
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    onnx.save(stored, tmp_path / "float32.onnx")
    assert casts
    z = {"z": random_inputs(network, 5)["z"].numpy()}
    small, large = (session(tmp_path / file).run(None, z)[0] for file in ("decoder.onnx", "float32.onnx"))
    assert np.array_equal(small, large)

    weights = {tuple(np.sort(values.flatten())) for values in map(onnx.numpy_helper.to_array, stored.graph.initializer)}
    for parameter in model.decoder.parameters():
        if parameter.dim() > 1:
            assert tuple(np.sort(parameter.detach().numpy().flatten())) in weights


def test_weights_that_float16_cannot_hold_stay_whole(tmp_path):
    torch.manual_seed(0)
    model = VAE(VAEConfig(latent_dim=4, network="mlp", hidden=(16,)))
    network = networks_of(model.eval())["decoder"]
    path = export_network(tmp_path / "decoder.onnx", network)
    assert not any(node.op_type == "Cast" for node in onnx.load(path).graph.node)
    assert largest_difference(network, path, 3) < TOLERANCE


def test_a_file_tells_nothing_of_the_machine_and_is_the_same_twice(tmp_path):
    network = networks_of(rounded(MODELS["vae"]))["encoder"]
    first, second = (export_network(tmp_path / name, network).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second
    for trace in (b"/", b".py", b"torch", b"stack"):
        readable = onnx.load_from_string(first)
        for tensor in readable.graph.initializer:
            tensor.ClearField("raw_data")  # random bytes may spell anything
        assert trace not in readable.SerializeToString()


def test_export_leaves_the_model_as_it_was(tmp_path):
    model = VAE(VAEConfig(latent_dim=4, network="mlp", hidden=(16,))).train()
    export_network(tmp_path / "decoder.onnx", networks_of(model)["decoder"])
    assert all(module.training for module in model.modules())


def test_a_network_of_fixed_batch_size_is_refused(tmp_path):
    class Fixed(nn.Module):
        def forward(self, x):
            return x + torch.zeros(len(x), 2)

    with pytest.raises(ValueError, match="fixed cannot be exported for any batch size"):
        export_network(tmp_path / "fixed.onnx", Network(Fixed(), {"x": (2,)}, ("y",)))


# ---- the folder that the page is served from ----


@pytest.fixture
def small_figures(monkeypatch):
    vae, autoencoder = rounded(MODELS["vae"]), rounded(Autoencoder(AutoencoderConfig(latent_dim=2, width=4)))
    linear = rounded(Autoencoder(AutoencoderConfig(latent_dim=2, network="linear")))
    explorer = latent_explorer.contents({"β = 1": vae}, None)
    embedding = embedding_map.contents({"nonlinear": [autoencoder], "linear": [linear]}, None)
    monkeypatch.setattr(LatentExplorer, "published", classmethod(lambda cls: explorer))
    monkeypatch.setattr(EmbeddingMap, "published", classmethod(lambda cls: embedding))
    # The other figures' networks take minutes; building the book exports them all, and the page tests run them.
    monkeypatch.setattr("gentext.live.FIGURES", {"latent_explorer": LatentExplorer, "embedding_map": EmbeddingMap})


def test_everything_that_a_page_needs_is_written(small_figures, tmp_path):
    written = export_all(tmp_path)  # no names: all of them
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"latent_explorer", "embedding_map"}
    assert all(path.is_file() for path in written)
    names = {str(path.relative_to(tmp_path)) for path in written}
    assert {"host.mjs", "live.css", "latent_explorer/encoder-0.onnx", "embedding_map/linear-2-decoder.onnx"} <= names
    state = json.loads((tmp_path / "latent_explorer" / "state.json").read_text(encoding="utf-8"))
    assert state["networks"] == {
        name: (tmp_path / "latent_explorer" / f"{name}.onnx").stat().st_size for name in ("encoder-0", "decoder-0")
    }
    assert (
        LatentExplorer().to_html().startswith('<div class="gentext-live" data-figure="latent_explorer" data-model="p')
    )


def test_one_figure_can_be_written_alone_and_old_networks_go(small_figures, tmp_path):
    stale = tmp_path / "latent_explorer" / "decoder-9.onnx"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    export_all(tmp_path, ["latent_explorer"])
    assert not stale.exists()
    assert not (tmp_path / "embedding_map").exists()


@pytest.mark.parametrize("reason", [KeyboardInterrupt, OSError])
def test_an_export_that_stops_half_way_leaves_what_was_there(small_figures, tmp_path, monkeypatch, reason):
    folder = tmp_path / "latent_explorer"
    folder.mkdir()
    (folder / "state.json").write_text("old", encoding="utf-8")
    killed = tmp_path / "latent_explorer.partial"  # what a kill -9 leaves; nobody must find it on the page
    killed.mkdir()
    (killed / "decoder-9.onnx").write_bytes(b"half")

    def stop(path, network):
        path.write_bytes(b"half")
        raise reason

    with monkeypatch.context() as broken:
        broken.setattr(export, "export_network", stop)
        with pytest.raises(reason):
            export_all(tmp_path, ["latent_explorer"])
    assert [path.name for path in folder.iterdir()] == ["state.json"]
    assert (folder / "state.json").read_text(encoding="utf-8") == "old"
    assert not killed.exists()
    export_all(tmp_path, ["latent_explorer"])
    assert {path.name for path in folder.iterdir()} == {"encoder-0.onnx", "decoder-0.onnx", "state.json"}


def test_an_unknown_figure_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"no live figure nobody; there are {', '.join(sorted(FIGURES))}"):
        export_all(tmp_path, ["nobody"])


def test_figures_say_which_weights_are_missing(monkeypatch):
    monkeypatch.setattr(zoo, "names", lambda: [])
    with pytest.raises(ValueError, match="gentext train vae-glyphs"):
        LatentExplorer()
    with pytest.raises(ValueError, match="gentext train ae-glyphs-2"):
        EmbeddingMap()


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.slow
def test_published_networks_are_small_and_agree(name, tmp_path):
    """The real thing: each published network against torch, and all of a chapter's together at most 4 MB."""
    export_all(tmp_path, [name])
    contents = FIGURES[name].published()  # raises where the zoo lacks weights that the book shows
    networks = contents.networks
    assert networks or contents.computed, "a figure that answers nothing"
    sizes = [path.stat().st_size for path in (tmp_path / name).glob("*.onnx")]
    assert len(sizes) == len(networks)
    assert sum(sizes) <= 4_000_000
    for part, network in networks.items():
        assert largest_difference(network, tmp_path / name / f"{part}.onnx", 2) < TOLERANCE
        # The zoo's weights are rounded, so all are halved; what is left in full are tables, of angles say.
        tables = [t for t in onnx.load(tmp_path / name / f"{part}.onnx").graph.initializer if len(t.dims) > 1]
        wide = sum(math.prod(t.dims) for t in tables if t.data_type == onnx.TensorProto.FLOAT)
        assert wide <= 0.1 * sum(math.prod(t.dims) for t in tables)
