"""The text cache returns what was put in or nothing at all, whatever happens to its file."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdecoder_rt.plan.manifest import TextInfo
from xdecoder_rt.words.cache import CACHE_FILE, CacheStats, TextCache, default_directory
from xdecoder_rt.words.encoder import is_embedding

FILE = CACHE_FILE


def vectors(count: int, start: int = 0, size: int = 8) -> dict[str, np.ndarray]:
    return {
        f"text {index}": np.random.default_rng(index).random(size, dtype=np.float32)
        for index in range(start, start + count)
    }


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for text, vector in wanted.items():
        assert found[text].dtype == np.float32 and not found[text].flags.writeable
        np.testing.assert_array_equal(found[text], vector)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder in which a first cache has left ten vectors."""
    with contextlib.closing(TextCache(tmp_path, namespace="graph")) as cache:
        cache.put_many(vectors(10))
    return tmp_path


# --- lookups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_put_is_found(tmp_path, on_disk):
    cache = TextCache(tmp_path if on_disk else None, namespace="graph")
    assert cache.is_on_disk == on_disk
    assert cache.get_many(["text 0", "text 1"]) == {}
    cache.put_many(vectors(1))
    assert_same(cache.get_many(["text 0", "text 1", "text 0"]), vectors(1))
    assert cache.stats == CacheStats(memory_hits=1, misses=3)
    cache.close()
    cache.close()


def test_the_next_process_finds_it_on_disk(folder):
    code = (
        "import sys; from xdecoder_rt.words.cache import TextCache\n"
        "cache = TextCache(sys.argv[1], namespace='graph')\n"
        "found = cache.get_many([f'text {i}' for i in range(12)])\n"
        "print(len(found), cache.stats.disk_hits, cache.stats.misses)"
    )
    child = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert child.stdout.split() == ["10", "10", "2"], child.stderr


def test_namespaces_share_the_file_and_never_mix(folder):
    other = TextCache(folder, namespace="another graph")
    assert other.get_many(["text 0"]) == {}
    other.put_many({"text 0": np.zeros(3)})
    assert_same(TextCache(folder, namespace="graph").get_many(["text 0"]), vectors(1))


