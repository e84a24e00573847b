"""Training on text: windows of one row of tokens, AdamW's betas, a schedule with a floor; the recipes' measurements."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from gentext.attention_model import AttentionModel, AttentionModelConfig
from gentext.gpt import GPT, GPTConfig
from gentext.metrics import bits_per_character, perplexity, stream_nats, text_nats
from gentext.train import FitConfig, FitResult, TextFitConfig, TokenData, fit, lessons, recipes, recipes_text
from gentext.train.loop import make_optimizer
from gentext.train.tensors import BatchOrder

ROW = torch.arange(100, 150, dtype=torch.int16)


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_windows_anywhere() -> None:
    data = TokenData(ROW, context=4)
    assert len(data) == 46, "windows of 5 among 50"
    (batch,) = data.rows(torch.tensor([0, 45, 7]))
    assert batch.dtype == torch.int64
    assert batch.tolist() == [[*range(100, 105)], [*range(145, 150)], [*range(107, 112)]]
    order = BatchOrder(len(data), 8, 0, torch.device("cpu"))
    starts = torch.cat([data.rows(order.indices(step))[0][:, 0] for step in range(40)])
    assert set(starts.tolist()) == set(range(100, 146)), "every window has its turn"


def test_windows_at_given_places() -> None:
    data = TokenData(ROW, context=4, starts=torch.arange(0, 46, 4))
    (batch,) = data.rows(torch.arange(len(data)))
    assert torch.equal(batch[:, 1:].flatten(), torch.arange(101, 149)), "each token is predicted once"
    moved = data.to("cpu")
    assert (moved.device.type, len(moved), moved.context) == ("cpu", 12, 4)
    assert data.shapes() != TokenData(ROW, context=4).shapes(), "another data set for a checkpoint"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ROW.float(), 4), "one row of more than 4 whole numbers"),
        ((ROW[None], 4), "one row of more than"),
        ((ROW, 0), "one row of more than 0"),
        ((ROW, 50), "one row of more than 50"),
        ((ROW, 4, torch.tensor([46])), r"places in 0\.\.45"),
        ((ROW, 4, torch.tensor([-1])), r"places in 0\.\.45"),
        ((ROW, 4, torch.tensor([], dtype=torch.int64)), r"places in 0\.\.45"),
    ],
)
def test_rows_that_make_no_windows(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenData(*arguments)


# ---- settings --------------------------------------------------------------------------------------------------------


def test_the_schedule_ends_at_its_floor() -> None:
    """nanoGPT's formula."""
    config = TextFitConfig(num_steps=200, warmup_steps=20, learning_rate=1e-3, min_learning_rate=1e-4)
    for step in range(200):
        if step < 20:
            expected = 1e-3 * (step + 1) / 20
        else:
            expected = 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 20) / 180)) * (1e-3 - 1e-4)
        assert config.learning_rate_at(step) == pytest.approx(expected, rel=1e-12)
    assert TextFitConfig(num_steps=5, schedule="constant", warmup_steps=0).learning_rate_at(4) == 1e-3


