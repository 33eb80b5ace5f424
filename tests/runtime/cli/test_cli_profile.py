"""`dlc profile`: what it reports adds up, work is counted right, and every way to ask for it is answered."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from runtime.cli.main import main
from runtime.reporting.profile_text import profile_text

KEYS = {
    *("step_ms", "threads", "lines", "kernels", "layers", "ops", "barrier_ms", "idle_ms", "alone_ms", "stamps_cost"),
    *("peak_gflops", "bandwidth_gbs", "machine", "settings", "plain_ms", "runner_ms", "call_ms", "cpu", "dtype"),
}
LINE = {"file", "line", "text", "forward_ms", "backward_ms", "update_ms", "bytes", "flops"}
KERNEL = {"name", "ms", "calls", "flops", "bytes", "of_peak", "of_bandwidth", "lines", "threads_ms", "bound", "gflops"}
DENSE = """
model Two(hidden = 48) {
    input x: f32[batch, 32]
    h = x |> dense(hidden) |> relu
    output y = h |> dense(3)
}

train Two {
    data = csv("none.csv")
    target label: i32[batch] in 0..3
    loss = cross_entropy(y, label)
    optimizer = adam(lr = 1e-3)
    batch = 16
    epochs = 1
}
"""
RECURRENT = """
model Recurrent {
    input x: f32[batch, 10, 4]
    output y = (x |> lstm(8))[:, -1] |> dense(3)
}

train Recurrent {
    data = csv("none.csv")
    target label: i32[batch] in 0..3
    loss = cross_entropy(y, label)
    optimizer = gradient_descent(lr = 0.1)
    batch = 8
    epochs = 1
}
"""
ATTENTION = """
model Attentive {
    input x: f32[batch, 32, 64]
    output y = mean(attention(4, causal = true)(x, x, x), axis = 1) |> dense(3)
}

train Attentive {
    data = csv("none.csv")
    target label: i32[batch] in 0..3
    loss = cross_entropy(y, label)
    optimizer = gradient_descent(lr = 0.1)
    batch = 8
    epochs = 1
}
"""
QUICK = ("--seconds", "0.1")


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("dense", DENSE), ("recurrent", RECURRENT), ("attention", ATTENTION)):
        Path(f"{name}.dl").write_text(text)


_KNOWN: dict[tuple[str, ...], dict[str, Any]] = {}
"""By arguments, the profiles of the models above: most tests read one that another has asked for."""


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The profile of a model above; that of another file, or with an output, is `fresh_report`."""
    if arguments not in _KNOWN:
        _KNOWN[arguments] = fresh_report(capsys, *arguments)
    return _KNOWN[arguments]


