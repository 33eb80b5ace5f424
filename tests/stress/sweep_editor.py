"""Puts every question of an editor at every place of every example and of the library, and of damaged texts.

    python tests/stress/sweep_editor.py [--damaged 20] [--only PART_OF_A_PATH]

It prints a line for each text, and ends with exit status 1 if a question failed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS / "support")]

from editor_questions import Place, ask_everywhere, damaged, document_of, examined, places_in  # noqa: E402

from compiler.editing.facts import Examiner, Facts  # noqa: E402
from compiler.errors.diagnostics import Source  # noqa: E402
from compiler.frontend.library import LIBRARY  # noqa: E402

_MOST_SECONDS_OF_FACTS = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damaged", type=int, default=20, help="rounds of damaged texts for each file")
    parser.add_argument("--only", default="", help="files whose paths hold this text")
    arguments = parser.parse_args()
    faults = 0
    examiner = Examiner()
    for path in [*sorted((_TESTS.parent / "examples").glob("*/*.dl")), *sorted(LIBRARY.rglob("*.dl"))]:
        if arguments.only in str(path):
            faults += _sweep(examiner, path, arguments.damaged)
    print(f"{faults} faults")
    return 1 if faults else 0


def _sweep(examiner: Examiner, path: Path, rounds: int) -> int:
    text = path.read_text("utf-8")
    is_library = path.is_relative_to(LIBRARY)
    source = Source(f"<prelude>/{path.relative_to(LIBRARY).as_posix()}" if is_library else str(path), text, is_library)
    begun = time.perf_counter()
    facts = Facts((), ()) if is_library else examined(examiner, source)
    lasted = time.perf_counter() - begun
    places = places_in(text)
    faults = _asked(source, facts, places)
    chooser = random.Random(path.name)
    texts = [changed for _ in range(rounds) for changed in damaged(text, chooser)]
    for changed in texts:
        other = Source(source.name, changed, is_library)
        is_slow = lasted > _MOST_SECONDS_OF_FACTS or is_library
        there = places_in(changed)
        known = Facts((), ()) if is_slow else examined(examiner, other)
        faults += _asked(other, known, chooser.sample(there, min(20, len(there))))
    seconds = time.perf_counter() - begun
    print(f"{path}: {len(places)} places, {len(texts)} damaged texts, {seconds:.1f} s", flush=True)
    return faults


def _asked(source: Source, facts: Facts, places: Sequence[Place]) -> int:
    try:
        ask_everywhere(document_of(source), facts, places)
    except Exception:
        print(f"fault in {source.name}:\n{source.text!r}\n{traceback.format_exc()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
