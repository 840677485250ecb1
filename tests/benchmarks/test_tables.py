"""``benchmarks/tables.py``: what is committed is what it writes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("cv2", reason="the studies train, which needs opencv-python-headless")
pytest.importorskip("onnxscript", reason="the studies export graphs")
pytest.importorskip("openvino", reason="a study measures OpenVINO")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "studies"))

import tables

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_table_of_the_page_is_that_of_its_results(name: str) -> None:
    page, table_of = tables.TABLES[name]
    text = (ROOT / page).read_text()
    assert tables.with_table(text, name, table_of()) == text, "run python benchmarks/tables.py"


def test_every_comment_that_names_the_program_is_of_a_table_that_it_writes() -> None:
    begin = re.compile(re.escape(tables.begin_of("NAME")).replace("NAME", r"(\w+)"))
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for name in begin.findall(path.read_text()):
            assert tables.TABLES[name][0] == str(path.relative_to(ROOT))


def test_every_table_has_its_file_of_results() -> None:
    names = {path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json")}
    assert names >= set(tables.TABLES)


def test_a_page_without_the_place_is_refused() -> None:
    begin = tables.begin_of("accuracy")
    assert tables.with_table(f"a\n{begin}\nold\n<!-- end -->\nb", "accuracy", "new") == (
        f"a\n{begin}\nnew\n<!-- end -->\nb"
    )
    for text in ("", begin, f"{begin}\n<!-- end -->\n{begin}\n<!-- end -->"):
        with pytest.raises(ValueError, match="no single place"):
            tables.with_table(text, "accuracy", "new")
