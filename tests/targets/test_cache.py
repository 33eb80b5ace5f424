"""The cache of compiled code: whole entries or none, bounded, private, and never in the way."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.machine import AVX2, AVX512
from compiler.support.cache import ObjectCache, compiler_version, default_folder
from compiler.targets.llvm.jit import object_key

DAY = 24 * 3600


def only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_what_was_put_is_found_by_another_cache_of_the_folder(tmp_path: Path) -> None:
    ObjectCache(tmp_path).put_object("key", b"object")
    ObjectCache(tmp_path).put("a name / of any kind", b"manifest")
    other = ObjectCache(tmp_path)
    assert other.get_object("key") == b"object"
    assert other.get("a name / of any kind") == b"manifest"
    assert other.get_object("other") is None
    assert other.get("other") is None


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_entry_is_ignored_and_written_again(tmp_path: Path, damage: bytes) -> None:
    cache = ObjectCache(tmp_path)
    cache.put_object("key", b"object")
    only_file(tmp_path).write_bytes(damage)
    assert cache.get_object("key") is None
    cache.put_object("key", b"object")
    assert cache.get_object("key") == b"object"


def test_a_single_flipped_bit_is_seen(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put_object("key", b"object")
    content = bytearray(only_file(tmp_path).read_bytes())
    content[-1] ^= 1
    only_file(tmp_path).write_bytes(content)
    assert cache.get_object("key") is None


def test_the_least_recently_used_entries_go(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, limit_bytes=10_000)
    for number in range(9):
        cache.put_object(f"key{number}", bytes(1000))
        age = (20 - number) * DAY
        os.utime(tmp_path / "objects" / f"key{number}", (1e9 - age, 1e9 - age))
    assert cache.get_object("key0") == bytes(1000)  # which makes it the most recently used
    cache.put_object("key9", bytes(1000))
    left = {number for number in range(10) if cache.get_object(f"key{number}")}
    assert left == {0, 4, 5, 6, 7, 8, 9}
    assert cache.info().bytes <= 7_500


def test_only_the_user_may_read_the_folder(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache")
    cache.put_object("key", b"object")
    for folder in (tmp_path / "cache", tmp_path / "cache" / "objects"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = ObjectCache(tmp_path / "file")
    cache.put_object("key", b"object")
    assert cache.get_object("key") is None
    assert cache.keep_crash("key", "text") is None
    assert (cache.info().entries, cache.info().bytes) == (0, 0)
    cache.clear()


def test_a_write_that_fails_leaves_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    cache = ObjectCache(tmp_path)
    monkeypatch.setattr(os, "replace", full)
    cache.put_object("key", b"object")
    assert list((tmp_path / "objects").iterdir()) == []


def test_clearing_leaves_what_is_not_the_caches(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path)
    cache.put_object("key", b"object")
    cache.put("name", b"manifest")
    (tmp_path / "notes.txt").write_text("mine")
    assert (cache.info().path, cache.info().entries) == (tmp_path, 2)
    cache.clear()
    assert cache.info().entries == 0
    assert cache.get_object("key") is None
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_default_folder() -> None:
    assert default_folder({"DLC_CACHE_DIR": "/somewhere"}) == Path("/somewhere")
    assert default_folder({"XDG_CACHE_HOME": "/caches"}) == Path("/caches/dlc")
    assert default_folder({"XDG_CACHE_HOME": "relative"}) == default_folder({}) == Path.home() / ".cache" / "dlc"


def test_a_key_depends_on_all_that_decides_an_object() -> None:
    keys = {
        object_key("text", AVX2, "22.1.0"),
        object_key("other", AVX2, "22.1.0"),
        object_key("text", AVX512, "22.1.0"),
        object_key("text", replace(AVX2, features="+fma"), "22.1.0"),
        object_key("text", AVX2, "22.1.1"),
    }
    assert len(keys) == 5
    assert object_key("text", replace(AVX2, l2_bytes=1), "22.1.0") in keys  # it decides the text, not the object


def test_the_compilers_version_is_stable_within_a_run() -> None:
    assert compiler_version() == compiler_version()
