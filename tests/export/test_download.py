"""Checkpoints by address, from a server of our own: whole or not at all, and from where it says."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from file_server import COMMIT, FileServer, Served, serving

from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.export import transfer
from xdecoder_rt.export.address import check_url
from xdecoder_rt.export.download import fetch_checkpoint

WEIGHTS = b"PK\x03\x04" + bytes(range(256)) * 4000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
OTHER = b"PK\x03\x04" + bytes(reversed(range(256))) * 4000
REPOSITORY = "xdecoder/X-Decoder"
HUB_FILE = f"hf://{REPOSITORY}/tiny.pt"

FETCH = """
import sys
from xdecoder_rt.export.download import fetch_checkpoint
print(fetch_checkpoint(sys.argv[1]))
"""


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer) -> Path:
    """Caches of the test's own, and the hub on its server; no retry takes its time."""
    # Before the settings are others: some versions take them as they are when imported.
    file_download = pytest.importorskip("huggingface_hub.file_download")
    constants = pytest.importorskip("huggingface_hub.constants")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("XDECODER_RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 2)
    endpoint = server.url
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(transfer, "_PAUSE", 0.01)
    return tmp_path


def kept(folder: Path) -> list[str]:
    """Return the names of the files in a cache's folder that a reader would take for whole."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    helpers = (".part", ".validator", "lock", "CACHEDIR.TAG")
    return sorted(p.name for p in files if not p.name.endswith(helpers) and "refs" not in p.parts)


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.part"))


def fails(source: str, match: str, **options: Any) -> str:
    with pytest.raises(XDecoderError, match=match) as caught:
        fetch_checkpoint(source, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


@pytest.fixture(params=["plain", "hub"])
def source(request: pytest.FixtureRequest, server: FileServer) -> Callable[..., tuple[str, Served]]:
    """Serves weights at a plain address, or on the hub; returns the address and the body."""

    def serve(content: bytes = WEIGHTS, **settings: Any) -> tuple[str, Served]:
        if request.param == "hub":
            return HUB_FILE, server.hub(f"{REPOSITORY}/tiny.pt", content, **settings)
        server.files["/tiny.pt"] = body = Served(content, **settings)
        return f"{server.url}/tiny.pt", body

    return serve


def test_a_path_is_returned_as_it_is_and_nothing_is_imported_for_it() -> None:
    code = """
import sys
import xdecoder_rt
import xdecoder_rt.export.download as download
assert download.fetch_checkpoint("runs/model.pt") == download.Path("runs/model.pt")
assert download.fetch_checkpoint("C:/model.pt") == download.Path("C:/model.pt")
print([name for name in sys.modules if name.startswith("huggingface_hub")])
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.stdout == "[]\n", child.stderr


def test_a_file_is_downloaded_once_and_its_digest_told(
    source: Callable[..., tuple[str, Served]], server: FileServer
) -> None:
    address, _ = source()
    steps: list[str] = []
    path = fetch_checkpoint(address, progress=steps.append)
    assert path.name == "tiny.pt" and path.read_bytes() == WEIGHTS
    assert steps[0].startswith("Downloading ") and steps[1].endswith(f"the SHA-256 {DIGEST}")
    bodies = len(server.paths())
    assert fetch_checkpoint(address) == path
    # The plain server is asked whether its file is still this one, without a body.
    assert len(server.paths()) == bodies + (not address.startswith("hf:"))
    assert fetch_checkpoint(address, offline=True) == path
    assert parts(path.parents[3]) == []


def test_the_hubs_library_finds_what_was_downloaded_in_its_own_cache(
    server: FileServer, places: Path
) -> None:
    import huggingface_hub

    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    path = fetch_checkpoint(HUB_FILE)
    repository = places / "hub" / "models--xdecoder--X-Decoder"
    assert path == repository / "snapshots" / COMMIT / "tiny.pt"
    assert path.resolve() == repository / "blobs" / DIGEST
    assert (repository / "refs" / "main").read_text() == COMMIT
    theirs = huggingface_hub.hf_hub_download(
        REPOSITORY, "tiny.pt", cache_dir=places / "hub", local_files_only=True
    )
    assert Path(theirs) == path


def test_what_the_hubs_library_downloaded_is_not_downloaded_again(
    server: FileServer, places: Path
) -> None:
    import huggingface_hub

    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    theirs = huggingface_hub.hf_hub_download(
        REPOSITORY, "tiny.pt", cache_dir=places / "hub", endpoint=server.url
    )
    bodies = len(server.paths())
    assert fetch_checkpoint(HUB_FILE) == Path(theirs)
    assert len(server.paths()) == bodies


@pytest.mark.parametrize(
    "address",
    [
        "hf://xdecoder/X-Decoder/folder/tiny.pt",
        "hf:/xdecoder/X-Decoder/folder/tiny.pt",
        "HF://xdecoder/X-Decoder/folder/tiny.pt@main",
        "hf://xdecoder/X-Decoder@main/folder/tiny.pt",
        "{endpoint}/xdecoder/X-Decoder/resolve/main/folder/tiny.pt?download=true",
        "{endpoint}/xdecoder/X-Decoder/blob/main/folder/tiny.pt",
        "{endpoint}/xdecoder/X-Decoder/raw/main/folder/tiny.pt",
    ],
)
def test_every_way_to_name_a_file_of_the_hub_is_one(
    server: FileServer, address: str, places: Path
) -> None:
    server.hub(f"{REPOSITORY}/folder/tiny.pt", WEIGHTS)
    path = fetch_checkpoint(address.format(endpoint=server.url))
    assert path.relative_to(places / "hub").parts[-2:] == ("folder", "tiny.pt")


def test_a_revision_is_asked_for_by_its_name(server: FileServer) -> None:
    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    resolved = server.files.pop(f"/{REPOSITORY}/resolve/main/tiny.pt")
    server.files[f"/{REPOSITORY}/resolve/refs%2Fpr%2F1/tiny.pt"] = resolved
    assert fetch_checkpoint(f"{HUB_FILE}@refs/pr/1").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://tiny.pt",
        "hf://xdecoder/tiny.pt",
        "hf://xdecoder/X-Decoder/",
        "hf://xdecoder/X-Decoder/../../tiny.pt",
        "hf://xdecoder/X-Decoder/a//tiny.pt",
        "hf://xdecoder/X-Decoder/a\\tiny.pt",
        "hf://xdecoder/X-Decoder/tiny\n.pt",
        "hf://xdecoder/X-Decoder/tiny.pt@../../../x",
        "hf://xdecoder/X-Decoder/tiny.pt@",
        "hf://xdecoder/X-Decoder@a/tiny.pt@b",
        "hf://x..y/X-Decoder/tiny.pt",
        "hf://datasets/xdecoder/tiny.pt",
        "hf://xdecoder/X--Decoder/tiny.pt",
        f"hf://xdecoder/{'X' * 200}/tiny.pt",
    ],
)
def test_an_address_of_the_hub_that_names_no_file_is_refused_before_anyone_is_asked(
    address: str, server: FileServer
) -> None:
    message = fails(address, "hf://owner/name/file")
    assert "Expected" in message and server.asked == []


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("http://example.org/tiny.pt", "not encrypted.*https"),
        ("http://localhost.example.org/tiny.pt", "not encrypted"),
        ("file:///etc/passwd", "cannot be downloaded"),
        ("ftp://example.org/tiny.pt", "cannot be downloaded"),
        ("s3://bucket/tiny.pt", "cannot be downloaded"),
        ("data://text/plain", "cannot be downloaded"),
        ("https:///tiny.pt", "names no host"),
        ("https://exämple.org/tiny.pt", "names no host"),
        ("https://example.org:port/tiny.pt", "is no address"),
        ("https://[::1/tiny.pt", "is no address"),
        ("https://someone:secret@example.org/tiny.pt", "user name or a password"),
        ("https://example.org/tiny.pt#sha256=12", "#sha256= and 64"),
        ("https://example.org/tiny.pt#md5=12", "#sha256= and 64"),
    ],
)
def test_what_is_not_encrypted_or_no_address_is_refused(address: str, match: str) -> None:
    assert "secret" not in fails(address, match)


