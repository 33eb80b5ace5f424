"""The page as one text: style, scripts and data of a model, which loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from compiler.support import palette
from compiler.support.harmless import harmless
from runtime.support.files import JsonObject, JsonValue
from runtime.view.packing import packed_code, packed_json

PAGE = Path(__file__).with_name("page")
MODULES = (
    *(
        "dom",
        "reading",
        "asking",
        "units",
        "packed",
        "model",
        "code",
        "ledger",
        "layout",
        "graph",
        "graph_view",
        "pictures",
        "change",
    ),
    *("values", "memory", "chart", "run", "compare", "fusion", "report"),
    *("detail", "live", "traces", "training", "app"),
)
"""The modules in an order in which each follows those that it imports."""

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)


def page_text(title: str, document: JsonObject, code: Mapping[str, JsonObject], asks_server: bool = False) -> str:
    """One HTML file. Its data are compressed: most of them are never looked at.

    With `asks_server`, the page may ask the server that it came from.
    """
    style = palette.style() + (PAGE / "style.css").read_text("utf-8")
    script = script_text()
    return Template((PAGE / "page.html").read_text("utf-8")).substitute(
        policy=_policy(style, script, "'self'" if asks_server else "'none'"),
        title=html.escape(harmless(title)),
        style=style,
        document=packed_json(document),
        code=json_text(packed_code(code)),
        script=script,
    )


def script_text() -> str:
    """All modules as one: names of the page's own modules are unique, so that imports can be left out."""
    return "".join(_module(name) for name in MODULES)


def _module(name: str) -> str:
    text = (PAGE / f"{name}.js").read_text("utf-8")
    return re.sub(r"^export ", "", _IMPORT.sub("", text), flags=re.MULTILINE)


def json_text(value: JsonValue) -> str:
    """JSON that stands inside of a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _policy(style: str, script: str, connect: str) -> str:
    """Nothing is loaded, and no script or style but those of the page is obeyed."""
    own = {"script-src": _hash(script), "style-src": _hash(style), "connect-src": connect, "img-src": "data:"}
    others = dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    return "; ".join(f"{name} {value}" for name, value in {**others, **own}.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
