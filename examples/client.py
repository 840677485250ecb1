"""Ask a running `xdecoder-rt serve` about pictures, with Python's standard library alone.

    python examples/client.py http://127.0.0.1:8000 desk.jpg --words mug "robot arm"

The token, where there is one, is read from $XDECODER_RT_TOKEN.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Client:
    """The calls of a service; an error of the service raises RuntimeError with its message."""

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def call(self, name: str, **values: Any) -> dict[str, Any]:
        """Ask for /v1/NAME; bytes under `image` are sent as base64."""
        if isinstance(values.get("image"), bytes):
            values["image"] = base64.b64encode(values["image"]).decode()
        request = urllib.request.Request(
            f"{self._address}/v1/{name}", json.dumps(values).encode(), self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                result: dict[str, Any] = json.load(answer)
                return result
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error.code}: {json.load(error)['error']['message']}") from error


def main() -> int:
    """Keep each picture once, then ask everything about it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--words", nargs="+")
    parser.add_argument("--question")
    args = parser.parse_args()
    client = Client(args.address, os.environ.get("XDECODER_RT_TOKEN"))
    for path in args.pictures:
        image_id = client.call("images", image=path.read_bytes())["image_id"]
        if args.words:
            for found in client.call("segment", image_id=image_id, words=args.words)["segments"]:
                print(f"{path}: {found['label']} {found['score']:.2f} {found['box']}")
        if args.question:
            answer = client.call("answer", image_id=image_id, question=args.question)
            print(f"{path}: {answer['text']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
