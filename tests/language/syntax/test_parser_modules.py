"""Files, imports, the library, and the cache of parsed files."""

import os
from functools import partial
from pathlib import Path

import pytest

from compiler.driver import check
from compiler.errors.diagnostics import Diagnostic, Source, SourceError, UsageError
from compiler.errors.rendering import render
from compiler.frontend.library import LIBRARY, library_modules, library_scope
from compiler.frontend.scope import Namespace
from compiler.support.cache import ObjectCache
from compiler.syntax.modules import load_modules, read_modules
from compiler.syntax.parser import ParseCache, parse


def write(folder: Path, **files: str) -> Path:
    """Write files (`lib__b` is `lib/b.dl`) and give the first."""
    paths = [folder / f"{name.replace('__', '/')}.dl" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return paths[0]


def mistakes(root: Path | Source) -> tuple[Diagnostic, ...]:
    with pytest.raises(SourceError) as caught:
        load_modules(root, None)
    assert render(caught.value)
    return caught.value.diagnostics


def test_imports_come_before_what_imports_them_and_once(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        main='import "lib/b.dl"\nimport "c.dl"\nconst m = 1',
        lib__b='import "../c.dl"\nconst b = 1',
        c="const c = 1",
    )
    modules = load_modules(root, None)
    assert [Path(module.source.name).name for module in modules] == ["c.dl", "b.dl", "main.dl"]
    assert not any(module.source.is_library for module in modules)


def test_a_text_without_a_file_imports_beside_its_name(tmp_path: Path) -> None:
    write(tmp_path, c="const c = 1")
    assert len(load_modules(Source(str(tmp_path / "unsaved.dl"), 'import "c.dl"'), None)) == 2


def test_a_circle_is_shown_whole(tmp_path: Path) -> None:
    root = write(tmp_path, a='import "b.dl"', b='import "c.dl"', c='import "b.dl"')
    (mistake,) = mistakes(root)
    assert mistake.code == "E0122"
    assert "b.dl -> c.dl -> b.dl" in mistake.message
    assert Path(mistake.span.source.name).name == "c.dl"
    (own,) = mistakes(write(tmp_path, d='import "d.dl"'))
    assert "d.dl -> d.dl" in own.message


def test_imports_stay_in_the_folder(tmp_path: Path) -> None:
    write(tmp_path, outside="const o = 1")
    root = write(tmp_path / "project", main='import "../outside.dl"\nimport "/etc/passwd"')
    assert [mistake.code for mistake in mistakes(root)] == ["E0123", "E0123"]
    inner = write(tmp_path / "project", inner='import "../outside.dl"')
    assert len(load_modules(inner, None, within=Path("/"))) == 2


def test_a_link_out_of_the_folder_is_followed_and_refused(tmp_path: Path) -> None:
    write(tmp_path, outside="const o = 1")
    root = write(tmp_path / "project", main='import "link.dl"')
    (tmp_path / "project/link.dl").symlink_to(tmp_path / "outside.dl")
    assert [mistake.code for mistake in mistakes(root)] == ["E0123"]


def test_a_missing_file_is_named_with_its_nearest(tmp_path: Path) -> None:
    root = write(tmp_path, main='import "lib/blokcs.dl"', lib__blocks="const b = 1")
    (mistake,) = mistakes(root)
    assert mistake.code == "E0121"
    assert mistake.notes[0].message == 'did you mean "lib/blocks.dl"?'
    (folder,) = mistakes(write(tmp_path, other='import "lib"'))
    assert folder.code == "E0121"
    (zero,) = mistakes(write(tmp_path, zero='import "\\n"'))
    assert zero.code == "E0121"
    os.mkfifo(tmp_path / "pipe.dl")
    (pipe,) = mistakes(write(tmp_path, waits='import "pipe.dl"'))
    assert pipe.code == "E0121"


def test_a_missing_root(tmp_path: Path) -> None:
    write(tmp_path, model="const c = 1")
    with pytest.raises(UsageError, match=r"cannot read .*modle\.dl") as caught:
        load_modules(tmp_path / "modle.dl", None)
    assert "model.dl" in caught.value.fix
    with pytest.raises(UsageError):
        load_modules(tmp_path, None)


def test_other_encodings_are_named_with_their_place(tmp_path: Path) -> None:
    root = write(tmp_path, main='import "latin.dl"')
    (tmp_path / "latin.dl").write_bytes("const a = 1\n# Gr\xf6\xdfe\n".encode("latin-1"))
    (mistake,) = mistakes(root)
    assert (mistake.code, mistake.span.line, mistake.span.column) == ("E0124", 2, 5)
    assert "0xf6" in mistake.message
    (alone,) = mistakes(tmp_path / "latin.dl")
    assert alone.span.line == 2


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.dl"
    path.write_bytes(b"\xef\xbb\xbfconst a = 1")
    (module,) = load_modules(path, None)
    assert module.declarations[0].span.column == 1


def test_mistakes_of_all_files_are_reported(tmp_path: Path) -> None:
    root = write(tmp_path, main='import "a.dl"\nimport "b.dl"', a="const = 1", b="const x = ")
    assert [Path(mistake.span.source.name).name for mistake in mistakes(root)] == ["a.dl", "b.dl"]


def test_a_missing_file_hides_no_mistake_of_another_kind(tmp_path: Path) -> None:
    use = "output y = x |> known |> unknown(width)"
    root = write(
        tmp_path,
        main=f'import "lib/a.dl"\nmodel M {{\n    input x: f32[batch, width]\n    input z: f32[batch, 2]\n    {use}\n'
        "    output w = z + zeros(3)\n}",
        lib__a='import "gone.dl"\nimport "b.dl"\nfn known(x) = other(x)',
        lib__b="fn b(x) = nothing(x)",
    )
    found = check(root)
    assert [(d.code, Path(d.span.source.name).name) for d in found] == [
        ("E0121", "a.dl"),
        ("E0201", "b.dl"),
        ("E0401", "main.dl"),
    ]
    (tmp_path / "lib/gone.dl").write_text("fn other(x) = 2 * x\nfn unknown(n)(x) = 2 * x\nconst width = (3")
    assert [d.code for d in check(root)] == ["E0102", "E0201", "E0401"]
    (tmp_path / "lib/gone.dl").write_text("fn other(x) = 2 * x\n")
    assert [d.code for d in check(root)] == ["E0201", "E0415", "E0201", "E0401"]
    root.write_text("model M {")
    assert [d.code for d in check(root)] == ["E0102"]


def test_library() -> None:
    modules = library_modules()
    assert len(modules) == len(list(LIBRARY.rglob("*.dl")))
    names = [module.source.name for module in modules]
    assert "<prelude>/layers/dense.dl" in names
    assert names == sorted(names)
    assert all(module.source.is_library for module in modules)


def test_a_declaration_of_the_library_is_parsed_alone_as_in_its_file() -> None:
    declared = {str(d.span): (d, d.span) for module in library_modules() for d in module.declarations}
    alone = [found.declaration for names in library_scope().own.values() for found in names.values()]
    assert {str(d.span): (d, d.span) for d in alone} == declared


def test_a_declaration_of_the_library_is_parsed_once_and_only_when_it_is_named() -> None:
    layers = library_scope().own[Namespace.VALUE]
    assert "dense" in layers
    assert layers["dense"] is layers["dense"]
    with pytest.raises(KeyError):
        layers["dens"]


TEXT = '## doc\nfn f(n: int)(x: [..., n]) = x[:, -1] |> g(a = 1.5, b = "t")\n'


def test_a_cached_module_is_the_parsed_one(tmp_path: Path) -> None:
    source = Source("a.dl", TEXT)
    first = ParseCache(tmp_path).parse(source)
    (entry,) = (tmp_path / "parsed").iterdir()
    assert (tmp_path / "parsed").stat().st_mode & 0o777 == 0o700
    other = Source("elsewhere.dl", TEXT)
    second = ParseCache(tmp_path).parse(other)
    assert first == parse(source)
    assert second.declarations == first.declarations
    assert second.declarations[0].span.source is other
    assert [path.name for path in (tmp_path / "parsed").iterdir()] == [entry.name]


def test_the_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ParseCache(tmp_path).parse(Source("a.dl", TEXT))
    monkeypatch.setattr("compiler.syntax.parser.load_tables", lambda: pytest.fail("parsed again"))
    assert ParseCache(tmp_path).parse(Source("a.dl", TEXT)).declarations


def test_damaged_entries_are_not_used(tmp_path: Path) -> None:
    source = Source("a.dl", TEXT)
    whole = ParseCache(tmp_path).parse(source)
    (entry,) = (tmp_path / "parsed").iterdir()
    content = entry.read_bytes()
    for damaged in (b"", content[:10], content[:-1], content[:40] + b"x" + content[41:], content * 2):
        entry.write_bytes(damaged)
        assert ParseCache(tmp_path).parse(source) == whole
        assert entry.read_bytes() == content


def test_an_entry_can_name_nothing_but_nodes(tmp_path: Path) -> None:
    import pickle
    from hashlib import sha256

    source = Source("a.dl", TEXT)
    whole = ParseCache(tmp_path).parse(source)
    (entry,) = (tmp_path / "parsed").iterdir()
    evil = pickle.dumps(os.abort)
    entry.write_bytes(sha256(evil).digest() + evil)
    assert ParseCache(tmp_path).parse(source) == whole


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert ParseCache(tmp_path / "file").parse(Source("a.dl", TEXT)).declarations


def test_mistakes_are_not_cached(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(SourceError):
            ParseCache(tmp_path).parse(Source("a.dl", "const"))


def test_the_cache_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compiler.syntax.parser.ObjectCache", partial(ObjectCache, limit_bytes=2000))
    for number in range(50):
        ParseCache(tmp_path).parse(Source("a.dl", f"const c = {number}"))
    entries = list((tmp_path / "parsed").iterdir())
    assert 0 < len(entries) < 50
    assert sum(entry.stat().st_size for entry in entries) <= 2000


def test_an_import_of_what_is_no_model_file_is_one_mistake(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n" + "1,2\n" * 200)
    (tmp_path / "model.dl").write_text('import "data.csv"\nfn f(x) = x\n')
    loaded = read_modules(tmp_path / "model.dl", None)
    (mistake,) = loaded.mistakes
    assert (mistake.code, mistake.span.line) == ("E0121", 1)
    assert "this is no model file" in mistake.message