@given(st.dictionaries(st.text(max_size=20), st.lists(st.floats(width=32), max_size=5), max_size=9))
@settings(max_examples=25, deadline=None)
def test_any_texts_and_values_survive_the_disk(tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("any")
    with contextlib.closing(TextCache(folder, namespace="")) as cache:
        cache.put_many({text: np.array(values) for text, values in entries.items()})
    with contextlib.closing(TextCache(folder, namespace="")) as cache:
        found = cache.get_many(list(entries))
    for text, values in entries.items():
        np.testing.assert_array_equal(found[text], np.array(values, np.float32))


def test_odd_texts_are_distinct(tmp_path):
    texts = ["", "\0", "a", "a\0", "é", "e\u0301", "\ud800", "😀", "x" * 1_000_000]
    cache = TextCache(tmp_path, namespace="graph", memory_bytes=0)
    cache.put_many({text: np.full(2, index) for index, text in enumerate(texts)})
    found = cache.get_many(texts)
    assert [int(found[text][0]) for text in texts] == list(range(len(texts)))


def test_what_is_stored_is_a_copy(tmp_path):
    cache = TextCache(None, namespace="graph")
    mine = np.ones(4, np.float32)
    cache.put_many({"a": mine})
    mine[:] = 2
    assert cache.get_many(["a"])["a"].tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        cache.get_many(["a"])["a"][0] = 3


def test_a_vocabulary_of_ten_thousand(tmp_path):
    entries = vectors(10_000, size=2)
    cache = TextCache(tmp_path, namespace="graph")
    cache.put_many(entries)
    again = TextCache(tmp_path, namespace="graph")
    assert_same(again.get_many(list(entries)), entries)
    assert again.stats.disk_hits == 10_000


# --- bounds ---------------------------------------------------------------------------------------


def test_memory_keeps_what_was_used_last():
    cache = TextCache(None, namespace="graph", memory_bytes=3 * 8 * 4)
    cache.put_many(vectors(3))
    cache.get_many(["text 0"])
    cache.put_many(vectors(1, start=3))
    assert set(cache.get_many([f"text {i}" for i in range(4)])) == {"text 0", "text 2", "text 3"}


def test_the_file_stays_within_its_size_and_drops_the_oldest(tmp_path):
    limit = 200_000
    cache = TextCache(tmp_path, namespace="graph", memory_bytes=0, disk_bytes=limit)
    batches = [vectors(50, start=50 * batch, size=256) for batch in range(12)]
    with sqlite3.connect(tmp_path / FILE) as database:
        for age, batch in enumerate(batches):
            cache.put_many(batch)
            # A batch a day, so that age is not only the order within one second.
            database.execute("UPDATE vectors SET used = used - 86400")
            database.commit()
            assert age == 0 or cache.get_many(list(batch))
    database.close()
    assert cache.stats.evicted > 0
    assert_same(cache.get_many(list(batches[-1])), batches[-1])
    assert cache.get_many(list(batches[0])) == {}
    cache.close()
    assert (tmp_path / FILE).stat().st_size < 1.5 * limit


def test_use_protects_from_eviction(folder):
    database = sqlite3.connect(folder / FILE)
    database.execute("UPDATE vectors SET used = 0")
    database.commit()
    with contextlib.closing(TextCache(folder, namespace="graph")) as cache:
        cache.get_many(["text 3"])
    touched = database.execute("SELECT COUNT(*) FROM vectors WHERE used > 0").fetchone()[0]
    database.close()
    assert touched == 1


def test_texts_are_listed_those_used_last_first(folder):
    cache = TextCache(folder, namespace="graph")
    assert {entry.text for entry in cache.entries()} == set(vectors(10))
    assert {entry.bytes for entry in cache.entries()} == {8 * 4}
    assert TextCache(folder, namespace="another graph").entries() == []
    assert TextCache(None, namespace="graph").entries() == []
    summary = cache.summary()
    assert summary.entries == 10 and 0 < summary.bytes < 1 << 20


def test_what_came_with_the_plan_comes_before_the_disk(folder):
    loads = []

    def carried():
        loads.append(1)
        found = vectors(2)
        for vector in found.values():
            vector.setflags(write=False)
        return found

    cache = TextCache(folder, namespace="graph", memory_bytes=0, carried=carried)
    for _ in range(2):
        assert_same(cache.get_many(["text 0", "text 5"]), {**vectors(1), **vectors(1, start=5)})
    assert cache.stats == CacheStats(plan_hits=2, disk_hits=2) and len(loads) == 1


# --- many users -----------------------------------------------------------------------------------


def test_threads(tmp_path):
    cache = TextCache(tmp_path, namespace="graph", memory_bytes=20 * 8 * 4)

    def work(seed: int) -> None:
        for step in range(20):
            mine = vectors(5, start=(seed * 7 + step) % 60)
            cache.put_many(mine)
            for text, vector in cache.get_many(list(mine)).items():
                np.testing.assert_array_equal(vector, mine[text])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert cache.is_on_disk


_PROCESS_CODE = """
import sys, warnings
import numpy as np
warnings.simplefilter("error")
from xdecoder_rt.words.cache import TextCache
folder, seed = sys.argv[1], int(sys.argv[2])
cache = TextCache(folder, namespace="graph", memory_bytes=0)
for step in range(20):
    texts = [f"text {(seed * 7 + step + k) % 60}" for k in range(5)]
    mine = {text: np.full(64, int(text.split()[1]), np.float32) for text in texts}
    cache.put_many(mine)
    for text, vector in cache.get_many(texts).items():
        np.testing.assert_array_equal(vector, mine[text])
assert cache.is_on_disk and cache.stats.disk_hits > 0, cache.stats
"""


def test_processes_write_one_file_together(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS_CODE, str(tmp_path), str(seed)], stderr=subprocess.PIPE
        )
        for seed in range(4)
    ]
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors.decode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_cache_inherited_by_a_fork(folder):
    cache = TextCache(folder, namespace="graph", memory_bytes=0)
    assert len(cache.get_many(["text 0"])) == 1
    results = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        results.put(len(cache.get_many(list(vectors(10)))))
        cache.put_many(vectors(1, start=10))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0 and results.get() == 10
    assert_same(cache.get_many(list(vectors(11))), vectors(11))


