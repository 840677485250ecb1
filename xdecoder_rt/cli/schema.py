"""``xdecoder-rt schema``: the JSON Schemas of what commands write with ``--json``."""

from __future__ import annotations

import argparse
import json

from xdecoder_rt.cli.documents import DOCUMENTS, kind_of
from xdecoder_rt.cli.output import CommandReport, format_table

SUMMARY = "print the JSON Schema of what a command writes with --json"
DESCRIPTION = """\
Print the JSON Schema (draft 2020-12) of what COMMAND writes with --json; without COMMAND, list the
forms and their versions. Every document begins with "schema", such as "segment/1"; a form whose
keys change gets another version. No object has keys that its schema does not name.

A document that an error or a signal cut short has "complete": false and the keys known by then.
"""
EXAMPLES = """\
  xdecoder-rt schema
  xdecoder-rt schema segment
  xdecoder-rt schema doctor | jq .properties.backends
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``schema``."""
    parser.add_argument(
        "name", nargs="?", choices=tuple(DOCUMENTS), metavar="COMMAND", help="whose documents"
    )


def run(args: argparse.Namespace) -> int:
    """Print one schema, or the list of forms."""
    report: CommandReport = args.command_report
    if args.name is None:
        rows = [(kind_of(name), f"xdecoder-rt {name} --json") for name in DOCUMENTS]
        report.text(format_table(("form", "written by"), rows, 2))
        return 0
    # Where it is needed: the manifest's schema reads its declarations.
    from xdecoder_rt.cli.json_schema import document_schema

    report.text(json.dumps(document_schema(args.name), indent=2))
    return 0