def test_characters_that_no_address_has_are_escaped() -> None:
    assert check_url("https://example.org/ä b.pt?x=1%20", "it") == (
        "https://example.org/%C3%A4%20b.pt?x=1%20"
    )


def test_the_digest_that_an_address_demands_is_checked(
    source: Callable[..., tuple[str, Served]], server: FileServer, places: Path
) -> None:
    address, _ = source()
    fails(f"{address}#sha256={'0' * 64}", f"has the SHA-256 {DIGEST}.*Expected {'0' * 64}")
    assert kept(places) == [] and parts(places) == []
    path = fetch_checkpoint(f"{address}#SHA256={DIGEST.upper()}")
    count = len(server.asked)
    assert fetch_checkpoint(f"{address}#sha256={DIGEST}", offline=True) == path
    assert len(server.asked) == count


def test_a_digest_that_the_hub_announces_is_checked(server: FileServer, places: Path) -> None:
    body = server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    body.content = OTHER
    fails(HUB_FILE, f"Expected {DIGEST}")
    assert kept(places) == [] and parts(places) == []


def test_a_file_of_the_hubs_cache_that_has_changed_is_refused(server: FileServer) -> None:
    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    path = fetch_checkpoint(HUB_FILE)
    path.resolve().write_bytes(OTHER)
    for offline in (False, True):
        message = fails(HUB_FILE, f"Expected {DIGEST}", offline=offline)
        assert f"Fix: remove '{path.resolve()}'" in message


