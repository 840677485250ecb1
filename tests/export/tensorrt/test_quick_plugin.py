"""The masked-attention plugin without a GPU: what TensorRT would be given.

The real ``tensorrt.plugin`` takes the registrations and calls them; over numbers in place of its
symbolic sizes the launch is what the launcher of compiled kernels makes; the PTX is assembled.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from xdecoder_rt.errors import BuildError
from xdecoder_rt.export.tensorrt.plugin_ptx import reordered
from xdecoder_rt.kernels.compiled import CompiledKernels
from xdecoder_rt.kernels.loader import kernel_arguments
from xdecoder_rt.kernels.masked_attention.nodes import ATTEND, BITS, INPUTS, OUTPUT
from xdecoder_rt.kernels.masked_attention.schedule import Problem

CAPABILITY, CUDA = (8, 6), (13, 0)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> CompiledKernels:
    pytest.importorskip("triton", reason="compiling kernels needs the extra triton")
    from xdecoder_rt.kernels.aot import compile_kernels
    from xdecoder_rt.kernels.targets import target

    folder = tmp_path_factory.mktemp("kernels") / "compiled"
    compile_kernels(folder, [target(86)], only=r"open_bits_fp(16|32)|attend_fp16_32x64(_any)?$")
    return CompiledKernels(folder)


class Expression:
    """In place of ``IDimensionExpr``: a number, which may be known in calls alone."""

    def __init__(self, value: int, is_known: bool = True) -> None:
        self.value = value
        self._is_known = is_known

    def is_constant(self) -> bool:
        return self._is_known

    def get_constant_value(self) -> int:
        return self.value


class Registry:
    """In place of ``IPluginRegistry``, which is in TensorRT's library."""

    def __init__(self) -> None:
        self.creators: dict[tuple[str, str], Any] = {}

    def register_creator(self, creator: Any, namespace: str) -> bool:
        self.creators[creator.name, namespace] = creator
        return True

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        return self.creators[name, namespace]


REGISTRY = Registry()


class Builder:
    """In place of ``IExprBuilder``."""

    def constant(self, value: int) -> Expression:
        return Expression(value)

    def operation(self, operation: Any, first: Expression, second: Expression) -> Expression:
        a, b = first.value, second.value
        return Expression(
            {
                "SUM": a + b, "PROD": a * b, "SUB": a - b, "MAX": max(a, b), "MIN": min(a, b),
                "CEIL_DIV": -(-a // b) if b else 0, "FLOOR_DIV": a // b if b else 0,
            }[operation.name]
        )  # fmt: skip


@pytest.fixture
def trtp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The real ``tensorrt.plugin``, whose expressions are numbers."""
    from fake_tensorrt import bindings

    real = bindings.real_bindings("tensorrt")
    if not hasattr(real, "IPluginV3QuickAOTBuild"):
        pytest.skip(f"tensorrt {real.__version__} has no ahead-of-time plugins (10.9 or newer has)")
    monkeypatch.setitem(sys.modules, "tensorrt", real)
    monkeypatch.setattr(real, "get_plugin_registry", lambda: REGISTRY)
    plugin = import_module(f"{real.__name__}.plugin")
    expressions = import_module(f"{real.__name__}.plugin._tensor")
    monkeypatch.setattr(expressions.trt, "IDimensionExpr", Expression)
    monkeypatch.setattr(expressions.SymIntExpr, "_exprBuilder", Builder())
    yield plugin


def described(trtp: Any, shape: tuple[Any, ...], element: str) -> Any:
    kind = {"fp16": trtp.trt.float16, "fp32": trtp.trt.float32, "i32": trtp.trt.int32}[element]
    return trtp.from_shape_expr(shape, kind)


def numbers(expressions: Any) -> list[int]:
    return [expression._expr.value for expression in expressions]


@pytest.mark.parametrize("keys", [256, 1024, 4096, 165])
@pytest.mark.parametrize(("queries", "mask_element"), [(101, "fp32"), (1, "fp16")])
def test_a_launch_is_what_the_launcher_of_compiled_kernels_makes(
    keys: int, queries: int, mask_element: str, trtp: Any, kernels: CompiledKernels
) -> None:
    from fake_tensorrt import node_calls

    from xdecoder_rt.export.tensorrt import quick_plugin

    quick_plugin.register_quick_plugins(trtp, quick_plugin.Gpu(kernels, CAPABILITY, CUDA))
    heads, width, channels = 3, 64, 65
    # A channel for each region that a call has.
    free = trtp.ShapeExpr(Expression(channels, is_known=False))
    embedding = described(trtp, (1, queries, free), mask_element)
    features = described(trtp, (1, free, keys), mask_element)
    query = described(trtp, (1, heads, queries, width), "fp16")
    key = described(trtp, (1, heads, width, keys), "fp16")
    value = described(trtp, (1, heads, keys, width), "fp16")
    registry = import_module(f"{trtp.__name__}._lib").QDP_REGISTRY
    bits_plugin, attend_plugin = (registry[f"xdecoder_rt::{name}"] for name in (BITS, ATTEND))

    bits = bits_plugin.register_func(embedding, features)
    words = Problem(1, heads, queries, keys, width, channels, "fp16").words
    assert (numbers(bits.shape_expr), bits.dtype) == ([1, queries, words], trtp.trt.int32)
    out = attend_plugin.register_func(query, key, value, bits)
    assert numbers(out.shape_expr) == [1, heads, queries, width]

    tensors = (*INPUTS[BITS], *INPUTS[ATTEND], OUTPUT[ATTEND])
    expected = node_calls(queries, keys, mask_element, dict.fromkeys(tensors, 256))
    given = (
        bits_plugin.aot_impl_func(embedding, features, (bits,), 0),
        attend_plugin.aot_impl_func(query, key, value, bits, (out,), 0),
    )
    for call, (entry, ptx, parameters, scalars) in zip(expected, given, strict=True):
        spec = kernels.form(call)
        assert entry == call.function and f".entry {entry}(" in ptx
        grid = (parameters.grid_x, parameters.grid_y, parameters.grid_z)
        assert tuple(numbers(grid)) == spec.grid.of(call.sizes)
        assert numbers([parameters.block_x]) == [spec.warps * 32]
        wanted = dict(zip(spec.arguments, kernel_arguments(spec, call.values), strict=True))
        integers = [name for name, kind in spec.arguments.items() if kind == "i32"]
        assert numbers(scalars) == [wanted[name] for name in integers]
        assert all(isinstance(scalar, trtp.SymInt32) for scalar in scalars)


def entry_types(ptx: str) -> list[str]:
    head = re.search(r"\.entry \w+\((.*?)\n\)", ptx, re.DOTALL)
    assert head is not None
    return re.findall(r"\.param \.(\w+)", head.group(1))


def test_ptx_takes_inputs_integers_and_outputs_and_is_assembled(
    kernels: CompiledKernels, tmp_path: Path
) -> None:
    for name, inputs, output, floats in (
        ("open_bits_fp16_64x64", ("mask_embedding", "mask_features"), "bits", {}),
        ("attend_fp16_32x64", ("query", "key", "value", "bits"), "out", {"scale": 0.18033688}),
        ("attend_fp16_32x64_any", ("query", "key", "value", "bits"), "out", {"scale": 0.25}),
    ):
        spec = kernels.forms[name]
        integers = [argument for argument, kind in spec.arguments.items() if kind == "i32"]
        image = kernels.ptx(spec, CAPABILITY, CUDA)
        ptx = reordered(
            image.data.decode(), list(spec.arguments), [*inputs, *integers, output], floats
        )
        assert entry_types(ptx) == ["u64"] * len(inputs) + ["u32"] * len(integers) + ["u64"]
        # What the body reads under each name is what was declared under it.
        places = {argument: index for index, argument in enumerate(spec.arguments)}
        declared = re.findall(r"\.param .*\b\w+_param_(\d+),?$", ptx, re.MULTILINE)
        assert [int(place) for place in declared] == [
            places[argument] for argument in (*inputs, *integers, output)
        ]
        assert f"param_{places.get('scale')}]" not in ptx
        assemble(ptx, tmp_path)


def assemble(ptx: str, folder: Path) -> None:
    spec = find_spec("triton")
    assert spec is not None and spec.origin is not None
    assembler = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
    if not assembler.exists():
        pytest.skip(f"this triton brings no assembler at {assembler}")
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    command = [str(assembler), "--gpu-name", "sm_86", str(source), "-o", str(folder / "cubin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PTX = """.version 8.8
.visible .entry add(
\t.param .u64 .ptr .global .align 1 add_param_0,
\t.param .u32 add_param_1,
\t.param .f32 add_param_2,
\t.param .u64 .ptr .global .align 1 add_param_3,
\t.param .u64 .ptr .global .align 1 add_param_4
)
{
\tld.param.b32 \t%r1, [add_param_2];
\tld.param.b32 \t%r2, [add_param_1];
}
"""


def test_floats_are_baked_in_exactly() -> None:
    ptx = reordered(PTX, ["out", "n", "x"], ["n", "out"], {"x": 1.5})
    assert "mov.b32 \t%r1, 0x3fc00000;" in ptx and "[add_param_1]" in ptx
    assert entry_types(ptx) == ["u32", "u64"]


@pytest.mark.parametrize(
    ("ptx", "message"),
    [
        (PTX.replace("add_param_4\n", "add_param_4,\n\t.param .u32 add_param_5\n"), "6 parameters"),
        (PTX.replace("[add_param_1]", "[add_param_3]"), "scratch"),
        (PTX.replace("ld.param.b32 \t%r1", "ld.param.b64 \t%rd1"), "reads x"),
        ("nothing", "0 parameters"),
    ],
)
def test_a_kernel_of_another_form_is_refused(ptx: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        reordered(ptx, ["out", "n", "x"], ["n", "out"], {"x": 1.5})
