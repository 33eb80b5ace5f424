"""In a notebook: cells of `.dl` text, displays, live curves, the interrupt, and the example."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rings import POINTS, RINGS

import dlc
from runtime.api import notebook
from runtime.api.displays import Runs

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

EXAMPLE = Path(__file__).parents[3] / "examples/digits/notebook.ipynb"


class _Shell:
    """As much of IPython's shell as cells of `.dl` text use."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.cell: Callable[[str, str], Any]

    def register_magic_function(self, function: Callable[[str, str], Any], magic_kind: str, magic_name: str) -> None:
        assert (magic_kind, magic_name) == ("cell", "dl")
        self.cell = function

    def push(self, variables: dict[str, Any]) -> None:
        self.variables |= variables


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> _Shell:
    found = _Shell()
    monkeypatch.setitem(__import__("sys").modules, "IPython", SimpleNamespace(get_ipython=lambda: found))
    dlc.load_ipython_extension()
    return found


def test_a_cell_binds_a_name_to_its_model(shell: _Shell) -> None:
    model = shell.cell("net hidden=8 optimizer.lr=0.5", RINGS)
    assert shell.variables == {"net": model}
    assert "42 parameters" in repr(model)


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        ("net", RINGS.replace("relu", "rely"), "E0201.*cell:3.*did you mean `relu`"),
        ("net hidden=8 hiden=9", RINGS, "did you mean `hidden`"),
        ("net hidden", RINGS, "`hidden` is no setting.*%%dl NAME setting=value"),
        ("3x", RINGS, "name of a variable, not `3x`"),
        ("class", RINGS, "name of a variable, not `class`"),
        ("", RINGS, "has no name"),
        ("net 'hidden", RINGS, "No closing quotation"),
    ],
)
def test_a_mistake_in_a_cell_is_shown_without_a_traceback(shell: _Shell, line: str, text: str, said: str) -> None:
    with pytest.raises(notebook.CellError) as raised:
        shell.cell(line, text)
    error: Any = raised.value
    (shown,) = error._render_traceback_()
    assert re.search(said, shown, re.DOTALL), shown
    assert shell.variables == {}


_EMPTY = ("meta", "br", "img", "path", "polyline", "polygon", "circle", "ellipse", "rect", "line")


