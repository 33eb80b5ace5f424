"""The files of this repository, for tests about what stands where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
MADE = {"__pycache__", "runs", "dist", "build", "site", "node_modules"}
BINARY = {".gz", ".npz", ".npy", ".safetensors", ".png", ".svg"}


def files(*suffixes: str, below: Path = ROOT) -> Iterator[Path]:
    """Every file that a person wrote, in order; hidden folders and what tools make are passed over.

    So is `.git`, which is a file in a second working tree.
    """
    for folder, folders, names in os.walk(below):
        hidden = {name for name in folders if name.startswith(".") and name not in (".ci", ".github")}
        made = MADE - {"runs"} if Path(folder) == ROOT / "runtime" else MADE
        folders[:] = sorted(set(folders) - hidden - made - {name for name in folders if name.endswith(".egg-info")})
        for name in sorted(set(names) - {".git"}):  # a file in a worktree
            path = Path(folder, name)
            if name != ".git" and (not suffixes or path.suffix in suffixes):
                yield path


def texts(*suffixes: str) -> Iterator[tuple[str, str]]:
    """The name, relative to the root, and content of every text file."""
    for path in files(*suffixes):
        if path.suffix not in BINARY:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def script_of_pages(name: str) -> ModuleType:
    """The script `name` in `docs`, which writes pages or pictures."""
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def shell_commands(page: str, program: str) -> list[str]:
    """The lines of the page's blocks, fenced as sh or indented by four, that start with `program`."""
    lines: list[str] = []
    fence = ""
    for line in page.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif (fence == "```sh" or (not fence and line.startswith("    "))) and line.strip().startswith(f"{program} "):
            lines.append(line.strip())
    return lines


def table_rows(page: str, first_heading: str) -> list[list[str]]:
    """The cells of each row of the Markdown table whose first column has this heading."""
    lines = page.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith(f"| {first_heading} |")]
    if not starts:
        raise AssertionError(f"no table whose first column is {first_heading!r}")
    rows: list[list[str]] = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows
