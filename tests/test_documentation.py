"""Every command and snippet of the documentation and of ``--help`` is taken, and run if it can be.

Commands go through the parser of the program that they name, so an option that is not there fails.
Those of ``xdecoder-rt`` run on a desk where every plan is a tiny model's and every picture is
small: those of pages in every run of the tests; those of ``--help``, and what takes long, under the
slow marker. What is not run stands in `NOT_RUN`, with the reason. Snippets run there too, or stand
in `SNIPPETS_NOT_RUN`.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import documented
import numpy as np
import pytest
from command_line import save_labelled_folder
from documented import (
    FENCE,
    INLINE,
    ROOT,
    STARTER_SCRIPT,
    Command,
    expanded,
    fenced,
    parser_of,
)
from PIL import Image

from xdecoder_rt.cli import main

if TYPE_CHECKING:
    from xdecoder_rt.models import ModelConfig, XDecoder

# What a page has said by then, for snippets that go on from it. The README's begin from nothing.
KNOWN_NAMES = {
    "docs/words.md": ("engine", "img", "plan_of_the_day"),
    "docs/robots.md": ("engine", "frames", "depth"),
    "docs/gpu.md": ("frame",),
    "docs/measured/kernels.md": ("problem", "operands", "out", "stream"),
}
# Programs of others, which this cannot parse.
FOREIGN = {
    "sudo": "changes the machine",
    "curl": "asks a service",
    "docker": "needs Docker",
    "export": "sets a variable of the shell",
    "git": "fetches the repository",
    "cd": "goes on from git",
    "scp": "needs a board",
    "nvcc": "needs CUDA",
    ".": "goes on from venv",
    "trtexec": "needs TensorRT",
    "jq": "reads what comes before the pipe",
    "pytest": "is this",
    "mkdocs": "builds the site; .ci/run does",
    "ruff": "is of .ci/run",
    "ros2": "needs ROS 2",
    "colcon": "needs ROS 2",
    "ln": "puts the package into a workspace",
    "yoloe/bin/pip": "installs what is not ours",
}
# Pages whose snippets are compiled and searched for unknown names, and not run.
SNIPPETS_NOT_RUN = {
    "docs/robots.md": "needs a camera with depth; tests/test_in_space.py and tests/tracking",
    "docs/gpu.md": "needs a GPU; tests/backends/test_torch.py runs the same on the CPU, and "
    "tests/export/test_pipeline.py builds from Python",
    "docs/measured/kernels.md": "needs a GPU",
}
SNIPPETS_RUN = (
    "README.md",
    "docs/api.md",
    "docs/build.md",
    "docs/quickstart.md",
    "docs/training.md",
    "docs/words.md",
)
# Of these pages all but snippets that have this in them.
SNIPPET_NOT_RUN = {
    "ConvertOptions(": "takes minutes, and is refused where it gains nothing, as with a tiny "
    "model; tests/export/test_convert.py converts",
}

# Parsed and not run: a pattern of the command, and why.
NOT_RUN = {
    r"^xdecoder-rt train ": "hours, and data that are not here; tests/training trains",
    r" --backend torch --device cuda": "needs a GPU; tests/backends/test_torch.py is without one",
    r" --backend tensorrt": "needs a GPU, or minutes; tests/export/tensorrt builds on stand-ins",
    r"^xdecoder-rt build .*--precision (int8|bf16|fp16)": "takes minutes, and is refused where it "
    "gains nothing, as with a tiny model; tests/export/test_convert.py builds",
    r"^xdecoder-rt (bench|extract|info|segment)\b.*\b(orin|rtx)\.plan": "needs an engine of a GPU",
    r"^xdecoder-rt demo 0 ": "needs a camera",
    r"^xdecoder-rt eval .*yolo": "own data; tests/datasets/test_own.py makes some",
    r"^xdecoder-rt demo .*(csi://|rtsp://|watch:| ! )": "needs a server, or never ends; "
    "tests/streams/test_live.py has servers, folders and pipelines",
    r"^xdecoder-rt eval .*--protocol": "needs public data sets; tests/evaluation/test_published.py "
    "and tests/cli/test_eval.py make small ones",
    r"^xdecoder-rt data inspect (roboflow|yolo)": "own data; tests/datasets/test_own.py makes some",
    r"^xdecoder-rt serve": "runs until it is ended; tests/serving serves",
    r"^xdecoder-rt label .*--ray": "needs a cluster; tests/cli/test_label.py begins one",
    r"\b(hf|https)://": "needs another machine; tests/cli/test_addresses.py is one",
    r"^(python|torchrun) ": "a tool or study: minutes, data or a GPU; its own tests run it",
}
# Run under the slow marker, as those of ``--help`` are: some seconds to a minute.
SLOW = (
    r"^xdecoder-rt build (?!.*--plan)",
    r"^xdecoder-rt build$",
    r"^xdecoder-rt (bench|check)",
    r"openvino",
)
# Loads the tiny graphs in a third of the time that OpenVINO compiles them in.
QUICKLY = ("--backend", "onnxruntime", "--threads", "1")
ASKING = ("segment", "refer", "caption", "answer", "rank", "run", "label", "eval", "demo")
# Arguments that the desk has others for: the tiny model's sizes, and words of a form.
STAND_INS = {
    "288x512": "32x96",
    "PLAN": "model.plan",
    "DIR": "scenes/held_out",
    "FILE": "scores.json",
    # Published checkpoints, of models that are no tiny ones.
    "xdecoder_focalt_last.pt": "runs/train/model.safetensors",
    "xdecoder_focalt.pt": "runs/train/model.safetensors",
    "focal.safetensors": "runs/train/model.safetensors",
    "training.pt": "runs/train/model.safetensors",
    "IN.pt": "runs/train/model.safetensors",
    "runs/mine/model.safetensors": "runs/train/model.safetensors",
    "runs/kitchen/model.safetensors": "runs/train/model.safetensors",
    "runs/small/model.safetensors": "runs/train/model.safetensors",
}
PLANS = (
    "model", "fp32", "int8", "fp16", "bf16", "mine", "robot", "kitchen", "clean", "large",
    "standin-int8",
)  # fmt: skip
FOLDERS = ("shots", "frames", "pictures", "scenes/val/images")
LABELLED = ("scenes/held_out", "data/workcell_val", "few_val", "kitchen/val")
CHECKPOINT = "runs/train/model.safetensors"

WRITTEN = documented.written()


def matches(command: Command, forms: Iterable[str]) -> bool:
    return any(re.search(form, str(command)) for form in forms)


def is_slow(command: Command) -> bool:
    return command.place.endswith("--help") or matches(command, SLOW)


def is_foreign(words: tuple[str, ...]) -> bool:
    """Check a command of another program as far as the repository knows it; False for ours."""
    program, *arguments = words
    if program in FOREIGN:
        return True
    if program == "pip":
        check_pip(arguments)
        return True
    if program == "python3" or arguments[:1] == ["-c"] or arguments[:2] == ["-m", "venv"]:
        return True
    scripts = [word for word in words if word.endswith(".sh")]
    if scripts or program == ".ci/run":
        path = ROOT / (scripts[0] if scripts else program)
        subprocess.run(["bash", "-n", path], check=True)
        return True
    return False


def check_pip(arguments: list[str]) -> None:
    """Check that the extras that are installed exist."""
    project = (ROOT / "pyproject.toml").read_text()
    for argument in arguments:
        if found := re.search(r"(?:^\.|xdecoder_rt)\[(.+)\]$", argument):
            for extra in found[1].split(","):
                assert re.search(rf"^{re.escape(extra)} = \[", project, re.MULTILINE), extra
        if argument.endswith(".txt"):
            assert (ROOT / argument).is_file(), argument


def check_taken(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that the program's parser takes the command's arguments."""
    try:
        parser, first = parser_of(command.program)
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")
    try:
        if "--ros-args" in command.words:
            parser.parse_known_args(command.arguments)
        else:
            parser.parse_args([*first, *command.arguments])
    except SystemExit as end:
        pytest.fail(f"{command} was not taken: {end.code}, {capsys.readouterr().err}")


@pytest.mark.parametrize("command", WRITTEN, ids=lambda c: f"{c.place}: {c}"[:120])
def test_the_program_takes_the_command(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_foreign(command.words):
        return
    assert command.words[0] in ("xdecoder-rt", "python", "torchrun"), f"what is {command}?"
    check_taken(command, capsys)


@pytest.mark.parametrize(
    ("script", "arguments", "count"),
    [
        (STARTER_SCRIPT, ("data", "6"), 5),
        ("examples/shrink.sh", ("data",), 16),
        ("examples/shrink.sh", ("data", "published.pt"), 15),
    ],
)
def test_the_programs_take_what_the_scripts_give_them(
    script: str,
    arguments: tuple[str, ...],
    count: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    issued = documented.issued_by(script, list(arguments), tmp_path)
    ours = [c for c in issued if c.words[0] in ("python", "xdecoder-rt") and c.words[1] != "-"]
    assert len(ours) == count
    for command in ours:
        check_taken(command, capsys)


def test_the_parameters_and_topics_of_the_documented_node_exist() -> None:
    package = ROOT / "examples/ros2/xdecoder_ros"
    source = "".join(path.read_text() for path in sorted(package.glob("xdecoder_ros/*.py")))
    source += (package / "launch/xdecoder.launch.py").read_text()
    commands = [c for c in WRITTEN if c.words[0] == "ros2"]
    names = {word.split(":=")[0] for c in commands for word in c.words if ":=" in word}
    assert {"plan", "image"} <= names
    for name in names:
        assert f'"{name}"' in source, name
    settings = (package / "config/params.yaml").read_text()
    for name in re.findall(r"^ {4}(\w+):", settings, re.MULTILINE):
        assert f'"{name}"' in source, name


@pytest.fixture(scope="module")
def desk(tiny_plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the documentation names, small ones; the working folder."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDECODER_RT_CACHE", str(folder / "cache"))
        for name in PLANS:
            shutil.copy(tiny_plan, f"{name}.plan")
        words = next(
            block for name, block in FENCE.findall((ROOT / "docs/words.md").read_text())
            if name == "" and "# kitchen.txt" in block
        )  # fmt: skip
        Path("kitchen.txt").write_text(words)
        Path("lab.txt").write_text("beaker\nglove\n")
        Path("names.txt").write_text("mug\ntable\n")
        Path("mine.json").write_text('["mug"]')
        for name in FOLDERS:
            Path(name).mkdir(parents=True)
            for seed in range(2):
                save_photograph(Path(name) / f"{seed}.jpg", seed)
        for name in ("desk", "photo", "a", "b", "frame", "examples/workcell"):
            Path(name).parent.mkdir(exist_ok=True)
            save_photograph(Path(f"{name}.jpg"))
        Path("depth").mkdir()
        for seed in range(2):
            depth = np.full((320, 400), 1500, np.uint16)
            Image.fromarray(depth).save(f"depth/{seed}.png")
        for name in LABELLED:
            save_labelled_folder(Path(name))
        save_video(Path("drive.mp4"))
        # A vocabulary that a plan carries, and a file of embeddings, of the pages before.
        for line in (
            "vocab embed --plan robot.plan --words-file kitchen.txt --into robot.plan",
            "vocab export kitchen.words --words-file kitchen.txt",
        ):
            assert main(shlex.split(line)) == 0
        yield folder


def save_photograph(path: Path, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (320, 400, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def save_video(path: Path) -> None:
    """Write four frames, where there is a writer; the commands that read them need it too."""
    try:
        import av
    except ModuleNotFoundError:
        return
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(4):
            pixels = np.full((48, 64, 3), 60 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def checkpoint(desk: Path, tiny: ModelConfig, redraw: Callable[[XDecoder], XDecoder]) -> None:
    """The tiny model's weights, which builds take in place of those that are documented."""
    from xdecoder_rt.models import XDecoder, save_checkpoint

    Path(CHECKPOINT).parent.mkdir(parents=True)
    save_checkpoint(Path(CHECKPOINT), redraw(XDecoder(tiny)))


RUN = [c for c in WRITTEN if c.words[0] == "xdecoder-rt" and not matches(c, NOT_RUN)]


def run(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command of ours on the desk."""
    arguments = expanded([STAND_INS.get(word, word) for word in command.arguments])
    if arguments[0] in ASKING and "--backend" not in arguments and "--threads" not in arguments:
        arguments += QUICKLY
    if arguments[0] == "build" and not {"--plan", "--checkpoint"} & {*arguments}:
        arguments += ["--checkpoint", CHECKPOINT]  # in place of the starter
    if arguments[0] == "demo":
        arguments.append("--no-window")
    if arguments[0] == "answer" and "--choices" not in arguments:
        # A tiny model that was never trained has no answers of its own.
        arguments += ["--choices", "yes", "no"]
    code = main(arguments)
    err = capsys.readouterr().err
    if code == 1 and (found := re.search(r'needs the extra|pip install "?xdecoder_rt\[', err)):
        pytest.skip(found.string.strip().splitlines()[-1])
    assert code == 0, err


@pytest.mark.parametrize(
    "command", [c for c in RUN if not is_slow(c)], ids=lambda c: f"{c.place}: {c}"[:120]
)
@pytest.mark.usefixtures("desk")
def test_the_command_runs(
    command: Command, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    if CHECKPOINT in map(STAND_INS.get, command.arguments):
        request.getfixturevalue("checkpoint")
    run(command, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [c for c in RUN if is_slow(c)], ids=lambda c: f"{c.place}: {c}"[:120]
)
@pytest.mark.usefixtures("checkpoint")
def test_the_slow_command_runs(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    run(command, capsys)


@pytest.mark.parametrize("form", [*NOT_RUN, *SLOW])
def test_what_is_said_of_a_command_is_said_of_one(form: str) -> None:
    assert any(matches(command, [form]) for command in WRITTEN)


def anchors_of(page: Path) -> set[str]:
    """Return what a link may name behind ``#``: headings as the site and the forge write them."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in headings}


@pytest.mark.parametrize("page", [*documented.PAGES, "SECURITY.md"])
def test_the_links_of_the_page_lead_somewhere(page: str) -> None:
    text = INLINE.sub("", FENCE.sub("", (ROOT / page).read_text()))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert target.is_file() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors_of(target), link
        # The site has the pages below docs/ and nothing else.
        assert not page.startswith("docs/") or target.is_relative_to(ROOT / "docs"), link


def test_the_site_has_every_page_and_every_old_address_leads_to_one() -> None:
    settings = (ROOT / "mkdocs.yml").read_text()
    menu, redirects = settings.split("redirect_maps:")
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    for page in pages:
        assert re.search(rf"[ -]{re.escape(page)}$", menu, re.MULTILINE), page
    for old, new in re.findall(r"^ {8}(\S+): (\S+)$", redirects, re.MULTILINE):
        name, _, anchor = new.partition("#")
        assert old not in pages and name in pages
        assert not anchor or anchor in anchors_of(ROOT / "docs" / name), new


def test_snippets_of_every_page_run_or_have_a_reason() -> None:
    pages = {page for page, _ in fenced("python")}
    assert pages == {*SNIPPETS_RUN, *SNIPPETS_NOT_RUN}


@pytest.mark.parametrize(
    ("page", "code"), fenced("python"), ids=lambda value: " ".join(value.split())[:60]
)
def test_a_snippet_has_no_names_that_its_page_does_not_give(page: str, code: str) -> None:
    given = KNOWN_NAMES.get(page, ())
    earlier = "".join(
        block for other, block in fenced("python") if other == page and page != "README.md"
    ).split(code)[0]
    text = "".join(f"{name} = None\n" for name in given) + earlier + code
    compile(text, page, "exec")
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F821", "-"]
    done = subprocess.run(ruff, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "page", [page for page in SNIPPETS_RUN if page not in ("README.md", "docs/words.md")]
)
def test_the_snippets_of_the_page_run(
    page: str, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDECODER_RT_CACHE", str(desk / "cache"))
    snippets = [code for name, code in fenced("python") if name == page]
    if any("import cv2" in code for code in snippets):
        pytest.importorskip("cv2", reason="frames of OpenCV need it")
    names: dict[str, object] = {"__name__": "page"}
    for code in snippets:
        if not any(part in code for part in SNIPPET_NOT_RUN):
            exec(compile(code, page, "exec"), names)
    if "engine" in names:
        names["engine"].close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", range(2))
def test_the_snippets_of_the_first_page_run(
    number: int, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    monkeypatch.setenv("XDECODER_RT_CACHE", str(desk / "cache"))
    snippets = [block for page, block in fenced("python") if page == "README.md"]
    assert len(snippets) == 2
    # A tiny model that was never trained has no answers of its own.
    code = snippets[number].replace("answer=question", "answer=question, choices=words")
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_a_snippet_that_is_not_run_is_there() -> None:
    for part in SNIPPET_NOT_RUN:
        assert any(part in code for page, code in fenced("python") if page in SNIPPETS_RUN)


def test_the_words_of_the_page_on_words_can_be_asked_for(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xdecoder_rt import Engine

    monkeypatch.chdir(desk)
    # A tiny model that was never trained outlines nothing that a person would mark.
    monkeypatch.setattr("xdecoder_rt.questions.example._LEAST_OVERLAP", 0.0)
    snippets = [block for page, block in fenced("python") if page == "docs/words.md"]
    with Engine("robot.plan", cache_dir=desk / "cache") as engine:
        names = {"engine": engine, "img": "frame.jpg", "plan_of_the_day": ["mug", "pan"]}
        for code in snippets:
            if "engine.vocabularies" not in code:  # of a plan that carries some
                exec(compile(code, "docs/words.md", "exec"), names)
