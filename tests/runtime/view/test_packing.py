"""Packed code is read back to the letter, by the module of the page that reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from view_pages import page_of, written

from runtime.view.packing import packed_code, packed_json
from runtime.view.page_text import PAGE

READ = """
import { PackedCode, unpackedJson } from "./packed.mjs";
import { readFileSync } from "node:fs";
const { code, document, stages } = JSON.parse(readFileSync(0, "utf8"));
const packed = new PackedCode(code);
const found = {};
for (const symbol of code.symbols) {
  found[symbol] = {};
  for (const stage of stages) found[symbol][stage] = await packed.code(symbol, stage);
}
console.log(JSON.stringify({ code: found, document: await unpackedJson(document) }));
"""


def read_back(code: Any, document: Any, folder: Path) -> Any:
    """What the page reads."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (folder / "packed.mjs").write_text((PAGE / "packed.js").read_text("utf-8"))
    (folder / "read.mjs").write_text(READ)
    stages = [*dict.fromkeys(stage for kernel in code.values() for stage in kernel)]
    given = {"code": packed_code(code), "document": packed_json(document), "stages": stages}
    done = subprocess.run(
        [node, folder / "read.mjs"], input=json.dumps(given), text=True, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def test_the_code_of_a_page_is_read_back_to_the_letter(tmp_path: Path):
    page: Any = page_of(written(tmp_path / "model"))
    assert read_back(page.code, page.document, tmp_path) == json.loads(
        json.dumps({"code": page.code, "document": page.document})
    )


def test_numbers_of_any_form_are_kept(tmp_path: Path):
    lines = ["%v7 = add 007, -3, 1.50e-08", "%v9 = add 007, -0, 1.5e+08", "", "0123456789012 99999999999 é4 ٣", "x"]
    stage = {"text": "\n".join(lines), "statements": [3, 1, 0, 2, 9], "origins": [0, 5, 5, 0, 1]}
    listing = {"text": "ret", "statements": [0], "origins": [2], "offsets": [None], "labels": {"0": ["a"]}}
    code = {"first": {"llvm": stage, "asm": listing}, "second": {"llvm": stage, "asm": {**listing, "offsets": [700]}}}
    assert read_back(code, "\ud800 </script>", tmp_path)["code"] == code


def test_lines_that_differ_in_numbers_take_little_room():
    text = "\n".join(f"  %v{n} = mul i64 %v{n - 3}, %a{n % 7}, !dbg !{n // 2}" for n in range(20_000))
    code = {"k": {"llvm": {"text": text, "statements": [1] * 20_000, "origins": [1] * 20_000}}}
    assert len(json.dumps(packed_code(code))) < len(text) / 50
