"""MNIST and Fashion-MNIST: the cache, its checksums, and what happens when a download goes wrong.

No test leaves this machine: a server on 127.0.0.1 plays the mirror and hands out a small set of our own.
"""

import dataclasses
import gzip
import hashlib
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from gentext import data
from gentext.data import downloads, mnist

TRAIN, TEST = mnist.HELD_OUT + 7, 11  # pictures in the small set


def idx(values: np.ndarray) -> bytes:
    """`values` as a gzipped IDX file."""
    head = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(head + values.tobytes(), mtime=0)


def small_files() -> dict[str, bytes]:
    """Four files as MNIST has them. Picture k has k % 256 in its middle pixel, and label k % 10."""
    files = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        pictures = np.zeros((count, 28, 28), dtype=np.uint8)
        pictures[:, 14, 14] = np.arange(count) % 256
        files[f"{part}-images-idx3-ubyte"] = idx(pictures)
        files[f"{part}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files


FILES = small_files()


class Mirror(ThreadingHTTPServer):
    """Serves FILES. `faults` says, request by request, what goes wrong: cut, short, garbage, missing or fine."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.faults: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = Path(self.path).name.removesuffix(".gz")
        self.server.requests.append(name)
        fault = self.server.faults.pop(0) if self.server.faults else "fine"
        if fault == "missing":
            self.send_error(404)
            return
        content = FILES[name]
        sent = {"cut": content[: len(content) // 2], "short": content[:-1], "garbage": b"<html>sign in</html>"}
        body = sent.get(fault, content)
        self.send_response(200)
        # "cut": the connection drops under way, so the length announced is the whole file's.
        self.send_header("Content-Length", str(len(content if fault == "cut" else body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, and a set "mnist" whose checksums are those of FILES."""
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
    small = dataclasses.replace(mnist.SOURCES["mnist"], checksums=checksums)
    monkeypatch.setitem(mnist.SOURCES, "mnist", small)
    return tmp_path / "data"


@pytest.fixture
def mirror(monkeypatch):
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [server.address])
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_network(monkeypatch):
    """A port on which nobody listens."""
    server = Mirror()
    address = server.address
    server.server_close()
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [address])


