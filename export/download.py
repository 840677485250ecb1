"""Checkpoints by address: ``hf://owner/name/file`` of a model hub, or ``https://…``.

Files of the hub go into the hub's own cache, others into this package's. Nothing here is imported
before an address is given.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from urllib.parse import unquote, urljoin, urlsplit

from xdecoder_rt import __version__
from xdecoder_rt.atomic import private_folder, remove_foreign
from xdecoder_rt.errors import ArgumentError, CheckpointError, printable, quoted, require
from xdecoder_rt.export.address import check_url, shown_url
from xdecoder_rt.export.progress import StepProgress
from xdecoder_rt.export.transfer import (
    Request,
    UnreachableError,
    download,
    refusal,
    unreachable,
)
from xdecoder_rt.files.regular import sha256_of
from xdecoder_rt.words.cache import default_directory

# One slash: what a pathlib.Path leaves of two.
_ADDRESS = re.compile(r"(?:(hf|https?):/|([a-z][a-z0-9+.-]+)://)", re.IGNORECASE)
_REPOSITORY = r"(?P<owner>[A-Za-z0-9][\w.-]*)/(?P<name>[A-Za-z0-9][\w.-]*)"
_REVISION = r"[A-Za-z0-9][\w./-]*"
_HUB_FILE = re.compile(
    rf"hf:/+{_REPOSITORY}(?:@(?P<early>[\w.%-]+))?/(?P<path>[^@]+)(?:@(?P<late>{_REVISION}))?",
    re.IGNORECASE | re.ASCII,
)
_HUB_PAGE = re.compile(
    rf"/{_REPOSITORY}/(?:resolve|blob|raw)/(?P<revision>[^/]+)/(?P<path>.+)", re.ASCII
)
_HUB_FORM = "hf://owner/name/file, with @revision behind it for another than main"
_OTHER_KINDS = ("datasets", "spaces", "kernels", "buckets", "models")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ETAG = re.compile(r"[0-9A-Za-z-]{1,128}")
_NAME_LENGTH = 100


@dataclass(frozen=True)
class _HubFile:
    """A file in a model's repository.

    Attributes:
        repository: owner and name.
        path: within it.
        revision: a branch, a tag or a commit.
    """

    repository: str
    path: str
    revision: str

    @property
    def label(self) -> str:
        """The file's name in messages."""
        return quoted(f"hf://{self.repository}/{self.path}@{self.revision}", 160)


def is_address(source: str | os.PathLike[str]) -> bool:
    """Whether a source is to be downloaded: it begins with a scheme, as no file does."""
    return _ADDRESS.match(os.fspath(source)) is not None


def fetch_checkpoint(
    source: str | os.PathLike[str],
    *,
    offline: bool = False,
    progress: StepProgress = lambda _: None,
) -> Path:
    """Return the file that a source names, downloaded if it is an address.

    An address is ``hf://owner/name/file``, with ``@revision`` behind it for another than ``main``,
    or ``https://…``; ``#sha256=`` and 64 hexadecimal digits behind it demand a digest. Files of the
    hub lie in the hub's cache (``HF_HOME``), others in ``downloads`` of this package's
    (``XDECODER_RT_CACHE``). A file appears there whole or not at all; a download that broke off is
    gone on with. A bar goes to stderr where that is a terminal. The token of the hub
    (``HF_TOKEN``) goes to the hub alone, and the hub's telemetry is off.

    Args:
        source: an address, or the path of a file, which is returned as it is.
        offline: take what is in the cache and ask nobody; ``HF_HUB_OFFLINE=1`` says the same.
        progress: called with a sentence before a download, and with the SHA-256 after it.

    Raises:
        ArgumentError: the address has another form, or is not encrypted.
        CheckpointError: it cannot be reached, is refused, is no file of weights, has another digest
            than was demanded, or is not in the cache and nobody may be asked.

    Example:
        >>> from xdecoder_rt.export.download import fetch_checkpoint
        >>> fetch_checkpoint("model.safetensors").name
        'model.safetensors'
    """
    if not is_address(source):
        return Path(source)
    address, demanded = _split_digest(os.fspath(source))
    hub = _hub_constants()
    is_offline = offline or bool(hub.HF_HUB_OFFLINE)
    file = _hub_file(address, hub)
    if file is None:
        path, known = _from_url(address, demanded, is_offline, progress), None
    else:
        path = _from_hub(file, demanded, is_offline, progress)
        known = path.resolve().name  # the cache names large files by their digest
    digest = _digest(path)
    expected = known if demanded is None and _SHA256.fullmatch(known or "") else demanded
    if expected not in (None, digest):
        raise CheckpointError(
            f"{quoted(str(path), 160)} has the SHA-256 {digest}",
            expected=expected,
            fix=f"remove {quoted(str(path.resolve()), 200)} and run the command again",
        )
    progress(f"{printable(str(path), 300)} has the SHA-256 {digest}")
    return path


