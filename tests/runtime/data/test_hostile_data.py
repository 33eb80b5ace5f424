"""Data files that would take all memory or never end: refused, with figures, before anything is taken."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import subprocess
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent.parent
READ = """
    import sys
    from pathlib import Path
    from compiler.errors.diagnostics import DlcError
    from runtime.data.formats.format import SourceOptions, SourceRequest
    from runtime.data.reading import format_named
    from runtime.support.memory import peak_memory

    before = peak_memory()
    for name in sys.argv[1].split():
        for path in sys.argv[2:]:
            try:
                request = SourceRequest(Path(path), SourceOptions({}), frozenset({"x", "image", "tokens"}))
                found = format_named(name).read(request)
                said = f"{len(found.fields)} fields, {found.rows} rows"
            except DlcError as error:
                said = f"{type(error).__name__}: {error}"
            print(said, "", sep="\\0", flush=True)
    print((peak_memory() - before) >> 20)
"""


def read(format: str, path: Path, **limits: int) -> str:
    """What reading a file gives, or says, in a process that may not take much memory, and did not."""
    (said,) = read_each(format, path, **limits)
    return said


def read_each(formats: str, *paths: Path, most_mb: int = 300, address_gb: int = 6) -> tuple[str, ...]:
    """Each of `formats`, with spaces between, of each file, in one process: the bounds hold for all together."""
    *said, taken = printed(READ, formats, *map(str, paths), address_gb=address_gb).split("\0")
    assert int(taken) < most_mb
    return tuple(line.strip() for line in said)


def printed(script: str, *arguments: str, address_gb: int = 6) -> str:
    """What a script prints that may take a minute of a processor, and wait no longer than ten."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (address_gb << 30, address_gb << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=bounded,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def zeros(path: Path, size: int, unit: bytes = bytes(1 << 20)) -> Path:
    """A gzip file of `size` times a piece, packed only once: a deflated block may be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(unit) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.flush()
    checksum = 0
    for _ in range(size):
        checksum = zlib.crc32(unit, checksum)
    tail = struct.pack("<II", checksum, size * len(unit) & 0xFFFFFFFF)
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + block * size + last + tail)
    return path


@pytest.mark.parametrize("kind", ["device", "fifo", "folder"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    answers = read_each("csv idx cifar npz npy text lines pairs", path)
    assert len(answers) == 8
    for said in answers:
        assert said.startswith("DataError")
        assert kind == "folder" or "this is no regular file: a pipe, a socket or a device" in said


def test_an_image_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    said = read("images", tmp_path)
    assert "2 images cannot be used" in said
    assert said.count("this is no regular file") == 2


def test_text_is_unpacked_up_to_a_zero_byte(tmp_path: Path) -> None:
    path = zeros(tmp_path / "bomb.csv.gz", 500)
    assert "a zero byte, so this is not a text table" in read("csv", path)
    assert "a zero byte, so this is no text" in read("lines", path)


def test_a_file_larger_than_the_memory_is_refused_with_figures(tmp_path: Path) -> None:
    path = tmp_path / "sparse.csv"
    with path.open("wb") as file:
        file.truncate(1 << 43)
    said = read("csv", path)
    assert said.startswith("ResourceError: reading ")
    assert "its content 8.0 TB" in said
    assert "are available" in said


def test_what_gzip_declares_is_compared_with_the_memory(tmp_path: Path) -> None:
    """800 MB of rows, which would take 4 GB; the process may have 2."""
    path = zeros(tmp_path / "rows.csv.gz", 800, b"0,1,2,3\n" * (1 << 17))
    said = read("csv", path, address_gb=2)
    assert said.startswith("ResourceError: reading ")
    assert "its content 800.0 MB" in said


def test_what_lies_about_its_length_is_refused_when_it_has_grown(tmp_path: Path) -> None:
    """The last of several members is short, so that the end of the file tells nothing of the first."""
    path = zeros(tmp_path / "rows.csv.gz", 800, b"0,1,2,3\n" * (1 << 17))
    with path.open("ab") as file:
        file.write(gzip.compress(b"0,1,2,3\n"))
    said = read("csv", path, most_mb=700, address_gb=2)
    assert said.startswith("ResourceError: reading ")
    assert "its content so far" in said


def test_an_idx_header_says_how_much_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.idx.gz"
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = packer.compress(b"\0\0\x08\x01" + struct.pack(">I", 5)) + packer.compress(bytes(1 << 27)) + packer.flush()
    path.write_bytes(content)
    assert "5 values need 5 bytes, but the file holds more" in read("idx", path, most_mb=64)
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 10**9, 10**9, 3) + bytes(99)))
    assert "which a file of" in read("idx", path)


def npz(path: Path, content: Callable[[zipfile.ZipFile], object]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        content(archive)
    return path


def header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_an_npz_member_is_compared_with_its_header_before_it_is_unpacked(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", lambda archive: archive.writestr("x.npy", header((17,)) + bytes(1 << 27)))
    assert "needs 68 bytes, but 134217728 follow" in read("npz", path, most_mb=64)
    path = npz(tmp_path / "b.npz", lambda archive: archive.writestr("x.npy", header((10**12,)) + bytes(99)))
    assert "needs 4000000000000 bytes, but 99 follow" in read("npz", path)


def test_an_npz_member_that_is_longer_than_the_archive_says(tmp_path: Path) -> None:
    """128 MiB that declare to be the 17 numbers that its header promises."""
    path = npz(tmp_path / "a.npz", lambda archive: archive.writestr("x.npy", header((17,)) + bytes(1 << 27)))
    content = bytearray(path.read_bytes())
    whole = struct.pack("<I", len(header((17,))) + (1 << 27))
    place = -1
    while (place := content.find(whole, place + 1)) >= 0:
        content[place : place + 4] = struct.pack("<I", len(header((17,))) + 68)
    path.write_bytes(content)
    assert "damaged" in read("npz", path, most_mb=64)


def test_an_npz_packed_in_another_way_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", header((4,)) + bytes(16))
    assert "packed in a way that NumPy does not write" in read("npz", tmp_path / "a.npz")


def test_an_npz_whose_names_leave_the_folder_writes_nothing(tmp_path: Path) -> None:
    names = ("../../x.npy", "/etc/x.npy", "x.npy")
    path = npz(tmp_path / "a.npz", lambda archive: [archive.writestr(name, header((2,)) + bytes(8)) for name in names])
    assert read("npz", path) == "1 fields, 2 rows"


def test_an_npy_header_that_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(header((1 << 40,)) + bytes(8))
    assert "but 8 follow" in read("npy", path)
    with path.open("wb") as file:
        file.write(header((1 << 41,)))
        file.truncate(len(header((1 << 41,))) + (4 << 41))
    said = read("npy", path)
    assert said.startswith("ResourceError")
    assert "8.0 TB" in said


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_zeros(side: int) -> bytes:
    """A png of some hundred bytes that declares side² pixels."""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return start + chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9)) + chunk(b"IEND", b"")


def test_a_png_of_too_many_pixels_is_not_unpacked(tmp_path: Path) -> None:
    sides = (9000, 12000, 30000, 2**31 - 1)
    folders = [tmp_path / str(side) for side in sides]
    for folder, side in zip(folders, sides, strict=True):
        folder.mkdir()
        (folder / "bomb.png").write_bytes(png_of_zeros(side))
    for side, said in zip(sides, read_each("images", *folders), strict=True):
        assert "1 image cannot be used" in said
        assert f"{side} × {side} pixels, and at most 67,108,864 are read" in said or f"{side**2} pixels" in said


def test_images_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    """Each fits; a link counts as an image."""
    Image.new("RGB", (4000, 4000)).save(tmp_path / "0.png")
    for number in range(1, 1000):
        (tmp_path / f"{number}.png").symlink_to(tmp_path / "0.png")
    said = read("images", tmp_path, most_mb=2500)
    assert said.startswith("ResourceError")
    assert "1000 images of 4000 × 4000 pixels 44.7 GB" in said


def test_a_png_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    assert "cannot be used" in read("images", tmp_path)


def test_a_header_of_100_000_columns_is_read_in_linear_time(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(100_000)]
    path = tmp_path / "wide.csv"
    path.write_text("\n".join([",".join(names), ",".join("1" for _ in names), ",".join("2" for _ in names)]))
    assert read("csv", path, most_mb=2000) == "100000 fields, 2 rows"
    path.write_text("\n".join([",".join([*names[1:], "c7"]), ",".join("1" for _ in names)]))
    assert "the column name `c7` stands more than once" in read("csv", path, most_mb=2000)


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    path.write_text("a,b\n1,2\n" + "1," * 10_000_000)
    assert "row 3: a line of 20,000,000 characters, and no line may have more than 16,777,216" in read("csv", path)


MATCH = """
    import sys
    sys.path.insert(0, "tests/support")
    from data_specs import source, spec
    from runtime.data.loading import load_training_data
    from runtime.data.specs import Cuts

    width = int(sys.argv[2])
    for target in ("label", "c5"):
        specs = [spec("x", row=(width,)), spec(target, target=True)]
        found = load_training_data(specs, source(sys.argv[1]), Cuts())
        print(found.train.arrays["x"].shape)
"""


def test_very_many_columns_are_matched_in_linear_time(tmp_path: Path) -> None:
    """Each was looked for among all others: hours."""
    names = [f"c{number}" for number in range(50_000)]
    path = tmp_path / "wide.csv"
    path.write_text("\n".join([",".join([*names, "label"]), *[",".join("1" for _ in range(len(names) + 1))] * 3]))
    assert printed(MATCH, str(path), str(len(names))) == "(3, 50000)\n" * 2
