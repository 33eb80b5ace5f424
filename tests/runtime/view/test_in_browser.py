"""Pages in a real browser: every tab opens without a complaint, lines are chosen by pointer and by keyboard."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from repository import ROOT
from view_pages import SMALL, browser, chromium, data_in, opened, written

from runtime.cli.main import main

TABS = ("What it is", "Graph", "Gradient", "Kernels", "Loops", "LLVM", "Assembly")


@pytest.fixture(scope="module")
def running() -> Generator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    chromium()
    folder = tmp_path_factory.mktemp("browser")
    assert main(["view", str(written(folder)), "--html", str(folder / "net.html")]) == 0
    return (folder / "net.html").as_uri()


def chosen(tab: Any) -> str:
    return tab.get_attribute(".row.chosen", "id")


@pytest.mark.parametrize("name", ["xor", "lenet", "tagging"])
def test_every_tab_and_view_of_an_example_opens(name: str, running: Any, tmp_path: Path):
    out = tmp_path / "page.html"
    assert main(["view", str(ROOT / "examples" / name / "model.dl"), "--html", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        lines = tab.locator(".row[role=option]:not(.idle)").count()
        assert lines > 2
        for line in range(lines):
            tab.locator(".row[role=option]:not(.idle)").nth(line).click()
            for title in TABS:
                tab.locator("#tabs").get_by_role("tab", name=title, exact=True).click()
                assert tab.inner_text("#body").strip()
        for view in ("Graph", "Memory", "Ledger"):
            tab.locator("#views").get_by_role("tab", name=view, exact=True).click()
            assert tab.locator(f"#{view.lower()}").is_visible()


def test_an_instruction_leads_back_to_its_line(running: Any, net: str):
    with opened(running, net + "#line=0:10&tab=Assembly") as tab:
        tab.wait_for_selector(".listing .l.own")
        own = tab.locator(".listing .l.own.goes")
        assert own.count() > 3
        assert all("net.dl:10 " in row.get_attribute("title") for row in own.all())
        tab.get_by_label("only this line's").uncheck()
        tab.wait_for_selector(".listing .l.goes:not(.own)")
        tab.locator(".listing .l.goes:not(.own)").first.click()
        assert chosen(tab) not in (None, "line-0-10")


def test_the_keyboard_reaches_everything(running: Any, net: str):
    with opened(running, net) as tab:
        tab.keyboard.press("j")
        tab.keyboard.press("j")
        assert chosen(tab) == "line-0-2"
        tab.keyboard.press("ArrowUp")
        assert chosen(tab) == "line-0-1"
        assert not tab.locator("#detail").is_visible()
        tab.keyboard.press("/")
        tab.keyboard.type("dense")
        assert tab.inner_text("#hits") == "2 lines"
        tab.keyboard.press("Enter")
        assert chosen(tab) == "line-0-6"
        tab.keyboard.press("Escape")
        tab.keyboard.press("Enter")
        for number, title in enumerate(TABS, 1):
            tab.keyboard.press(str(number))
            assert tab.inner_text("#tabs [aria-selected=true]") == title
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text("#tabs [aria-selected=true]") == TABS[0]
        tab.keyboard.press("Escape")
        assert not tab.locator("#detail").is_visible()
        for key, view in (("g", "graph"), ("m", "memory"), ("l", "ledger")):
            tab.keyboard.press(key)
            assert tab.locator(f"#{view}").is_visible()
        tab.keyboard.press("?")
        assert tab.locator("dialog").is_visible()
        tab.keyboard.press("Escape")
        assert not tab.locator("dialog").is_visible()


def test_light_and_dark_follow_the_system_and_the_switch(running: Any, net: str):
    def background(tab: Any) -> str:
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    with opened(running, net) as tab:
        light = background(tab)
    with opened(running, net, "dark") as tab:
        dark = background(tab)
        tab.keyboard.press("t")
        assert background(tab) == light != dark
        tab.emulate_media(color_scheme="light")
        tab.get_by_label("light or dark").click()
        assert background(tab) == dark


def test_boxes_of_the_graph_open(running: Any, net: str):
    with opened(running, net + "#view=Graph") as tab:
        before = tab.locator(".box").count()
        tab.locator(".box.opens > rect").first.click()
        assert tab.locator(".box").count() > before
        tab.locator(".box.opened > rect").first.click(position={"x": 3, "y": 3})
        assert tab.locator(".box").count() == before


def test_boxes_of_the_graph_open_by_keyboard_and_keep_the_focus(running: Any, net: str):
    with opened(running, net + "#view=Graph") as tab:
        before = tab.locator(".box").count()
        tab.locator(".box.opens").first.focus()
        tab.keyboard.press("Enter")
        assert tab.locator(".box").count() > before
        tab.keyboard.press("Enter")
        assert tab.locator(".box").count() == before


CROSSED = """() => {
    const closed = [...document.querySelectorAll('#graph .box:not(.opened) > rect:first-of-type')].map((rect) => rect.getBoundingClientRect());
    const inside = (x, y) => closed.some((box) => box.left + 2 < x && x < box.right - 2 && box.top + 2 < y && y < box.bottom - 2);
    const overlaps = closed.flatMap((one, n) => closed.slice(n + 1).filter((other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom));
    const crossing = [...document.querySelectorAll('#graph path.edge')].filter((path) => {
        const place = path.getScreenCTM();
        const long = path.getTotalLength();
        return [...Array(41).keys()].some((n) => { const at = path.getPointAtLength((long * n) / 40).matrixTransform(place); return inside(at.x, at.y); });
    });
    return [closed.length, overlaps.length, crossing.length];
}"""  # noqa: E501
"""How many boxes are closed, how many of them overlap, and how many edges go through one."""


def test_boxes_stand_apart_and_edges_go_around_them(running: Any, tmp_path: Path):
    out = tmp_path / "page.html"
    assert main(["view", str(ROOT / "examples" / "transformer" / "model.dl"), "--html", str(out)]) == 0
    with opened(running, out.as_uri() + "#view=Graph") as tab:
        tab.wait_for_selector("#graph svg")
        closed, *wrong = tab.evaluate(CROSSED)
        assert (closed > 12, wrong) == (True, [0, 0])
        for name in ("encoder_block", "decoder_block"):
            tab.locator("#graph .box.opens", has_text=name).first.locator("rect").first.click()
        more, *wrong = tab.evaluate(CROSSED)
        assert (more > closed + 6, wrong) == (True, [0, 0])


def test_the_peak_of_memory_is_told_by_line(running: Any, net: str):
    with opened(running, net + "#view=Memory") as tab:
        shares = tab.locator(".peak td:nth-child(4)").all_text_contents()
        assert len(shares) > 2
        assert sum(float(text.strip("<% ")) for text in shares) == pytest.approx(100, abs=0.6)
        row = tab.locator(".peak tr", has_text="line 10, forward").first
        row.locator(".goes").focus()
        assert row.locator("td").nth(2).inner_text() in tab.inner_text(".memory .said")
        row.locator(".goes").click()
        assert chosen(tab) == "line-0-10"


def test_inputs_of_one_box_stand_beside_each_other(running: Any, tmp_path: Path):
    path, out = tmp_path / "two.dl", tmp_path / "two.html"
    path.write_text(
        "fn twice(a, b) = relu(a + b)\n\n"
        "model Two {\n    input left: f32[batch, 3]\n    input right: f32[batch, 3]\n"
        "    s = twice(left, right)\n    output y = s |> dense(2)\n}\n"
    )
    assert main(["view", str(path), "--html", str(out)]) == 0
    with opened(running, out.as_uri() + "#view=Graph") as tab:
        tab.wait_for_selector("#graph svg")
        texts = tab.locator("#graph .edge-text").all_text_contents()
        assert "left, right" in texts
        assert not {"left", "right"} & set(texts)


def test_shares_of_a_measured_step_add_up(running: Any, tmp_path: Path):
    out = tmp_path / "net.html"
    assert main(["view", str(written(tmp_path)), "--html", str(out), "--profile", "--seconds", "0.3"]) == 0
    with opened(running, out.as_uri()) as tab:
        rest = tab.locator(".row.without")
        assert "around the call" in rest.locator(".cost").get_attribute("title")
        shares = [text.rstrip(" %") for text in tab.locator(".row:not(.head) .cost .quiet").all_text_contents()]
        assert len(shares) > 3
        assert sum(float(text) for text in shares) == pytest.approx(100, abs=0.6)
        rest.click()
        assert tab.locator(".row.chosen").count() == 0


def test_the_graph_is_searched_and_shows_the_backward_pass_beside_it(running: Any, net: str):
    with opened(running, net) as tab:
        tab.keyboard.press("g")
        before = tab.locator(".box").count()
        tab.keyboard.press("/")
        tab.keyboard.type("scaled")
        assert tab.inner_text(".graph-tools [role=status]") == "1 box"
        assert tab.locator(".box.found", has_text="scaled").count() == 1
        tab.get_by_label("find in the graph").fill("line 10")
        assert "dense" in tab.locator(".box.found").first.text_content()
        tab.keyboard.press("Escape")
        assert tab.locator(".box.found").count() == 0
        assert tab.locator(".box").count() == before
        tab.get_by_label("backward beside forward").check()
        assert tab.locator(".sides svg").count() == 2
        assert tab.locator(".box").count() == 2 * before
        assert tab.locator(".box.idle", has_text="accuracy").count() == 1  # nothing is differentiated there


def test_hostile_names_are_text(running: Any, tmp_path: Path):
    name = "<script>document.title='taken'<!--.dl"
    note = "# </script><script>document.title='taken'</script><img src=x onerror=alert(1)> &lt; \u2028\n"
    data = '    data = csv("<script>alert(1).csv")\n'
    text = note + SMALL.replace("    epochs = 1\n", f"    epochs = 1\n{data}")
    out = tmp_path / "page.html"
    assert main(["view", str(written(tmp_path, name, text)), "--html", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        assert "taken" not in tab.title().split(" – ")[1]
        assert name in tab.inner_text("#file")
        assert "</script><script>" in tab.inner_text("#line-0-1")
        assert tab.locator("img").count() == 0
        for title in TABS:
            tab.locator("#line-0-7").click()
            tab.locator("#tabs").get_by_role("tab", name=title, exact=True).click()
        assert tab.title() != "taken"


def test_a_graph_names_its_outputs_and_has_boxes_in_line(running: Any, net: str):
    with opened(running, net + "#view=Graph") as tab:
        tab.wait_for_selector("#graph svg")
        texts = tab.locator("#graph .edge-text").all_text_contents()
        assert {"loss: f32[]", "accuracy: f32[]"} <= set(texts)
        widths = tab.evaluate(
            "[...document.querySelectorAll('#graph .box > rect:first-of-type')].map((b) => b.width.baseVal.value)"
        )
        assert {width % 40 for width in widths} == {0}


def test_a_rate_that_layers_share_is_no_flow_between_them(running: Any, tmp_path: Path):
    path, out = tmp_path / "two.dl", tmp_path / "two.html"
    path.write_text(
        "model Two(drop = 0.1) {\n    input left: f32[batch, 3]\n    input right: f32[batch, 5]\n"
        "    a = left |> optional_dropout(drop)\n"
        "    b = right |> optional_dropout(drop) |> dense(3)\n    output y = a * b |> dense(2)\n}\n\n"
        "train Two {\n    target t: f32[batch, 2]\n    loss = mse(y, t)\n    optimizer = adam\n"
        "    epochs = 1\n    batch = 4\n}\n"
    )
    assert main(["view", str(path), "--html", str(out)]) == 0
    arrows = data_in(out.read_text("utf-8"), "document")["graph"]["arrows"]
    assert len(arrows) > 3
    assert {arrow["bytes"] > 4 for arrow in arrows if arrow["from"]} == {True}
    with opened(running, out.as_uri() + "#view=Graph") as tab:
        tab.wait_for_selector("#graph svg")
        assert tab.locator("#graph .box", has_text="dropout").count() == 2


def test_a_long_name_does_not_leave_the_graph(running: Any, tmp_path: Path):
    path, out, name = tmp_path / "long.dl", tmp_path / "long.html", "a" * 300
    path.write_text(f"model L {{\n    input {name}: f32[batch, 8]\n    output y = {name} |> dense(3)\n}}\n")
    assert main(["view", str(path), "--html", str(out)]) == 0
    with opened(running, out.as_uri() + "#view=Graph") as tab:
        shown = tab.locator("#graph .edge-text", has_text="aaa")
        assert shown.text_content() == "a" * 59 + "…"
        box = shown.bounding_box()
        assert 0 < box["x"] < box["x"] + box["width"] < 1280


def test_a_padded_input_has_its_own_shape_first(running: Any, tmp_path: Path):
    out = tmp_path / "page.html"
    assert main(["view", str(ROOT / "examples" / "tagging" / "model.dl"), "--html", str(out)]) == 0
    with opened(running, out.as_uri()) as tab:
        shown = tab.locator(".row", has_text="padded by mask").first.locator(".shape")
        assert shown.inner_text().startswith("i32[batch, time")
        assert "bool[batch, time" in shown.get_attribute("title")


@pytest.mark.parametrize("width", [640, 1024, 1280])
def test_the_bar_at_the_top_cuts_no_figure(running: Any, net: str, width: int):
    with opened(running, net) as tab:
        tab.set_viewport_size({"width": width, "height": 720})
        cut = tab.evaluate("""() => {
            const { right, bottom } = document.getElementById('figures').getBoundingClientRect();
            const shown = [...document.querySelectorAll('#figures span')].map((one) => one.getBoundingClientRect());
            return shown.filter((one) => one.top < bottom - 2 && one.right > right + 1).length;
        }""")
        assert cut == 0
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_step_without_a_name_leads_to_the_places_that_gave_its_dimensions(running: Any, net: str):
    with opened(running, net + "#line=0:10") as tab:
        assert "the value of y |> dense(3)" not in tab.inner_text("#body")
        assert "the value of dense(3)" in tab.inner_text("#body .facts h3 >> nth=0")
        rows = tab.locator("#body .facts > div:first-child tr")
        assert [row.inner_text().split() for row in rows.all()] == [
            ["batch", "from", "line", "4", "batch"],
            ["3", "from", "line", "10", "dense(3)"],
        ]
        assert tab.inner_text("#line-0-10 .shape") == "f32[batch, 3]"
        rows.first.locator("a").click()
        assert chosen(tab) == "line-0-4"
