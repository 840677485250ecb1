"""Everything that this project reads from a file or an argument, each behind one function of bytes.

A target says what it is begun from, how it is changed and how it is read. Reading ends in a result
or in an error of ours; whatever else happens is a finding (`campaign`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import corpus
import mutators
import numpy as np
from corpus import as_json
from mutators import Mutator

Read: TypeAlias = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """One thing that is read.

    Attributes:
        name: of the target.
        what: what is read, for the table.
        seeds: sound files.
        mutate: how they are changed.
        prepare: takes an empty folder, returns what reads a file.
        share: runs of the campaign, in parts of all targets' shares.
        needs: packages without which it is left out.
        memory: bytes that a run may add to the most that the process ever held.
        seconds: CPU time of a run, many times what any takes: the machine may be busy.
    """

    name: str
    what: str
    seeds: Callable[[], list[bytes]]
    mutate: Mutator
    prepare: Callable[[Path], Read]
    share: int = 100
    needs: tuple[str, ...] = ()
    memory: int = 256 << 20
    seconds: float = 5


def _saved(folder: Path, name: str, read: Callable[[Path], object]) -> Read:
    """Read bytes by way of a file."""
    path = folder / name

    def run(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return run


# --- plans ----------------------------------------------------------------------------------------


def _archive(folder: Path) -> Read:
    from xdecoder_rt.plan.archive import read_directory

    return lambda data: read_directory(io.BytesIO(data), len(data))


def _plan(folder: Path) -> Read:
    from xdecoder_rt.plan.file import Plan
    from xdecoder_rt.words.carried import PlanWords

    def read(path: Path) -> object:
        with Plan.open(path, verify=True) as plan:
            words = PlanWords(plan)
            return words.vocabularies, words.vectors()

    return _saved(folder, "a.plan", read)


def _manifest(folder: Path) -> Read:
    from xdecoder_rt.plan.manifest import Manifest

    def run(data: bytes) -> object:
        manifest = Manifest.from_json(data)
        return Manifest.from_json(manifest.to_json())

    return run


def _graph_files() -> list[bytes]:
    import graphs

    return graphs.small_graphs()


def _graph_change(rng: mutators.Random, data: bytes, other: bytes) -> bytes:
    import graphs

    return graphs.mutate_graph(rng, data, other)


def _graph(folder: Path) -> Read:
    from xdecoder_rt.plan.graph_check import check_graph
    from xdecoder_rt.plan.manifest import Manifest

    manifest = Manifest.from_json(corpus.manifests()[0])
    return lambda data: check_graph(manifest, "token", None, data)


_WEIGHTS_SIZE = 128 * 32 * 4  # of the one large tensor of each small graph


def _weights_name() -> str:
    from xdecoder_rt.plan.external import weights_member

    return weights_member("a7" * 32, ())


def _graphs_apart() -> list[bytes]:
    """The small graphs with their weights in a member."""
    from xdecoder_rt.plan.external import Place, read_skeleton

    places = [Place(_weights_name(), 0, _WEIGHTS_SIZE)]
    return [read_skeleton(data).apart(places) for data in _graph_files()]


def _graph_apart(folder: Path) -> Read:
    """Walk a graph, and where it passes, also what comes of it with its weights in it."""
    from xdecoder_rt.errors import PlanError
    from xdecoder_rt.plan.external import read_skeleton
    from xdecoder_rt.plan.graph_check import check_graph
    from xdecoder_rt.plan.manifest import Manifest

    manifest = Manifest.from_json(corpus.manifests()[0])
    weights = bytes(_WEIGHTS_SIZE)

    def run(data: bytes) -> object:
        check_graph(manifest, "token", None, data, {_weights_name(): _WEIGHTS_SIZE})
        parts = []
        for part in read_skeleton(data).joined():
            if isinstance(part, bytes):
                parts.append(part)
            elif isinstance(part.data, tuple):
                parts.append(data[slice(*part.data)])
            else:
                parts.append(weights[part.data.offset : part.data.offset + part.data.length])
        joined = b"".join(parts)
        try:
            return check_graph(manifest, "token", None, joined)
        except PlanError as error:
            raise AssertionError(f"with its weights it is refused: {error}") from error

    return run


def _tokenizers() -> list[bytes]:
    merges = ["a b", "c d</w>", "ab cd</w>", "e f"]
    pairs = [["a", "b"], ["c", "d</w>"]]
    return [
        as_json({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": value}})
        for value in (merges, pairs)
    ]


def _tokenizer(folder: Path) -> Read:
    from xdecoder_rt.words.tokenizer import ClipTokenizer

    def run(data: bytes) -> object:
        tokenizer = ClipTokenizer.from_json(data)
        return tokenizer(["a mug", "abcd"])

    return run


def _kernel_index(folder: Path) -> Read:
    from xdecoder_rt.kernels.compiled import KERNEL_INDEX, CompiledKernels

    def run(data: bytes) -> object:
        kernels = CompiledKernels(lambda name: data if name == KERNEL_INDEX else b"code")
        return [kernels.image(spec, (8, 7), (12, 6)) for spec in kernels.forms.values()]

    return run


def _kernel_indexes() -> list[bytes]:
    digest = {"file": "a.cubin", "sha256": hashlib.sha256(b"code").hexdigest()}
    form = {
        "module": "xdecoder_rt.kernels.panoptic_map.triton",
        "function": "write_map",
        "element": "fp32",
        "arguments": [["masks", "*fp32"], ["count", "i32"]],
        "aligned": ["masks"],
        "constants": {"block": 64},
        "grid": [[{"of": "masks", "per": 64}], [], []],
        "warps": 4,
        "stages": 2,
        "registers": None,
        "targets": {"sm_87": {"entry": "write_map", "shared": 0, "cubin": digest}},
    }
    return [as_json({"format_version": 1, "kernels": {"write_map_fp32": form}})]


# --- words ----------------------------------------------------------------------------------------


def _words_file(name: str) -> Callable[[Path], Read]:
    def prepare(folder: Path) -> Read:
        from xdecoder_rt.words.vocabulary import Vocabulary

        def read(path: Path) -> object:
            return Vocabulary.load(path).words

        return _saved(folder, name, read)

    return prepare


def _word_entries(folder: Path) -> Read:
    from xdecoder_rt.words.vocabulary import Vocabulary

    def run(data: bytes) -> object:
        entries, stuff, thresholds, other = json.loads(data)
        return Vocabulary.parse(entries, stuff=stuff, thresholds=thresholds, other=other).words

    return run


def _entries() -> list[bytes]:
    return [
        as_json([["mug", ["hand", "fist"]], ["mug"], {"hand": 0.5}, None]),
        as_json([["mug", "hand", "table"], [], {}, "rest"]),
    ]


def _change_entries(rng: mutators.Random, data: bytes, other: bytes) -> bytes:
    changed = mutators.change_json(rng, json.loads(data), json.loads(other))
    size_right = isinstance(changed, list) and len(changed) == 4
    return as_json(changed) if size_right else data


def _texts(folder: Path) -> Read:
    from xdecoder_rt.words.tokenizer import ClipTokenizer
    from xdecoder_rt.words.vocabulary import Vocabulary

    tokenizer = ClipTokenizer.default()

    def run(data: bytes) -> object:
        try:  # texts of Python may have lone surrogates
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            text = data.decode("utf-8", "replace")
        ids = tokenizer([text])
        tokenizer.decode(ids[0].tolist())
        return Vocabulary.parse([text, "a table"]).words

    return run


def _embedding_files() -> list[bytes]:
    header = {
        "text_graph": "0" * 64,
        "templates": "1" * 64,
        "texts": ["mug", "a red mug"],
        "lengths": [2, 3],
    }
    text = as_json(header)
    values = np.arange(5, dtype="<f4").tobytes()
    body = EMBEDDINGS_MAGIC + len(text).to_bytes(8, "little") + text + values
    return [body + hashlib.sha256(body).digest()]


EMBEDDINGS_MAGIC = b"xdecoder_rt embeddings 1\n"


def _embeddings(folder: Path) -> Read:
    from xdecoder_rt.words.embedding_file import EmbeddingFile, is_embedding_file

    return _saved(folder, "a.xde", lambda path: (is_embedding_file(path), EmbeddingFile.read(path)))


@cache
def _databases() -> list[bytes]:
    import tempfile

    from xdecoder_rt.words.cache import CACHE_FILE, TextCache

    files = []
    for count in (1, 40):
        with tempfile.TemporaryDirectory() as folder:
            store = TextCache(folder, namespace="n")
            store.put_many({f"text {n}": np.full(8, n + 1, np.float32) for n in range(count)})
            store.close()
            path = Path(folder, CACHE_FILE)
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            files.append(path.read_bytes())
    return files


def _database(folder: Path) -> Read:
    from xdecoder_rt.words.cache import CACHE_FILE, TextCache

    def run(data: bytes) -> object:
        for path in folder.iterdir():
            path.unlink()
        (folder / CACHE_FILE).write_bytes(data)
        (folder / CACHE_FILE).chmod(0o600)
        store = TextCache(folder, namespace="n")
        try:
            found = store.get_many([f"text {n}" for n in range(4)])
            assert all(vector.dtype == np.float32 for vector in found.values())
            store.put_many({"new": np.ones(8, np.float32)})
            assert "new" in store.get_many(["new"])
            return store.entries(), store.summary(), store.stats
        finally:
            store.close()

    folder.chmod(0o700)
    return run


def _change_database(rng: mutators.Random, data: bytes, other: bytes) -> bytes:
    """Change bytes of a database, mostly of its header and schema; it stays as long or is cut."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 2, 4, 16))):
        at = rng.randrange(rng.choice((100, 400, 4096, len(content))))
        if at < len(content):
            content[at] = rng.choice(
                (0, 1, 0xFF, rng.randrange(256), content[at] ^ 1 << rng.randrange(8))
            )
    if rng.random() < 0.1:
        del content[rng.randrange(len(content)) :]
    return bytes(content)


