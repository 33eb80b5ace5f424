"""`dlc export --to web`: one file that predicts and trains without a server, whatever the model's names are."""

from __future__ import annotations

import base64
import gzip
import html.parser
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from web_programs import BROWSERS, in_browser, in_node

from runtime.cli.main import main
from runtime.runs.tensor_files import read_tensors

HOSTILE = "</script><script>document.title='broken'</script>"
PICTURES = """
model Pictures {
    input pixels: f32[batch, 16]
    output logits = pixels |> dense(3)
}

train Pictures {
    data = csv("rows.csv")
    target kind: i32[batch] in 0..3
    loss = cross_entropy(logits, kind)
    metrics = [accuracy(logits, kind)]
    optimizer = adam(lr = 0.1)
    schedule = cosine(T = total_steps)
    epochs = 2
    batch = 8
    seed = 1
}
"""
TEXTS = """
model Texts(context = 6) {
    input tokens: i32[batch, context] in 0..vocabulary
    embed = embedding(vocabulary, 8)
    output logits = embed(tokens) |> embed
}

train Texts {
    data = text("letters.txt", tokens = "char")
    target next: i32[batch, context] in 0..vocabulary
    loss = cross_entropy(logits, next)
    optimizer = gradient_descent(lr = 0.1)
    steps = 3
    batch = 4
    seed = 1
}

generate Texts {
    feed tokens from logits
    start = "a"
    length = 12
}
"""
TABLE = """
model Table {
    input width: f32[batch, 1]
    input colour: i32[batch] in 0..2
    output amount = (width |> dense(1)) + (colour |> embedding(2, 1))
}

train Table {
    data = csv("table.csv", normalise = true)
    target price: f32[batch, 1]
    loss = mse(amount, price)
    optimizer = gradient_descent(lr = 0.1)
    epochs = 1
    batch = 4
    seed = 1
}
"""
LOADED = """new Promise((done) => {
    const look = () => {
        const text = document.getElementById("state").textContent;
        if (text !== "Loading …") done(text); else setTimeout(look, 20);
    };
    look();
})"""
TEXT = "document.getElementById('main').innerText"


def click(text: str) -> str:
    return f"[...document.querySelectorAll('button')].find((b) => b.textContent === {json.dumps(text)}).click()"


def until(condition: str) -> str:
    return f"""new Promise((done) => {{
        const look = (n) => ({condition}) ? done(true) : n ? setTimeout(() => look(n - 1), 20) : done(false);
        look(500);
    }})"""


def exported(folder: Path, model: str, *options: str) -> Path:
    """The page of a model that was trained on the folder's data."""
    (folder / "model.dl").write_text(model)
    assert main(["train", str(folder / "model.dl"), "--out", str(folder / "run")]) == 0
    assert main(["export", str(folder / "run"), "--to", "web", *options, "-o", str(folder / "page")]) == 0
    return folder / "page" / "index.html"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(1)
    kinds = random.integers(0, 3, 48)
    names = [HOSTILE, "b & b", "c"]
    rows = [",".join([*(str(x) for x in random.integers(0, 9, 16) + 4 * k), f'"{names[k]}"']) for k in kinds]
    (folder / "rows.csv").write_text("\n".join([",".join([*(f"p{n}" for n in range(16)), "kind"]), *rows]))
    return exported(folder, PICTURES, "--training", "--rows", "12")


