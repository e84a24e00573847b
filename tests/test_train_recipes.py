"""Recipes: the registry, and `run` from nothing to a weights file with its card."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gentext import zoo
from gentext.train import recipe, recipes, run
from train_toy import TOY, measure


def test_run_writes_weights_with_their_card(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    path = run(TOY, tmp_path, progress=False, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert path == tmp_path / "toy.safetensors"
    card, model = zoo.card(path), zoo.load(path)
    assert measure(model, True) == card.metrics, "the stored, rounded weights are the ones measured"
    assert (card.name, card.kind, card.steps, card.seed, card.device) == ("toy", "toy", 12, 0, "cpu")
    assert card.fit["num_steps"] == 12
    assert card.data == "tensors 50×6"
    assert card.curve["train"]["step"] == [4, 8, 12]
    assert card.curve["validation"]["step"] == [6, 12]
    assert (card.torch, card.threads) == (torch.__version__, torch.get_num_threads())
    first = path.read_bytes()
    assert run(TOY, tmp_path, progress=False, device="cpu").read_bytes() == first, (
        "a finished run is only measured again"
    )


def test_run_again_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    values = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        changed = replace(TOY, fit=replace(TOY.fit, seed=seed), half=False, data_note="noise")
        path = run(changed, tmp_path / folder, progress=False, device="cpu")
        values.append(zoo.card(path).metrics["sum"].value)
        assert zoo.card(path).data == "noise"
        assert zoo.card(path).dtype == "float32"
    assert values[0] == values[1] != values[2]


def test_run_with_other_steps_and_a_rule(tmp_path: Path) -> None:
    seen: list[int] = []
    path = run(replace(TOY, on_step=lambda model: seen.append), tmp_path, steps=3, progress=False, device="cpu")
    assert seen == [0, 1, 2]
    assert zoo.card(path).steps == 3
    with pytest.raises(ValueError, match="num_steps is 3 there and 12 here"):
        run(TOY, tmp_path, progress=False)
    assert zoo.card(run(TOY, tmp_path, resume=False, progress=False)).steps == 12


def test_ctrl_c_keeps_the_checkpoint_and_writes_no_weights(tmp_path: Path) -> None:
    def press(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(replace(TOY, on_step=lambda model: press), tmp_path / "stopped", progress=False)
    assert not (tmp_path / "stopped" / "toy.safetensors").exists()
    resumed, unbroken = (run(TOY, tmp_path / folder, progress=False) for folder in ("stopped", "unbroken"))
    assert zoo.card(resumed).metrics == zoo.card(unbroken).metrics


def test_other_processes_than_the_first_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("wrote weights")

    monkeypatch.setattr("gentext.train.recipe.save", refuse)
    monkeypatch.setenv("RANK", "1")
    run(TOY, tmp_path, progress=False)


def test_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: dict = {}
    monkeypatch.setattr(recipe, "_RECIPES", registry)
    with pytest.raises(ValueError, match="there are: none"):
        recipes.get("toy")
    recipe.recipe("toy")(lambda: TOY)
    assert recipes.get("toy") is TOY
    assert recipes.names() == ["toy"]
    with pytest.raises(ValueError, match="no recipe is called 'tay'; did you mean 'toy'"):
        recipes.get("tay")
    with pytest.raises(ValueError, match="there are: toy"):
        recipes.get("zebra")
    with pytest.raises(ValueError, match="two recipes called 'toy'"):
        recipe.recipe("toy")(lambda: TOY)
    recipe.recipe("impostor")(lambda: TOY)
    with pytest.raises(ValueError, match="registered as 'impostor' calls itself 'toy'"):
        recipes.get("impostor")


@pytest.mark.parametrize("name", recipes.names())
def test_the_books_recipes_are_complete(name: str) -> None:
    found = recipes.get(name)
    assert found.summary.endswith(".")
    assert 1 <= found.chapter <= 21
    assert found.data_note


def test_a_closed_form_is_computed_and_not_trained(tmp_path: Path) -> None:
    def solve(model: torch.nn.Module, train: object) -> dict:
        with torch.no_grad():
            next(model.parameters()).fill_(0.5)
        return {"train": {"step": [1], "error": [2.0]}}

    closed = replace(TOY, solve=solve, fit=replace(TOY.fit, num_steps=1))
    path = run(closed, tmp_path, progress=False, device="cpu")
    card, model = zoo.card(path), zoo.load(path)
    assert (card.steps, card.device, card.curve) == (1, "cpu", {"train": {"step": [1], "error": [2.0]}})
    assert measure(model, True) == card.metrics
    assert bool((next(model.parameters()) == 0.5).all())
    assert not (tmp_path / "checkpoints").exists()
    with pytest.raises(ValueError, match="toy has a closed form and is not trained: leave the number of steps out"):
        run(closed, tmp_path, steps=5, progress=False)
    with pytest.raises(ValueError, match="toy has a closed form: it takes one step, not 12"):
        replace(TOY, solve=solve)