def _blob_files() -> list[bytes]:
    about = json.dumps({"key": "a" * 64, "inputs": ["x"], "outputs": ["y"]}).encode()
    rest = about + b"\nmodel"
    return [hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest]


def _blobs(folder: Path) -> Read:
    from xdecoder_rt.backends.blobs import ModelBlobs

    home = folder / "cache"
    home.mkdir(mode=0o700)
    blobs = ModelBlobs(home, "openvino", "text")
    blobs.write("a" * 64, ["x"], ["y"], b"model")
    (path,) = home.glob("openvino/*/*.blob")

    def run(data: bytes) -> object:
        path.write_bytes(data)
        path.chmod(0o600)
        blob = blobs.read("a" * 64)
        if blob is None:
            assert not path.exists()
            return None
        # What is believed is what its digest says.
        digest, _, rest = data.partition(b"\n")
        assert hashlib.sha256(rest).hexdigest().encode() == digest
        return blob.inputs, blob.outputs, bytes(blob.model)

    return run


# --- images ---------------------------------------------------------------------------------------


def _image(folder: Path) -> Read:
    from xdecoder_rt.files.image_file import read_header, read_image
    from xdecoder_rt.image import load_image

    def run(data: bytes) -> object:
        header = read_header(data)
        pixels = read_image(data)
        assert pixels.shape == (*header.upright, 3), (pixels.shape, header)
        assert np.array_equal(load_image(data), pixels)
        return pixels.shape

    return run


