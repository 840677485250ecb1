"""``xdecoder-rt doctor``: what this machine can run, what is broken, what to install for more."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from xdecoder_rt.cli.images import quantity
from xdecoder_rt.cli.options import add_cache, add_json
from xdecoder_rt.cli.output import CommandReport, format_table, harmless
from xdecoder_rt.errors import printable

SUMMARY = "say what this machine can run, what is broken, and what to install for more"
DESCRIPTION = """\
Say what this machine can run: instruction sets, cores by affinity and quota, memory, GPUs and their
driver, backends, every extra with its packages, the folder of caches, video and ROS 2; and the pip
command that brings what is missing.

It needs no plan and no extra. Libraries are imported by child processes, so that one that crashes
is told as broken and ends nothing. The exit code is 0 whatever is found.
"""
EXAMPLES = """\
  xdecoder-rt doctor
  xdecoder-rt doctor --quick             import nothing: whether libraries work is then not known
  xdecoder-rt doctor --all               import every installed package of the extras too
  xdecoder-rt doctor --json | jq '.advice[].command'
"""
_LABEL = 14


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``doctor``."""
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="import nothing and ask no driver")
    depth.add_argument(
        "--all", action="store_true", help="import every installed package, which takes longer"
    )
    add_json(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Examine the machine and print what was found; 0 whatever that is."""
    from xdecoder_rt.cli.diagnosis import diagnose

    report: CommandReport = args.command_report
    document = diagnose(is_quick=args.quick, imports_all=args.all, cache_dir=args.cache_dir)
    report.text(_text(document))
    report.document({**document, "complete": True})
    return 0


def _text(document: Mapping[str, Any]) -> str:
    lines = [f"xdecoder_rt {document['version']}", "", "machine"]
    lines += [_line(name, value) for name, value in _machine_facts(document)]
    lines += ["", "backends", _backend_table(document["backends"])]
    lines += ["", "extras", _extra_table(document["extras"]), "", "around"]
    lines += [_line(name, value) for name, value in _other_facts(document)]
    if document["problems"]:
        lines += ["", "broken"]
        lines += [f"  {printable(problem, 1000)}" for problem in document["problems"]]
    if document["advice"]:
        lines += ["", "for more"]
        lines += [_line(one["command"], one["purpose"], 46) for one in document["advice"]]
    return "\n".join(lines)


def _line(name: str, value: str, width: int = _LABEL) -> str:
    return f"  {harmless(name):{width}}{harmless(value)}".rstrip()


def _machine_facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine, processor, memory = document["machine"], document["processor"], document["memory"]
    numbers = [f"{processor['cores']} in the machine", f"{processor['affinity']} by affinity"]
    if processor["quota"] is not None:
        numbers.append(f"quota {processor['quota']:g}")
    int8, bf16 = ("fast" if processor[f"fast_{name}"] else "slow" for name in ("int8", "bf16"))
    sizes = [f"{_gib(memory['total'])} GiB"] if memory["total"] else ["unknown"]
    if memory["available"]:
        sizes.append(f"{_gib(memory['available'])} available")
    if memory["limit"] is not None:
        sizes.append(f"limited to {_gib(memory['limit'])} by its control group")
    return [
        ("processor", f"{machine['cpu']} ({machine['architecture']})"),
        ("instructions", " ".join(processor["instruction_sets"]) or "unknown"),
        ("", f"int8 {int8}, bf16 {bf16}"),
        ("cores", f"{processor['usable_cores']} usable: {', '.join(numbers)}"),
        ("memory", ", ".join(sizes)),
        ("system", f"{machine['os']}, kernel {machine['kernel']}, Python {machine['python']}"),
        ("GPU", _gpu_text(document["gpus"])),
    ]


def _gpu_text(gpus: Mapping[str, Any]) -> str:
    names = [
        f"{gpu['name']} (compute capability {gpu['capability']}, {_gib(gpu['memory'])} GiB)"
        for gpu in gpus["devices"]
    ]
    software = [
        f"{title} {gpus[key]}"
        for key, title in (("driver", "driver"), ("cuda", "CUDA"), ("jetson_linux", "Jetson Linux"))
        if gpus[key]
    ]
    if gpus["problem"]:
        names.append(f"not usable: {gpus['problem']}")
    return "; ".join([", ".join(names) or "none found", *software])


def _backend_table(backends: Mapping[str, Mapping[str, Any]]) -> str:
    words = {True: "works", False: "broken", None: "installed, not tried"}
    rows = [
        (
            name,
            backend["version"] or "-",
            words[backend["works"]] if backend["installed"] else "missing",
            ", ".join(backend["devices"]) or "-",
            backend["install"] or "",
        )
        for name, backend in backends.items()
    ]
    return format_table(("backend", "version", "state", "devices", "to install"), rows, 5)


def _extra_table(extras: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, extra in extras.items():
        packages = extra["packages"].values()
        ready = sum(one["state"] == "installed" and not one["problem"] for one in packages)
        state = "installed" if extra["installed"] else f"{ready} of {len(packages)}"
        rows.append((name, state, extra["install"] or "", extra["purpose"]))
    table = format_table(("extra", "packages", "to install", "for"), rows, 4)
    missing = {
        name: [package for package, one in extra["packages"].items() if one["state"] == "missing"]
        for name, extra in extras.items()
    }
    some = [
        _line(name, f"lacks {', '.join(names)}", 20)
        for name, names in missing.items()
        if 0 < len(names) < len(extras[name]["packages"])
    ]
    return "\n".join([table, *some])


def _other_facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    cache, video, ros = document["cache"], document["video"], document["ros2"]
    size = f"{cache['bytes'] / 1e6:.1f} MB in {quantity(cache['files'], 'file')}"
    use = "writable" if cache["writable"] else f"not usable: {cache['problem']}"
    gstreamer = {True: "with", False: "without", None: "?"}[video["opencv_gstreamer"]]
    opencv = f"{video['opencv']} {gstreamer} GStreamer" if video["opencv"] else "not known"
    ros_text = ros["distribution"] or "not sourced"
    if ros["installed"]:
        ros_text += f", {', '.join(ros['installed'])} in /opt/ros"
    return [
        ("cache", f"{cache['folder'] or 'none'}: {size}, {use}"),
        ("PyAV", video["pyav"] or "not known"),
        ("OpenCV", opencv),
        ("GStreamer", video["gstreamer"] or "gst-launch-1.0 is not on the path"),
        ("ROS 2", f"{ros_text}, rclpy {'found' if ros['rclpy'] else 'not found'}"),
    ]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
