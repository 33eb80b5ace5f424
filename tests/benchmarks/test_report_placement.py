"""Each kind of processor has a table of its own in the page of benchmarks, and no other run overwrites it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

from processors import kind
from report import END, with_table

PAGE = """\
# Benchmarks

### A, AVX2

Kept before.

<!-- results: A, AVX2 -->

old A
<!-- end of results -->

Kept between.

### B, AVX-512

<!-- results: B, AVX-512 -->

old B
<!-- end of results -->

Kept after.
"""


@pytest.mark.parametrize(("name", "old"), [("A, AVX2", "old A"), ("B, AVX-512", "old B")])
def test_only_the_table_of_this_kind_is_made_anew(name: str, old: str) -> None:
    assert with_table(PAGE, name, "new") == PAGE.replace(old, "new")


def test_a_new_kind_gets_a_section_of_its_own() -> None:
    page = with_table(PAGE, "C, NEON", "new")
    added = "\n\n### C, NEON\n\n<!-- results: C, NEON -->\n\nnew\n<!-- end of results -->"
    assert page == PAGE.replace("old B\n" + END, "old B\n" + END + added)
    assert with_table(page, "C, NEON", "newer") == page.replace("new\n", "newer\n")


def test_marks_that_do_not_stand_in_pairs() -> None:
    with pytest.raises(ValueError, match="not followed by"):
        with_table(PAGE.replace(END, "", 1), "A, AVX2", "new")
    with pytest.raises(ValueError, match="no place for results"):
        with_table("# Benchmarks\n", "A, AVX2", "new")


def test_the_page_of_benchmarks_has_a_section_for_each_kind() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text()
    lines = text.splitlines()
    kinds = [
        line.removeprefix("<!-- results: ").removesuffix(" -->") for line in lines if line.startswith("<!-- results")
    ]
    assert len(kinds) == len(set(kinds)) >= 2
    assert [name for name in kinds if f"### {name}" not in lines] == []
    for name in kinds:
        assert with_table(text, name, "new") != text


def test_a_file_that_is_no_result_is_a_message(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps([]) + "x")
    command = [sys.executable, str(ROOT / "benchmarks" / "report.py"), str(results)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("report.py: ")
    assert "Traceback" not in done.stderr


def described(vendor: str, family: int, model: int, name: str, stepping: int = 1) -> str:
    """As /proc/cpuinfo describes two processors."""
    facts = {"vendor_id": vendor, "cpu family": family, "model": model, "model name": name, "stepping": stepping}
    one = "".join(f"{key}\t: {value}\n" for key, value in facts.items())
    return f"processor\t: 0\n{one}\nprocessor\t: 1\n{one.replace(name, 'another')}\n"


@pytest.mark.parametrize(
    ("information", "instruction_set", "expected"),
    [
        (described("AuthenticAMD", 25, 1, "AMD EPYC"), "avx2", "AMD EPYC Zen 3, AVX2"),
        (described("AuthenticAMD", 25, 0x11, "AMD EPYC 9654 96-Core Processor"), "avx512", "AMD EPYC Zen 4, AVX-512"),
        (described("AuthenticAMD", 26, 2, "AMD EPYC 9755"), "avx512", "AMD EPYC Zen 5, AVX-512"),
        (described("AuthenticAMD", 26, 2, "AMD EPYC 9755"), "avx2", "AMD EPYC Zen 5, AVX2"),
        (described("AuthenticAMD", 23, 0x31, "AMD EPYC 7742 64-Core Processor"), "avx2", "AMD EPYC Zen 2, AVX2"),
        (described("AuthenticAMD", 25, 0x50, "AMD Ryzen 7 5800U"), "avx2", "AMD Ryzen Zen 3, AVX2"),
        (
            described("GenuineIntel", 6, 0x8F, "Intel(R) Xeon(R) Platinum 8488C"),
            "avx512",
            "Intel Xeon Sapphire Rapids, AVX-512",
        ),
        (
            described("GenuineIntel", 6, 0x55, "Intel(R) Xeon(R) Processor @ 2.50GHz", 7),
            "avx512",
            "Intel Xeon Cascade Lake, AVX-512",
        ),
        (
            described("GenuineIntel", 6, 0x97, "12th Gen Intel(R) Core(TM) i7-12700"),
            "avx2",
            "Intel Core Alder Lake, AVX2",
        ),
        (described("AuthenticAMD", 40, 3, "AMD EPYC"), "avx512", "AMD EPYC family 40 model 3, AVX-512"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n", "neon", "Arm Neoverse N1, NEON"),
        ("processor\t: 0\nCPU implementer\t: 0x61\nCPU part\t: 0x22\n", "neon", "Arm implementer 0x61 part 0x22, NEON"),
    ],
)
def test_the_kind_of_a_processor(information: str, instruction_set: str, expected: str) -> None:
    assert kind(information, instruction_set) == expected