def test_betas_reach_the_optimiser_and_other_runs_keep_theirs() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2, 2))]
    device = torch.device("cpu")
    ours = make_optimizer(weights, TextFitConfig(num_steps=1, betas=(0.8, 0.99)), device)
    assert ours.defaults["betas"] == (0.8, 0.99)
    plain = FitConfig(num_steps=1)
    assert make_optimizer(weights, plain, device).defaults["betas"] == (0.9, 0.999)
    assert not {"betas", "min_learning_rate"} & set(asdict(plain)), "the cards of older runs stay as they are"
    again = TextFitConfig(**json.loads(json.dumps(asdict(TextFitConfig(num_steps=1, betas=(0.8, 0.99))))))
    assert again.betas == (0.8, 0.99)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
        ({"min_learning_rate": -1e-4}, "min_learning_rate must lie between"),
        ({"min_learning_rate": 1.0}, "min_learning_rate must lie between"),
        ({"num_steps": 0}, "num_steps"),
    ],
)
def test_settings_that_make_no_sense(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextFitConfig(**{"num_steps": 10, **change})


# ---- a fit -----------------------------------------------------------------------------------------------------------


def train(directory: Path | None = None, on_step: object = None, **changes: object) -> FitResult:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(GPTConfig.llama(7, context=8, num_layers=1, num_heads=2, width=8, dropout=0.1))
    row = torch.arange(400).remainder(7)
    options = {"num_steps": 20, "batch_size": 6, "learning_rate": 0.02, "min_learning_rate": 1e-3, "warmup_steps": 3}
    return fit(
        model,
        TokenData(row, 8),
        TextFitConfig(**{**options, "checkpoint_every": 5, "validate_every": 10, **changes}),  # type: ignore[arg-type]
        validation=TokenData(row[:50], 8, torch.arange(0, 40, 8)),
        directory=directory,
        on_step=on_step,  # type: ignore[arg-type]
        progress=False,
        device="cpu",
    )


def test_a_gpt_learns_to_count_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    unbroken = train()
    losses = unbroken.history["validation"]["cross_entropy"]
    assert losses[-1] < losses[0] < math.log(7)

    def press(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(tmp_path, on_step=press)
    assert (stopped.interrupted, stopped.steps) == (True, 8)
    resumed = train(tmp_path)
    assert resumed.history == unbroken.history
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, unbroken.model.state_dict()[name]), name
    with pytest.raises(ValueError, match="betas"):
        train(tmp_path, betas=(0.5, 0.9))


# ---- measuring text --------------------------------------------------------------------------------------------------


def uneven(tokens: torch.Tensor) -> torch.Tensor:
    """A model that knows one thing: after token t comes (t + 1) % 5 with probability 1/2, else any other alike."""
    probabilities = torch.full((*tokens.shape, 5), 0.125)
    return probabilities.scatter(-1, ((tokens + 1) % 5)[..., None], 0.5).log()


def test_nats_of_a_long_text() -> None:
    tokens = torch.tensor([0, 1, 2, 2, 3, 4, 0, 3])
    expected = [-math.log(p) for p in (0.5, 0.5, 0.125, 0.5, 0.5, 0.5, 0.125)]
    for context in (1, 2, 3, 7, 100):
        nats = stream_nats(uneven, tokens, context, batch_size=2)
        assert nats.dtype == torch.float64
        assert nats.tolist() == pytest.approx(expected)
    for bad in (tokens[:1], tokens[None]):
        with pytest.raises(ValueError, match="a row of at least two"):
            stream_nats(uneven, bad, 4)


def test_windows_are_read_from_nothing() -> None:
    seen: list[tuple[int, ...]] = []

    def model(tokens: torch.Tensor) -> torch.Tensor:
        seen.extend(map(tuple, tokens.tolist()))
        return uneven(tokens)

    stream_nats(model, torch.tensor([0, 1, 2, 3, 4, 0, 1, 2]), context=3)
    assert seen == [(0, 1, 2), (3, 4, 0), (1,)]


def test_nats_of_many_texts() -> None:
    texts = [[1, 2, 3], [3], [1, 1], [0]]
    expected = [3 * math.log(2), math.log(8), math.log(2) + math.log(8), math.log(8)]
    for batch_size in (1, 2, 10):
        assert text_nats(uneven, texts, start=0, batch_size=batch_size).tolist() == pytest.approx(expected)
    torch.manual_seed(0)
    model = GPT(GPTConfig.gpt2(5, context=8, num_layers=1, num_heads=1, width=8)).double()
    alone = torch.cat([text_nats(model, [text], start=0) for text in texts])
    torch.testing.assert_close(text_nats(model, texts, start=0), alone)  # padding changes nothing
    for bad in ([], [[1], []]):
        with pytest.raises(ValueError, match="at least one"):
            text_nats(uneven, bad, start=0)


def test_units() -> None:
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert bits_per_character(10 * math.log(2), 4) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="at least 1"):
        bits_per_character(1.0, 0)