def test_a_download_that_breaks_off_is_gone_on_with_in_the_same_call(
    source: Callable[..., tuple[str, Served]], server: FileServer
) -> None:
    address, _ = source(cuts=[1000, 300_000])
    assert fetch_checkpoint(address).read_bytes() == WEIGHTS
    ranges = [a.headers.get("range") for a in server.asked if a.method == "GET"]
    bodies = [a for a in ranges if a is not None]
    assert bodies == ["bytes=1000-", "bytes=301000-"]


def test_a_download_that_breaks_off_again_and_again_is_gone_on_with_in_the_next_call(
    source: Callable[..., tuple[str, Served]], places: Path
) -> None:
    address, body = source(cuts=[1000] * 5)
    fails(address, "broke off after 5,000 bytes: .*Fix: run the command again")
    assert kept(places) == [] and [part.stat().st_size for part in parts(places)] == [5000]
    assert body.cuts == []
    assert fetch_checkpoint(address).read_bytes() == WEIGHTS
    assert parts(places) == []


def test_a_server_that_sends_nothing_more_is_given_up(
    source: Callable[..., tuple[str, Served]], places: Path
) -> None:
    address, _ = source(cuts=[1000, 0, 0])
    fails(address, "broke off after 1,000 bytes")
    assert kept(places) == []


def test_a_process_that_is_killed_leaves_no_file_and_the_next_goes_on(
    source: Callable[..., tuple[str, Served]], server: FileServer, places: Path
) -> None:
    address, body = source(gate=threading.Event())
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(places / "home")}
    environment["HF_HUB_CACHE"] = str(places / "hub")
    child = subprocess.Popen([sys.executable, "-c", FETCH, address], env=environment)
    try:
        for _ in range(600):
            if parts(places) and parts(places)[0].stat().st_size:
                break
            time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    assert body.gate is not None
    body.gate.set()
    body.gate = None
    assert kept(places) == []
    done = parts(places)[0].stat().st_size
    assert 0 < done < len(WEIGHTS)
    assert fetch_checkpoint(address).read_bytes() == WEIGHTS
    assert server.asked[-1 if "hf:" not in address else -2].headers.get("range") == f"bytes={done}-"


