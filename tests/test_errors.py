"""Every error says in one line what was wrong, what was expected and what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from importlib.resources import files
from pathlib import Path

import pytest

from xdecoder_rt import errors
from xdecoder_rt.errors import ImageError, MissingExtraError, PlanError, XDecoderError, quoted


def test_the_three_parts_of_a_message():
    full = XDecoderError("The image is empty", expected="one pixel", fix="look at the camera")
    assert str(full) == "The image is empty. Expected one pixel. Fix: look at the camera."
    assert (full.what, full.expected, full.fix) == (
        "The image is empty",
        "one pixel",
        "look at the camera",
    )
    assert str(XDecoderError("Nothing more to say.")) == "Nothing more to say."


def test_a_message_is_one_line():
    assert str(PlanError("two\nlines\t here", fix="a\r\nb")) == "two lines here. Fix: a b."


@pytest.mark.parametrize("name", ["a\x1b[31mred", "nul\0", "\ud800", "\u202egnp", "\0" * 5000])
def test_a_name_in_a_message_cannot_disturb_a_terminal_or_an_encoding(name):
    message = str(PlanError(f"{name} is no plan", fix=f"do without {name}"))
    assert message.isprintable() and len(message) < 2200
    message.encode()


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name.endswith("Error")])
def test_all_derive_from_one_base_and_survive_copying(name):
    kind = getattr(errors, name)
    assert issubclass(kind, XDecoderError)
    error = kind("what", expected="this", fix="that")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind and str(twin) == str(error)


def test_they_are_also_what_callers_of_the_standard_library_catch():
    assert issubclass(ImageError, ValueError)
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize(
    "value", ["\x1b[31mred\n", "x" * 10_000, b"\0" * 999, "\u202egnp", None, 7]
)
def test_untrusted_values_are_shown_printable_and_short(value):
    text = quoted(value)
    assert text.isprintable() and len(text) <= 80


def test_require_imports_or_names_the_extra():
    assert errors.require("json", "train").loads("1") == 1
    with pytest.raises(MissingExtraError) as caught:
        errors.require("no_such_module_anywhere", "train")
    assert 'pip install "xdecoder_rt[train]"' in str(caught.value)


def every_error() -> list[type[XDecoderError]]:
    from xdecoder_rt.export.transfer import UnreachableError
    from xdecoder_rt.serving.limits import RefusedError

    public = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    found = [kind for kind in public if issubclass(kind, XDecoderError)]
    return [*found, UnreachableError, RefusedError]


def test_no_error_of_ours_is_left_out_of_the_list():
    listed = {kind.__name__ for kind in every_error()}
    folder = Path(errors.__file__).parent
    for place in (folder, *map(Path, (files("xdecoder_rt.export"), files("xdecoder_rt.kernels")))):
        for path in place.rglob("*.py"):
            for name, bases in re.findall(r"^class (\w+)\(([^)]*)\):", path.read_text(), re.M):
                if {base.strip() for base in bases.split(",")} & listed:
                    assert name in listed, path


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_the_docstring_of_an_error_says_its_usual_cause_and_what_to_do(kind):
    text = inspect.getdoc(kind)
    paragraphs = text.split("\n\n")
    cause, fixes = paragraphs[0], [p for p in paragraphs if p.startswith("Fix: ")]
    assert cause.endswith(".") and "\n" not in cause
    assert len(fixes) == 1 and len(fixes[0]) > 40
