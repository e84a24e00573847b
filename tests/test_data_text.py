"""Text sets: inscriptions by split and size, Tiny Shakespeare from the data folder."""

import contextlib
import hashlib

import pytest

from gentext import data
from gentext.data import TextSet, text


@pytest.fixture
def play(tmp_path, monkeypatch):
    """A data folder with a short text in the place of Shakespeare's, and no network."""
    content = ("".join(chr(32 + k % 90) for k in range(1001))).encode("ascii")
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path))
    monkeypatch.setattr(text, "_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(text, "_ADDRESSES", ("http://127.0.0.1:9/input.txt",))
    monkeypatch.setenv("no_proxy", "*")
    path = tmp_path / "tinyshakespeare" / "input.txt"
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def test_inscriptions_come_in_the_number_asked_for():
    few, more = (data.load("inscriptions", "validation", size=size) for size in (3, 20))
    assert (len(few), len(more)) == (3, 20)
    assert few.texts == more.texts[:3]
    assert few.text == "\n\n".join(few.texts)
    assert few.text.count("\n\n") == 2
    assert (few.name, few.split) == ("inscriptions", "validation")
    assert data.load("inscriptions", "validation", size=20).texts is more.texts  # written once
    assert text.SIZES == {"train": 20_000, "validation": 2_000, "test": 2_000}


def test_no_inscription_is_in_two_splits():
    splits = [set(data.load("inscriptions", split, size=300).texts) for split in data.SPLITS]
    assert len(set.union(*splits)) == 900


def test_tiny_shakespeare_is_cut_at_nine_tenths(play):
    train, validation = (data.load("tiny_shakespeare", split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (1, 1)
    assert train.text + validation.text == play.read_text()
    assert len(train.text) == 900


def test_the_real_text_where_it_is_at_hand():
    if not (data.folder() / text.SHAKESPEARE).is_file():
        pytest.skip("Tiny Shakespeare is not in the data folder")
    train, validation = (data.load("tiny_shakespeare", split).text for split in ("train", "validation"))
    assert (len(train), len(validation)) == (1_003_854, 111_540)
    assert len(set(train + validation)) == 65
    assert train.startswith("First Citizen:\nBefore we proceed any further, hear me speak.")


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_without_a_network_a_sentence_says_what_to_do(play, damage):
    content = play.read_bytes()
    play.unlink()
    if damage == "truncated":
        play.write_bytes(content[:-1])
    expected = pytest.warns(UserWarning, match="damaged") if damage == "truncated" else contextlib.nullcontext()
    with expected, pytest.raises(data.DataUnavailable) as caught:
        data.load("tiny_shakespeare")
    assert "connect to the network and try again" in str(caught.value)
    assert str(caught.value).endswith("set GENTEXT_DATA to a folder that holds tinyshakespeare/input.txt.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inscriptions", "train", 0), "size is the number of inscriptions, at least 1, not 0"),
        (("inscriptions", "all"), "no split 'all'"),
        (("tiny_shakespeare", "test"), "tiny_shakespeare has no test split"),
        (("tiny_shakespeare", "train", 5), "comes whole: leave size out, not 5"),
        (("tiny_tolstoy",), "no data set 'tiny_tolstoy'; .* inscriptions, tiny_shakespeare"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(*arguments)


@pytest.mark.parametrize("texts", [(), (1, 2)])
def test_a_text_set_holds_texts(texts):
    with pytest.raises(ValueError, match="needs at least one text"):
        TextSet(texts, "mine", "train")
    assert TextSet(["a", "b"], "mine", "train").texts == ("a", "b")
