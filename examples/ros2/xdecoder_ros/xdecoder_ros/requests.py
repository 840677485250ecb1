"""Questions to the newest image, in JSON: ``ask``, ``describe`` and ``find``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xdecoder_rt.errors import ArgumentError, XDecoderError, quoted

if TYPE_CHECKING:
    from xdecoder_rt import Engine
    from xdecoder_rt.state import ImageState

KINDS = ("ask", "describe", "find")
_FIELDS = {
    "ask": {"question": str, "choices": list},
    "describe": {"prompt": str, "box": list},
    "find": {"phrase": str, "min_score": float},
}
_NEEDED = {"ask": "question", "describe": None, "find": "phrase"}
_LONGEST = 65_536


@dataclass(frozen=True)
class Request:
    """A question.

    Attributes:
        kind: one of `KINDS`.
        id: the asker's, given back with the answer.
        values: its fields.
        since: when it came, by ``time.monotonic``.
    """

    kind: str
    id: Any
    values: dict[str, Any] = field(default_factory=dict)
    since: float = 0.0

    @classmethod
    def parse(cls, kind: str, text: str, since: float) -> Request:
        """Return a request from its JSON, or from its bare text.

        Raises:
            ArgumentError: it is none; it has the asker's `id` as attribute where there is one.
        """
        number: Any = None
        needed, fields = _NEEDED[kind], _FIELDS[kind]
        try:
            if len(text) > _LONGEST:
                raise ValueError(f"{len(text)} characters, more than {_LONGEST}")
            if not text.lstrip().startswith("{"):
                # Typed by hand: ros2 topic pub … "data: 'what is on the table?'"
                return cls(kind, None, {needed: text} if needed and text.strip() else {}, since)
            values = json.loads(text)
            number = values.pop("id", None)
            # What cannot be sent back in an answer: infinity, NaN, half a character.
            try:
                json.dumps([number, values], ensure_ascii=False, allow_nan=False).encode()
            except ValueError:
                number = None
                raise
            if isinstance(number, dict | list):
                number = None
                raise ValueError("the id is neither a text nor a number")
            for name, value in values.items():
                kinds = (float, int) if fields.get(name) is float else fields.get(name, ())
                if not isinstance(value, kinds) or isinstance(value, bool):
                    raise ValueError(f"{quoted(name)} is unknown or of another type")
            if needed and needed not in values:
                raise ValueError(f"{needed!r} is missing")
        except (ValueError, RecursionError) as error:
            refusal = ArgumentError(
                f"The request of {kind!r} cannot be read: {error}",
                expected=f"JSON with id and {', '.join(fields)}",
            )
            refusal.request_id = number  # type: ignore[attr-defined]
            raise refusal from error
        return cls(kind, number, values, since)

    def answered(self, engine: Engine, state: ImageState) -> dict[str, Any]:
        """Return the answer on an image; whatever goes wrong is an `error` in it."""
        try:
            return {"id": self.id, **getattr(self, f"_{self.kind}")(engine, state)}
        except Exception as error:  # the next request is answered all the same
            known = isinstance(error, XDecoderError)
            text = str(error) if known else f"{type(error).__name__}: {error}"
            return {"id": self.id, "error": text}

    def _ask(self, engine: Engine, state: ImageState) -> dict[str, Any]:
        answer = engine.answer(state, self.values["question"], self.values.get("choices"))
        return {"answer": answer.text, "score": answer.score}

    def _describe(self, engine: Engine, state: ImageState) -> dict[str, Any]:
        box = self.values.get("box")
        caption = engine.caption(state, self.values.get("prompt"), None if box is None else box)
        return {"caption": caption.text, "score": caption.score}

    def _find(self, engine: Engine, state: ImageState) -> dict[str, Any]:
        (found,) = engine.refer(
            state, [self.values["phrase"]], min_score=self.values.get("min_score")
        )
        return found.to_dict()
