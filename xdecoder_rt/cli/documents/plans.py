"""Documents of commands that make plans or look into them."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from xdecoder_rt.cli.documents.common import Words


class PortableGraph(TypedDict):
    """One graph of a portable plan.

    Attributes:
        graph: what it does.
        member: its name in the plan.
        nodes: ONNX nodes; null where it was not exported now.
        macs: multiply-accumulates of one image or short text; null likewise.
        size: bytes.
        error: largest relative RMS error against PyTorch, or null.
    """

    graph: str
    member: str
    nodes: int | None
    macs: int | None
    size: int
    error: float | None


class EngineGraph(TypedDict):
    """One engine of a TensorRT plan.

    Attributes:
        graph: what it does.
        member: its name in the plan.
        size: bytes.
        layers: that the builder made.
        precisions: layers with products, counted by operator and precision.
        seconds: that the build took.
    """

    graph: str
    member: str
    size: int
    layers: int
    precisions: dict[str, dict[str, int]]
    seconds: float


class _Built(TypedDict):
    plan: str
    backend: str
    size: int
    model: str
    family: str
    parameters: int
    macs: int
    precision: str
    profile: str | None
    calibration: dict[str, Any] | None
    accuracy: dict[str, Any]
    sizes: list[list[int]]
    graphs: list[PortableGraph | EngineGraph]
    vocabularies: dict[str, int]
    seconds: float


class BuildDocument(_Built, total=False):
    """Output of ``xdecoder-rt build --json``.

    Attributes:
        plan: the file.
        size: its bytes.
        macs: multiply-accumulates of a frame.
        accuracy: what was measured of another precision.
        sizes: height and width of each input.
        vocabularies: texts of each that was embedded now.
        seconds: that the build took.
        backend_version: of engines.
        targets: compute capabilities of engines.
    """

    backend_version: str
    targets: list[str]


class ConvertDocument(TypedDict):
    """Output of ``xdecoder-rt convert --json``.

    Attributes:
        file: the file written.
        size: its bytes.
        tensors: how many it holds.
        left_out: names of sparse and quantised tensors and of what else was beside them.
        foreign: names of objects of foreign classes, left out.
    """

    file: str
    size: int
    tensors: int
    left_out: list[str]
    foreign: list[str]


class _Vocab(TypedDict):
    plan: str


class VocabEmbedDocument(_Vocab):
    """Output of ``xdecoder-rt vocab embed --json``.

    Attributes:
        words: texts of the vocabulary.
        embedded: texts that were not known.
        into: the plan that carries them, or null.
        name: under which, or null.
    """

    action: Literal["embed"]
    words: int
    embedded: int
    into: str | None
    name: str | None


class KnownText(TypedDict):
    """One text of the cache.

    Attributes:
        kind: what it is embedded as.
        text: the text.
        bytes: of its embedding.
        used: when it was used last, seconds of Unix time.
    """

    kind: str
    text: str
    bytes: int
    used: int


class VocabListDocument(_Vocab):
    """Output of ``xdecoder-rt vocab list --json``.

    Attributes:
        vocabularies: those that the plan carries.
        cache: the file of the cache, or null.
        texts: what it knows of this plan.
    """

    action: Literal["list"]
    vocabularies: dict[str, Words]
    cache: str | None
    texts: list[KnownText]


class VocabExportDocument(_Vocab):
    """Output of ``xdecoder-rt vocab export --json``.

    Attributes:
        file: the file written.
        embeddings: how many it holds.
        size: its bytes.
    """

    action: Literal["export"]
    file: str
    embeddings: int
    size: int


class VocabImportDocument(_Vocab):
    """Output of ``xdecoder-rt vocab import --json``.

    Attributes:
        file: the file read.
        new: embeddings that the cache had not.
        known: those that it had.
        cache: its file, or null.
    """

    action: Literal["import"]
    file: str
    new: int
    known: int
    cache: str | None


class VocabExampleDocument(_Vocab):
    """Output of ``xdecoder-rt vocab example --json``.

    Attributes:
        file: the file of words.
        name: the word.
        marks: how many it was made of.
    """

    action: Literal["example"]
    file: str
    name: str
    marks: int


class _CacheFacts(TypedDict):
    file: str | None
    texts: int
    entries: int
    bytes: int
    counts: dict[str, int]


class CacheFacts(_CacheFacts, total=False):
    """This machine's cache of texts.

    Attributes:
        file: its file, or null.
        texts: of this plan.
        entries: of all plans.
        bytes: of its file.
        limit: bytes that it may grow to; absent while there is none.
        counts: what was looked up since it was begun.
    """

    limit: int


class EngineLayer(TypedDict):
    """One kernel of an engine, as its builder tells it."""

    name: str
    kind: str
    operators: list[str]
    inputs: list[str]
    outputs: list[str]
    tactic: str


class ManifestDocument(TypedDict):
    """The manifest of a plan; its own schema stands in its place."""


class _PlanInfo(TypedDict):
    plan: str
    size: int
    manifest: ManifestDocument
    text_cache: CacheFacts


class PlanInfoDocument(_PlanInfo, total=False):
    """Output of ``xdecoder-rt info --json`` for a plan.

    Attributes:
        plan: the file.
        size: its bytes.
        manifest: what it says about itself.
        text_cache: what this machine knows of it.
        precisions: of engines: layers with products, by engine, operator and precision.
        layers: with ``--layers``: all layers, by engine.
    """

    precisions: dict[str, dict[str, dict[str, int]]]
    layers: dict[str, list[EngineLayer]]


class ListedNames(TypedDict):
    """Names of tensors or objects.

    Attributes:
        count: how many.
        names: at most ten of them.
    """

    count: int
    names: list[str]


class WeightsInfoDocument(TypedDict):
    """Output of ``xdecoder-rt info --json`` for a file of weights.

    Attributes:
        file: as found; one that was downloaded in the cache.
        size: bytes.
        form: how it was written.
        parameters: numbers in all tensors.
        types: tensors by type.
        wrappers: keys that the tensors lay under.
        prefixes: of names, taken off.
        beside: what lies beside the tensors.
        network: of which network it is.
        sizes: its configuration, or null.
        lost: tasks that it lacks tensors for, and which.
        problem: why no plan can be built from it, or null.
        build: the command that builds one, or null.
    """

    file: str
    size: int
    sha256: str
    form: str
    tensors: int
    parameters: int
    types: dict[str, int]
    wrappers: list[str]
    prefixes: list[str]
    beside: ListedNames
    foreign: ListedNames
    network: str
    sizes: dict[str, Any] | None
    tasks: list[str]
    lost: dict[str, list[str]]
    missing: ListedNames
    misshapen: ListedNames
    surplus: ListedNames
    extra: ListedNames
    not_finite: ListedNames
    notes: list[str]
    problem: str | None
    build: str | None


class ExtractDocument(TypedDict):
    """Output of ``xdecoder-rt extract --json`` with a graph.

    Attributes:
        file: the file written.
        member: its name in the plan.
        size: bytes.
    """

    file: str
    member: str
    size: int


GraphEntry = TypedDict("GraphEntry", {"graph": str, "for": str, "member": str, "size": int})


class GraphListDocument(TypedDict):
    """Output of ``xdecoder-rt extract --json`` without a graph.

    Attributes:
        plan: the plan.
        graphs: all of them, and the input size that each is for.
    """

    plan: str
    graphs: list[GraphEntry]


class TritonDocument(TypedDict):
    """Output of ``xdecoder-rt export-triton --json``.

    Attributes:
        plan: the plan.
        model: the folder of the model.
    """

    plan: str
    model: str
