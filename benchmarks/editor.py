"""Measures how long `dlc lsp` takes to answer while somebody types into a text of 300 lines.

    python benchmarks/editor.py [--keys 60] [--pause 0.1] [--json]

The text is made of examples, one below the other. A line is typed into one of its models key by key; behind each key an
editor asks for completions, colours, hints and the signature, and the findings come by themselves. Times are from the
moment when the key is sent to the answer in the client, which reads it, too. On a machine that is busy with other
work, the processor time of the server and of its worker says more: findings need that of the worker and a part of the
server's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from editor_session import EditorSession  # noqa: E402
from lsprotocol import types as lsp  # noqa: E402

EXAMPLES = ("dates", "names", "housing", "gpt", "tagging", "wine", "iris", "digits", "xor")
TYPED = "    h2 = x |> dense(width, bias = false) |> layer_norm |> relu"
PROCESSES = ("server", "worker")
BEFORE = "    # The embedding is the head as well."


def text_of_examples() -> str:
    return "\n".join((ROOT / "examples" / name / "model.dl").read_text("utf-8") for name in EXAMPLES)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=len(TYPED), help="how many keys are typed")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between keys (default: 0.1)")
    parser.add_argument("--json", action="store_true", help="print all times")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measured(Path(folder), arguments.keys, arguments.pause)
    if arguments.json:
        print(json.dumps(times))
        return 0
    print(f"{text_of_examples().count(chr(10))} lines; milliseconds behind a key")
    print(f"{'answer':12} {'median':>8} {'95 %':>8} {'longest':>8}")
    for name, found in times.items():
        if name in PROCESSES:
            print(f"{name:12} {found[0]:8.1f} of processor time a key")
            continue
        high = statistics.quantiles(found, n=20)[-1] if len(found) > 1 else found[0]
        print(f"{name:12} {statistics.median(found):8.1f} {high:8.1f} {max(found):8.1f}")
    return 0


def measured(folder: Path, keys: int, pause: float) -> dict[str, list[float]]:
    """The milliseconds to each answer, key by key; of findings, those that came before the next key."""
    session = EditorSession(folder, refreshes_hints=True)
    text = text_of_examples()
    document = session.open(folder / "model.dl", text)
    session.hints(document)
    time.sleep(3)  # the library is read in the meantime
    times: dict[str, list[float]] = {name: [] for name in ("completion", "colours", "hints", "signature", "findings")}
    used = processor_times(session)
    head, tail = text.split(BEFORE)
    line = head.count("\n")
    for key in range(1, keys + 1):
        typed = TYPED[:key]
        told = session.told
        begun = time.perf_counter()
        session.change(document, key, f"{head}{typed}\n{BEFORE}{tail}")
        for name, asked in questions(session, document, lsp.Position(line, key)).items():
            started = time.perf_counter()
            asked()
            times[name].append((time.perf_counter() - started) * 1000)
        while time.perf_counter() - begun < pause and session.told == told:
            session.wait(_nap())
        if session.told > told:
            times["findings"].append((time.perf_counter() - begun) * 1000)
        while time.perf_counter() - begun < pause:
            session.wait(_nap())
    for name, before, after in zip(PROCESSES, used, processor_times(session), strict=True):
        times[name] = [(after - before) / keys if after >= before else math.nan]  # the worker was started again
    session.close()
    return {name: found for name, found in times.items() if found}


def processor_times(session: EditorSession) -> list[float]:
    """The milliseconds that the server and its worker have computed for."""
    server = session.process
    worker = Path(f"/proc/{server}/task/{server}/children").read_text("ascii").split()[-1]
    return [int(Path(f"/proc/{number}/schedstat").read_text("ascii").split()[0]) / 1e6 for number in (server, worker)]


async def _nap() -> None:
    await asyncio.sleep(0.002)


def questions(
    session: EditorSession, document: lsp.TextDocumentIdentifier, place: lsp.Position
) -> dict[str, Callable[[], Any]]:
    client = session.client
    return {
        "completion": lambda: session.ask(client.text_document_completion_async(lsp.CompletionParams(document, place))),
        "colours": lambda: session.ask(
            client.text_document_semantic_tokens_full_async(lsp.SemanticTokensParams(document))
        ),
        "hints": lambda: session.hints(document),
        "signature": lambda: session.ask(
            client.text_document_signature_help_async(lsp.SignatureHelpParams(document, place))
        ),
    }


if __name__ == "__main__":
    sys.exit(main())
