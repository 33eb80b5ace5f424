"""The words in the paths of layers that say what a layer is for, and the order that numbers in paths say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cmp_to_key


def _word(*words: str) -> str:
    return rf"(?:^|\.)(?:{'|'.join(words)})(?:$|\.)"


# The first pattern that fits a path gives its word. Paths are in lower case, with points.
_WORDS = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("query", _word("q", "query", "q_proj", "q_lin", "to_q", "wq", "query_dense")),
        ("key", _word("k", "key", "k_proj", "k_lin", "to_k", "wk", "key_dense")),
        ("value", _word("v", "value", "v_proj", "v_lin", "to_v", "wv", "value_dense")),
        ("joined heads", r"(?:attend\.dense|out_proj|o_proj|attn\.proj|attn\.c_proj|attention\.output\.dense"
         r"|attention\.output_dense|out_lin|to_out(?:\.0)?|attention\.wo)$"),
        ("first norm", _word("ln_1", "norm1", "layernorm_before", "input_layernorm", "attention_norm", "attn_ln")
         + r"|attention\.output\.layernorm$"),
        ("second norm", _word("ln_2", "norm2", "layernorm_after", "post_attention_layernorm", "ffn_norm", "mlp_ln")
         + r"|\d+\.output\.layernorm$"),
        ("shortcut", _word("short", "shortcut", "downsample")),
        ("tokens", _word("wte", "word_embeddings", "embed_tokens", "tok_emb", "tok_embeddings", "token_embedding",
                         "embed", "tokens")),
        ("positions", _word("wpe", "position_embeddings", "pos_emb", "pos_embed", "pos_embedding",
                            "positional_embedding", "embed_positions", "learned_positions", "positions")),
        ("segments", _word("token_type_embeddings", "segment_embeddings", "segments", "kinds")),
        ("class token", _word("cls_token", "class_token", "token")),
        ("backwards", _word("back", "backward", r"backward_\w+", r"l\d+_reverse")),
    )
)  # fmt: skip


def word_of(scope: str) -> str | None:
    """`query` of `h.0.attn.q_proj`; None where a path says nothing."""
    path = scope.lower().replace("/", ".")
    return next((name for name, pattern in _WORDS if pattern.search(path)), None)


def numbered(scopes: Sequence[str]) -> list[int] | None:
    """The places of paths in the order that their numbers say: `block.2.conv` before `block.10.conv`.

    None where two paths differ first in something else than a number.
    """
    parts = [re.findall(r"\d+|\D+", scope) for scope in scopes]
    comparable = True

    def compare(a: int, b: int) -> int:
        nonlocal comparable
        differing = next(((p, q) for p, q in zip(parts[a], parts[b], strict=False) if p != q), None)
        if differing is None or not (differing[0].isdecimal() and differing[1].isdecimal()):
            comparable = False
            return 0
        return -1 if int(differing[0]) < int(differing[1]) else 1

    order = sorted(range(len(scopes)), key=cmp_to_key(compare))
    return order if comparable else None