def fill(folder: Path) -> Path:
    """Put FILES where torchvision puts them."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in FILES.items():
        (raw / f"{name}.gz").write_bytes(content)
    return raw


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- the pictures -------------------------------------------------------------------------------------------------


def test_splits_are_the_right_parts_of_the_files(folder, no_network):
    fill(folder)
    train, validation, test = (data.load("mnist", split) for split in data.SPLITS)
    assert [len(part) for part in (train, validation, test)] == [TRAIN - mnist.HELD_OUT, mnist.HELD_OUT, TEST]
    middle = torch.cat([train.images, validation.images])[:, 0, 14, 14] * 255
    assert torch.equal(middle.round().long(), torch.arange(TRAIN) % 256)
    assert torch.equal(torch.cat([train.labels, validation.labels]), torch.arange(TRAIN) % 10)
    assert torch.equal(test.labels, torch.arange(TEST) % 10)
    assert train.images.shape[1:] == (1, 28, 28)
    assert train.images.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    assert train.label_names == tuple("0123456789")
    assert train.names == train.descriptions == ("",) * len(train)
    assert train.codepoints == ()


def test_size_32_is_28_with_a_margin_of_ground(folder, no_network):
    fill(folder)
    plain, padded = data.load("mnist", "test").images, data.load("mnist", "test", size=32).images
    assert padded.shape == (TEST, 1, 32, 32)
    assert torch.equal(padded[:, :, 2:-2, 2:-2], plain)
    assert padded.sum() == plain.sum()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_files_where_they_are_at_hand(name):
    source = mnist.SOURCES[name]
    if not all((data.folder() / source.name / "raw" / f"{file}.gz").is_file() for file in source.checksums):
        pytest.skip(f"{source.name} is not in the data folder")
    test = data.load(name, "test", size=32)
    assert test.images.shape == (10_000, 1, 32, 32)
    assert test.images.amax() == 1
    if name == "mnist":
        assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    else:
        assert test.labels.bincount().tolist() == [1000] * 10
    assert len(data.load(name, "validation")) == 5_000
    assert len(test.label_names) == 10


# ---- the cache ----------------------------------------------------------------------------------------------------


def test_a_missing_set_is_downloaded_once(folder, mirror):
    data.load("mnist", "test")
    assert sorted(mirror.requests) == ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    data.load("mnist", "test")
    assert len(mirror.requests) == 2
    kept = sorted(path.name for path in (folder / "MNIST" / "raw").iterdir())
    assert kept == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]


def test_what_is_kept_can_be_read_by_others(folder, mirror):
    data.load("mnist", "test")
    for path in (folder / "MNIST" / "raw").iterdir():
        assert path.stat().st_mode & 0o444 == 0o444


def test_files_that_are_there_are_only_read(folder, no_network, monkeypatch):
    fill(folder)
    before = snapshot(folder)
    monkeypatch.setattr(downloads, "_keep", lambda *_: pytest.fail("wrote into a folder that has the files"))
    for path in (folder / "MNIST" / "raw", folder / "MNIST", folder):
        path.chmod(0o555)
    try:
        for split in data.SPLITS:
            data.load("mnist", split)
    finally:
        for path in (folder, folder / "MNIST", folder / "MNIST" / "raw"):
            path.chmod(0o755)
    assert snapshot(folder) == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "one byte off"])
def test_a_damaged_file_is_noticed_and_fetched_again(folder, mirror, damage):
    path = fill(folder) / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[:-100], "empty": b"", "one byte off": whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]}[
            damage
        ]
    )
    with pytest.warns(UserWarning, match=r"t10k-images-idx3-ubyte\.gz is damaged .* downloading it again"):
        test = data.load("mnist", "test")
    assert len(test) == TEST
    assert path.read_bytes() == whole
    assert mirror.requests == ["t10k-images-idx3-ubyte"]


@pytest.mark.parametrize("fault", ["cut", "short", "garbage", "missing"])
def test_a_failed_download_is_tried_again(folder, mirror, fault):
    mirror.faults = [fault]
    assert len(data.load("mnist", "test")) == TEST
    assert len(mirror.requests) == 3
    assert {path.stat().st_size for path in (folder / "MNIST" / "raw").iterdir()} == {
        len(FILES["t10k-images-idx3-ubyte"]),
        len(FILES["t10k-labels-idx1-ubyte"]),
    }


@pytest.mark.parametrize(
    ("fault", "reason"), [("cut", "wrong checksum"), ("garbage", "wrong checksum"), ("missing", "HTTPError: .*404")]
)
def test_a_download_that_never_succeeds_ends_in_a_sentence_and_leaves_no_pieces(folder, mirror, fault, reason):
    mirror.faults = [fault] * 20
    with pytest.raises(data.DataUnavailable, match=reason):
        data.load("mnist", "test")
    assert not list(folder.rglob("*.gz*"))


def test_a_second_mirror_is_asked_when_the_first_fails(folder, mirror, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{mirror.address}first/", f"{mirror.address}second/"])
    mirror.faults = ["missing", "fine", "garbage", "fine"]
    assert len(data.load("mnist", "test")) == TEST
    assert len(mirror.requests) == 4


def test_without_a_network_a_sentence_says_what_to_do(folder, no_network):
    with pytest.raises(data.DataUnavailable) as caught:
        data.load("mnist")
    message = str(caught.value)
    for part in (
        "train-images-idx3-ubyte.gz could not be downloaded",
        "connect to the network",
        str(folder / "MNIST" / "raw"),
        "set GENTEXT_DATA to a folder that holds MNIST/raw/train-images-idx3-ubyte.gz",
    ):
        assert part in message
    assert "\n" not in message
    assert not folder.exists()


def test_without_a_network_a_damaged_file_stays_as_it_was(folder, no_network):
    path = fill(folder) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(b"half")
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(data.DataUnavailable, match="t10k-labels"):
        data.load("mnist", "test")
    assert path.read_bytes() == b"half"


def test_a_folder_that_cannot_be_written_costs_a_warning_not_the_data(folder, mirror):
    folder.write_text("a file stands where the folder should be")
    with pytest.warns(UserWarning, match="could not be written .* set GENTEXT_DATA to a folder that can be written"):
        assert len(data.load("mnist", "test")) == TEST


def test_an_interrupted_write_leaves_no_pieces(folder, mirror, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        data.load("mnist", "test")
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_two_at_once_get_in_nobodys_way(folder, mirror):
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: data.load("mnist", "test"), range(4)))
    assert all(torch.equal(one.images, sets[0].images) for one in sets)
    assert len(list((folder / "MNIST" / "raw").iterdir())) == 2


# ---- where the folder is ------------------------------------------------------------------------------------------


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path))
    assert data.folder() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENTEXT_DATA", "~/sets")
    assert data.folder() == Path("~/sets").expanduser()
    assert "~" not in str(data.folder())


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize(
    ("platform", "variable", "parts"),
    [
        ("linux", "XDG_CACHE_HOME", ("gentext",)),
        ("linux", None, (".cache", "gentext")),
        ("darwin", None, ("Library", "Caches", "gentext")),
        ("win32", "LOCALAPPDATA", ("gentext",)),
        ("win32", None, ("AppData", "Local", "gentext")),
    ],
)
def test_the_folder_by_default_is_in_the_users_cache(monkeypatch, tmp_path, value, platform, variable, parts):
    for name in ("GENTEXT_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv("GENTEXT_DATA", value)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(downloads.sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert data.folder() == tmp_path.joinpath(*parts)


def test_torchvision_still_names_mirrors_for_both_sets():
    for name, source in mnist.SOURCES.items():
        addresses = mnist._addresses(source, "train-images-idx3-ubyte")
        assert addresses, name
        assert all(address.endswith("/train-images-idx3-ubyte.gz") for address in addresses)
        theirs = {file.removesuffix(".gz") for file, _ in getattr(torchvision.datasets, source.name).resources}
        assert theirs == set(source.checksums)
