"""Signatures of engines: names, element types, and the shapes that their profiles allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xdecoder_rt.backends.cuda.values import ELEMENT_BY_TYPE, Element
from xdecoder_rt.errors import BackendError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class EngineProfile:
    """One range of input shapes that an engine was optimized for.

    Attributes:
        index: its number in the engine.
        least: the smallest shape of each input.
        most: the largest.
    """

    index: int
    least: Mapping[str, Shape]
    most: Mapping[str, Shape]

    @property
    def is_fixed(self) -> bool:
        """Return whether it allows one shape an input."""
        return self.least == self.most

    def admits(self, shapes: Mapping[str, Shape]) -> bool:
        """Return whether every input is in its range."""
        return all(
            len(shape) == len(self.least[name])
            and all(
                low <= size <= high
                for low, size, high in zip(self.least[name], shape, self.most[name], strict=True)
            )
            for name, shape in shapes.items()
        )


@dataclass(frozen=True)
class Signature:
    """An engine's bindings.

    Attributes:
        inputs: element types by name.
        outputs: element types by name.
        profiles: in the engine's order.
    """

    inputs: Mapping[str, Element]
    outputs: Mapping[str, Element]
    profiles: tuple[EngineProfile, ...]

    @classmethod
    def of(cls, name: str, engine: Any, module: Any) -> Signature:
        """Read it from an engine.

        Args:
            name: the graph's, for messages.
            engine: an ``ICudaEngine``.
            module: the library's module.

        Raises:
            BackendError: a binding is of a type, or in a place, that graphs of plans do not have.
        """
        ports: dict[bool, dict[str, Element]] = {True: {}, False: {}}
        for index in range(engine.num_io_tensors):
            port = engine.get_tensor_name(index)
            kind = engine.get_tensor_dtype(port).name
            if (
                kind not in ELEMENT_BY_TYPE
                or engine.get_tensor_location(port) != module.TensorLocation.DEVICE
            ):
                raise BackendError(
                    f"The {name} engine has the binding {port!r} of type {kind}",
                    expected="arrays on the device of the types " + ", ".join(ELEMENT_BY_TYPE),
                    fix="build the plan again with this version of xdecoder_rt",
                )
            is_input = engine.get_tensor_mode(port) == module.TensorIOMode.INPUT
            ports[is_input][port] = ELEMENT_BY_TYPE[kind]
        profiles = []
        for index in range(max(1, engine.num_optimization_profiles)):
            ranges = {port: _range(engine, port, index) for port in ports[True]}
            least = {port: shapes[0] for port, shapes in ranges.items()}
            most = {port: shapes[1] for port, shapes in ranges.items()}
            profiles.append(EngineProfile(index, least, most))
        return cls(ports[True], ports[False], tuple(profiles))

    def profile(self, name: str, shapes: Mapping[str, Shape]) -> EngineProfile:
        """Return the first profile that admits shapes of inputs.

        Raises:
            BackendError: none does.
        """
        for profile in self.profiles:
            if profile.admits(shapes):
                return profile
        last = self.profiles[-1]
        wrong = [
            f"{port} is {list(shape)}, {list(last.least[port])} to {list(last.most[port])} fit"
            for port, shape in shapes.items()
            if not EngineProfile(0, {port: last.least[port]}, {port: last.most[port]}).admits(
                {port: shape}
            )
        ]
        raise BackendError(
            f"No profile of the {name} engine takes these shapes: "
            f"{'; '.join(wrong) or 'each fits, but not together'}",
            expected="what the plan was built for",
            fix="ask for less at a time, or build the plan with larger profiles",
        )


def _range(engine: Any, port: str, profile: int) -> tuple[Shape, Shape]:
    fixed = tuple(engine.get_tensor_shape(port))
    if -1 not in fixed:
        return fixed, fixed
    least, _, most = engine.get_tensor_profile_shape(port, profile)
    return tuple(least), tuple(most)
