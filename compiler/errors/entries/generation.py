"""Decoding of sequences: E062."""

from __future__ import annotations

from compiler.errors.entries.entry import ErrorEntry


def _generate(feed: str = "feed tokens from logits", head: str = "dense(9)", more: str = "") -> str:
    return (
        "model M {\n    input tokens: i32[batch, 8] in 0..9\n    x = tokens |> embedding(9, 4)\n"
        f"    output logits = x |> {head}\n}}\n\ngenerate M {{\n    {feed}\n{more}}}"
    )


GENERATION: tuple[ErrorEntry, ...] = (
    ErrorEntry(
        "E0621",
        "a `generate` that lacks a part, or has one that it cannot have",
        "A model has at most one `generate`. It needs a line `feed INPUT from OUTPUT`. Its keys are `start` and `stop` "
        "(a text, a token, or a list of tokens), `length` (the most tokens to add) and `sample`, the way to choose: "
        "`greedy`, `temperature(t)`, `top_k(k, temperature)`, `top_p(p, temperature, k)`, "
        "`beam(width, length_penalty)`, or a function of yours from logits [batch, tokens] to a token for each row.",
        _generate(more="    lenght = 20\n"),
        _generate(more="    length = 20\n"),
    ),
    ErrorEntry(
        "E0622",
        "an output that cannot extend the input",
        "The input is integers, [batch, time]. The output has a score for each token at each position, [batch, time, "
        "tokens], and no more tokens than the range of the input allows, since the chosen one is fed next.",
        _generate(head="dense(12)"),
        _generate(),
    ),
    ErrorEntry(
        "E0623",
        "a model that sees the tokens that it should choose",
        "The scores at a position choose the token at the next one, so they must not depend on any later one. The "
        "compiler follows every operation from the fed input to the output. These are causal: operations on each "
        "position by itself; attention whose scores of later keys are -inf, by a mask that the program makes of "
        "positions; running sums, and scans forward in time; convolutions that are padded on the left only. The "
        "message names the line where a position first sees a later one.",
        _generate(head="attention(2)(x, x, x) |> dense(9)").replace("x |> attention", "attention"),
        _generate(head="attention(2, causal = true)(x, x, x) |> dense(9)").replace("x |> attention", "attention"),
    ),
)
