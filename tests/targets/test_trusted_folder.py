"""No kind of cache entry is read where another user can have put it, however it came there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compiler.errors.diagnostics import Source
from compiler.support import trusted_folder
from compiler.support.cache import ObjectCache
from compiler.support.record import record
from compiler.support.trusted_folder import TrustedFolder
from compiler.syntax.parser import ParseCache, Parser
from compiler.syntax.tree import Module
from runtime.data.decoded import DecodedCache

SOURCE = Source("model.dl", "const c = 2.0")


@record
class Kind:
    """A kind of entry: its folder below that of the cache, and how it is put and got; got is whether it was there."""

    folder: str
    put: Callable[[Path], object]
    get: Callable[[Path], bool]


class Counting(Parser):
    """A parser that says how often it was asked."""

    parses = 0

    def parse(self, source: Source, begin: int = 0, end: int | None = None) -> Module:
        self.parses += 1
        return super().parse(source, begin, end)


def parsed_is_read(cache: Path) -> bool:
    """Whether the syntax of `SOURCE` comes from the entry."""
    kept = ParseCache(cache)
    kept._parser = parser = Counting()  # pyright: ignore[reportPrivateUsage]
    kept.parse(SOURCE)
    return parser.parses == 0


PIXELS = np.arange(12, dtype=np.uint8)
KINDS = {
    "objects": Kind(
        "objects",
        lambda cache: ObjectCache(cache).put_object("key", b"object"),
        lambda cache: ObjectCache(cache).get_object("key") is not None,
    ),
    "entries": Kind(
        "entries",
        lambda cache: ObjectCache(cache).put("name", b"entry"),
        lambda cache: ObjectCache(cache).get("name") is not None,
    ),
    "parsed": Kind("parsed", lambda cache: ParseCache(cache).parse(SOURCE), parsed_is_read),
    "images": Kind(
        "images",
        lambda cache: DecodedCache(cache / "images").put("name", PIXELS, {}),
        lambda cache: DecodedCache(cache / "images").get("name") is not None,
    ),
}
IS_ROOT = os.geteuid() == 0
STRANGER = 12345


def entry_of(folder: Path) -> Path:
    (entry,) = folder.iterdir()
    return entry


def moved_behind_a_link(folder: Path) -> None:
    """The entry becomes a link to a file elsewhere."""
    entry = entry_of(folder)
    entry.rename(folder.parent / "elsewhere")
    entry.symlink_to(folder.parent / "elsewhere")


def made_a_fifo(folder: Path) -> None:
    entry = entry_of(folder)
    entry.unlink()
    os.mkfifo(entry)


FLAWS: dict[str, Callable[[Path], object]] = {
    "others may write the folder": lambda folder: folder.chmod(0o707),
    "others may write the sticky folder": lambda folder: folder.chmod(0o1777),
    "others may write the folder above": lambda folder: folder.parent.chmod(0o777),
    "others may write two folders above": lambda folder: folder.parent.parent.chmod(0o777),
    "others may write the entry": lambda folder: entry_of(folder).chmod(0o606),
    "the entry is a link": moved_behind_a_link,
    "the entry is a fifo": made_a_fifo,
}
FLAWS_OF_OWNERS: dict[str, Callable[[Path], object]] = {
    "the folder is another user's": lambda folder: os.chown(folder, STRANGER, -1),
    "the folder above is another user's": lambda folder: os.chown(folder.parent, STRANGER, -1),
    "two folders above are another user's": lambda folder: os.chown(folder.parent.parent, STRANGER, -1),
    "the entry is another user's": lambda folder: os.chown(entry_of(folder), STRANGER, -1),
    "the folder may be written by a group": lambda folder: (os.chown(folder, -1, STRANGER), folder.chmod(0o770)),
}


@pytest.fixture(autouse=True, params=["by descriptors", "by paths"])
def walked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Linux, and as on other systems."""
    monkeypatch.setattr(trusted_folder, "HAS_DESCRIPTORS", request.param == "by descriptors")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    (tmp_path / "above").mkdir()
    return tmp_path / "above" / "cache"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_entry_of_our_own_is_read(cache: Path, kind: Kind) -> None:
    kind.put(cache)
    assert kind.get(cache)
    assert stat.S_IMODE((cache / kind.folder).stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("flaw", FLAWS.values(), ids=FLAWS)
def test_an_entry_that_others_may_have_written_is_not_read(
    cache: Path, kind: Kind, flaw: Callable[[Path], object]
) -> None:
    kind.put(cache)
    assert kind.get(cache)  # nothing of it is remembered
    flaw(cache / kind.folder)
    assert not kind.get(cache)


@pytest.mark.skipif(not IS_ROOT, reason="only the superuser can give files away")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("flaw", FLAWS_OF_OWNERS.values(), ids=FLAWS_OF_OWNERS)
def test_an_entry_of_another_user_is_not_read(cache: Path, kind: Kind, flaw: Callable[[Path], object]) -> None:
    kind.put(cache)
    assert kind.get(cache)
    flaw(cache / kind.folder)
    assert not kind.get(cache)


def test_one_cache_looks_again_each_time(cache: Path) -> None:
    kept = ObjectCache(cache)
    kept.put_object("key", b"object")
    assert kept.get_object("key") == b"object"
    cache.parent.chmod(0o777)
    assert kept.get_object("key") is None
    cache.parent.chmod(0o700)
    assert kept.get_object("key") == b"object"


def test_nothing_is_written_or_removed_where_others_may_write(cache: Path) -> None:
    kept = ObjectCache(cache)
    kept.put_object("key", b"object")
    cache.chmod(0o777)
    kept.put_object("other", b"object")
    kept.clear()
    assert [path.name for path in (cache / "objects").iterdir()] == ["key"]


def test_what_a_link_in_the_cache_leads_to_is_not_cleared(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter").write_text("dear")
    cache.mkdir(mode=0o700)
    (cache / "objects").mkdir(mode=0o700)
    (cache / "objects" / "letter").symlink_to(tmp_path / "documents" / "letter")
    ObjectCache(cache).clear()
    assert (tmp_path / "documents" / "letter").read_text() == "dear"


def test_links_that_only_we_can_have_made_are_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    cache.symlink_to(Path("..") / "large disk")
    ObjectCache(cache).put_object("key", b"object")
    assert ObjectCache(cache).get_object("key") == b"object"
    assert (tmp_path / "large disk" / "objects" / "key").is_file()
    cache.parent.chmod(0o777)  # who may write here may let the link lead elsewhere
    assert ObjectCache(cache).get_object("key") is None


def test_links_in_a_circle_end(cache: Path) -> None:
    cache.symlink_to(cache)
    ObjectCache(cache).put_object("key", b"object")
    assert ObjectCache(cache).get_object("key") is None
    assert "too many links" in TrustedFolder(cache).why_unused()


def test_folders_of_the_cache_are_private_whatever_the_umask(cache: Path) -> None:
    before = os.umask(0)
    try:
        ObjectCache(cache / "deep" / "deeper").put_object("key", b"object")
    finally:
        os.umask(before)
    assert ObjectCache(cache / "deep" / "deeper").get_object("key") == b"object"
    assert stat.S_IMODE((cache / "deep").stat().st_mode) == 0o700


def test_the_reason_names_the_place(cache: Path) -> None:
    kept = ObjectCache(cache)
    assert kept.info().why_unused == ""
    kept.put_object("key", b"object")
    assert kept.info().why_unused == ""
    (cache / "objects").chmod(0o777)
    assert kept.info().why_unused == f"{cache / 'objects'}: others may write there (mode 777)"


def test_no_descriptor_stays_open(cache: Path) -> None:
    kept = ObjectCache(cache)
    kept.put_object("key", b"object")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        kept.get_object("key")
        kept.get_object("missing")
        kept.put("name", b"entry")
        kept.info()
    cache.parent.chmod(0o777)
    kept.get_object("key")
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_owners_the_cache_lies_in_the_folder_of_the_user(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where rights of access keep others out of it."""
    monkeypatch.setattr(trusted_folder, "HAS_OWNERS", False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    ObjectCache(cache).put_object("key", b"object")
    assert ObjectCache(cache).get_object("key") == b"object"
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "other")
    assert ObjectCache(cache).get_object("key") is None
    assert "not below the user's own" in ObjectCache(cache).info().why_unused