def _split_digest(source: str) -> tuple[str, str | None]:
    """Return an address without its fragment, and the digest that this demands."""
    address, mark, fragment = source.partition("#")
    address = re.sub("^https?:/(?!/)", lambda found: found[0] + "/", address, flags=re.IGNORECASE)
    if not mark:
        return address, None
    digest = fragment.lower().removeprefix("sha256=")
    if not fragment.lower().startswith("sha256=") or not _SHA256.fullmatch(digest):
        raise ArgumentError(
            f"{quoted('#' + fragment, 100)} stands behind an address",
            expected="#sha256= and 64 hexadecimal digits, or nothing",
        )
    return address, digest


def _hub_constants() -> Any:
    """Return the hub's settings as its library reads them from the environment; telemetry is off.

    Its requests would name PyTorch's version and the program that started this one otherwise.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        constants: Any = require("huggingface_hub.constants", "export")
    except ValueError as error:
        raise ArgumentError(
            f"The environment has a wrong setting of the hub: {error}",
            expected="whole seconds in HF_HUB_DOWNLOAD_TIMEOUT and HF_HUB_ETAG_TIMEOUT",
        ) from error
    constants.HF_HUB_DISABLE_TELEMETRY = True  # where another imported it before
    return constants


def _hub_file(address: str, hub: Any) -> _HubFile | None:
    """Return the file of the hub that an address names; None for another server's.

    Raises:
        ArgumentError: it begins as the hub's do, and goes on otherwise.
    """
    if address.lower().startswith("hf:"):
        found = _HUB_FILE.fullmatch(address)
        if (
            found is None
            or found["owner"].lower() in _OTHER_KINDS
            or found["early"]
            and found["late"]
        ):
            raise ArgumentError(
                f"{quoted(address, 160)} names no file of a model", expected=_HUB_FORM
            )
        revision = unquote(found["early"] or "") or found["late"] or "main"
    else:
        hosts = (hub.ENDPOINT.lower(), "https://huggingface.co", "https://hf.co")
        page = address.partition("?")[0]
        start = next((host for host in hosts if page.lower().startswith(f"{host}/")), None)
        found = None if start is None else _HUB_PAGE.fullmatch(page[len(start) :])
        if found is None:
            return None
        revision = unquote(found["revision"])
    path = found["path"] if address.lower().startswith("hf:") else unquote(found["path"])
    folders = path.split("/")
    is_sound = path.isprintable() and "\\" not in path and not {"", ".", ".."} & set(folders)
    if not is_sound or ".." in revision or not re.fullmatch(_REVISION, revision, re.ASCII):
        raise ArgumentError(f"{quoted(address, 160)} names no file of a model", expected=_HUB_FORM)
    return _HubFile(f"{found['owner']}/{found['name']}", path, revision)


def _from_hub(file: _HubFile, demanded: str | None, offline: bool, progress: StepProgress) -> Path:
    """Return a file of the hub in the hub's cache, as its library finds it.

    The library's own download neither goes on where it broke off nor has a bound. So the file is
    put into the cache before, and the library finds it there and links it.
    """
    hub, constants, _ = _library()
    try:
        url = hub.hf_hub_url(
            file.repository, file.path, revision=file.revision, endpoint=constants.ENDPOINT
        )
    except ValueError as error:  # the hub's rules for names
        raise ArgumentError(f"{file.label}: {error}", expected=_HUB_FORM) from error
    if offline:
        return _cached(file) or _not_cached(file.label)
    check_url(url, f"HF_ENDPOINT, {shown_url(constants.ENDPOINT)},")
    try:
        _fill_cache(url, file, demanded, progress)
        return _registered(file)
    except UnreachableError as error:
        path = _cached(file)
        if path is None:
            raise
        progress(f"{error.what}; the file in the cache is taken")
        return path


def _fill_cache(url: str, file: _HubFile, demanded: str | None, progress: StepProgress) -> None:
    """Download a file of the hub to where the hub's cache has its content."""
    hub, constants, utils = _library()
    authorization = str(utils.build_hf_headers().get("authorization", ""))
    _check_token(authorization)
    metadata = _asked(file, lambda: hub.get_hf_file_metadata(
        url, timeout=constants.HF_HUB_ETAG_TIMEOUT, library_name="xdecoder_rt",
        library_version=__version__,
    ))  # fmt: skip
    etag, commit = str(metadata.etag), str(metadata.commit_hash)
    if not _ETAG.fullmatch(etag) or not re.fullmatch("[0-9a-f]{40}", commit):
        raise UnreachableError(
            f"{file.label}: the server does not answer as a hub does",
            expected="an ETag and a commit",
            fix="check HF_ENDPOINT, and whether the network asks for a login first",
        )
    sha256 = etag if _SHA256.fullmatch(etag) else None
    if sha256 and demanded and sha256 != demanded:
        raise CheckpointError(
            f"{file.label} has the SHA-256 {sha256} on the hub",
            expected=demanded,
            fix="find out which of the two is right before you use it",
        )
    folder = _repository_folder(constants, file)
    if (folder / "snapshots" / commit / file.path).exists():
        return
    target = folder / "blobs" / etag
    if not target.exists():
        location = urljoin(url, metadata.location)
        is_hub = urlsplit(location)[:2] == urlsplit(url)[:2]
        sent = {"Authorization": authorization} if is_hub and authorization else {}
        lock = Path(constants.HF_HUB_CACHE, ".locks", folder.name, f"{etag}.lock")
        for place in (target, lock):
            _made(place.parent)
        progress(f"Downloading {file.label}")
        request = Request(
            location, file.label, sent, metadata.size, sha256 or demanded, True, 0o666
        )
        download(request, target, lock, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)