def _label_map(folder: Path) -> Read:
    from xdecoder_rt.datasets.image_files import read_id_png, read_rgb_png_ids

    def read(path: Path) -> object:
        from xdecoder_rt.errors import DatasetError

        with contextlib.suppress(DatasetError):
            read_id_png(path)
        return read_rgb_png_ids(path)

    return _saved(folder, "a.png", read)


def _run_lengths() -> list[bytes]:
    from xdecoder_rt.masks.rle import encode_mask

    mask = np.zeros((6, 10), bool)
    masks = [mask, ~mask, np.indices((6, 10)).sum(0) % 2 == 0]
    return [as_json(encode_mask(each)) for each in masks]


def _rle(folder: Path) -> Read:
    from xdecoder_rt.datasets.documents import Document
    from xdecoder_rt.datasets.instances import paint_instances, read_instance
    from xdecoder_rt.errors import DatasetError

    def run(data: bytes) -> object:
        from xdecoder_rt.json_reader import parse_json

        shape = parse_json(data, "a mask", 1 << 20, DatasetError)
        record = {"id": 1, "image_id": 9, "category_id": 1, "segmentation": shape, "iscrowd": 0}
        instance = read_instance(Document(record, "a mask"), 1, {1: "mug"}, (6, 10))
        return paint_instances([instance], (6, 10)).sum()

    return run


# --- data sets ------------------------------------------------------------------------------------


