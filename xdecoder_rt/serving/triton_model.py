"""The model of a Triton repository: an engine that answers as ``/v1/run`` of a service does.

Copied as ``model.py`` by ``xdecoder-rt export-triton`` and run by Triton's Python backend, whose
Python needs ``xdecoder_rt[serve]``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xdecoder_rt.engine import Engine
from xdecoder_rt.errors import XDecoderError
from xdecoder_rt.serving.app import Service, run_answer
from xdecoder_rt.serving.asked import RunAsked

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """What Triton calls; the names are its own."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the plan that lies beside this file, as the configuration says."""
        import triton_python_backend_utils as triton

        self._triton: Any = triton
        config = json.loads(args["model_config"])
        values = {name: part["string_value"] for name, part in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._engine = Engine(
            folder / values["plan"],
            backend=values.get("backend") or None,
            threads=int(values["threads"]) if values.get("threads") else None,
        )
        self._service = Service({args["model_name"]: self._engine})

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, one after the other; one that is refused gets its error alone."""
        return [self._response(request) for request in requests]

    def finalize(self) -> None:
        """Close the engine."""
        self._service.close()
        self._engine.close()

    def _response(self, request: Any) -> Any:
        import numpy as np

        triton = self._triton
        try:
            image = triton.get_input_tensor_by_name(request, "IMAGE").as_numpy()
            text = triton.get_input_tensor_by_name(request, "REQUEST").as_numpy()
            asked = RunAsked.model_validate_json(text.reshape(-1)[0])
            answer = run_answer(self._service, asked, [image.astype(np.uint8).tobytes()])
        except (XDecoderError, ValidationError) as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        data = np.array([json.dumps(answer).encode()], np.object_)
        return triton.InferenceResponse(output_tensors=[triton.Tensor("ANSWER", data)])