def fresh_report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["profile", *arguments, *QUICK, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def of_lines(found: dict[str, Any]) -> float:
    return sum(row["forward_ms"] + row["backward_ms"] + row["update_ms"] for row in found["lines"])


@pytest.mark.parametrize("name", ["dense", "recurrent", "attention"])
@pytest.mark.parametrize("arguments", [("--threads", "1"), ("--threads", "2"), ("--threads", "2", "--mode", "infer")])
def test_everything_adds_up_to_the_step(
    name: str, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    found = report(capsys, f"{name}.dl", *arguments)
    assert set(found) >= KEYS
    assert all(set(row) == LINE for row in found["lines"])
    assert all(set(row) >= KERNEL for row in found["kernels"])
    lines = of_lines(found)
    whole = lines + found["barrier_ms"] + found["idle_ms"] + found["runner_ms"] + found["call_ms"]
    assert whole == pytest.approx(found["step_ms"], rel=1e-9)
    for by in ("kernels", "ops"):
        assert sum(row["ms"] for row in found[by]) == pytest.approx(lines, rel=1e-9)
    for what in ("flops", "bytes"):
        sums = [sum(row[what] for row in found[by]) for by in ("lines", "kernels", "layers", "ops")]
        assert sums == pytest.approx([sums[0]] * 4, rel=1e-9)
    assert 0 <= found["alone_ms"] <= found["step_ms"]
    for row in found["kernels"]:
        assert sum(row["threads_ms"]) >= row["ms"] * 0.999
        assert len(row["threads_ms"]) == found["threads"]
    # the system may take a core from a thread between two steps, where it has no stamps: then once more
    spent = 0.0
    for _ in range(5):
        spent = max(sum(thread.values()) for thread in found["threads_ms"]) + found["call_ms"]
        if spent == pytest.approx(found["step_ms"], rel=0.05):
            return
        found = fresh_report(capsys, f"{name}.dl", *arguments)
    pytest.fail(f"{spent} of {found['step_ms']} ms")


def test_what_is_told_of_a_line_is_what_stands_there(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "dense.dl", "--threads", "1")
    texts = Path("dense.dl").read_text().splitlines()
    rows = {row["line"]: row for row in found["lines"] if row["file"]}
    assert all(row["text"] == texts[line - 1].strip() for line, row in rows.items())
    assert set(rows) == {4, 5, 11, 12}
    assert rows[4]["forward_ms"] > 0 < rows[4]["backward_ms"]
    assert rows[12]["update_ms"] > 0 == rows[12]["forward_ms"]
    assert found["settings"]["hidden"] == 48


def test_products_are_counted_as_they_are_computed(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "dense.dl", "--threads", "1", "--mode", "infer", "--batch", "16")
    (products,) = (row for row in found["ops"] if row["name"] == "contraction")
    assert products["flops"] == 2 * 16 * (32 * 48 + 48 * 3)
    trained = report(capsys, "dense.dl", "--threads", "1")
    (products,) = (row for row in trained["ops"] if row["name"] == "contraction")
    # both weight gradients, and the gradient of what is between the layers
    assert products["flops"] == 2 * 16 * (32 * 48 * 2 + 48 * 3 * 3)


def test_bytes_are_those_of_the_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "dense.dl", "--threads", "1", "--mode", "infer", "--batch", "16")
    first = next(row for row in found["kernels"] if row["flops"] > 2 * 16 * 32 * 48)
    # the input, the weights and the biases, and what is between the layers
    assert first["bytes"] == 4 * (16 * 32 + 32 * 48 + 48 + 16 * 48)


def test_a_triangle_has_only_its_part(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "attention.dl", "--threads", "1", "--mode", "infer", "--batch", "8")
    scores = 2 * 8 * 4 * 16 * sum(range(1, 33))  # rows, heads, features of a head, places that are seen
    whole = 2 * 8 * 4 * 16 * 32 * 32
    flops = [row["flops"] for row in found["kernels"]]
    assert any(scores <= one < whole for one in flops)


def test_the_body_of_a_scan_is_called_once_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "recurrent.dl", "--threads", "1", "--mode", "infer")
    assert max(row["calls"] for row in found["kernels"]) >= 10


def test_accumulated_updates(capsys: pytest.CaptureFixture[str]) -> None:
    Path("parts.dl").write_text(DENSE.replace("batch = 16", "batch = 16\n    accumulate = 4"))
    found = fresh_report(capsys, "parts.dl", "--threads", "1")
    (products,) = (row for row in found["ops"] if row["name"] == "contraction")
    assert products["flops"] == 4 * 2 * 16 * (32 * 48 * 2 + 48 * 3 * 3)
    assert of_lines(found) + sum(
        found[f"{name}_ms"] for name in ("barrier", "idle", "runner", "call")
    ) == pytest.approx(found["step_ms"], rel=1e-9)