def test_a_file_that_changed_meanwhile_is_begun_anew(server: FileServer, places: Path) -> None:
    server.files["/tiny.pt"] = Served(WEIGHTS, cuts=[1000] * 5)
    fails(f"{server.url}/tiny.pt", "broke off")
    server.files["/tiny.pt"] = Served(OTHER)
    assert fetch_checkpoint(f"{server.url}/tiny.pt").read_bytes() == OTHER
    assert "range" in server.asked[-1].headers and parts(places) == []


@pytest.mark.parametrize("headers", [{"ETag": None}, {"ETag": 'W/"1"'}])
def test_a_part_that_cannot_be_told_from_another_files_is_begun_anew(
    server: FileServer, headers: dict[str, str | None]
) -> None:
    server.files["/tiny.pt"] = Served(WEIGHTS, cuts=[1000] * 5, headers=headers)
    fails(f"{server.url}/tiny.pt", "broke off")
    server.files["/tiny.pt"].cuts = []
    assert fetch_checkpoint(f"{server.url}/tiny.pt").read_bytes() == WEIGHTS
    assert all("range" not in request.headers for request in server.asked)


def test_a_server_without_parts_is_asked_for_the_whole(
    source: Callable[..., tuple[str, Served]],
) -> None:
    address, _ = source(cuts=[300_000], gives_parts=False)
    assert fetch_checkpoint(address).read_bytes() == WEIGHTS


def test_a_part_that_is_whole_already_only_gets_its_name(server: FileServer) -> None:
    server.files["/tiny.pt"] = Served(WEIGHTS)
    path = fetch_checkpoint(f"{server.url}/tiny.pt")
    path.rename(f"{path}.part")
    Path(f"{path}.validator").rename(f"{path}.part.validator")
    assert fetch_checkpoint(f"{server.url}/tiny.pt") == path
    assert path.read_bytes() == WEIGHTS


def test_a_part_that_is_longer_than_the_file_is_begun_anew(server: FileServer) -> None:
    server.files["/tiny.pt"] = Served(WEIGHTS)
    path = fetch_checkpoint(f"{server.url}/tiny.pt")
    path.rename(f"{path}.part")
    with open(f"{path}.part", "ab") as file:
        file.write(b"more")
    Path(f"{path}.validator").rename(f"{path}.part.validator")
    assert fetch_checkpoint(f"{server.url}/tiny.pt").read_bytes() == WEIGHTS


def test_a_newer_file_takes_the_place_of_the_older_and_a_bad_one_does_not(
    server: FileServer,
) -> None:
    address = f"{server.url}/tiny.pt"
    server.files["/tiny.pt"] = Served(WEIGHTS)
    path = fetch_checkpoint(address)
    server.files["/tiny.pt"] = Served(b"<html>closed</html>")
    fails(address, "web page")
    assert path.read_bytes() == WEIGHTS
    server.files["/tiny.pt"] = Served(OTHER)
    assert fetch_checkpoint(address).read_bytes() == OTHER


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><head><title>Sign in</title>", "a web page titled 'Sign in'"),
        (b"\xef\xbb\xbf\n<html>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "an answer in XML .*Error"),
        (b'{"error": "no"}', "JSON .*error"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a pointer of Git LFS"),
        (b"Quota exceeded\n", "text .*Quota exceeded"),
        (b"", "nothing"),
        (b"\x89PNG\r\n\x1a\n\0\0", "something that begins"),
        (b"\0" * 600, "something that begins"),
    ],
)
def test_what_came_instead_of_weights_is_told_and_not_kept(
    source: Callable[..., tuple[str, Served]], places: Path, content: bytes, words: str
) -> None:
    address, _ = source(content)
    fails(address, f"is no file of weights: {words}.* came instead")
    assert kept(places) == [] and parts(places) == []


