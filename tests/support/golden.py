"""Golden files: a text is compared with the stored one, or stored anew under `--update-golden`."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden files under `folder`; `used` collects the names that were asked for."""

    update: bool = False
    folder: Path = GOLDEN
    used: set[str] = field(default_factory=set[str])

    def __call__(self, name: str, text: str) -> None:
        """Assert that `text` is what `folder / name` holds; a missing file fails unless goldens are being updated."""
        self.used.add(name)
        path = self.folder / name
        text = text.rstrip("\n") + "\n"
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            raise AssertionError(f"no golden file {name}; write it with `pytest --update-golden`\n{text}")
        stored = path.read_text(encoding="utf-8")
        if text != stored:
            difference = unified_diff(stored.splitlines(), text.splitlines(), f"stored {name}", "now", lineterm="")
            raise AssertionError("\n".join([*difference, "accept it with `pytest --update-golden`"]))


def cases(stage: str, folder: Path = GOLDEN) -> list[Path]:
    """The inputs `<stage>/<case>.dl`, in order, for parametrising a test."""
    return sorted((folder / stage).glob("*.dl"))


def stale(used: set[str], folder: Path = GOLDEN) -> list[str]:
    """Golden files that no test asked for. An input `.dl` counts as used when a golden of its name is."""
    cases_used = {Path(name).with_suffix("") for name in used}
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        str(name)
        for name in names
        if str(name) not in used and not (name.suffix == ".dl" and name.with_suffix("") in cases_used)
    ]
