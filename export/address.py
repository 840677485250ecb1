"""Addresses of files: which may be asked for, and how they are shown."""

from __future__ import annotations

import ipaddress
import string
from urllib.parse import quote, urlsplit

from xdecoder_rt.errors import ArgumentError, quoted

BY_HAND = "download it with a browser, and name the file"


def check_url(url: str, label: str) -> str:
    """Return a URL as it goes over the wire.

    Args:
        url: as a user or a server gave it.
        label: names it in messages.

    Raises:
        ArgumentError: it is neither https nor http on this machine, names no host, or holds a user
            name or password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ArgumentError(
            f"{label} is no address: {error}", expected="https://host/file"
        ) from error
    if parts.scheme == "http" and not is_loopback(host):
        raise ArgumentError(
            f"{label} is not encrypted",
            expected="https; http only on this machine",
            fix="try the same address with https",
        )
    if parts.scheme not in ("http", "https"):
        raise ArgumentError(
            f"{label} cannot be downloaded", expected="hf://owner/name/file, or https://host/file"
        )
    if not host or not host.isascii():
        raise ArgumentError(f"{label} names no host", expected="https://host/file")
    if parts.username is not None or parts.password is not None:
        raise ArgumentError(
            f"{label} holds a user name or a password",
            expected="an address without them",
            fix=BY_HAND,
        )
    return quote(parts._replace(fragment="").geturl(), safe=string.punctuation)


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def shown_url(url: str) -> str:
    """Return an address for a message: without its query, which may hold a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the address"
    return quoted(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", 120)
