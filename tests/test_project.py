"""The project as a whole: one address, locks without hosts, sizes, clean files, documents that tell the truth."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MODULES = {  # of the chapters, as the book's plan has them
    "01-what-is-a-generative-model": "density",
    "02-from-classifier-to-generator": "gaussian",
    "03-timeline": "timeline",
    "04-autoencoders": "autoencoder",
    "05-variational-autoencoders": "vae",
    "10-denoising-diffusion": "diffusion",
    "11-sampling-and-guidance": "diffusion_sampling",
    "12-attention": "attention",
    "15-language-models": "gpt",
}
TEXT = {".py", ".md", ".mjs", ".css", ".json", ".toml", ".yml", ".yaml", ".cff", ".txt", ".ipynb", ".bib", ".html", ""}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    readable = [path for path in tracked() if path.suffix in TEXT or path.name == "Makefile"]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf8") for path in readable}


def repository_url() -> str:
    return yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]


def test_one_repository_address(texts: dict[str, str]) -> None:
    """Every mention of the repository is the one in _config.yml."""
    url = repository_url()
    owner, name = url.removeprefix("https://github.com/").split("/")
    mentions = 0
    for path, text in texts.items():
        for found in re.finditer(rf"github\.com[/:]([\w.-]+)/{name}\b", text):
            mentions += 1
            assert found[1] == owner, f"{path} names {found[0]}, _config.yml has {url}"
        for found in re.finditer(r"https://([\w-]+)\.github\.io/(\w+)", text):
            if found[2] == name:
                assert found[1] == owner, f"{path} names {found[0]}"
    assert mentions >= 3


def test_no_registry_host_no_machine_path(texts: dict[str, str]) -> None:
    host = re.compile(r'"resolved": "https?://|registry = "https?://|--(extra-)?index-url[ =]https?://|^file://', re.M)
    folder = re.compile(r"(?<![\w.])/(home|root|Users|work)/\w")
    for path, text in texts.items():
        if path.startswith("tests/"):  # tests name the patterns they look for
            continue
        assert not host.search(text), f"{path} names a package registry"
        assert not folder.search(re.sub(r"https?://\S+", "", text)), f"{path} holds a path of one machine"


def test_no_pickle_no_eval() -> None:
    unsafe = re.compile(r"\bpickle\.loads?\b|torch\.load\((?!.*weights_only=True)|(?<![\w.])eval\(|(?<![\w.])exec\(")
    for path in tracked():
        if path.suffix == ".py" and "tests" not in path.parts:
            for line in path.read_text().splitlines():
                assert not unsafe.search(line), f"{path.name}: {line.strip()}"


def test_modules_are_short() -> None:
    for path in tracked():
        if path.suffix in {".py", ".mjs"} and path.is_relative_to(ROOT / "src"):
            assert len(path.read_text().splitlines()) <= 420, f"{path.name}: one subject, about 400 lines"


def test_package_data_is_small() -> None:
    data = [p for p in tracked() if p.is_relative_to(ROOT / "src") and p.suffix not in {".py", ".mjs", ".md", ".css"}]
    assert sum(p.stat().st_size for p in data) < 60e6
    glyphs = [p for p in data if p.name.startswith("glyphs.")]
    assert 0 < sum(p.stat().st_size for p in glyphs) < 3e6


def test_chapters_modules_and_tests_share_names() -> None:
    """One name, five places: every chapter in the table of contents has its notebook and a test file."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    numbered = [Path(f).name for f in files if re.match(r"\d\d-", Path(f).name)]
    assert [p.stem for p in sorted((ROOT / "book").glob("[0-9][0-9]-*.ipynb"))] == numbered
    for name in numbered:
        assert (ROOT / f"src/gentext/{MODULES[name]}.py").exists()
        assert (ROOT / f"tests/test_{MODULES[name]}.py").exists()


def test_readme_names_only_targets_that_exist(texts: dict[str, str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", texts["Makefile"], flags=re.M))
    for document in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(
            r"\bmake ([a-z][a-z-]*)", " ".join(re.findall(r"`[^`]+`|^    .+", texts[document], re.M))
        ):
            assert target in targets, f"{document} speaks of make {target}"


def test_readme_links_resolve(texts: dict[str, str]) -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        for link in re.findall(r"\]\(([^)#]+)", texts[document]):
            if not link.startswith(("http", "mailto")):
                assert (ROOT / link).exists(), f"{document} links to {link}"


def test_locks_match_the_package(texts: dict[str, str]) -> None:
    """The lock for the book is a part of the lock for the tests, version by version."""
    pins = {
        name: dict(re.findall(r"^([\w.-]+)==(\S+)", texts[name], flags=re.M))
        for name in ("requirements.txt", "requirements-test.txt")
    }
    assert len(pins["requirements.txt"]) > 100
    assert pins["requirements.txt"].items() <= pins["requirements-test.txt"].items()


def test_import_direction() -> None:
    """A chapter may import an earlier chapter, never a later one (contracts in pyproject.toml)."""
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


def test_citation_file(texts: dict[str, str]) -> None:
    citation = yaml.safe_load(texts["CITATION.cff"])
    assert citation["repository-code"] == repository_url()
    assert citation["version"] == re.search(r'^version = "(.+)"', texts["pyproject.toml"], flags=re.M)[1]