def _dataset(
    place: str, others: Sequence[tuple[str, bytes]] = (), opened: str | None = None
) -> Callable[[Path], Read]:
    """A data set whose annotations are at `place`; the images lie wherever one is sought."""

    def prepare(folder: Path) -> Read:
        from xdecoder_rt.training.sources import open_dataset

        for name in ("", "train2014", "annotations", "annotations/panoptic_a", "a"):
            (folder / name).mkdir(exist_ok=True)
            for image in ("image.png", "000000000009.jpg"):
                (folder / name / image).write_bytes(corpus.images()[0])
            ids = corpus.id_map(colours="annotations" in name)
            (folder / name / "ids.png").write_bytes(ids)
        for name, data in others:
            (folder / name).write_bytes(data)
        path = folder / place
        source = folder / opened if opened is not None else path

        def run(data: bytes) -> object:
            path.write_bytes(data)
            dataset = open_dataset(source)
            ends = []
            for item in list(dataset.items)[:3]:
                ends.append((item.load_image().shape, item.load_panoptic().shape))
                ends.append((item.segments, item.phrases, item.captions, item.questions))
            return ends

        return run

    return prepare


def _pickle(folder: Path) -> Read:
    from xdecoder_rt.files.plain_pickle import parse_pickle

    return lambda data: parse_pickle(data, "a pickle")


# --- weights and configurations -------------------------------------------------------------------


@cache
def _model_configs() -> list[bytes]:
    import tiny_model

    return [tiny_model.tiny_config().to_json().encode()]


def _model_config(folder: Path) -> Read:
    from xdecoder_rt.models.config import ModelConfig

    return lambda data: ModelConfig.from_json(data.decode("utf-8", "surrogateescape"))


@cache
def _checkpoints() -> list[bytes]:
    import tempfile

    import tiny_model

    from xdecoder_rt.models.checkpoint import save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.safetensors")
        save_checkpoint(path, tiny_model.drawn())
        return [path.read_bytes()]


def _change_checkpoint(rng: mutators.Random, data: bytes, other: bytes) -> bytes:
    """Change a checkpoint's header, at times the configuration that it holds as text."""
    length = struct.unpack_from("<Q", data.ljust(8))[0]
    if rng.random() < 0.5 and data in _checkpoints():
        header = json.loads(data[8 : 8 + length])
        config = header["__metadata__"]["config"].encode()
        config = mutators.mutate_json(rng, config, config).decode("utf-8", "replace")
        header["__metadata__"]["config"] = config
        return corpus.safetensors(header, data[8 + length :])
    change = mutators.with_header(b"", 8, digest=False)
    return change(rng, data, other)[: len(data) + mutators.MOST_BYTES]


def _checkpoint(folder: Path) -> Read:
    from xdecoder_rt.models.checkpoint import load_checkpoint

    return _saved(folder, "a.safetensors", load_checkpoint)


@cache
def _torch_files() -> list[bytes]:
    import torch

    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    files = []
    for is_zip in (True, False):
        file = io.BytesIO()
        torch.save(tensors, file, _use_new_zipfile_serialization=is_zip)
        files.append(file.getvalue())
    return files


def _change_torch_file(rng: mutators.Random, data: bytes, other: bytes) -> bytes:
    return (mutators.mutate_archive if rng.random() < 0.4 else mutators.mutate_bytes)(
        rng, data, other
    )


def _torch_file(folder: Path) -> Read:
    from xdecoder_rt.models.published import load_published

    return _saved(folder, "a.pt", load_published)


def _parity_configs() -> list[bytes]:
    folder = corpus.SAMPLE_MANIFEST.parent / "focal_tiny_a"
    return [(folder / "config.json").read_bytes()]


def _parity(folder: Path) -> Read:
    from xdecoder_rt.parity.fixture import Fixture

    source = corpus.SAMPLE_MANIFEST.parent / "focal_tiny_a"
    home = folder / "case"
    shutil.copytree(source, home)

    def run(data: bytes) -> object:
        (home / "config.json").write_bytes(data)
        fixture = Fixture.open(home)
        return fixture.images

    return run


# --- the command line -----------------------------------------------------------------------------