class _Balanced(HTMLParser):
    """Fails for an element that is closed by another's end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.scripts += tag == "script"
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _EMPTY:
            assert self.open.pop() == tag


def _html_of(shown: Any) -> str:
    return _checked(shown._repr_html_())


def _checked(html: str) -> str:
    parser = _Balanced()
    parser.feed(html)
    assert (parser.open, parser.scripts) == ([], 0)
    return html


def test_displays_hold_the_figures_of_the_commands() -> None:
    model = dlc.loads(RINGS, threads=1)
    plan = model.plan()
    assert plan["parameters"] == sum(values.size for values in model.parameters.values()) == 22
    assert "FLOPs of a step" in repr(plan)
    assert "\x1b" not in repr(plan)
    assert "<td" in _html_of(plan)
    profile = model.profile(seconds=0.05)
    assert profile["batch"] == 4
    assert "a training step, batch 4" in repr(profile)
    shown = _html_of(profile)
    assert "dense(hidden)" in shown
    assert {*re.findall(r"<td>([a-z, ]+)</td>", shown)} >= {"step", "work, by line", "at barriers"}
    words = {word for line in repr(profile).splitlines() for word in line.split()}
    assert {cell for cell in re.findall(r'<td class="number">([\d.]+)</td>', shown)} <= words
    assert "e-0" not in shown
    assert "logits.dense.W" in _html_of(model.parameters)
    html = _html_of(model)
    assert "22 parameters" in html
    assert '<span class="declaration">model</span>' in html
    assert '<span class="function">relu</span>' in html
    assert RINGS in unescape(re.sub(r"<[^>]*>", "", html))
    result = model.train(POINTS, progress=False)
    html = _html_of(result)
    assert f"{result.history[-1].epoch}" in html
    assert "<polyline" in html


def test_a_graph_is_a_picture_of_levels() -> None:
    model = dlc.loads(RINGS)
    html = _html_of(model.graph())
    assert "dense" in html
    assert "cross_entropy" not in html
    assert "cross_entropy" in _html_of(model.graph("train"))
    assert len(_html_of(model.graph(depth=2))) > len(html)
    assert "point" in repr(model.graph())
    for wrong in (0, 1.5):
        with pytest.raises(dlc.UsageError, match="depth"):
            model.graph(depth=wrong)  # type: ignore[arg-type]


def test_displays_show_hostile_names_as_text() -> None:
    text = RINGS.replace("input point", "## <script>alert(1)</script>\n    input point")
    assert "&lt;script&gt;" in _html_of(dlc.loads(text))


def test_a_profile_of_no_mode_is_refused() -> None:
    with pytest.raises(dlc.UsageError, match="mode"):
        dlc.loads(RINGS).profile("trian")


def test_a_plan_of_no_rows_is_refused() -> None:
    model = dlc.loads(RINGS)
    for wrong in (0, -3, 2.0):
        with pytest.raises(dlc.UsageError, match="batch"):
            model.plan(batch=wrong)  # type: ignore[arg-type]
        with pytest.raises(dlc.UsageError, match="batch"):
            model.profile(batch=wrong)  # type: ignore[arg-type]
    for seconds in (0, -1.0, float("nan")):
        with pytest.raises(dlc.UsageError, match="seconds"):
            model.profile(seconds=seconds)


def test_runs_of_a_folder(tmp_path: Path) -> None:
    assert repr(Runs([])) == "no runs"
    assert "no runs" in _html_of(Runs([]))
    assert len(dlc.runs(tmp_path)) == 0
    with pytest.raises(dlc.UsageError, match="no folder"):
        dlc.runs(tmp_path / "absent")


def test_curves_grow_while_a_training_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(notebook, "_SECONDS_BETWEEN", 0.0)
    curves = notebook.LiveCurves(shown.append)
    result = dlc.loads(RINGS).train(POINTS, observer=curves, progress=False)
    assert len(shown) >= 3
    assert "<progress" in shown[0]
    assert "<progress" not in shown[-1]
    assert all(map(_checked, shown))
    assert f">{result.history[-1].epoch}<" in shown[-1]


def test_arrays_of_others_are_read() -> None:
    class Frame:
        """The columns of a table, as pandas and polars give them."""

        columns = ("point", "ring")

        def __getitem__(self, name: str) -> Any:
            return POINTS[name]

    one, other = dlc.loads(RINGS), dlc.loads(RINGS)
    assert one.train(POINTS).history[-1].scalars == other.train(Frame()).history[-1].scalars
    assert one.evaluate(POINTS) == other.evaluate(Frame())
    assert np.array_equal(one.predict(POINTS["point"])["logits"], other.predict(Frame())["logits"])


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_are_read(package: str) -> None:
    frames = pytest.importorskip(package)
    text = RINGS.replace("f32[batch, 2]", "f32[batch]").replace("point |>", "reshape(point, [batch, 1]) |>")
    columns = {"point": POINTS["point"][:, 0], "ring": POINTS["ring"]}
    one, other = dlc.loads(text), dlc.loads(text)
    one.train(columns)
    other.train(frames.DataFrame(columns))
    assert np.array_equal(one.predict(columns["point"])["logits"], other.predict(frames.DataFrame(columns))["logits"])


class _Exchanged:
    """An array of another package, which has none of NumPy's own protocols."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **how: Any) -> Any:
        return self.array.__dlpack__(**how)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_arrays_are_read_by_dlpack() -> None:
    one, other = dlc.loads(RINGS), dlc.loads(RINGS)
    exchanged: dict[str, Any] = {name: _Exchanged(array) for name, array in POINTS.items()}
    assert one.train(POINTS).history[-1].scalars == other.train(exchanged).history[-1].scalars
    found = other.predict(exchanged["point"])["logits"]
    assert np.array_equal(one.predict(POINTS["point"])["logits"], found)
    doubled: Any = dlc.function("fn doubled(x) = 2 * x", "doubled")
    assert np.array_equal(doubled(exchanged["point"]), 2 * POINTS["point"])


