"""The layers of a built engine, as its builder reports them: in the plan, read without a GPU."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

from xdecoder_rt.json_reader import Rule, parse_json, read_object

LAYERS = "layers.json"
"""The plan's member that has the layers of every engine."""
_LIMIT = 64 << 20
_NAME = re.compile(r"Name: (.*?), LayerType: (\S+?),")
_PART = re.compile(r"(Inputs|Constants|Outputs): \[(.*?)\](?=, (?:Constants|Outputs|TacticName):)")
_TACTIC = re.compile(r"TacticName: (.*?), StreamId:")
_TYPE = re.compile(r"Datatype: (\w+)")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\]")
# What orders other layers or computes shapes.
_BOOKKEEPING = ("signal", "wait", "shape_call")
_SHORT = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
    "int64": "int64",
    "int32": "int32",
    "bool": "bool",
    "uint8": "uint8",
}
_ARITHMETIC = ("int8", "fp8", "fp16", "bf16", "fp32")
# A generated kernel is named after what it does; what follows a product bears its node too.
_GENERATED, _WITH_PRODUCT = "__myl_", re.compile("Fc|Corr|Gemm|Conv")
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ATTENTION = "attention"
"""A softmax and both its products in one kernel."""

# A fused layer bears the names of all that it was made of.
LayerText: TypeAlias = Annotated[str, Rule(most=1 << 20)]


@dataclass(frozen=True)
class Layer:
    """One kernel of an engine.

    Attributes:
        name: the library's.
        kind: as the library calls it.
        operators: ONNX operators that it computes, an entry a node.
        inputs: element types of what it reads, weights excluded.
        outputs: element types of what it writes.
        tactic: the kernel, where the library says it.
    """

    name: LayerText
    kind: LayerText
    operators: tuple[LayerText, ...]
    inputs: tuple[LayerText, ...]
    outputs: tuple[LayerText, ...]
    tactic: LayerText

    @property
    def role(self) -> str | None:
        """Return ``attention``, or the operator of the product, or None where there is none."""
        if self.name.startswith(_GENERATED) and not _WITH_PRODUCT.search(self.name):
            return None
        products = [operator for operator in self.operators if operator in PRODUCTS]
        if "Softmax" in self.operators and len(products) >= 2:
            return ATTENTION
        return products[0] if products else None

    @property
    def precision(self) -> str:
        """Return the narrowest arithmetic type that it reads, or writes where it reads none."""
        for types in (self.inputs, self.outputs):
            for name in _ARITHMETIC:
                if name in types:
                    return name
        return "other"


def from_log(message: str, operators: Mapping[str, str]) -> list[Layer]:
    """Return the layers of a builder's log message, of detailed profiling verbosity.

    Args:
        message: it begins with ``Layers:``.
        operators: ONNX operators by the names of their nodes.
    """
    layers = []
    for line in message.splitlines()[1:]:
        head = _NAME.match(line)
        if head is None:
            break
        if head.group(2) in _BOOKKEEPING:
            continue
        parts = dict(_PART.findall(line))
        tactic = _TACTIC.search(line)
        layers.append(
            Layer(
                head.group(1),
                head.group(2),
                _operators(line, operators),
                _types(_TYPE.findall(parts.get("Inputs", ""))),
                _types(_TYPE.findall(parts.get("Outputs", ""))),
                tactic.group(1) if tactic else "",
            )
        )
    return layers


def from_inspector(information: str, operators: Mapping[str, str]) -> list[Layer]:
    """Return the layers of an ``EngineInspector``'s JSON, of detailed profiling verbosity.

    Args:
        information: of ``get_engine_information(LayerInformationFormat.JSON)``.
        operators: ONNX operators by the names of their nodes.
    """
    layers = []
    for entry in json.loads(information).get("Layers", ()):
        # Engines of lower verbosity list names alone.
        if not isinstance(entry, dict) or entry.get("LayerType") in _BOOKKEEPING:
            continue
        layers.append(
            Layer(
                str(entry.get("Name", "")),
                str(entry.get("LayerType", "")),
                _operators(str(entry.get("Metadata", "")), operators),
                _types(_element_types(entry.get("Inputs", ()))),
                _types(_element_types(entry.get("Outputs", ()))),
                str(entry.get("TacticName", "")),
            )
        )
    return layers


def precisions(layers: Iterable[Layer]) -> dict[str, dict[str, int]]:
    """Count the layers of each role by precision: ``{"Conv": {"int8": 25}}``."""
    counted: dict[str, Counter[str]] = {}
    for layer in layers:
        if layer.role is not None:
            counted.setdefault(layer.role, Counter())[layer.precision] += 1
    return {role: dict(counter) for role, counter in sorted(counted.items())}


def layers_to_json(engines: Mapping[str, Sequence[Layer]]) -> bytes:
    """Return the plan's member, from the layers of each engine's member."""
    document = {name: [asdict(layer) for layer in layers] for name, layers in engines.items()}
    return json.dumps(document, sort_keys=True).encode()


def layers_from_json(data: bytes) -> dict[str, list[Layer]]:
    """Read the plan's member, from an untrusted source.

    Raises:
        PlanError: it does not list layers.
    """
    document = parse_json(data, LAYERS, _LIMIT)
    engines = read_object(document, dict[str, tuple[Layer, ...]], LAYERS)
    return {name: list(layers) for name, layers in engines.items()}


def _operators(text: str, operators: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(operators[node] for node in _NODE.findall(text) if node in operators)


def _element_types(tensors: Any) -> list[str]:
    """Element types, of ``Datatype`` or within ``Format/Datatype`` ("... linear FP16 format")."""
    types = []
    for tensor in tensors if isinstance(tensors, list) else ():
        text = str(tensor.get("Datatype") or tensor.get("Format/Datatype") or "")
        words = re.findall(r"\w+", text)
        types.append(next((word for word in words if word.lower() in _SHORT), text))
    return types


def _types(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(_SHORT.get(name.lower(), name.lower()) for name in names)
