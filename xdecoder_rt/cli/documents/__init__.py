"""Forms of what commands write with ``--json``: one declaration each, from which schemas are made.

Every document begins with ``"schema"``, the command and the version of its form: ``"segment/1"``.
A document that was cut short by an error or a signal has ``"complete": false`` and those keys that
were known by then. A form that gains, loses or changes a key gets another version.

Nothing heavy is imported: every command reads its version here.
"""

from __future__ import annotations

from typing import Any, TypedDict

from xdecoder_rt.cli.documents.asking import (
    AnswerDocument,
    CaptionDocument,
    DemoDocument,
    RankDocument,
    ReferDocument,
    RunDocument,
    SegmentDocument,
)
from xdecoder_rt.cli.documents.machine import (
    DoctorDocument,
)
from xdecoder_rt.cli.documents.measuring import (
    BenchDocument,
    CheckDocument,
    DataDocument,
    EvalDocument,
    LabelDocument,
)
from xdecoder_rt.cli.documents.plans import (
    BuildDocument,
    ConvertDocument,
    ExtractDocument,
    GraphListDocument,
    PlanInfoDocument,
    TritonDocument,
    VocabEmbedDocument,
    VocabExampleDocument,
    VocabExportDocument,
    VocabImportDocument,
    VocabListDocument,
    WeightsInfoDocument,
)

__all__ = ["DOCUMENTS", "Form", "kind_of"]


class Form(TypedDict):
    """A command's document: its version, and the forms of which it has one."""

    version: int
    forms: tuple[Any, ...]


def _form(version: int, *forms: Any) -> Form:
    return {"version": version, "forms": forms}


DOCUMENTS: dict[str, Form] = {
    "segment": _form(1, SegmentDocument),
    "refer": _form(1, ReferDocument),
    "caption": _form(1, CaptionDocument),
    "answer": _form(1, AnswerDocument),
    "rank": _form(1, RankDocument),
    "run": _form(1, RunDocument),
    "demo": _form(1, DemoDocument),
    "build": _form(1, BuildDocument),
    "convert": _form(1, ConvertDocument),
    "vocab": _form(
        1,
        VocabEmbedDocument,
        VocabListDocument,
        VocabExportDocument,
        VocabImportDocument,
        VocabExampleDocument,
    ),
    "label": _form(1, LabelDocument),
    "data": _form(1, DataDocument),
    "eval": _form(1, EvalDocument),
    "export-triton": _form(1, TritonDocument),
    "doctor": _form(1, DoctorDocument),
    "info": _form(1, PlanInfoDocument, WeightsInfoDocument),
    "check": _form(1, CheckDocument),
    "bench": _form(1, BenchDocument),
    "extract": _form(1, ExtractDocument, GraphListDocument),
}


def kind_of(command: str) -> str:
    """Return what the documents of a command begin with: ``"segment/1"``."""
    return f"{command}/{DOCUMENTS[command]['version']}"
