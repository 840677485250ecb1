"""What ``xdecoder-rt info`` says of a file of weights: what it is of, and what to build from it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdecoder_rt.cli.output import format_count
from xdecoder_rt.errors import CheckpointError, printable
from xdecoder_rt.files.regular import sha256_of

if TYPE_CHECKING:
    from xdecoder_rt.models import ModelConfig
    from xdecoder_rt.models.weights_file import WeightsFile

_MAX_NAMES = 10
_LISTS = {
    "missing": "missing",
    "misshapen": "misshapen",
    "surplus": "no place",
    "extra": "extra",
    "not_finite": "not finite",
}
_FORMS = {
    "zip": "a file of torch.save",
    "legacy": "a file of torch.save before PyTorch 1.6",
    "safetensors": "safetensors",
}


def weights_document(path: Path) -> dict[str, Any]:
    """Examine a file of weights.

    Returns:
        What ``xdecoder-rt info --json`` writes: the file with its SHA-256, the network, sizes,
        tasks, at most ten names of each list, and the command that builds from it, or the problem.

    Raises:
        CheckpointError: the file is missing, broken, or holds no weights.
    """
    from xdecoder_rt.models.checkpoint import CHECKPOINT_FORMAT
    from xdecoder_rt.models.weights_file import open_weights

    weights = open_weights(path, allow_foreign=True)
    is_ours = weights.header.get("format") == CHECKPOINT_FORMAT
    document = _file_facts(path, weights)
    document |= _our_facts(weights) if is_ours else _published_facts(path, weights)
    infinite = _not_finite(weights)
    document["not_finite"] = _listed(infinite)
    if infinite and document["problem"] is None:
        document["problem"] = f"{len(infinite)} tensors hold values that are not finite"
    if weights.foreign:
        document["problem"] = "it holds foreign objects: xdecoder-rt convert takes the tensors"
    command = ("xdecoder-rt", "build", "--checkpoint", str(path), "-o", f"{path.stem}.plan")
    document["build"] = None if document["problem"] else shlex.join(command)
    return document


def weights_text(document: Mapping[str, Any]) -> str:
    """Return the document of a file of weights for people."""
    lines = [
        f"{printable(document['file'], 200)}  {document['size'] / 1e6:.1f} MB, "
        f"{_FORMS[document['form']]}\n",
        _line("network", document["network"]),
    ]
    if document["sizes"]:
        lines.append(_line("sizes", _sizes_text(document["sizes"])))
        lines.append(_line("tasks", ", ".join(document["tasks"]) or "none"))
    lines += [
        _line(f"no {task}", "lacks " + ", ".join(names)) for task, names in document["lost"].items()
    ]
    types = ", ".join(f"{count} {name}" for name, count in document["types"].items())
    numbers = format_count(document["parameters"])
    lines.append(_line("tensors", f"{document['tensors']} ({types}), {numbers} numbers"))
    around = [*document["wrappers"], *document["prefixes"]]
    if around:
        lines.append(_line("taken off", ", ".join(printable(name) for name in around)))
    lines += [
        _line(title, _names_text(document[key]))
        for key, title in (*_LISTS.items(), ("beside", "beside"), ("foreign", "foreign"))
        if document[key]["count"] or key in ("missing", "misshapen", "extra")
    ]
    lines += [_line("note", note) for note in document["notes"]]
    lines.append(_line("SHA-256", document["sha256"]))
    if document["problem"]:
        lines.append(_line("problem", document["problem"]))
    lines.append(_line("build", printable(document["build"] or "not possible", 400)))
    return "\n".join(lines)


def _line(title: str, text: str) -> str:
    return f"{title:12}{text}"


def _file_facts(path: Path, weights: WeightsFile) -> dict[str, Any]:
    types = Counter(str(t.dtype).removeprefix("torch.") for t in weights.tensors.values())
    return {
        "file": str(path),
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
        "form": weights.form,
        "tensors": len(weights.tensors) + len(weights.unusual),
        "parameters": sum(tensor.numel() for tensor in weights.tensors.values()),
        "types": dict(types.most_common()),
        "wrappers": list(weights.wrappers),
        "prefixes": list(weights.prefixes),
        "beside": _listed(weights.beside),
        "foreign": _listed(weights.foreign),
    }


def _published_facts(path: Path, weights: WeightsFile) -> dict[str, Any]:
    from xdecoder_rt.models.published import examine

    examination = examine(path, weights)
    is_ours = examination.network is None
    problem = None
    try:
        examination.check(examination.tasks)
    except CheckpointError as error:
        problem = error.what
    return {
        "network": _network(examination.config) if is_ours else examination.network,
        "sizes": asdict(examination.config) if is_ours else None,
        "tasks": list(examination.tasks) if is_ours else [],
        "lost": {task: list(names) for task, names in examination.lost.items()},
        "missing": _listed(examination.missing),
        "misshapen": _listed(examination.misshapen),
        "surplus": _listed(examination.surplus),
        "extra": _listed(examination.outside),
        "notes": examination.remarks(examination.tasks),
        "problem": problem,
    }


def _our_facts(weights: WeightsFile) -> dict[str, Any]:
    from xdecoder_rt.models.checkpoint import differences, meta_model
    from xdecoder_rt.models.config import ModelConfig

    config = ModelConfig.from_json(weights.header.get("config", ""))
    expected = meta_model(config).state_dict()
    missing, unexpected, misshapen = differences(expected, weights.tensors)
    found = len(missing) + len(unexpected) + len(misshapen)
    return {
        "network": f"{printable(config.name)} ({config.family}), a checkpoint of xdecoder_rt",
        "sizes": asdict(config),
        "tasks": list(config.tasks),
        "lost": {},
        "missing": _listed(missing),
        "misshapen": _listed(misshapen),
        "surplus": _listed(unexpected),
        "extra": _listed(()),
        "notes": [],
        "problem": f"{found} tensors do not fit the network" if found else None,
    }


def _not_finite(weights: WeightsFile) -> list[str]:
    import torch

    return [n for n, t in weights.tensors.items() if not bool(torch.isfinite(t).all())]


def _network(config: ModelConfig) -> str:
    """Say which published network the sizes of an X-Decoder are those of."""
    from xdecoder_rt.models.config import published_config

    kinds = {"Focal-T": published_config("tiny"), "Focal-L": published_config("large")}
    backbone = next((n for n, c in kinds.items() if c.backbone == config.backbone), None)
    if backbone is None:
        return f"X-Decoder with a FocalNet {config.backbone.embed_dim} wide, as none published"
    known = kinds[backbone]
    same = (config.pixel_decoder, config.text) == (known.pixel_decoder, known.text)
    rest = "as published" if same and config.decoder.layers == known.decoder.layers else "altered"
    return f"X-Decoder {backbone}, {rest}"


def _sizes_text(sizes: Mapping[str, Any]) -> str:
    decoder, text, pixel = sizes["decoder"], sizes["text"], sizes["pixel_decoder"]
    backbone = sizes["backbone"]
    depths = "-".join(map(str, backbone["depths"]))
    width = f"{backbone['embed_dim']} wide, {depths} blocks" if "focal" in backbone["kind"] else ""
    return (
        f"{decoder['num_queries']} queries, {decoder['layers']} decoder layers "
        f"{decoder['hidden_dim']} wide; backbone {backbone['kind']} {width}".rstrip()
        + f"; pixel decoder {pixel['dim']} wide; "
        f"{text['layers']} text layers, {text['context_length']} tokens"
    )


def _listed(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "names": [printable(name, 200) for name in names[:_MAX_NAMES]]}


def _names_text(listed: Mapping[str, Any]) -> str:
    count, names = listed["count"], listed["names"]
    if not count:
        return "none"
    more = f", and {count - len(names)} more" if count > len(names) else ""
    return f"{count}: {', '.join(names)}{more}"