class Scripts(html.parser.HTMLParser):
    """The contents of a page's scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._is_in = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
        self._is_in = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._is_in = False

    def handle_data(self, data: str) -> None:
        if self._is_in:
            self.found.append(data)


def test_no_name_ends_an_element_of_the_page(pictures: Path) -> None:
    data, script = Scripts(pictures.read_text()).found
    page = json.loads(data)["page"]
    assert HOSTILE in page["names"]
    assert (page["kind"], page["height"], page["width"]) == ("image", 4, 4)
    assert script.lstrip().startswith("/* Runs a model")


@pytest.mark.parametrize("browser", BROWSERS)
def test_a_picture_is_predicted_and_trained_in_a_browser(browser: str, pictures: Path, tmp_path: Path) -> None:
    looks = "document.querySelector('section [role=status]').textContent"
    updates = "(Number([...document.querySelectorAll('[role=status]')].at(-1).textContent.split(' ')[0]) || 0)"
    keys = [f"canvas.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}' }}))" for key in ("Delete", " ")]
    asked = {
        "state": LOADED,
        "first": looks,
        "draws": f"const canvas = document.querySelector('canvas'); {'; '.join(keys)}",
        "drawn": looks,
        "trains": click("Train"),
        "is trained": until(f"{updates} > 20"),  # more than the schedule has
        "stops": click("Stop"),
        "teaches": click("Teach this drawing"),
        "text": TEXT,
        "title": "document.title",
    }
    errors, *values = in_browser(pictures, tmp_path / "profile", [*asked.values()], browser)
    found = dict(zip(asked, values, strict=True))
    assert errors == []
    slower = "This browser has no fused multiply-adds in WebAssembly, so a slower module computes them: the same bits. "
    state = "51 parameters. Everything happens in this page; nothing is sent."
    assert found["state"].replace(slower, "" if browser == "Firefox" else slower) == state
    assert found["first"].startswith("It looks like ")
    assert found["drawn"].startswith("It looks like ")
    assert found["drawn"] != found["first"]
    assert found["is trained"] is True
    assert "1 drawing, five updates at a time." in found["text"]
    assert HOSTILE in found["text"]  # as text
    assert found["title"] == "Pictures"


@pytest.mark.parametrize("browser", BROWSERS)
def test_updates_in_a_browser_have_the_bits_of_those_in_node(browser: str, pictures: Path, tmp_path: Path) -> None:
    """Five updates from the first picture of the page, which stands for the first class; then the weights are saved."""
    asked = {
        "state": LOADED,
        "keeps": "URL.createObjectURL = (blob) => { window.saved = blob.arrayBuffer(); return '#'; }; 0",
        "teaches": click("Teach this drawing"),
        "saves": click("Save the weights"),
        "saved": "saved.then((bytes) => Array.from(new Uint8Array(bytes)))",
    }
    errors, *values = in_browser(pictures, tmp_path / "profile", [*asked.values()], browser)
    assert errors == []
    page = json.loads(Scripts(pictures.read_text()).found[0])
    brightest = page["page"]["brightest"]
    pixels = np.frombuffer(gzip.decompress(base64.b64decode(page["rows"]["pixels"][1])), np.float32)[:16]
    ink = np.clip(pixels.astype(np.float64) / brightest, 0, 1).astype(np.float32)
    drawing = {"pixels": (ink.astype(np.float64) * brightest).astype(np.float32)[None], "kind": np.zeros(1, np.int32)}
    *_, saved = in_node(pictures.parent, 32, [*[("step", drawing)] * 5, ("save",)])
    assert bytes(values[-1]) == saved
    assert saved != in_node(pictures.parent, 32, [*[("step", drawing)] * 4, ("save",)])[-1]


@pytest.mark.parametrize("browser", BROWSERS)
def test_a_text_goes_on_in_a_browser(browser: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letters.txt").write_text("abcabcabdabcabc" * 20)
    page = exported(tmp_path, TEXTS, "--training")
    asked = {
        "state": LOADED,
        "chooses": "document.querySelector('[placeholder=\"another each time\"]').value = '5'",
        "generates": click("Generate"),
        "ends": until("/^12 tokens/.test(document.querySelector('section [role=status]').textContent)"),
        "generated": "document.querySelector('pre').textContent",
        "short": "document.querySelectorAll('textarea')[1].value = 'abc'",
        "trains": click("Train"),
        "problem": "[...document.querySelectorAll('[role=alert]')].at(-1).textContent",
        "long": "document.querySelectorAll('textarea')[1].value = 'abcabcabcabc'",
        "stops": until("[...document.querySelectorAll('button')].some((b) => b.textContent === 'Train')"),
        "goes": click("Train"),
        "is trained": until("[...document.querySelectorAll('[role=status]')].at(-1).textContent.includes('loss')"),
    }
    errors, *values = in_browser(page, tmp_path / "profile", [*asked.values()], browser)
    found = dict(zip(asked, values, strict=True))
    assert errors == []
    assert (found["ends"], len(found["generated"])) == (True, 12)
    capsys.readouterr()
    assert main(["generate", str(tmp_path / "run"), "--seed", "5", "--max", "12"]) == 0
    assert capsys.readouterr().out.rstrip("\n").endswith(found["generated"])
    assert found["problem"] == "a text of at least 7 tokens, not 3"
    assert found["is trained"] is True


@pytest.mark.parametrize("browser", BROWSERS)
def test_byte_pairs_of_a_prompt_go_on_in_a_browser(
    browser: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tokenizers", reason="the extra `text` is not installed")
    (tmp_path / "letters.txt").write_text("größer and größer, the größte of all größen; " * 20)
    model = TEXTS.replace('tokens = "char"', 'tokens = "bpe", vocabulary = 290')
    model = model.replace('start = "a"', 'start = "größer"')
    page = exported(tmp_path, model)
    asked = {
        "state": LOADED,
        "chooses": "document.querySelector('[placeholder=\"another each time\"]').value = '5'",
        "prompt": "document.querySelector('textarea').value = 'the größte ü'",
        "generates": click("Generate"),
        "ends": until("/^12 tokens/.test(document.querySelector('section [role=status]').textContent)"),
        "generated": "document.querySelector('pre').textContent",
    }
    errors, *values = in_browser(page, tmp_path / "profile", [*asked.values()], browser)
    found = dict(zip(asked, values, strict=True))
    assert errors == []
    assert found["ends"] is True
    capsys.readouterr()
    prompted = ["generate", str(tmp_path / "run"), "--seed", "5", "--max", "12", "--prompt", "the größte ü"]
    assert main(prompted) == 0
    assert capsys.readouterr().out.rstrip("\n") == found["generated"].rstrip("\n")


def test_fields_are_filled_in_and_predicted_in_a_browser(tmp_path: Path) -> None:
    rows = [f"{100 + 10 * n},{'red' if n % 2 else 'blue'},{n}" for n in range(8)]
    (tmp_path / "table.csv").write_text("\n".join(["width,colour,price", *rows]))
    page = exported(tmp_path, TABLE, "--rows", "2")
    asked = {
        "state": LOADED,
        "fields": "[...document.querySelectorAll('.fields input, .fields select')].map((x) => x.value).join()",
        "outputs": "document.querySelector('tbody').innerText",
        "changes": "document.querySelector('.fields input').value = '135'",
        "predicts": click("Predict"),
        "changed": "document.querySelector('tbody').innerText",
    }
    errors, *values = in_browser(page, tmp_path / "profile", [*asked.values()])
    found = dict(zip(asked, values, strict=True))
    assert errors == []
    width, colour = found["fields"].split(",")
    weights = read_tensors(page.with_name("weights.safetensors"))
    (factor,), bias, colours = (array.ravel() for array in weights.values())
    deviation = np.std(np.arange(100, 180, 10))  # of the column, whose mean is 135
    expected = (float(width) - 135) / deviation * factor + bias + colours[int(colour)]
    assert float(found["outputs"].split()[1]) == pytest.approx(float(expected[0]), rel=2e-3)
    assert float(found["changed"].split()[1]) == pytest.approx(float(bias[0] + colours[int(colour)]), rel=2e-3)


def test_a_page_says_that_the_data_has_fewer_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "table.csv").write_text(
        "\n".join(["width,colour,price", *(f"{n},red,{n}\n{n},blue,{n}" for n in range(4))])
    )
    page = exported(tmp_path, TABLE, "--rows", "500")
    assert "the page has 8 rows: the train part has no more" in capsys.readouterr().err
    assert '"row_count": 8' in page.read_text()


def test_rows_go_with_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--to", "c", "--rows", "3", "-o", str(tmp_path / "page")]) == 2
    assert "--rows goes with --to web" in capsys.readouterr().err