_COMMAND_LINES = (
    ("segment", "image.png", "--words", "mug", "hand", "-o", "a.png"),
    ("segment", "image.png", "--words-file", "words.txt", "--json", "-", "--task", "instance"),
    ("segment", "image.png", "ids.png", "--words", "mug", "--threads", "1", "--threshold", "0.5"),
    ("refer", "image.png", "--phrases", "the mug", "--json"),
    ("caption", "image.png", "--beams", "1", "--max-tokens", "3"),
    ("answer", "image.png", "what is it?", "--choices", "mug", "hand"),
    ("rank", "a mug", "image.png", "ids.png", "--json"),
    ("run", "image.png", "--words", "mug", "--phrases", "mug", "--caption", "--json"),
    ("vocab", "list"),
    ("vocab", "embed", "mug", "hand"),
    ("vocab", "export", "a.xde", "--words", "mug"),
    ("vocab", "import", "a.xde"),
    ("info", "--json"),
    ("info",),
    ("extract", "-o", "out", "token.onnx"),
    ("check", "--help"),
    ("eval", "--limit", "2"),
    ("bench", "--help"),
    ("build", "--help"),
    ("train", "--help"),
)
_RUNNABLE = ("segment", "refer", "caption", "answer", "rank", "run", "vocab", "info", "extract")
EXIT_CODES = (0, 1, 2)


def _command_lines() -> list[bytes]:
    lines = []
    for command, *arguments in _COMMAND_LINES:
        plan = ["--plan", "tiny.plan"] if command in _RUNNABLE[:7] else []
        if command in ("info", "extract"):
            arguments = ["tiny.plan", *arguments]
        lines.append(as_json([command, *arguments, *plan]))
    return lines


def _command_line(folder: Path) -> Read:
    from xdecoder_rt.cli import main

    folder = folder / "home"
    folder.mkdir()
    (folder / "image.png").write_bytes(corpus.images()[0])
    (folder / "ids.png").write_bytes(corpus.id_map(colours=False))
    (folder / "words.txt").write_text("mug | cup\nhand [stuff]\n")
    os.symlink(tiny_plan(), folder / "tiny.plan")
    os.chdir(folder)
    os.environ.update(HOME=str(folder), XDG_CACHE_HOME=str(folder / "cache"))

    def run(data: bytes) -> object:
        command, *arguments = json.loads(data)
        # Nothing outside the folder is written, and what takes minutes is only parsed.
        arguments = [text for text in arguments if "/" not in text.replace("tiny.plan", "")]
        if command not in _RUNNABLE and "--help" not in arguments:
            arguments.append("--help")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([command, *arguments])
        said = err.getvalue()
        assert code in EXIT_CODES, (code, said)
        assert "Traceback" not in said and "Run again with --debug" not in said, said
        if code == 1:
            last = said.rstrip("\n").splitlines()[-1]
            assert last.startswith("error: ") and len(last) < 2_000, said
        return command, code

    return run


def fast_folder() -> str | None:
    """Return a folder in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@cache
def tiny_plan() -> Path:
    """The plan of the tests' tiny model, made once and kept (`artifact_cache`)."""
    import tempfile

    from artifact_cache import ArtifactCache, kept_folder

    folder = Path(tempfile.mkdtemp(prefix="xdecoder-rt-fuzz-"))
    store = ArtifactCache(kept_folder() or folder / "artifacts")
    return store.provide("tiny_model.build_plan", folder / "plan") / "tiny.plan"


_QUESTIONS_NAME = "v2_OpenEnded_mscoco_train2014_questions.json"
_ANSWERS_NAME = "v2_mscoco_train2014_annotations.json"
_TORCH = ("torch",)
_PYCOCO = ("pycocotools",)