def test_accumulated_updates_so_long_that_samples_have_two(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the call that fills the caches is left out, and it makes all batches of an update."""
    monkeypatch.setattr("runtime.analysis.profile._SAMPLE_SECONDS", 1e-9)
    Path("parts.dl").write_text(DENSE.replace("batch = 16", "batch = 16\n    accumulate = 4"))
    assert fresh_report(capsys, "parts.dl", "--threads", "1")["step_ms"] > 0


def test_trace(capsys: pytest.CaptureFixture[str]) -> None:
    fresh_report(capsys, "recurrent.dl", "--threads", "2", "--trace", "trace.json")
    trace = json.loads(Path("trace.json").read_text())
    events = trace["traceEvents"]
    named = [e for e in events if e["ph"] == "M"]
    assert {e["name"] for e in named} == {"process_name", "thread_name"}
    ran = [e for e in events if e["ph"] == "X"]
    assert len(named) + len(ran) == len(events)
    threads = {e["tid"] for e in named if e["name"] == "thread_name"}
    for thread in threads:
        own = [e for e in ran if e["tid"] == thread]
        assert own
        assert all(e["pid"] == 1 and e["dur"] >= 0 and e["ts"] >= 0 and e["cat"] in ("work", "wait") for e in own)
        ends = [e["ts"] + e["dur"] for e in own]
        assert all(end <= after["ts"] + 1e-2 for end, after in zip(ends, own[1:], strict=False))  # rounded
    assert {e["tid"] for e in ran} <= threads


def test_diff_with_a_saved_profile_and_with_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    saved = report(capsys, "dense.dl", "--threads", "1")
    Path("before.json").write_text(json.dumps(saved))
    Path("moved.dl").write_text("\n\n" + DENSE.replace("48", "96"))
    found = fresh_report(capsys, "moved.dl", "--threads", "2", "--diff", "before.json")
    assert found["diff"]["changed"]["threads"] == [1, 2]
    assert found["diff"]["changed"]["hidden"] == [48, 96]
    rows = {row["label"]: row for row in found["diff"]["rows"]}
    assert rows["moved.dl:6"]["before_ms"] > 0 < rows["moved.dl:6"]["after_ms"]  # known by its text, two lines below
    assert all(
        row["difference_ms"] == pytest.approx((row["after_ms"] or 0) - (row["before_ms"] or 0)) for row in rows.values()
    )
    assert main(["profile", "dense.dl", "--threads", "1", "--diff", "moved.dl", "--by", "kernel", *QUICK]) == 0
    assert "hidden: 96 -> 48" in capsys.readouterr().out


def test_text_fits_its_width(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "dense.dl", "--threads", "2")
    for by, columns in product(("line", "layer", "kernel", "op"), (60, 80, 120)):
        text = profile_text(found, by, 3, columns)
        assert all(len(row) <= columns for row in text.splitlines())
        assert "and " in text or by == "layer"


def test_time_of_one_thread_is_told_as_part_of_the_step(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "dense.dl", "--threads", "2")
    shares = [{**row, "forward_ms": 0.0, "backward_ms": 0.0, "update_ms": 0.0} for row in found["lines"]]
    shares[0]["forward_ms"] = 0.5  # a second thread has nothing to do: half of the time of both is work
    made = {**found, "step_ms": 1.0, "idle_ms": 0.5, "alone_ms": 1.0, "lines": shares}
    work = next(row for row in profile_text(made, "line", 5, 80).splitlines() if row.startswith("work, by line"))
    assert " ".join(work.split()) == "work, by line 0.5000 50.0% one thread alone for 1 of the step"


def test_plot(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["profile", "dense.dl", "--threads", "2", "--plot", "roofline.svg", *QUICK]) == 0
    assert "GB/s" in Path("roofline.svg").read_text()


def test_a_run_and_the_commands_that_share_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "rings"]) == 0
    train = ["train", "rings/model.dl", "--epochs", "2", "--out", "run", "--profile", "--json", "--threads", "1"]
    capsys.readouterr()
    assert main(train) == 0
    events = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "profile"
    assert set(events[-1]) >= KEYS
    before = sorted((p, p.stat().st_mtime_ns) for p in Path("run").rglob("*"))
    found = fresh_report(capsys, "run", "--threads", "1", "--mode", "infer")
    assert (found["model"], found["mode"], found["batch"]) == ("Rings", "infer", 1)
    assert sorted((p, p.stat().st_mtime_ns) for p in Path("run").rglob("*")) == before
    assert main(["plan", "rings/model.dl", "--profile"]) == 0
    assert "waiting for others" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.dl"], "there is no file missing.dl"),
        (["dense.dl", "--by", "lines"], "did you mean `line`?"),
        (["dense.dl", "--trace", "trace.txt"], ".json"),
        (["dense.dl", "--plot", "plot.gif"], ".svg"),
        (["dense.dl", "--diff", "missing.json"], "missing.json"),
        (["dense.dl", "--diff", "empty.json"], "holds no profile"),
        (["dense.dl", "--diff", "broken.json"], "holds no profile"),
        (["dense.dl", "--target", "reference"], "--target"),
        (["dense.dl", "--last"], "--last goes with a run"),
        (["model_alone.dl"], "--mode infer"),
        (["dense.dl", "--top", "0"], "at least 1"),
    ],
)
def test_misuse(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.json").write_text("{}")
    rows = {f"{by}s": [1] for by in ("line", "kernel", "layer", "op")}
    Path("broken.json").write_text(json.dumps({"step_ms": 1, "threads": 1, **rows}))
    Path("model_alone.dl").write_text(DENSE.partition("train")[0])
    assert main(["profile", *arguments, *QUICK]) == 2
    assert said in capsys.readouterr().err
