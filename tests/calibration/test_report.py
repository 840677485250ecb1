"""The report of a search says one thing, in its table and in its sentences."""

from __future__ import annotations

from dataclasses import replace

from xdecoder_rt.calibration.report import BlockEffect, SearchPoint, SearchReport

REPORT = SearchReport(
    model="tiny",
    profile="cpu",
    backend="openvino",
    calibration="val",
    calibration_images=120,
    search_images=80,
    shared_images=0,
    metric="PQ",
    max_drop=1.0,
    fp32=SearchPoint(0, 30.0, 20.0),
    chosen=SearchPoint(2, 29.5, 14.0),
    estimator="max",
    estimators={"max": 0.1},
    points=(SearchPoint(2, 29.5, 19.0),),
    blocks=(BlockEffect("vision a", 3, True, None), BlockEffect("vision b", 1, True, None)),
    is_timed_in_turns=True,
)


def test_a_gain_is_within_the_budget() -> None:
    page = REPORT.markdown()
    assert "**Within the budget: 0.50 of 1 are lost.**" in page
    assert "accuracy from 80 others" in page and "timed in turns" in page


def test_what_loses_more_than_the_budget_is_not_called_within_it() -> None:
    report = replace(REPORT, chosen=SearchPoint(2, 25.0, 14.0), complaints=("it loses 5.00 PQ",))
    page = report.markdown()
    assert "**No gain: it loses 5.00 PQ.**" in page
    assert "within the budget" not in page.lower()


def test_images_that_gave_ranges_and_accuracy_are_counted() -> None:
    assert "accuracy from 80 images, 12 of which gave ranges too" in (
        replace(REPORT, shared_images=12).markdown()
    )
    assert "80 images, all of which gave ranges too" in replace(REPORT, shared_images=80).markdown()


def test_times_that_cannot_be_compared_are_said_to_be_such() -> None:
    page = replace(REPORT, is_timed_in_turns=False).markdown()
    assert "timed in turns" not in page and "not on the target" in page
