"""The library's log during a build: errors for messages, and the layers of the engine."""

from __future__ import annotations

from types import ModuleType

from xdecoder_rt.backends.tensorrt.log import listen

_LAYERS = "Layers:"
_KEPT = 8


class BuildLog:
    """Messages of a builder and a parser.

    Attributes:
        logger: for the library.
        layers: the message that lists an engine's layers, or None where there was none.
    """

    def __init__(self, module: ModuleType) -> None:
        self._errors: list[str] = []
        self._warnings: list[str] = []
        self.layers: str | None = None
        self.logger = listen(module, self)

    def hear(self, severity: str, message: str) -> None:
        """Take a message of the library."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors.append(" ".join(message.split()))
        elif severity == "WARNING":
            self._warnings.append(" ".join(message.split()))
        elif message.startswith(_LAYERS):
            self.layers = message

    def note(self, error: str) -> None:
        """Add an error of our own."""
        self._errors.append(error)

    def errors(self) -> str:
        """Return the last errors, in one line; where there are none, the last warnings.

        That CUDA cannot be used is a warning to TensorRT.
        """
        messages = self._errors or self._warnings
        return "; ".join(messages[-_KEPT:]) or "it does not say why"