@pytest.mark.parametrize(
    ("status", "match"),
    [
        (401, "answered 401 Unauthorized"),
        (403, "answered 403 Forbidden"),
        (404, "404 Not Found.*check the address"),
        (410, "410 Gone"),
        (418, "answered 418"),
        (429, "429.*try again later"),
        (500, "500.*try again later"),
        (503, "503.*try again later"),
    ],
)
def test_a_refusal_is_told_by_its_number_and_kept_out_of_the_cache(
    server: FileServer, places: Path, status: int, match: str
) -> None:
    server.files["/tiny.pt"] = Served(b"<html>", status)
    fails(f"{server.url}/tiny.pt?signature=secret", match)
    assert kept(places) == []


@pytest.mark.parametrize(
    ("status", "code", "match"),
    [
        (401, "GatedRepo", "accept"),
        (403, "GatedRepo", "accept.*HF_TOKEN"),
        (401, "RepoNotFound", "no such repository, or it is private.*HF_TOKEN"),
        (404, "RevisionNotFound", "no such revision"),
        (404, "EntryNotFound", "no such file"),
        (403, "", "answered 403 Forbidden.*HF_TOKEN"),
        (500, "", "answered 500"),
    ],
)
def test_a_refusal_of_the_hub_is_told_by_its_reason(
    server: FileServer, status: int, code: str, match: str
) -> None:
    server.files[f"/{REPOSITORY}/resolve/main/tiny.pt"] = Served(
        b"", status, headers={"X-Error-Code": code or None}
    )
    fails(HUB_FILE, match)


def test_a_server_that_is_no_hub_is_told(server: FileServer) -> None:
    server.files[f"/{REPOSITORY}/resolve/main/tiny.pt"] = Served(b"<html>log in first</html>")
    fails(HUB_FILE, "does not answer as a hub")


def test_an_etag_that_leads_out_of_the_cache_is_refused(server: FileServer, places: Path) -> None:
    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    resolved = server.files[f"/{REPOSITORY}/resolve/main/tiny.pt"]
    resolved.headers["X-Linked-Etag"] = '"../../../../evil"'
    fails(HUB_FILE, "does not answer as a hub")
    assert not (places / "evil").exists() and not list(places.rglob("evil*"))


