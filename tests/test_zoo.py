"""The zoo: saving and loading any model, and every shipped model measured again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from gentext import zoo
from gentext.data import DataUnavailable
from gentext.train import recipes
from gentext.zoo import Card, Measurement, files, store
from train_toy import Inner, Toy, ToyConfig, make_model

CARD = Card(
    name="toy",
    summary="a toy",
    seed=3,
    metrics={"error": Measurement(value=1.5, unit="nats", split="test", count=10, standard_error=0.1, tolerance=0.2)},
    curve={"train": {"step": [1, 2], "total": [0.5, 0.25]}},
)
PACKAGE_LIMIT = 60e6  # bytes of data in the package


# ---- what ships ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.names())
def test_shipped_weights_measure_as_their_card_says(name: str) -> None:
    card, recipe = zoo.card(name), recipes.get(name)
    model = zoo.load(name)
    try:
        measured = recipe.measure(model, True)
    except DataUnavailable as error:
        pytest.skip(f"the data of {name} is not here: {error}")
    assert measured, "a quick measurement must measure something"
    for metric, found in measured.items():
        claimed = card.metrics[metric]
        assert (found.unit, claimed.tolerance) == (claimed.unit, found.tolerance)
        assert abs(found.value - claimed.value) <= claimed.tolerance, f"{metric}: {found}, the card has {claimed}"


@pytest.mark.parametrize("name", zoo.names())
def test_cards_tell_the_whole_story(name: str) -> None:
    card, recipe = zoo.card(name), recipes.get(name)
    assert card.name == name
    assert card.summary == recipe.summary
    assert card.metrics
    assert card.steps == recipe.fit.num_steps, "trained for other than the recipe's steps"
    assert card.fit == json.loads(json.dumps(asdict(recipe.fit))), "the recipe has changed since: train it again"
    assert card.seed == recipe.fit.seed
    assert card.wall_seconds > 0
    assert card.threads > 0
    assert all((card.kind, card.config, card.data, card.device, card.torch, card.gentext))
    assert 0 < len(card.curve["train"]["step"]) <= 200
    assert card.curve["train"]["step"][-1] == card.steps


@pytest.mark.parametrize("name", zoo.names())
def test_shipped_weights_are_plain_finite_and_ready(name: str) -> None:
    model = zoo.load(name)
    assert not model.training
    assert not any(parameter.requires_grad and parameter.grad is not None for parameter in model.parameters())
    for tensor in model.state_dict().values():
        assert bool(torch.isfinite(tensor).all())
        assert tensor.dtype != torch.float16, "weights are used as float32"


def test_every_weight_file_is_a_recipes() -> None:
    assert set(zoo.names()) <= set(recipes.names())
    package = Path(store.__file__).parents[1]
    size = sum(path.stat().st_size for path in package.rglob("*") if path.suffix not in (".py", ".pyc"))
    assert size <= PACKAGE_LIMIT


# ---- saving and loading ----------------------------------------------------------------------------------------------


def test_what_is_saved_is_what_was_rounded(tmp_path: Path) -> None:
    model = zoo.round_weights(make_model(inner=Inner((5,)), batch_norm=True, noise=0.25))
    path = zoo.save(tmp_path / "new" / "toy.safetensors", model, CARD)
    state = torch.random.get_rng_state()
    loaded = zoo.load(path)
    assert torch.equal(torch.random.get_rng_state(), state), "loading disturbed the global generator"
    assert isinstance(loaded, Toy)
    assert loaded.config == ToyConfig(inner=Inner((5,)), batch_norm=True, noise=0.25), "nested, with tuples"
    assert not loaded.training
    assert loaded.tied is loaded.first
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
        assert loaded.state_dict()[name].dtype == tensor.dtype
    found = zoo.card(path)
    assert found == replace(CARD, kind="toy", config=json.loads(json.dumps(asdict(model.config))), dtype="float16")
    assert str(found.metrics["error"]) == "1.5 ± 0.1 nats (test, 10 examples)"


def test_full_precision_and_tied_weights_once(tmp_path: Path) -> None:
    model = make_model()
    path = zoo.save(tmp_path / "toy.safetensors", model, CARD, half=False)
    assert zoo.card(path).dtype == "float32"
    assert torch.equal(zoo.load(path, "cpu").state_dict()["first.weight"], model.first.weight)
    tensors, _ = files.read_tensors(path)
    assert not any(name.startswith("tied") for name in tensors)


def test_rounding_is_what_half_precision_does() -> None:
    model, exact = make_model(), make_model()
    zoo.round_weights(model)
    assert torch.equal(model.first.weight, exact.first.weight.half().float())
    assert not torch.equal(model.first.weight, exact.first.weight)
    assert model.first.weight.requires_grad


def test_models_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    with pytest.raises(ValueError, match=r"Linear is not a kind of model the zoo knows"):
        zoo.save(path, torch.nn.Linear(2, 2), CARD)
    with pytest.raises(ValueError, match=r"go into a \.safetensors file"):
        zoo.save(tmp_path / "toy.pt", make_model(), CARD)
    model = make_model()
    with torch.no_grad():
        model.last.bias[0] = 1e6
    with pytest.raises(ValueError, match=r"'last.bias' do not fit float16 \(largest is 1e\+06\)"):
        zoo.save(path, model, CARD)
    with torch.no_grad():
        model.last.bias[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        zoo.save(path, model, CARD, half=False)
    assert not path.exists()


def test_names_that_do_not_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(store, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match="there are: none"):
        zoo.load("toy")
    zoo.save(tmp_path / "toy-glyphs.safetensors", make_model(), CARD)
    assert zoo.names() == ["toy-glyphs"]
    assert isinstance(zoo.load("toy-glyphs"), Toy)
    with pytest.raises(ValueError, match="no weights are called 'toy-glyph'; did you mean 'toy-glyphs'"):
        zoo.card("toy-glyph")
    with pytest.raises(ValueError, match="there are: toy-glyphs"):
        zoo.load("../../secret")
    with pytest.raises(ValueError, match=r"there is no file .*nowhere\.safetensors"):
        zoo.load(tmp_path / "nowhere.safetensors")


def change(path: Path, **entries: object) -> None:
    tensors, about = files.read_tensors(path)
    files.write_tensors(path, tensors, {**about, **entries})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"kind": "hologram"}, "kind 'hologram' and this gentext knows .*newer gentext"),
        ({"config": {"inner": {"widths": [8]}, "colour": 1}}, "does not fit .*ToyConfig has no entry 'colour'"),
        ({"config": {"inner": {"widths": [9]}}}, r"'first.weight' has shape \(8, 6\), the model's is \(9, 6\)"),
        ({"config": {"inner": {"widths": [-1]}}}, "does not fit this gentext's 'toy' model"),
        ({"config": {"inner": {"widths": "wide"}}}, "does not fit this gentext's 'toy' model"),
        ({"config": {"inner": {"widths": [8]}, "batch_norm": True}}, "lacks 'norm.bias'"),
        ({"mood": "good"}, "a card has no entry mood: it was probably written by a newer gentext"),
        ({"metrics": {"error": {"worth": 1}}}, "the card cannot be read"),
        ({"metrics": [1]}, "the card cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, entries: dict, message: str) -> None:
    path = zoo.save(tmp_path / "toy.safetensors", make_model(), CARD)
    change(path, **entries)
    with pytest.raises(ValueError, match=message) as caught:
        zoo.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_cannot_name_code(tmp_path: Path) -> None:
    """Kinds are looked up in a table of ours; a module's name in a file is just an unknown kind."""
    path = zoo.save(tmp_path / "toy.safetensors", make_model(), CARD)
    change(path, kind="os:system")
    with pytest.raises(ValueError, match="'os:system'"):
        zoo.load(path)


def test_all_kinds_exist() -> None:
    for kind in zoo.KINDS:
        model_class, config_class = store.resolve(kind)
        assert issubclass(model_class, torch.nn.Module)
        assert config_class.__dataclass_params__.frozen


def test_curves_are_thinned() -> None:
    history = {"train": {"step": list(range(1, 1001)), "total": [1 / 3] * 1000}, "validation": {"step": [5]}}
    thin = zoo.thin_curve(history)
    assert len(thin["train"]["step"]) == len(thin["train"]["total"]) == 200
    assert (thin["train"]["step"][0], thin["train"]["step"][-1]) == (1, 1000)
    assert thin["train"]["step"] == sorted(set(thin["train"]["step"]))
    assert thin["train"]["total"][0] == 0.333333
    assert thin["validation"] == {"step": [5]}