# ---- recipes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_inscriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes that read 60 texts where they read thousands."""
    load = recipes_text.data.load

    def small(name: str, split: str = "train", size: int | None = None):
        return load(name, split, size=min(60, size or 60)) if name == "inscriptions" else load(name, split)

    monkeypatch.setattr(recipes_text.data, "load", small)
    for function in (lessons.inscriptions_tokenizer, lessons.inscriptions_windows):
        function.cache_clear()
        for module in (lessons, recipes_text):
            monkeypatch.setattr(module, function.__name__, function.__wrapped__)


def test_inscriptions_become_windows_that_begin_where_texts_do(few_inscriptions: None) -> None:
    tokenizer, end = lessons.inscriptions_tokenizer(), lessons.end_token()
    data = lessons.inscriptions_windows("train", 60)
    (rows,) = data.rows(torch.arange(len(data)))
    assert rows.shape[1] == lessons.CONTEXT + 1
    assert bool((rows[:, 0] == end).all())
    texts = recipes_text.data.load("inscriptions", "train").texts
    for row, text in zip(rows[:5].tolist(), texts, strict=False):
        stop = row.index(end, 1) if end in row[1:] else len(row)
        assert text.startswith(tokenizer.decode(row[1:stop]))
        assert end not in row[1:] or tokenizer.decode(row[1:stop]) == text


def test_what_the_inscriptions_recipes_measure(few_inscriptions: None) -> None:
    torch.manual_seed(0)
    model = AttentionModel(
        AttentionModelConfig(vocab_size=recipes_text.VOCAB_SIZE, context=192, width=8, num_layers=1, num_heads=2)
    )
    metrics = recipes_text.measure_heads(model.eval(), True)
    entropy = recipes_text.Inscriptions().entropy()
    assert metrics["nats_per_text"].value == pytest.approx(entropy * (1 + metrics["above_entropy"].value / 100))
    assert metrics["above_entropy"].value > 500, "an untrained network is far above"
    for trade in ("previous_token", "same_name", "induction"):
        head, uniform = metrics[f"{trade}_head"].value, metrics[f"{trade}_uniform"].value
        assert head == pytest.approx(uniform, abs=0.05), "an untrained head looks everywhere alike"
    assert metrics["nats_said_first"].value == pytest.approx(metrics["nats_said_again"].value, abs=0.5)


def test_names_are_found_in_pieces() -> None:
    text = "King Adan gave to Namu.\nMay Namu bless Adan. May he live."
    pieces = ["King", " Ad", "an", " gave", " to", " Namu", ".\n", "May", " Namu", " bless", " Ad", "an", ". ", "May"]
    labels = lessons.name_labels(text, pieces)
    assert labels == [0, 1, 1, 0, 0, 3, 0, 2, 3, 0, 1, 1, 0, 2]


def test_nanogpts_setting_is_nanogpts() -> None:
    recipe = recipes.get("gpt-shakespeare")
    model = recipe.build()
    assert isinstance(model, GPT)
    without_positions = model.num_params - 64 * 128  # as nanoGPT counts: "0.80M"
    assert without_positions == 65 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128
    fitting = recipe.fit
    assert (fitting.num_steps, fitting.batch_size, model.config.context) == (2000, 12, 64)
    assert (fitting.learning_rate, fitting.min_learning_rate, fitting.warmup_steps) == (1e-3, 1e-4, 100)
    better = recipes.get("gpt-shakespeare-better")
    twin = better.build()
    assert isinstance(twin, GPT)
    ours = better.fit.num_steps * better.fit.batch_size * twin.config.context * twin.num_params
    assert ours <= 1.02 * fitting.num_steps * fitting.batch_size * model.config.context * model.num_params


