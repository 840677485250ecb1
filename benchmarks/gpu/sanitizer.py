"""Runs every compiled kernel on small problems under compute-sanitizer, where it is installed.

What runs is :mod:`gpu.launching`, with what the section ``loader`` compiled: no PyTorch, so that a
tool has our kernels alone to look at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from gpu.cases import FOLDERS
from gpu.section import Context, run_limited

TOOLS = ("memcheck", "initcheck", "synccheck", "racecheck")
PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
FOUND = 9
"""Exit code that the tools are told to use for what they find."""
SUMMARY = re.compile(r"^=+ *((?:ERROR|RACECHECK) SUMMARY: .*)$", re.MULTILINE)
LEAST = 4.0
"""Seconds that a tool needs to be worth starting."""


def run(context: Context) -> None:
    """Run one tool after another; a finding fails the section."""
    tool = shutil.which("compute-sanitizer") or next(
        (place for folder in PLACES if (place := shutil.which("compute-sanitizer", path=folder))),
        None,
    )
    folder = context.work / FOLDERS["machine code"]
    if context.device != "cuda" or tool is None:
        lacking = "a GPU" if context.device != "cuda" else "compute-sanitizer"
        context.verdict("not there", f"it needs {lacking}")
        return
    if not (folder / "kernels.json").is_file():
        context.verdict("not there", "the section loader left no compiled kernels")
        return
    version = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=30).stdout
    context.emit("facts", tool=" ".join(re.findall(r"[Vv]ersion ([\d.]+)", version)))
    outcomes = [
        run_tool(context, tool, name, folder, len(TOOLS) - i) for i, name in enumerate(TOOLS)
    ]
    bad = [outcome for outcome in outcomes if outcome]
    if bad:
        late = all("out of time" in outcome for outcome in bad)
        context.verdict("out of time" if late else "failed", "; ".join(bad))


def run_tool(context: Context, tool: str, name: str, folder: Path, tools_left: int) -> str:
    """Run one tool within its part of the time; return its failure, or nothing."""
    seconds = context.remaining() / tools_left
    if seconds < LEAST:
        context.emit("row", tool=name, status="left out", found="no time was left")
        return f"{name}: out of time"
    command = [tool, "--tool", name, "--error-exitcode", str(FOUND), "--print-limit", "20"]
    command += [sys.executable, "-m", "gpu.launching", str(folder), str(context.work / "s.npz")]
    command += ["--small", *(("--unset",) if name == "initcheck" else ())]
    log = context.work / f"sanitizer-{name}.log"
    with log.open("wb") as output:
        code = run_limited(command, seconds, stdout=output, stderr=subprocess.STDOUT)
    text = log.read_text(errors="replace")
    summaries = SUMMARY.findall(text)
    finding = summaries[-1] if summaries else ""
    if code is None:
        context.emit("row", tool=name, status="out of time", found=finding)
        return f"{name}: out of time"
    status = "clean" if code == 0 and summaries else "found" if code == FOUND else "failed"
    details = [] if status == "clean" else [line[:200] for line in text.splitlines()[:40]]
    context.emit("row", tool=name, status=status, found=finding, details=details)
    return "" if status == "clean" else f"{name}: {finding or f'exit code {code}'}"