def test_a_locked_file_is_a_miss_not_an_end(folder):
    cache = TextCache(folder, namespace="graph", memory_bytes=0)
    blocker = sqlite3.connect(folder / FILE, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put_many(vectors(1, start=10))
    blocker.execute("ROLLBACK")
    blocker.close()
    assert cache.is_on_disk
    assert_same(cache.get_many(list(vectors(11))), vectors(10))


# --- damage ---------------------------------------------------------------------------------------


def _change_row(folder: Path, change: str) -> None:
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        database.execute(f"UPDATE vectors SET {change} WHERE rowid = 3")
        database.commit()


@pytest.mark.parametrize(
    "change",
    [
        "value = zeroblob(length(value))",
        "value = substr(value, 2)",
        "value = x''",
        "value = 'a text'",
        "value = 7",
        "value = (SELECT value FROM vectors WHERE rowid = 4)",
        "used = 'yesterday', value = x'00'",
    ],
)
def test_a_corrupt_row_is_dropped_and_counted(folder, change):
    _change_row(folder, change)
    cache = TextCache(folder, namespace="graph")
    found = cache.get_many(list(vectors(10)))
    assert len(found) == 9 and cache.stats.corrupt_rows == 1 and cache.stats.misses == 1
    assert_same(found, {text: vector for text, vector in vectors(10).items() if text in found})
    missing = {text: vector for text, vector in vectors(10).items() if text not in found}
    cache.put_many(missing)
    cache.close()
    assert_same(TextCache(folder, namespace="graph").get_many(list(vectors(10))), vectors(10))


@pytest.mark.parametrize("change", ["text = x'ff'", "text = 'not bytes'", "used = 'yesterday'"])
def test_a_row_that_cannot_be_named_is_not_listed(folder, change):
    _change_row(folder, change)
    assert len(TextCache(folder, namespace="graph").entries()) == len(vectors(10)) - 1


def test_a_count_that_is_none_is_not_told(folder):
    with contextlib.closing(sqlite3.connect(folder / FILE)) as database:
        database.execute("INSERT OR REPLACE INTO counts VALUES ('misses', 'many')")
        database.commit()
    cache = TextCache(folder, namespace="graph")
    assert "misses" not in cache.summary().counts
    cache.get_many(["unknown"])
    assert cache.summary().counts["misses"] == 1, "counting goes on"


def _damages(data: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "noise": b"\x5a" * 5000,
        "truncated": data[: len(data) // 2],
        "header only": data[:100],
        "pages of zeros": data[:4096] + bytes(max(0, len(data) - 4096)),
        "not SQLite": b"SQLite format 3\0" + b"\xff" * 4096,
    }


@pytest.mark.parametrize("kind", list(_damages(b"")))
def test_a_damaged_file_is_begun_anew(folder, kind):
    path = folder / FILE
    path.write_bytes(_damages(path.read_bytes())[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = TextCache(folder, namespace="graph", memory_bytes=0)
        cache.get_many(list(vectors(10)))
        cache.put_many(vectors(10))
        assert_same(cache.get_many(list(vectors(10))), vectors(10))
    assert cache.is_on_disk and cache.stats.resets == (0 if kind == "empty" else 1)
    cache.close()
    assert_same(TextCache(folder, namespace="graph").get_many(list(vectors(10))), vectors(10))


def test_a_damaged_file_is_set_aside(folder):
    (folder / FILE).write_bytes(b"\x5a" * 5000)
    with contextlib.closing(TextCache(folder, namespace="graph")) as cache:
        cache.put_many(vectors(1))
        assert cache.stats.resets == 1
    assert (folder / f"{FILE}.damaged").read_bytes() == b"\x5a" * 5000


_HEALING_CODE = """
import sys, warnings
import numpy as np
warnings.simplefilter("error")
from xdecoder_rt.words.cache import TextCache
cache = TextCache(sys.argv[1], namespace="graph", memory_bytes=0)
print("ready", flush=True)
for line in sys.stdin:
    mine = {f"text {k}": np.full(64, k, np.float32) for k in range(60)}
    cache.put_many(mine)
    for text, vector in cache.get_many(list(mine)).items():
        np.testing.assert_array_equal(vector, mine[text])
    print(cache.is_on_disk, flush=True)
"""


def test_processes_heal_a_file_that_is_damaged_under_them(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _HEALING_CODE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
    for damage in (False, True, False):
        if damage:
            with (tmp_path / FILE).open("r+b") as file:
                file.write(b"\x5a" * 4096)
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        assert [child.stdout.readline() for child in children] == ["True\n"] * 3
    for child in children:
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
    wanted = {f"text {k}": np.full(64, k, np.float32) for k in range(60)}
    with contextlib.closing(TextCache(tmp_path, namespace="graph")) as cache:
        assert_same(cache.get_many(list(wanted)), wanted)


def test_a_file_of_another_layout(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / FILE)) as database:
        database.execute("CREATE TABLE vectors (something TEXT)")
        database.commit()
    cache = TextCache(tmp_path, namespace="graph")
    cache.put_many(vectors(2))
    assert cache.is_on_disk and cache.stats.resets == 1


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_flipped_bits_never_give_a_wrong_vector(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flips")
    with contextlib.closing(TextCache(folder, namespace="graph")) as cache:
        cache.put_many(vectors(10))
    damaged = bytearray((folder / FILE).read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / FILE).write_bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with contextlib.closing(TextCache(folder, namespace="graph", memory_bytes=0)) as cache:
            found = cache.get_many(list(vectors(10)))
            assert_same(found, {text: vectors(10)[text] for text in found})
            cache.put_many(vectors(10))
            found = cache.get_many(list(vectors(10)))
            assert_same(found, {text: vectors(10)[text] for text in found})


@pytest.mark.parametrize("value", [0x00, 0xFF, "flipped"])
def test_no_byte_of_the_first_page_stops_the_cache(tmp_path, value):
    with contextlib.closing(TextCache(tmp_path, namespace="graph")) as cache:
        cache.put_many(vectors(3))
    data = (tmp_path / FILE).read_bytes()
    # The header, the schema (which ends the page), and some of the bytes between.
    start = data.index(b"CREATE") - 300 if b"CREATE" in data[:4096] else 3000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for place in [*range(16, 108, 2), *range(start, 4096, 11)]:
            byte = data[place] ^ 0x41 if value == "flipped" else value
            (tmp_path / FILE).write_bytes(data[:place] + bytes([byte]) + data[place + 1 :])
            with contextlib.closing(TextCache(tmp_path, namespace="graph")) as cache:
                cache.entries()
                found = cache.get_many(list(vectors(3)))
                assert_same(found, {text: vectors(3)[text] for text in found})
                cache.put_many(vectors(5))
                cache.summary()
            with contextlib.closing(TextCache(tmp_path, namespace="graph")) as cache:
                cache.put_many(vectors(5))
            with contextlib.closing(TextCache(tmp_path, namespace="graph")) as cache:
                found = cache.get_many(list(vectors(5)))
                assert (place, byte, *sorted(found)) == (place, byte, *sorted(vectors(5)))
            for path in tmp_path.iterdir():
                path.unlink()


def test_a_damaged_file_that_cannot_be_mended_is_begun_anew_a_few_times_only(folder, monkeypatch):
    cache = TextCache(folder, namespace="graph", memory_bytes=0)

    def broken(*_args):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(cache._disk, "_write", broken)
    with pytest.warns(RuntimeWarning, match="in memory only") as caught:
        for _ in range(9):
            cache.put_many(vectors(1))
    assert len(caught) == 1 and not cache.is_on_disk


# --- who wrote it ---------------------------------------------------------------------------------


UNIT = np.float32([3, 4, *[0] * 6]) / 5


def _planted(folder: Path, text: str, vector: np.ndarray) -> bool:
    """Whether a cache of eight dimensions believes a row that somebody wrote with a checksum."""
    with contextlib.closing(TextCache(folder, namespace="graph")) as cache:
        cache.put_many({text: vector})
    info = TextInfo(5, 8, 1, 1, 8, "tokenizer.json", ("{}",), (), "background")
    accepts = partial(is_embedding, info)
    with contextlib.closing(TextCache(folder, namespace="graph", accepts=accepts)) as cache:
        found = cache.get_many([text])
        assert cache.stats.corrupt_rows == (not found)
        cache.put_many({text: vector})
    if found:
        np.testing.assert_array_equal(found[text], vector)
    return bool(found)


@pytest.mark.parametrize("kind", ["class", "text"])
@pytest.mark.parametrize(
    "vector",
    [
        np.ones(7) / np.sqrt(7),
        np.ones(9) / 3,
        np.zeros(0),
        np.zeros(8),
        np.ones(8),
        np.full(8, np.nan),
        np.array([1.0, *[0.0] * 6, np.nan]),
        np.full(8, np.inf),
        np.full(8, 3e38),
        np.full(8, 1e-40),
    ],
)
def test_a_row_that_is_no_embedding_is_dropped_whatever_its_checksum_says(tmp_path, kind, vector):
    assert not _planted(tmp_path, f"{kind}\0mug", vector)


@pytest.mark.parametrize("vector", [np.ones(8), np.ones(48), np.ones(17), np.full(16, np.nan)])
def test_rows_of_tokens_are_finite_and_as_many_as_a_text_may_have(tmp_path, vector):
    assert not _planted(tmp_path, "tokens\0a mug", vector)


@pytest.mark.parametrize(
    ("text", "vector"), [("class\0mug", UNIT), ("text\0mug", UNIT), ("tokens\0mug", np.ones(24))]
)
def test_a_row_that_can_be_an_embedding_is_found(tmp_path, text, vector):
    assert _planted(tmp_path, text, vector)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners and modes of files")
def test_what_is_made_is_for_this_user_alone(tmp_path):
    previous = os.umask(0)
    try:
        with contextlib.closing(TextCache(tmp_path / "a" / "b", namespace="graph")) as cache:
            cache.put_many(vectors(2))
            modes = {
                path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a/b").iterdir()
            }
    finally:
        os.umask(previous)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert set(modes) >= {FILE} and set(modes.values()) == {0o600}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_others_may_write_is_not_used(folder, kind):
    (folder if kind == "folder" else folder / FILE).chmod(0o777)
    _assert_one_warning_and_memory_only(folder)


def test_what_belongs_to_somebody_else_is_not_used(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    _assert_one_warning_and_memory_only(folder)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_file_that_is_a_link_is_not_used(folder, tmp_path_factory, make, suffix):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "file"
    path = folder / f"{FILE}{suffix}"
    if suffix:
        elsewhere.write_bytes(b"another's")
    else:
        path.rename(elsewhere)
    before = elsewhere.read_bytes()
    make(elsewhere, path)
    _assert_one_warning_and_memory_only(folder)
    assert elsewhere.read_bytes() == before


def test_a_folder_that_is_a_link_is_not_used(folder, tmp_path_factory):
    link = tmp_path_factory.mktemp("other") / "link"
    link.symlink_to(folder)
    _assert_one_warning_and_memory_only(link)


# --- folders that cannot be used ------------------------------------------------------------------


def _assert_one_warning_and_memory_only(directory: Path) -> None:
    with pytest.warns(RuntimeWarning, match="in memory only") as caught:
        cache = TextCache(directory, namespace="graph")
        cache.put_many(vectors(2))
        assert_same(cache.get_many(["text 0", "text 9"]), vectors(1))
    assert len(caught) == 1 and str(directory) in str(caught[0].message)
    assert not cache.is_on_disk


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    _assert_one_warning_and_memory_only(tmp_path / "file")
    _assert_one_warning_and_memory_only(tmp_path / "file" / "below")


def test_a_file_that_is_a_folder(tmp_path):
    (tmp_path / FILE).mkdir()
    _assert_one_warning_and_memory_only(tmp_path)


def test_a_folder_on_a_read_only_file_system():
    folder = Path("/proc/xdecoder_rt")  # not even root can create anything there
    if not folder.parent.is_dir():
        pytest.skip("needs /proc as a folder in which nothing can be created")
    _assert_one_warning_and_memory_only(folder)


def test_a_disk_that_fills_up_later(folder, monkeypatch):
    cache = TextCache(folder, namespace="graph", memory_bytes=100 * 8 * 4)

    def full(*_args):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(cache._disk, "_write", full)
    with pytest.warns(RuntimeWarning, match="disk is full") as caught:
        cache.put_many(vectors(2, start=20))
        cache.put_many(vectors(2, start=22))
    assert len(caught) == 1
    assert_same(cache.get_many(list(vectors(4, start=20))), vectors(4, start=20))


# --- where it lies --------------------------------------------------------------------------------


def test_the_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDECODER_RT_CACHE", str(tmp_path / "mine"))
    assert default_directory() == tmp_path / "mine"
    monkeypatch.setenv("XDECODER_RT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_directory() == tmp_path / "xdecoder_rt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_directory() == Path("/home/someone/.cache/xdecoder_rt")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert default_directory() is None
