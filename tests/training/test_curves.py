"""The picture of a run: a panel for each thing that its records have, and none for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="curves need matplotlib")

import matplotlib.figure as figures

from xdecoder_rt.training.curves import draw_curves

LOSSES = {"total": 9.0, "classification": 2.0, "mask": 1.0, "grounding": 0.0, "caption": 0.0}
ALWAYS = ["Weighted loss", "Losses of segmentation, mean of the layers"]
SPEED = "Learning rate and seconds a step"


@pytest.fixture
def titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draws records; the titles of the panels with something in them, and of all."""

    def draw(*records: dict[str, Any]) -> tuple[list[str], list[str]]:
        drawn: list[Any] = []
        save = figures.Figure.savefig

        def savefig(figure: Any, *args: Any, **kwargs: Any) -> None:
            drawn.append(figure)
            save(figure, *args, **kwargs)

        monkeypatch.setattr(figures.Figure, "savefig", savefig)
        path = tmp_path / "curves.png"
        draw_curves(records, path)
        assert path.read_bytes().startswith(b"\x89PNG")
        panels = [axes for axes in drawn[-1].axes if axes.get_title()]
        filled = [axes for axes in panels if axes.get_lines()]
        return [a.get_title() for a in filled], [a.get_title() for a in panels]

    return draw


def step(number: int, **more: float) -> dict[str, Any]:
    return {"step": number, **LOSSES, "lr": 1e-3, "step_seconds": 0.5, **more}


def test_without_validation_there_is_no_panel_of_it(titles: Any) -> None:
    filled, panels = titles(step(1), step(2))
    assert filled == panels == [*ALWAYS, SPEED]


def test_texts_have_a_panel_where_they_are_trained(titles: Any) -> None:
    filled, panels = titles(step(1), step(2, grounding=3.0))
    assert filled == panels == [*ALWAYS, "Losses of texts, mean of the layers", SPEED]


def test_shares_and_entropies_have_panels_of_their_own(titles: Any) -> None:
    """A measure that is zero is measured."""
    one = {"step": 2, "validation/boxes/miou": 0.0}
    assert titles(step(1), one)[0] == [*ALWAYS, SPEED, "Validation"]
    both = {**one, "validation/boxes/caption_entropy": 4.0}
    filled, panels = titles(step(1), step(2), both)
    assert filled == panels == [*ALWAYS, SPEED, "Validation", "Validation, nats a token"]


def test_a_run_without_a_record_yet_gives_an_empty_picture(titles: Any) -> None:
    assert titles() == ([], [])
