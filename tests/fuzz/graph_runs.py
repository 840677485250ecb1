"""Mutated plans with right digests: the walk, and on the CPU runtimes what passes it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import resource
import tempfile
import threading
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import graphs
import numpy as np
import onnx
import parsers
from pool import DeathError, Worker

from xdecoder_rt.errors import PlanError, XDecoderError

SECONDS = 20
ADDRESS_SPACE = 12 << 30
MEMORY_BYTES = 512 << 20
_SIZES = {
    "batch": 1,
    "rows": 22,
    "past": 5,
    "seen": 27,
    "regions": 2,
    "kept": 9,
    "captions": 3,
    "texts": 3,
    "length": 22,
}
_KINDS: dict[int, type] = {1: np.float32, 2: np.uint8, 7: np.int64, 9: np.bool_, 10: np.float16}
_IN_OPEN = 0x20


@dataclass(frozen=True)
class Outcome:
    """What became of one mutated plan.

    Attributes:
        changes: names of what was changed.
        graph: which graph was.
        passed: whether the walk let it through.
        endings: runtime to "result" or the kind of error of ours.
        findings: (kind, runtime, story).
    """

    changes: tuple[str, ...]
    graph: str
    passed: bool
    endings: Mapping[str, str]
    findings: tuple[tuple[str, str, str], ...]


def run_plan(
    seed: int,
    backends: Sequence[str],
    whole: bool,
    walked: bool,
    among: Sequence[str],
    kinds: Sequence[str],
    black_box: Callable[[bytes], None],
) -> Outcome:
    """Mutate a plan's graph, open the plan, and run the graph where the walk lets it pass.

    Args:
        seed: tells the change.
        backends: the runtimes to run on.
        whole: also segment an image with the whole engine, on the first of them.
        walked: False switches the walk off.
        among: names of the changes to draw from; all where empty.
        kinds: names of the graphs to draw from; all where empty.
        black_box: told the plan before a runtime sees it.
    """
    rng = Random(f"plan {seed}")
    manifest, members = _sound()
    uses = [use for use in _uses() if use[0] in kinds or not kinds]
    graph, key, member = rng.choice(uses)
    changes, data = _mutated(rng, graph, members[member], among)
    endings: dict[str, str] = {}
    findings: list[tuple[str, str, str]] = []
    with _folder() as folder, contextlib.ExitStack() as stack:
        path = folder / "a.plan"
        _write(path, member, data)
        black_box(data)
        if not walked:
            stack.enter_context(mock.patch("xdecoder_rt.plan.file.check_graph", lambda *_: None))
        try:
            _open(path, member)
        except PlanError:
            return Outcome(changes, graph, False, {}, ())
        for backend in backends:
            black_box(data)
            ending, found = _watched(
                folder, functools.partial(_run, path, graph, key, member, backend, walked)
            )
            endings[backend] = ending
            findings += [(kind, backend, story) for kind, story in found]
        if whole and backends:
            black_box(data)
            ending, found = _watched(folder, functools.partial(_run_engine, path, backends[0]))
            endings["engine"] = ending
            findings += [(kind, "engine", story) for kind, story in found]
    return Outcome(changes, graph, True, endings, tuple(findings))


@functools.cache
def _sound() -> tuple[Any, dict[str, bytes]]:
    from xdecoder_rt.plan.file import Plan

    with Plan.open(parsers.tiny_plan()) as plan:
        graphs = plan.manifest.graphs.members()
        names = [name for name in plan.names if not name.startswith("weights/")]
        # Changes are made to graphs that hold their weights; those elsewhere have a target.
        text = replace(plan.manifest.text, graph_sha256=None)
        members = {n: plan.graph(n) if n in graphs else plan.read(n) for n in names}
        infos = {n: _info(data) for n, data in members.items()}
        return replace(plan.manifest, weights={}, text=text, members=infos), members


def _info(data: bytes) -> Any:
    from xdecoder_rt.plan.manifest import MemberInfo

    return MemberInfo(hashlib.sha256(data).hexdigest(), len(data))


@functools.cache
def _uses() -> list[tuple[str, str, str]]:
    from xdecoder_rt.plan.contents import graph_members

    return graph_members(_sound()[0].graphs)


@functools.cache
def _loaded(member: str) -> Any:
    return onnx.load_from_string(_sound()[1][member])


def _mutated(
    rng: Random, graph: str, data: bytes, among: Sequence[str]
) -> tuple[tuple[str, ...], bytes]:
    model = onnx.load_from_string(data)
    others = [use[2] for use in _uses() if use[0] == graph]
    other = functools.partial(_loaded, rng.choice(others))
    names = []
    for _ in range(1 if among else rng.choice((1, 1, 1, 2))):
        for _ in range(8):  # a change that has no place here is drawn again
            name = graphs.change(rng, model, other, among)
            if name != "none":
                names.append(name)
                break
    serialized: bytes = model.SerializeToString()
    return tuple(names), serialized


@functools.cache
def _checksums() -> dict[str, int]:
    return {name: zlib.crc32(data) for name, data in _sound()[1].items()}


def _write(path: Path, member: str, data: bytes) -> None:
    """Write the plan with another graph; only of this one are digests made."""
    from xdecoder_rt.plan.archive import ArchiveWriter

    manifest, members = _sound()
    infos = {**manifest.members, member: _info(data)}
    text = replace(manifest, members=infos).to_json()
    with path.open("wb") as file:
        archive = ArchiveWriter(file)
        archive.add("manifest.json", [text], len(text), zlib.crc32(text))
        for name, content in members.items():
            if name == member:
                archive.add(name, [data], len(data), zlib.crc32(data))
            else:
                archive.add(name, [content], len(content), _checksums()[name])
        archive.close()


def _open(path: Path, member: str) -> None:
    from xdecoder_rt.plan.file import Plan

    with Plan.open(path) as plan:
        plan.graph(member)


def _run(path: Path, graph: str, key: str, member: str, name: str, walked: bool) -> None:
    from xdecoder_rt.backends import open_backend
    from xdecoder_rt.plan.file import Plan
    from xdecoder_rt.plan.graph_ports import graph_ports
    from xdecoder_rt.plan.manifest import size_key

    with Plan.open(path) as plan:
        manifest = plan.manifest
        sizes = {size_key(size): size for size in manifest.input.sizes}
        ports = graph_ports(manifest, graph, sizes.get(key))
        backend = open_backend(manifest, name, threads=1)
        loaded: Any = backend.load(
            member, functools.partial(plan.read, member)
        )  # it has been walked
        feeds = {
            port: _values(kinds[0], shape)
            for port, (kinds, shape) in ports.inputs.items()
            if port in loaded.inputs
        }
        outputs = backend.to_numpy_all(loaded(feeds))
    if walked:
        for port, (_, shape) in ports.outputs.items():
            expected = [_SIZES.get(n, -1) if isinstance(n, str) else n for n in shape]
            made = outputs[port].shape
            fits = len(made) == len(expected) and all(
                e in (-1, m) for e, m in zip(expected, made, strict=True)
            )
            assert fits, f"{port} comes out as {made}, not {expected}"


def _values(kind: int, shape: Sequence[int | str]) -> np.ndarray[Any, Any]:
    sizes = [_SIZES[side] if isinstance(side, str) else side for side in shape]
    values = np.random.default_rng(0).normal(size=sizes)
    if kind in (1, 10):
        return values.astype(_KINDS[kind])
    if kind == 9:
        return np.ones(sizes, np.bool_)
    return np.full(sizes, 32, _KINDS[kind]) if sizes == [1, 2] else np.zeros(sizes, _KINDS[kind])


def _run_engine(path: Path, backend: str) -> None:
    from xdecoder_rt import Engine

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with Engine(path, backend, threads=1, cache_dir=path.parent / "cache") as engine:
        state = engine.encode(image)
        engine.segment(state, ["mug", "hand"])
        engine.refer(state, ["the mug"])
        engine.caption(state, max_tokens=3, beams=2)


def _watched(folder: Path, task: Callable[[], None]) -> tuple[str, list[tuple[str, str]]]:
    """Do a task; return how it ended and what was found: errors, memory, files that it opened."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: list[tuple[str, str]] = []
    with _opened(folder / graphs.CANARY) as opened:
        try:
            task()
            ending = "result"
        except XDecoderError as error:
            ending = type(error).__name__
        except Exception:
            ending = "foreign"
            found.append(("exception", traceback.format_exc()))
        if opened():
            found.append(("file", f"{graphs.CANARY} was opened; it ended in {ending}"))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if grown > MEMORY_BYTES:
        found.append(("memory", f"{grown >> 20} MiB; it ended in {ending}"))
    return ending, found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Callable[[], bool]]:
    """Watch whether a file is opened, by whatever library (inotify)."""
    path.write_bytes(bytes(1 << 20))
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.inotify_init1(os.O_NONBLOCK)
    if descriptor < 0 or library.inotify_add_watch(descriptor, os.fsencode(path), _IN_OPEN) < 0:
        raise OSError(ctypes.get_errno(), "inotify")

    def opened() -> bool:
        try:
            return bool(os.read(descriptor, 4096))
        except BlockingIOError:
            return False

    try:
        yield opened
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that is the working folder meanwhile: runtimes look for data there."""
    home = os.getcwd()
    with tempfile.TemporaryDirectory(dir=parsers.fast_folder()) as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(home)


# --- the campaign ---------------------------------------------------------------------------------


def campaign(plans: int, onnxruntime: int, openvino: int, jobs: int, folder: Path) -> int:
    """Run mutated plans until there are so many, with so many runs on each runtime.

    ``graphs.json`` in the folder has the counts; a run that was interrupted goes on from it.
    Returns 1 if anything was found.
    """
    from tqdm import tqdm

    file = folder / "graphs.json"
    parsers.tiny_plan()  # made before processes ask for it
    counts: dict[str, Any] = {
        "plans": 0,
        "passed": 0,
        "endings": {"onnxruntime": {}, "openvino": {}, "engine": {}},
        "changes": {},
        "findings": {},
    }
    if file.is_file():
        counts = json.loads(file.read_bytes())
    lock, goals = threading.Lock(), {"onnxruntime": onnxruntime, "openvino": openvino}
    started = {name: sum(counts["endings"][name].values()) for name in goals}
    seeds = iter(range(counts["plans"], 1 << 62))
    bar = tqdm(total=plans, initial=counts["plans"], unit="plan", smoothing=0.05)

    def is_done() -> bool:
        runs = {name: sum(counts["endings"][name].values()) for name in goals}
        return counts["plans"] >= plans and all(runs[name] >= goals[name] for name in goals)

    def work(_: int) -> None:
        worker = Worker(SECONDS, ADDRESS_SPACE, patience=600)
        try:
            while not is_done():
                with lock:
                    seed = next(seeds)
                # OpenVINO takes a tenth of a second or more to compile: every so many plans.
                turn = seed % max(1, plans // max(1, 3 * openvino)) == 0
                wanted = [n for n in goals if (n != "openvino" or turn) and started[n] < goals[n]]
                arguments = (seed, wanted, seed % 50 == 0, True, (), ())
                try:
                    outcome = worker.do("graph_runs:run_plan", *arguments)
                    found, data = outcome.findings, b""
                except DeathError as death:
                    outcome, data = None, death.data
                    found = (("death", "+".join(wanted), death.reason),)
                with lock:
                    counts["plans"] += 1
                    if outcome is not None:
                        _count(counts, outcome)
                        for name, ending in outcome.endings.items():
                            if name in started and ending:
                                started[name] += 1
                    for kind, place, story in found:
                        key = f"{kind} {place} {story.strip().splitlines()[-1][:120]}"
                        entry = counts["findings"].setdefault(key, {"seeds": [], "story": story})
                        entry["seeds"].append(seed)
                        if data:
                            (folder / "findings").mkdir(exist_ok=True)
                            (folder / "findings" / f"plan-{seed}.onnx").write_bytes(data)
                    temporary = file.with_suffix(".new")
                    temporary.write_text(json.dumps(counts, indent=1))
                    temporary.replace(file)
                bar.update(1)
                bar.set_postfix(
                    passed=counts["passed"], findings=len(counts["findings"]), **started
                )
        finally:
            worker.close()

    with ThreadPoolExecutor(jobs) as threads:
        list(threads.map(work, range(jobs)))
    bar.close()
    print(json.dumps({**counts, "findings": sorted(counts["findings"])}, indent=1))
    return 1 if counts["findings"] else 0


def _count(counts: dict[str, Any], outcome: Outcome) -> None:
    counts["passed"] += outcome.passed
    for name in outcome.changes:
        entry = counts["changes"].setdefault(name, [0, 0])
        entry[0] += 1
        entry[1] += outcome.passed
    for name, ending in outcome.endings.items():
        endings = Counter(counts["endings"][name])
        endings[ending] += 1
        counts["endings"][name] = dict(endings)
