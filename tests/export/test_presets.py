"""Presets: what the protocols of published figures make of images, and of a plan."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from xdecoder_rt.cli.options import input_size
from xdecoder_rt.errors import ArgumentError
from xdecoder_rt.evaluation.protocols import PROTOCOLS
from xdecoder_rt.export import presets
from xdecoder_rt.export.options import BuildOptions
from xdecoder_rt.export.presets import PRESET_NAMES, input_sizes, preset_named
from xdecoder_rt.pixels.letterbox import Letterbox, ResizeRule

VGA, FULL_HD, STREET = (480, 640), (1080, 1920), (1024, 2048)


@pytest.mark.parametrize(
    ("name", "source", "scaled", "laid_in"),
    [
        ("coco", VGA, (800, 1067), (800, 1088)),
        ("coco", VGA[::-1], (1067, 800), (1088, 800)),
        ("coco", FULL_HD, (750, 1333), (800, 1344)),
        ("coco", STREET, (667, 1333), (800, 1344)),
        ("coco", (427, 640), (800, 1199), (800, 1344)),
        ("coco", (500, 500), (800, 800), (800, 1088)),
        ("coco", (60, 640), (125, 1333), (800, 1344)),
        ("ade20k", VGA, (640, 853), (640, 864)),
        ("ade20k", FULL_HD, (640, 1138), (640, 1152)),
        ("ade20k", STREET, (640, 1280), (640, 2560)),
        ("cityscapes", STREET, (1024, 2048), (1024, 2048)),
        ("cityscapes", FULL_HD, (1024, 1820), (1024, 2048)),
        ("cityscapes", VGA, (1024, 1365), (1024, 2048)),
        ("bdd", (720, 1280), (800, 1422), (800, 1440)),
        ("refcoco", VGA, (512, 683), (512, 704)),
        ("refcoco", FULL_HD, (512, 910), (512, 1024)),
        ("refcoco", STREET, (512, 1024), (512, 1024)),
        ("sun", VGA, (512, 682), (512, 736)),
        ("sun", (530, 730), (512, 705), (512, 736)),
        ("scannet", (968, 1296), (512, 685), (512, 704)),
        ("caption", VGA, (224, 224), (224, 224)),
        ("caption", FULL_HD[::-1], (224, 224), (224, 224)),
    ],
)
def test_a_preset_scales_an_image_as_its_protocol_does(
    name: str, source: tuple[int, int], scaled: tuple[int, int], laid_in: tuple[int, int]
) -> None:
    preset = preset_named(name)
    assert preset.rule.place(source, preset.sizes) == Letterbox(source, laid_in, scaled)
    assert PROTOCOLS[name].input_size(*source) == scaled


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_every_protocol_is_a_preset_with_inputs_that_a_network_takes(name: str) -> None:
    preset, protocol = preset_named(name), PROTOCOLS[name]
    assert len(set(preset.sizes)) == len(preset.sizes) >= 1
    for size in preset.sizes:
        assert all(side % presets.INPUT_STEP == 0 for side in size)
    assert preset.interpolation == protocol.interpolation
    assert preset.object_threshold == protocol.object_threshold
    assert preset.overlap_threshold == protocol.overlap_threshold


@pytest.mark.parametrize("name", ["coco", "ade20k", "refcoco"])
def test_a_limit_of_the_long_side_leaves_no_photograph_without_an_input(name: str) -> None:
    preset = preset_named(name)
    for long in range(300, 3000, 37):
        for source in ((300, long), (long, 300)):
            box = preset.rule.place(source, preset.sizes)
            assert box.valid == preset.rule.scaled_size(source)


def test_an_image_that_no_input_holds_is_scaled_less_and_never_more() -> None:
    rule = ResizeRule("short_side", 512)
    box = rule.place((300, 3000), [(512, 704), (704, 512)])
    assert box == Letterbox((300, 3000), (512, 704), (70, 704))


def test_what_is_given_beside_a_preset_goes_before_it() -> None:
    options = BuildOptions(preset="coco", object_threshold=0.4, sizes=[(800, 1344)])
    expected = replace(preset_named("coco"), object_threshold=0.4, sizes=((800, 1344),))
    assert options.inputs("published") == expected
    rule = ResizeRule("short_side", 512, 1024)
    inputs = BuildOptions(preset="coco", rule=rule, interpolation="bicubic").inputs("published")
    assert inputs.rule == rule and inputs.sizes == input_sizes(rule)
    assert (inputs.interpolation, inputs.object_threshold) == ("bicubic", 0.8)


def test_without_a_preset_images_fill_one_input_of_the_family() -> None:
    compact, published = (BuildOptions().inputs(family) for family in ("compact", "published"))
    assert (compact.sizes, published.sizes) == (((448, 448),), ((512, 512),))
    assert compact.rule == published.rule == ResizeRule()
    assert published.interpolation is published.object_threshold is None


def test_a_rule_on_the_command_line() -> None:
    assert input_size("short:800,longest:1333") == ResizeRule("short_side", 800, 1333)
    assert input_size("short:512") == ResizeRule("short_side", 512)
    assert input_size("512x288") == (512, 288)
    landscape = input_sizes(ResizeRule("short_side", 800, 1333))
    assert landscape == ((800, 1088), (1088, 800), (800, 1344), (1344, 800))


@pytest.mark.parametrize(
    "text",
    ["short:0", "short:800,longest:799", "short:-1", "longest:3", "short:8,long:9", "short:"],
)
def test_a_rule_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"short side|HEIGHTxWIDTH"):
        input_size(text)


def test_a_preset_that_does_not_exist() -> None:
    with pytest.raises(ArgumentError, match=r"no preset 'pascal'.*coco, ade20k"):
        BuildOptions(preset="pascal")
