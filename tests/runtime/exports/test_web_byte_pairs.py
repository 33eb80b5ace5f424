"""The page's JavaScript cuts texts into byte pairs, and joins them, as the library of the training does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from web_programs import node

pytest.importorskip("tokenizers", reason="the extra `text` is not installed")

from runtime.data.text.byte_pairs import merges_of
from runtime.data.text.tokenizer import END, SPECIAL, Tokenizer, TokenRules, learnt
from runtime.exports import web_page

SCRIPT = Path(web_page.__file__).with_name("web") / "byte_pairs.js"
LEARNT = [
    "The cat sat on the mat, and the cats sat; don't say it's 12345 or 3.14!  \n\n  They'll're we've I'm he'd\tthere",
    "Größe, naïve café — ein Schiff; русский текст и 漢字かな交じり文 🙂🙂👩‍👩‍👧",
    "aaaaaaaaaaaa abababababab  zzz   end ",
]
TEXTS = [
    *LEARNT,
    "",
    " ",
    "   leading, trailing   ",
    "line\r\nline\r\n\r\n\x0b\x0c\x85 \u2028\u2029\u00a0\u3000x\ufeffy",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaab" * 9,
    "'s 'S 'll'LL don''t ''' 's's",
    "x²y½ ٣٤٥ Ⅷ a_b-c __init__ ÅÅ e\u0301\u0301 \u00ad\u200b\u200d",
    "🙂👍🏽🇩🇪 \x00\x01\x7f\x80\x9f",
    "<pad> <unknown> <start> <end>",
]


def in_page(tokenizer: Tokenizer, asked: object) -> object:
    """What JavaScript gives for texts (as numbers) and for lists of numbers (as text)."""
    given = {
        "tokens": tokenizer.tokens,
        "merges": merges_of(tokenizer.pairs or ""),
        "special": len(SPECIAL),
        "asked": asked,
    }
    program = f"""
        const page = {json.dumps(given)};
        {SCRIPT.read_text(encoding="utf-8")}
        const numbers = new Map(page.tokens.map((token, number) => [token, number]));
        const pairs = bytePairs(page.tokens, numbers, page.merges);
        const written = (row) => {{
            const writer = pairs.writer();
            return row.map((number) => writer.add(number)).join("") + writer.end();
        }};
        const answers = page.asked.map((x) => (typeof x === "string" ? pairs.encode(x) : written(x)));
        process.stdout.write(JSON.stringify(answers));
    """
    ran = subprocess.run([*node(), "-"], input=program, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("size", [260, 300, 400])
def test_texts_are_cut_and_joined_as_in_the_training(size: int) -> None:
    tokenizer = learnt(TokenRules("bpe", most=size), LEARNT * 3)
    wanted = [row.tolist() for row in tokenizer.encode(TEXTS)]
    assert in_page(tokenizer, TEXTS) == wanted
    drawn = np.random.default_rng(size).integers(0, len(tokenizer), (40, 12))
    rows = [*wanted, *(row[row != END].tolist() for row in drawn)]  # bytes that are no text among them
    assert in_page(tokenizer, rows) == [tokenizer.decode(row) for row in rows]


def test_what_cuts_in_another_way_is_not_taken() -> None:
    tokenizer = learnt(TokenRules("bpe", most=270), LEARNT)
    assert tokenizer.pairs is not None
    assert merges_of(tokenizer.pairs)
    for before, after in (
        ('"add_prefix_space":false', '"add_prefix_space":true'),
        ('"use_regex":true', '"use_regex":false'),
        ('"dropout":null', '"dropout":0.1'),
        ('"byte_fallback":false', '"byte_fallback":true'),
    ):
        changed = tokenizer.pairs.replace(before, after, 1)
        assert changed != tokenizer.pairs
        assert merges_of(changed) is None
