"""`dlc export --prefix`: two libraries in one program, whose names and kernels are apart."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from c_programs import HERE
from exported_models import ROWS, SMALL, fed, predicted, rows_of, trained_model

from runtime.cli.main import main
from runtime.exports.c_library import c_files
from runtime.exports.c_names import is_prefix
from runtime.exports.model_library import model_library
from runtime.inference.model import weight_names
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained

BOTH = """
#include "net.h"
#include "other_net.h"
#include <stdio.h>

static char first[NET_MEMORY(37) + 64], second[OTHER_NET_MEMORY(37) + 64];
static float x[370], scores[111], size[37];
static int32_t inner[37];

int main(void) {
    char *a = first + (64 - (uintptr_t)first % 64), *b = second + (64 - (uintptr_t)second % 64);
    struct net_settings one = NET_SETTINGS;
    struct other_net_settings other = OTHER_NET_SETTINGS;
    int row;
    for (row = 0; row < 37; row++) {
        if (fread(x + 10 * row, 4, 10, stdin) != 10 || fread(inner + row, 4, 1, stdin) != 1) return 4;
    }
    if (net_init(a, NET_MEMORY(37), 37) || other_net_init(b, OTHER_NET_MEMORY(37), 37)) return 2;
    if (other_net_predict(a, 37, x, inner, scores, size) != OTHER_NET_NOT_INITIALISED) return 3;
    if (one.optimizer_lr != other.optimizer_lr) return 5;
    if (net_predict(a, 37, x, inner, scores, size)) return 6;
    fwrite(scores, 4, 111, stdout);
    if (other_net_predict(b, 37, x, inner, scores, size)) return 7;
    fwrite(scores, 4, 111, stdout);
    fprintf(stderr, "%s", other_net_error_text(2));
    return 0;
}
"""


def write(folder: Path, trained: Trained, machine: str | None, prefix: str) -> None:
    chosen = replace(trained, options=replace(trained.options, machine=machine))
    for name, content in c_files(trained.program, *model_library(chosen, True, prefix), {}).items():
        (folder / name).write_bytes(b"".join(content))


def test_two_libraries_are_linked_into_one_program(tmp_path: Path) -> None:
    """Equal kernels are not shared: the libraries may be for different processors."""
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    one, other = trained_model(SMALL, ROWS), trained_model(SMALL.replace("seed = 5", "seed = 6"), ROWS)
    write(tmp_path, one, None, "net")
    write(tmp_path, other, "x86_64-linux-gnu" if platform.machine() == "x86_64" else None, "other_net")
    (tmp_path / "both.c").write_text(BOTH)
    whole = ("-Wl,--whole-archive", "libnet.a", "libother_net.a", "-Wl,--no-whole-archive")
    program = HERE.build(tmp_path, "both.c", library=whole)
    got = HERE.run(program, rows_of(*fed()[:2]))
    assert got == b"".join(predicted(model, model.tensors)["scores"].tobytes() for model in (one, other))


def test_the_command_names_files_and_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = trained_model(SMALL, ROWS)
    (tmp_path / "model.dl").write_text(SMALL)
    replace_tensors(tmp_path / "w.safetensors", {name: trained.tensors[name] for name in weight_names(trained.program)})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--prefix", "net"]
    folder = tmp_path / "library"
    assert main([*command, "--to", "c", "-o", str(folder)]) == 0
    files = {"net.h", "libnet.a", "example.c", "manifest.json", "weights.safetensors", "CMakeLists.txt"}
    assert {file.name for file in folder.iterdir()} == files
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {*manifest["functions"]} == {"net_predict", "net_evaluate"}
    assert "net_init has not laid out" in " ".join(error["text"] for error in manifest["errors"])
    if HERE.is_there:
        expected = predicted(trained, trained.tensors)
        program = HERE.build(folder, "example.c", library=("libnet.a",))
        assert HERE.run(program, rows_of(*fed()[:2])) == rows_of(expected["scores"], expected["size"])
        assert main([*command, "--to", "shared", "-o", str(tmp_path / "shared")]) == 0
        shared = tmp_path / "shared" / "libnet.so"
        listed = subprocess.run(
            ["nm", "-D", "--defined-only", shared], capture_output=True, text=True, check=True
        ).stdout
        assert {line.split()[-1].split("_")[0] for line in listed.splitlines()} == {"net"}
    assert main([*command, "--to", "python", "-o", str(tmp_path / "wheel")]) == 2
    assert "--prefix goes with --to c and --to shared" in capsys.readouterr().err
    assert main([*command, "--prefix", "3d", "--to", "c", "-o", str(folder)]) == 2
    assert "no names of C can begin with `3d_`" in capsys.readouterr().err
    assert main([*command, "--prefix", "Net", "--to", "c", "-o", str(folder)]) == 2
    assert "hint: macros have it in capitals: take `--prefix net`" in capsys.readouterr().err
    assert main([*command, "--prefix", "stdint", "--to", "c", "-o", str(folder)]) == 2
    assert "`stdint.h` is a header of C's own" in capsys.readouterr().err


def test_prefixes_are_beginnings_of_names() -> None:
    good = ["model", "m", "net2", "int", "a_b", "x" * 32]
    bad = ["", "Net", "nET", "_m", "m_", "a__b", "2d", "a-b", "a b", "µ", "m\n", "x" * 33, "a;b", "..", "a/b"]
    assert [name for name in good if not is_prefix(name)] == []
    assert [name for name in bad if is_prefix(name)] == []
