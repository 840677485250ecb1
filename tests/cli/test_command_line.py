"""What holds for every command: where its arguments may stand, and how the plan is named."""

from __future__ import annotations

import argparse
import itertools

import pytest

from xdecoder_rt.cli import main
from xdecoder_rt.cli.dispatch import COMMANDS, PURPOSES, _build_parser


def parsed(*arguments: str) -> argparse.Namespace:
    return _build_parser().parse_args(arguments)


@pytest.mark.parametrize("command", ["bench", "info", "extract"])
@pytest.mark.parametrize(
    "plan", [["robot.plan"], ["--plan", "robot.plan"], ["--plan=robot.plan"]], ids=len
)
@pytest.mark.parametrize("options_first", [False, True])
def test_the_plan_is_an_argument_or_an_option_before_and_after_others(
    command: str, plan: list[str], options_first: bool
) -> None:
    extras = {"bench": ["--threads", "2"], "info": ["--json=a"], "extract": ["--graph", "text"]}
    words = [*extras[command], *plan] if options_first else [*plan, *extras[command]]
    assert parsed(command, *words).plan == "robot.plan"
    assert parsed(command, *extras[command]).plan == "model.plan"


def test_the_arguments_of_check_may_stand_in_any_order() -> None:
    parts = (["int8.plan"], ["--against", "fp32.plan"], ["--limit", "20"])
    for order in itertools.permutations(parts):
        for images in ([], ["a.jpg"], ["a.jpg", "folder"]):
            words = [word for part in order for word in part]
            for place in range(words.index("int8.plan") + 1, len(words) + 1):
                if words[place - 1].startswith("--"):
                    continue  # between an option and its value
                args = parsed("check", *words[:place], *images, *words[place:])
                assert (args.plan, args.against) == ("int8.plan", "fp32.plan")
                assert (args.images, args.limit) == (images, 20)


@pytest.mark.parametrize(
    "words",
    [
        ["--plan", "a.plan", "folder"],
        ["folder", "--plan", "a.plan"],
        ["--threads", "2", "folder", "--plan=a.plan"],
        ["--threads", "2", "a.plan", "folder"],
        ["a.plan", "--threads", "2", "folder"],
    ],
    ids=" ".join,
)
def test_eval_takes_its_plan_in_both_forms_too(words: list[str]) -> None:
    args = parsed("eval", *words)
    assert (args.plan, str(args.folder)) == ("a.plan", "folder")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "a.plan", "--plan", "b.plan"], "unrecognized arguments: a.plan"),
        (["eval", "a.plan", "folder", "--plan", "b.plan"], "unrecognized arguments: folder"),
        (["bench", "--plan"], "argument --plan: expected one argument"),
        (["check", "a.plan"], "required: --against"),
        (["eval", "a.plan"], "required: DIR"),
        (["info", "--lyers"], "unrecognized arguments: --lyers"),
        (["segment", "a.jpg", "--wrods", "mug"], "unrecognized arguments: --wrods mug"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_is_wrong_on_the_command_line_is_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err


def test_names_that_begin_with_a_hyphen_stand_after_two_hyphens() -> None:
    assert parsed("caption", "--beams", "2", "--", "-1.jpg").images == ["-1.jpg"]
    assert parsed("caption", "--beams", "2", "a.jpg").images == ["a.jpg"]


def test_without_arguments_a_map_shows_every_command_once_by_its_purpose(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    places = [lines.index(f"{purpose}:") for purpose in PURPOSES]
    assert places == sorted(places)
    for place, names in zip(places, PURPOSES.values(), strict=True):
        shown = lines[place + 1 : place + 1 + len(names)]
        assert [line.split()[0] for line in shown] == list(names)
        assert all(len(line) <= 100 for line in shown)
    assert len(set(COMMANDS)) == len(COMMANDS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segmnt", "a.jpg"], "there is no command 'segmnt'; did you mean segment?"),
        (["exprt-triton"], "there is no command 'exprt-triton'; did you mean export-triton?"),
        (["Doctor"], "there is no command 'Doctor'; did you mean doctor?"),
        (["xyzzy"], "there is no command 'xyzzy'; xdecoder-rt --help lists them"),
        (["\x1b[31mred"], "there is no command '\\x1b[31mred'; xdecoder-rt --help lists them"),
        (["data", "inspct", "a"], "there is no choice 'inspct'; did you mean inspect?"),
        (["segment", "a", "--task", "panopitc"], "choice 'panopitc'; did you mean panoptic?"),
        (["segment", "a", "--task", "q"], "choose from panoptic, semantic, instance"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistyped_command_or_choice_is_told_the_nearest(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