TARGETS = (
    Target(
        "archive", "ZIP directory of a plan", corpus.plans, mutators.mutate_archive, _archive, 3_000
    ),
    Target("plan", "plan file, right digests", corpus.plans, mutators.mutate_plan, _plan, 150),
    Target("manifest", "manifest.json", corpus.manifests, mutators.mutate_json, _manifest, 500),
    Target("graph", "ONNX graph, the walk", _graph_files, _graph_change, _graph, 300, ("onnx",)),
    Target(
        "weights",
        "ONNX graph, its weights in a member",
        _graphs_apart,
        _graph_change,
        _graph_apart,
        300,
        ("onnx",),
    ),
    Target("tokenizer", "tokenizer of a plan", _tokenizers, mutators.mutate_json, _tokenizer, 200),
    Target(
        "kernels",
        "kernels.json of a plan",
        _kernel_indexes,
        mutators.mutate_json,
        _kernel_index,
        300,
    ),
    Target(
        "words_text", "file of words", corpus.words, mutators.mutate_text, _words_file("a.txt"), 100
    ),
    Target(
        "words_json",
        "file of words, JSON",
        corpus.words,
        mutators.mutate_json,
        _words_file("a.json"),
    ),
    Target(
        "words_yaml",
        "file of words named .yaml",
        corpus.words,
        mutators.mutate_text,
        _words_file("a.yaml"),
        50,
    ),
    Target(
        "words_csv",
        "file of words named .csv",
        corpus.words,
        mutators.mutate_text,
        _words_file("a.csv"),
        50,
    ),
    Target("entries", "words as Python values", _entries, _change_entries, _word_entries, 300),
    Target(
        "texts", "texts, normal form and tokens", corpus.words, mutators.mutate_text, _texts, 100
    ),
    Target(
        "embeddings",
        "file of embeddings, right digests",
        _embedding_files,
        mutators.with_header(EMBEDDINGS_MAGIC, 8, digest=True),
        _embeddings,
    ),
    Target("cache", "SQLite file of the text cache", _databases, _change_database, _database, 6),
    Target(
        "blobs", "compiled models and their digests", _blob_files, mutators.mutate_text, _blobs, 20
    ),
    Target("image", "encoded image", corpus.images, mutators.mutate_image, _image, 300),
    Target(
        "label_map",
        "PNG of segment ids",
        lambda: [corpus.id_map(False), corpus.id_map(True), *corpus.images()[:7]],
        mutators.mutate_image,
        _label_map,
    ),
    Target(
        "run_lengths",
        "run lengths of a mask",
        _run_lengths,
        mutators.mutate_json,
        _rle,
        1_000,
        _PYCOCO,
    ),
    Target(
        "labelled_folder",
        "annotations.json of a labelled folder",
        lambda: [as_json(corpus.LABELS)],
        mutators.mutate_json,
        _dataset("annotations.json", opened="."),
        50,
    ),
    Target(
        "coco_panoptic",
        "COCO panoptic JSON",
        lambda: [as_json(corpus.COCO_PANOPTIC)],
        mutators.mutate_json,
        _dataset("annotations/panoptic_a.json"),
        50,
    ),
    Target(
        "captions",
        "COCO captions JSON",
        lambda: [as_json(corpus.CAPTIONS)],
        mutators.mutate_json,
        _dataset("annotations/captions_train2014.json"),
        50,
    ),
    Target(
        "questions",
        "VQA questions JSON",
        lambda: [as_json(corpus.QUESTIONS)],
        mutators.mutate_json,
        _dataset(_QUESTIONS_NAME, [(_ANSWERS_NAME, as_json(corpus.ANSWERS))]),
        50,
    ),
    Target(
        "answers",
        "VQA answers JSON",
        lambda: [as_json(corpus.ANSWERS)],
        mutators.mutate_json,
        _dataset(_ANSWERS_NAME, [(_QUESTIONS_NAME, as_json(corpus.QUESTIONS))], _QUESTIONS_NAME),
        50,
    ),
    Target(
        "refs",
        "RefCOCO refs as JSON",
        lambda: [as_json(corpus.REFS)],
        mutators.mutate_json,
        _dataset("refs.json", [("instances.json", as_json(corpus.INSTANCES))]),
        50,
        _PYCOCO,
    ),
    Target(
        "instances",
        "COCO instances JSON",
        lambda: [as_json(corpus.INSTANCES)],
        mutators.mutate_json,
        _dataset("instances.json", [("refs.json", as_json(corpus.REFS))], "refs.json"),
        50,
        _PYCOCO,
    ),
    Target("pickle", "pickle of plain data", corpus.pickles, mutators.mutate_bytes, _pickle, 2_000),
    Target(
        "model_config",
        "configuration of a network",
        _model_configs,
        mutators.mutate_json,
        _model_config,
        100,
        _TORCH,
    ),
    Target(
        "checkpoint",
        ".safetensors checkpoint",
        _checkpoints,
        _change_checkpoint,
        _checkpoint,
        3,
        (*_TORCH, "safetensors"),
    ),
    Target(
        "torch_file", ".pt checkpoint", _torch_files, _change_torch_file, _torch_file, 1, _TORCH
    ),
    Target(
        "parity_config",
        "config.json of a parity case",
        _parity_configs,
        mutators.mutate_json,
        _parity,
        4,
    ),
    Target(
        "command_line",
        "arguments of the command line",
        _command_lines,
        mutators.mutate_arguments,
        _command_line,
        1,
        (*_TORCH, "onnxscript"),
    ),
)


def available() -> tuple[Target, ...]:
    """The targets whose packages are installed."""
    return tuple(target for target in TARGETS if all(map(find_spec, target.needs)))