def test_some_rows_of_a_batch_become_copies() -> None:
    texts = torch.full((16, 193), 7)
    (mixed,) = lessons.with_copies((texts,), torch.Generator().manual_seed(0))
    assert mixed.shape == texts.shape
    assert mixed.dtype == texts.dtype
    assert torch.equal(mixed[lessons.COPIES :], texts[lessons.COPIES :])
    for row in mixed[: lessons.COPIES]:
        periods = [period for period in range(1, 81) if torch.equal(row[period:], row[:-period])]
        assert periods
        assert periods[0] >= 4
        assert row.min() >= 1, "the end token is not drawn"
    (again,) = lessons.with_copies((texts,), torch.Generator().manual_seed(0))
    assert torch.equal(mixed, again)


def test_a_plan_of_lessons_holds_for_its_steps_only() -> None:
    tokens = torch.randint(1, 20, (400,), generator=torch.Generator().manual_seed(0))

    class Planned(TokenData):
        def transform_at(self, step: int):
            return (lambda batch, generator: (torch.zeros_like(batch[0]),)) if step in range(2, 4) else None

        def to(self, device: torch.device | str) -> TokenData:
            return Planned(self.tensors[0].to(device), self.context)

    torch.manual_seed(0)
    model = GPT(GPTConfig.gpt2(20, context=8, num_layers=1, num_heads=2, width=8))
    seen: list[bool] = []
    inner = model.loss
    model.loss = lambda batch, **rest: (seen.append(bool((batch[0] == 0).all())), inner(batch, **rest))[1]  # type: ignore[method-assign]
    fit(model, Planned(tokens, 8), FitConfig(num_steps=6, batch_size=4), progress=False, device="cpu")
    assert seen == [False, False, True, True, False, False]


def test_when_the_inscriptions_gpt_copies() -> None:
    windows = lessons.inscriptions_windows("validation", 20)
    apprentices = lessons.Apprentices(windows.tensors[0], windows.context, windows.starts).to("cpu")
    for steps, lesson in ((apprentices.copying, lessons.with_copies), (apprentices.meeting, lessons.with_strangers)):
        planned = [apprentices.transform_at(step) for step in (steps[0] - 1, steps[0], steps[-1], steps[-1] + 1)]
        assert planned == [None, lesson, lesson, None]
        assert steps[-1] < recipes.get("gpt-inscriptions").fit.num_steps
    assert apprentices.transform_at(0) is None


def test_foreign_names_stand_wherever_the_name_stood() -> None:
    text = "Here lies Tabi, son of Nuram.\nTabi saw 3 harvests. His son Oded built it.\nThe house of Nuram is dark."
    foreign = lessons.with_foreign_names(text, torch.Generator().manual_seed(0))
    assert lessons.returning_names(text) == ["Nuram", "Tabi"]
    assert "Tabi" not in foreign
    assert "Nuram" not in foreign
    assert "His son Oded built it" in foreign, "a name that does not return stays"
    names = lessons.returning_names(foreign)
    assert len(names) == 2
    back = foreign
    for name in names:  # in which order they were replaced does not matter
        first = foreign.index(name) == len("Here lies ")
        back = back.replace(name, "Tabi" if first else "Nuram")
    assert back == text


def test_strangers_take_the_first_rows() -> None:
    texts = torch.full((16, lessons.CONTEXT + 1), 7)
    (mixed,) = lessons.with_strangers((texts,), torch.Generator().manual_seed(0))
    assert mixed.shape == texts.shape
    assert torch.equal(mixed[lessons.COPIES :], texts[lessons.COPIES :])
    tokenizer = lessons.inscriptions_tokenizer()
    for row in mixed[: lessons.COPIES].tolist():
        assert row[0] == lessons.end_token()
        assert lessons.end_token() in row[1:], "a text ends within the window"
        assert tokenizer.decode(row[1 : row.index(lessons.end_token(), 1)])[0].isupper()
    (again,) = lessons.with_strangers((texts,), torch.Generator().manual_seed(0))
    assert torch.equal(mixed, again)