def _registered(file: _HubFile) -> Path:
    """Return where the hub's library finds a file whose content is in its cache."""
    hub, constants, _ = _library()
    return Path(_asked(file, lambda: hub.hf_hub_download(
        file.repository, file.path, revision=file.revision, endpoint=constants.ENDPOINT,
        cache_dir=constants.HF_HUB_CACHE, library_name="xdecoder_rt", library_version=__version__,
    )))  # fmt: skip


def _cached(file: _HubFile) -> Path | None:
    """Return a file's place in the hub's cache, if it is there."""
    hub, constants, _ = _library()
    found = hub.try_to_load_from_cache(
        file.repository, file.path, cache_dir=constants.HF_HUB_CACHE, revision=file.revision
    )
    return Path(found) if isinstance(found, str) else None


def _asked(file: _HubFile, ask: Callable[[], Any]) -> Any:
    """Return what the hub's library answers, its errors as ours."""
    _, _, utils = _library()
    try:
        return ask()
    except utils.GatedRepoError as error:
        raise CheckpointError(
            f"{file.label} is given to those alone who accepted its conditions",
            fix=f"accept them at the page of {file.repository}, and set HF_TOKEN to a token of "
            "yours",
        ) from error
    except utils.RevisionNotFoundError as error:
        raise CheckpointError(
            f"{file.label}: the repository has no such revision", expected=_HUB_FORM
        ) from error
    except utils.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{file.label}: there is no such repository, or it is private",
            fix="check owner and name; of a private one, set HF_TOKEN to a token that may read it",
        ) from error
    except utils.EntryNotFoundError as error:
        raise CheckpointError(
            f"{file.label}: the repository has no such file", fix="look at its list of files"
        ) from error
    except utils.HfHubHTTPError as error:
        fix = "accept its conditions on the hub, and set HF_TOKEN to a token that may read it"
        raise refusal(file.label, error.response.status_code, fix) from error
    except Exception as error:  # of the HTTP client that this version of the library has
        raise unreachable(file.label, quoted(str(error), 100).strip("'\"")) from error


@cache
def _library() -> tuple[ModuleType, Any, Any]:
    """Return the hub's library, its settings and its errors."""
    constants = _hub_constants()
    hub = require("huggingface_hub", "export")
    return hub, constants, require("huggingface_hub.utils", "export")


def _repository_folder(constants: Any, file: _HubFile) -> Path:
    return Path(constants.HF_HUB_CACHE, "--".join(("models", *file.repository.split("/"))))


def _check_token(authorization: str) -> None:
    """Refuse a token that cannot be sent, without showing it."""
    if not authorization.isascii() or not authorization.isprintable():
        raise ArgumentError(
            "The token of the hub holds characters that no token has",
            fix="set HF_TOKEN anew, or unset it",
        )


def _from_url(address: str, demanded: str | None, offline: bool, progress: StepProgress) -> Path:
    """Return a file of any server in this package's cache."""
    label = shown_url(address)
    url = check_url(address, label)
    cache_folder = default_directory()
    if cache_folder is None:
        raise CheckpointError(
            f"{label} cannot be kept: this user has no home", fix="set XDECODER_RT_CACHE"
        )
    name = re.sub(r"[^\w.+-]", "_", unquote(urlsplit(url).path.rpartition("/")[2]), flags=re.ASCII)
    name = name.lstrip(".")[-_NAME_LENGTH:] or "checkpoint"
    key = hashlib.sha256(url.encode()).hexdigest()[:32]
    try:
        folder = private_folder(private_folder(private_folder(cache_folder) / "downloads") / key)
        target = folder / name
        for entry in folder.iterdir():
            remove_foreign(entry)
    except OSError as error:
        raise CheckpointError(
            f"{label} cannot be kept: {error}",
            fix="set XDECODER_RT_CACHE to a folder into which you alone may write",
        ) from error
    if target.exists() and (offline or (demanded and sha256_of(target) == demanded)):
        return target
    if offline:
        _not_cached(label)
    constants = _hub_constants()
    progress(f"Downloading {label}")
    request = Request(url, label, {}, None, demanded)
    try:
        download(request, target, folder / "lock", timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
    except UnreachableError as error:
        if not target.exists():
            raise
        progress(f"{error.what}; the file in the cache is taken")
    return target


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise CheckpointError(f"The file in the cache cannot be read: {error}") from error


def _not_cached(label: str) -> NoReturn:
    raise CheckpointError(
        f"{label} is not in the cache, and nobody may be asked for it",
        fix="run once without --offline and HF_HUB_OFFLINE, or download it elsewhere and name the "
        "file",
    )


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"The hub's cache cannot be written: {error}", fix="set HF_HOME to a folder of yours"
        ) from error