def test_a_server_out_of_reach_is_told_and_the_cache_used_if_it_can_be(
    source: Callable[..., tuple[str, Served]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = source()
    path = fetch_checkpoint(address)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    steps: list[str] = []
    assert fetch_checkpoint(address, progress=steps.append) == path
    assert "cannot be reached" in steps[-2] and "cache is taken" in steps[-2]
    message = fails(address.replace("tiny", "other"), "cannot be reached: .*check the connection")
    assert "https" not in message.lower() or "HTTPS_PROXY" in message


def refuse(*arguments: object, **options: object) -> None:
    raise OSError(101, "Network is unreachable")


def test_a_name_that_cannot_be_resolved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    fails("https://weights.invalid/tiny.pt", "cannot be reached: Name or service not known")


def test_nobody_is_asked_offline(
    source: Callable[..., tuple[str, Served]], server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    address, _ = source()
    fails(address, "is not in the cache.*--offline", offline=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    fails(address, "is not in the cache.*HF_HUB_OFFLINE")
    assert server.asked == []


def test_a_silent_server_is_given_up_in_time(
    source: Callable[..., tuple[str, Served]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    address, body = source(gate=threading.Event())
    start = time.monotonic()
    fails(address, "broke off after .*no answer in time")
    assert time.monotonic() - start < 30
    assert body.gate is not None
    body.gate.set()


def test_a_server_that_drips_is_given_up(
    source: Callable[..., tuple[str, Served]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(transfer, "_SLOWEST", 1_000_000)
    monkeypatch.setattr(transfer, "_TRIES", 2)
    address, _ = source(pause=0.02)
    fails(address, r"broke off after [\d,]+ bytes: [\d,]+ bytes came in")


def test_a_redirect_leads_to_https_alone(server: FileServer) -> None:
    server.files["/other.pt"] = Served(WEIGHTS)
    for code in (301, 302, 303, 307, 308):
        server.files["/tiny.pt"] = Served(b"", code, headers={"Location": "/other.pt"})
        assert fetch_checkpoint(f"{server.url}/tiny.pt").read_bytes() == WEIGHTS
    for target in ("http://example.org/tiny.pt", "file:///etc/passwd", "ftp://example.org/x"):
        server.files["/tiny.pt"] = Served(b"", 302, headers={"Location": target})
        fails(f"{server.url}/tiny.pt", "redirects to .*Expected a redirect to https")
    server.files["/tiny.pt"] = Served(b"", 302, headers={"Location": "/tiny.pt"})
    fails(f"{server.url}/tiny.pt", "Expected a redirect that ends at a file")


def test_the_token_goes_to_the_hub_alone_and_into_no_message(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "hf_topsecret"
    monkeypatch.setenv("HF_TOKEN", token)
    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS, cuts=[1000])
    steps: list[str] = []
    fetch_checkpoint(HUB_FILE, progress=steps.append)
    with_token = [request for request in server.asked if token in str(request.headers)]
    assert with_token and {request.method for request in with_token} == {"HEAD"}
    bodies = [request for request in server.asked if request.method == "GET"]
    assert len(bodies) == 2  # on the storage's host
    server.files["/tiny.pt"] = Served(WEIGHTS)
    fetch_checkpoint(f"{server.url}/tiny.pt", progress=steps.append)
    assert token not in str(server.asked[-1].headers)
    server.files.clear()
    steps.append(fails(HUB_FILE, "404|no such"))
    assert token not in str(steps)


def test_a_body_on_the_hub_itself_is_asked_for_with_the_token_and_its_redirect_without(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_topsecret")
    body = server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    resolve = f"/{REPOSITORY}/resolve/main/tiny.pt"
    server.files[resolve].headers["Location"] = "/moved"
    headers = {**server.files[resolve].headers, "Location": None}
    server.files["/moved"] = Served(WEIGHTS, headers=headers)
    fetch_checkpoint(HUB_FILE)
    asked = [request for request in server.asked if request.method == "GET"]
    assert [request.path for request in asked] == ["/moved"]
    assert asked[0].headers["authorization"] == "Bearer hf_topsecret"
    assert body.cuts == []
    server.asked.clear()
    there = f"http://localhost:{server.server_address[1]}/storage/{body.etag}"
    request = transfer.Request(f"{server.url}/away", "it", {"authorization": "Bearer hf_topsecret"})
    server.files["/away"] = Served(b"", 302, headers={"Location": there})
    target = Path(os.environ["XDECODER_RT_CACHE"])
    transfer.download(request, target, target.with_name("lock"), timeout=2)
    assert [("hf_topsecret" in str(r.headers)) for r in server.asked] == [True, False]


@pytest.mark.parametrize("token", ["hf_töken_secret", "hf_secret\x7f"])
def test_a_token_that_cannot_be_sent_is_refused_unseen(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    assert "secret" not in fails(HUB_FILE, "set HF_TOKEN anew")


def test_the_hub_is_told_nothing_but_versions(server: FileServer) -> None:
    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    fetch_checkpoint(HUB_FILE)
    assert {request.path.split("?")[0] for request in server.asked} == {
        f"/{REPOSITORY}/resolve/main/tiny.pt",
        f"/storage/{DIGEST}",
    }
    for request in server.asked:
        agent = request.headers["user-agent"]
        names = {part.strip().partition("/")[0] for part in agent.split(";")}
        assert names <= {"xdecoder_rt", "hf_hub", "python"}


def test_a_file_larger_than_the_bound_is_refused_whatever_the_server_says(
    source: Callable[..., tuple[str, Served]], places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGEST", 100_000)
    address, _ = source()
    fails(address, "has 1,024,004 bytes or more.*Expected at most 100,000")
    assert kept(places) == [] and parts(places) == []


def test_a_body_without_a_size_needs_a_digest_and_stays_bounded(
    server: FileServer, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{server.url}/tiny.pt"
    endless: dict[str, str | None] = {"Content-Length": None, "Connection": "close"}
    server.files["/tiny.pt"] = Served(WEIGHTS, headers=endless)
    fails(address, "does not say how large.*#sha256=")
    assert fetch_checkpoint(f"{address}#sha256={DIGEST}").read_bytes() == WEIGHTS
    monkeypatch.setattr(transfer, "LARGEST", 100_000)
    server.files["/other.pt"] = Served(WEIGHTS, headers=endless)
    fails(f"{server.url}/other.pt#sha256={DIGEST}", "Expected at most 100,000")
    assert kept(places) == ["tiny.pt"]


def test_a_body_of_another_size_than_the_hub_says_is_refused(
    server: FileServer, places: Path
) -> None:
    server.hub(f"{REPOSITORY}/tiny.pt", WEIGHTS)
    resolved = server.files[f"/{REPOSITORY}/resolve/main/tiny.pt"]
    resolved.headers["X-Linked-Size"] = "2000000"
    fails(HUB_FILE, "comes with 1,024,004 bytes.*Expected 2,000,000")
    assert kept(places) == []


def test_a_compressed_body_is_refused(server: FileServer, places: Path) -> None:
    server.files["/tiny.pt"] = Served(WEIGHTS, headers={"Content-Encoding": "gzip"})
    fails(f"{server.url}/tiny.pt", "comes compressed")
    assert kept(places) == []


def test_a_disk_without_room_is_told_before_the_download(
    source: Callable[..., tuple[str, Served]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    address, _ = source()
    fails(address, "1,024,004 bytes are to come, 10 are free.*make room")


def test_a_cache_that_others_may_write_into_is_refused(server: FileServer, places: Path) -> None:
    server.files["/tiny.pt"] = Served(WEIGHTS)
    (places / "cache").mkdir(mode=0o777)
    (places / "cache").chmod(0o777)
    fails(f"{server.url}/tiny.pt", "others may write.*XDECODER_RT_CACHE")
    assert server.asked == []


def test_a_cached_file_survives_any_umask(server: FileServer) -> None:
    server.files["/tiny.pt"] = Served(WEIGHTS)
    previous = os.umask(0)
    try:
        path = fetch_checkpoint(f"{server.url}/tiny.pt")
        assert fetch_checkpoint(f"{server.url}/tiny.pt", offline=True) == path
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o077 == 0


def test_processes_that_want_the_same_file_download_it_once(
    source: Callable[..., tuple[str, Served]], server: FileServer, places: Path
) -> None:
    address, _ = source(pause=0.0005)
    results: list[Path] = []

    def fetch() -> None:
        results.append(fetch_checkpoint(address))

    threads = [threading.Thread(target=fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3 and len(set(results)) == 1
    assert results[0].read_bytes() == WEIGHTS
    name = "/storage" if address.startswith("hf:") else "/tiny.pt"
    bodies = [
        request
        for request in server.asked
        if request.method == "GET"
        and request.path.startswith(name)
        and "if-none-match" not in request.headers
    ]
    assert len(bodies) == 1


def test_a_wrong_setting_of_the_hub_is_told() -> None:
    code = "from xdecoder_rt.export.download import fetch_checkpoint as f; f('hf://a/b/c.pt')"
    environment = {**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "soon"}
    child = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "ArgumentError: The environment has a wrong setting" in child.stderr