class _OnDevice:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("cannot convert a tensor of the device")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[1.0, None]] * len(POINTS["point"]), object), "row 1: `point`: the value is None"),
        (np.array([[1.0, math.nan]] * len(POINTS["point"]), object), "row 1: `point`: the value is nan"),
        (np.array([["a", "b"]] * len(POINTS["point"])), "`point` holds text, where the model takes numbers"),
        (object(), "`point` is object, which is no array"),
        (None, "`point` is NoneType, which is no array"),
        (_OnDevice(), "NumPy cannot read `point`: cannot convert a tensor of the device"),
    ],
)
def test_values_that_are_no_numbers_are_refused(values: Any, said: str) -> None:
    model = dlc.loads(RINGS)
    with pytest.raises(dlc.DlcError, match=re.escape(said)):
        model.train({**POINTS, "point": values})
    with pytest.raises(dlc.DlcError, match=re.escape(said)):
        model.predict({"point": values})


@pytest.mark.parametrize("data", [7, [1, 2], {"point": POINTS["point"]}])
def test_what_is_no_data_is_refused(data: Any) -> None:
    with pytest.raises(dlc.DlcError) as raised:
        dlc.loads(RINGS).train(data)
    assert raised.value.__notes__


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")
    yield SimpleNamespace(manager=manager, client=client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _outputs(kernel: Any, code: str, meanwhile: Callable[[dict[str, Any]], None] = lambda _: None) -> list[Any]:
    """The contents of what a cell shows; `meanwhile` is told of each."""
    asked = kernel.client.execute(code)
    found: list[Any] = []
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != asked:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return found
        found.append(message["content"])
        meanwhile(message["content"])


def test_the_interrupt_of_a_notebook_keeps_the_weights(kernel: Any) -> None:
    _outputs(kernel, f"import dlc, numpy as np\nnet = dlc.loads({RINGS!r})\nstart = dict(net.parameters)")
    data = "{'point': np.ones((4000, 2), 'f4'), 'ring': np.zeros(4000, 'i4')}"
    interrupted: list[bool] = []

    def interrupt(content: dict[str, Any]) -> None:
        if "polyline" in str(content) and not interrupted:
            interrupted.append(True)
            kernel.manager.interrupt_kernel()

    found = _outputs(
        kernel, f"copy = {{k: v.copy() for k, v in start.items()}}\nnet.train({data}, epochs=10**6)", interrupt
    )
    assert interrupted
    assert [content["ename"] for content in found if "ename" in content] == ["KeyboardInterrupt"]
    has_moved = "all((net.parameters[k] != v).any() for k, v in copy.items())"
    said = _outputs(kernel, f"print({has_moved}, len(net.train({data}, epochs=1).history))")
    assert "True 1\n" in [content.get("text") for content in said]
    with pytest.raises(Empty):
        kernel.client.get_iopub_msg(timeout=0.1)


def test_the_example_runs(kernel: Any) -> None:
    written = nbformat.read(EXAMPLE, as_version=4)
    client = nbclient.NotebookClient(written, timeout=300, resources={"metadata": {"path": str(EXAMPLE.parent)}})
    client.execute()
    outputs = {cell.id: cell.outputs for cell in written.cells if cell.cell_type == "code"}
    assert all("text/html" in outputs[f"cell-{number}"][-1].data for number in (3, 5, 7, 11))
    assert "<polyline" in outputs["cell-7"][0].data["text/html"]
    found, true = re.findall(r"array\(\[([\d, ]+)\]", outputs["cell-9"][-1].data["text/plain"])
    wrong = sum(one != other for one, other in zip(found.split(","), true.split(","), strict=True))
    assert wrong <= 1  # a 5 in the data looks like a 9
