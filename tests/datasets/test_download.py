"""Downloads from a real server on this machine: kept, checked, tried again, or refused."""

import hashlib
import http.server
import threading
from collections import Counter
from dataclasses import replace

import pytest
from npz_samples import COUNTS, arrays, one_sentence, packed

from kmedclf import datasets
from kmedclf.datasets.registry import REGISTRY
from kmedclf.utils import download


@pytest.fixture
def tiny(monkeypatch):
    """A known set small enough to serve: adding one is one registry entry."""
    content = packed(arrays())
    entry = replace(
        REGISTRY["bloodmnist"],
        name="tinymnist",
        n_samples=COUNTS,
        md5={28: hashlib.md5(content).hexdigest()},
    )
    monkeypatch.setitem(REGISTRY, "tinymnist", entry)
    return content


@pytest.fixture
def server(monkeypatch):
    """Serve `server.files` (path to list of answers, the last one for good) on loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "RETRIES", 0)  # each one waits a second

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked[self.path] += 1
            answers = self.server.files.get(self.path, [404])
            answer = answers[min(self.server.asked[self.path], len(answers)) - 1]
            if isinstance(answer, int):
                self.send_error(answer)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, Counter()
        running.address = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download_is_kept(server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [tiny]
    folder = tmp_path / "deep" / "cache"
    X, y = datasets.load("tinymnist", data_dir=folder, mirror=server.address)
    assert X.shape == (12, 28, 28, 3)
    assert y.shape == (12,)
    assert [path.name for path in folder.iterdir()] == ["tinymnist.npz"]
    assert (folder / "tinymnist.npz").read_bytes() == tiny
    plain = tmp_path / "plain"
    plain.touch()
    assert (folder / "tinymnist.npz").stat().st_mode == plain.stat().st_mode
    datasets.load("tinymnist", "val", data_dir=folder, mirror=server.address)
    assert server.asked["/tinymnist.npz"] == 1


def test_a_set_of_any_host_is_one_entry(server, tiny, tmp_path, monkeypatch):
    elsewhere = replace(REGISTRY["tinymnist"], url={28: f"{server.address}/a/b.npz?key=1"})
    monkeypatch.setitem(REGISTRY, "tinymnist", elsewhere)
    server.files["/a/b.npz?key=1"] = [tiny]
    X, _ = datasets.load("tinymnist", data_dir=tmp_path)
    assert X.shape == (12, 28, 28, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["tinymnist.npz"]
    with pytest.raises(FileNotFoundError) as error:
        datasets.load("tinymnist", data_dir=tmp_path / "x", offline=True)
    assert "/a/b.npz?key=1" in one_sentence(error)


def test_mirror_and_folder_from_the_environment(server, tiny, tmp_path, monkeypatch):
    server.files["/sub/tinymnist.npz"] = [tiny]
    monkeypatch.setenv("KMEDCLF_MIRROR", f"{server.address}/sub/")
    monkeypatch.setenv("KMEDCLF_DATA", str(tmp_path / "cache"))
    datasets.load("tinymnist")
    assert (tmp_path / "cache" / "tinymnist.npz").is_file()


def test_download_is_tried_again(server, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 1)
    server.files["/tinymnist.npz"] = [503, tiny]
    X, _ = datasets.load("tinymnist", data_dir=tmp_path, mirror=server.address)
    assert len(X) == 12
    assert server.asked["/tinymnist.npz"] == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (404, "answered 404"),
        (b"something else", "sent has another md5"),
        (b"", "sent has another md5"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_failed_download_leaves_nothing(answer, reason, exists, server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [answer]
    folder = tmp_path / "cache"
    if exists:
        folder.mkdir()
    with pytest.raises(FileNotFoundError, match=reason) as error:
        datasets.load("tinymnist", data_dir=folder, mirror=server.address)
    message = one_sentence(error)
    assert REGISTRY["tinymnist"].md5[28] in message
    assert f"is not in {folder} and could not be downloaded" in message
    assert list(tmp_path.iterdir()) == ([folder] if exists else [])
    assert not exists or list(folder.iterdir()) == []


def test_no_server(server, tiny, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(FileNotFoundError, match=r"ConnectionError from 127\.0\.0\.1") as error:
        datasets.load("tinymnist", data_dir=tmp_path / "cache", mirror=server.address)
    one_sentence(error)
    assert list(tmp_path.iterdir()) == []


def test_offline_asks_no_server(server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [tiny]
    with pytest.raises(FileNotFoundError, match="offline=True"):
        datasets.load("tinymnist", data_dir=tmp_path, mirror=server.address, offline=True)
    assert not server.asked


@pytest.mark.parametrize("damage", ["truncated", "another set", "empty", "text", "split"])
def test_cached_file_with_wrong_md5_is_named_and_kept(damage, server, tiny, tmp_path):
    server.files["/tinymnist.npz"] = [tiny]
    content = {
        "truncated": tiny[: len(tiny) // 2],
        "another set": packed(arrays(counts={"train": 3, "val": 1, "test": 1})),
        "empty": b"",
        "text": b"<html>try later</html>",
        "split": packed(arrays(counts={"val": 5})),
    }[damage]
    path = tmp_path / "tinymnist.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="delete it and load again") as error:
        datasets.load("tinymnist", data_dir=tmp_path, mirror=server.address)
    assert str(path) in str(error.value)
    assert hashlib.md5(content).hexdigest() in str(error.value)
    assert REGISTRY["tinymnist"].md5[28] in str(error.value)
    assert path.read_bytes() == content
    assert not server.asked
