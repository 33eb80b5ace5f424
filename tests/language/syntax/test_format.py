"""The canonical layout: what it looks like, that it is stable, and that it never changes a program."""

from pathlib import Path

import pytest
from broken_sources import programs
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors.diagnostics import Source, SourceError
from compiler.syntax.format import WIDTH, format_source
from compiler.syntax.lexer import lex
from compiler.syntax.parser import Parser
from compiler.syntax.printer import ast_to_json

PARSER = Parser()
ROOT = Path(__file__).parents[3]


def formatted(text: str) -> str:
    once = format_source(Source("a.dl", text), PARSER)
    assert format_source(Source("a.dl", once), PARSER) == once
    return once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("const  x=-1", "const x = -1\n"),
        ("const x = a-1*-b^-c", "const x = a - 1 * -b ^ -c\n"),
        ("const x = -(a)+(-b)", "const x = -(a) + (-b)\n"),
        ("const x=[ 1,2 , ]", "const x = [1, 2,]\n"),
        ("const x = 0 .. n+1", "const x = 0..n + 1\n"),
        ("const x = y [ :,-1 , ... ,None,0 : n,: : 2 ] . T", "const x = y[:, -1, ..., None, 0:n, ::2].T\n"),
        (
            "fn f( n:int=3 )( x:f32[ ...,2*n ] )->[ n ],[ ]=g (x,axis=1)",
            "fn f(n: int = 3)(x: f32[..., 2 * n]) -> [n], [] = g(x, axis = 1)\n",
        ),
        ("fn f(x)=x  gradient( x,y,dy )=dy", "fn f(x) = x gradient(x, y, dy) = dy\n"),
        ("const a=not b and(c or d)", "const a = not b and (c or d)\n"),
        ("const a=x|>f|>g(1)", "const a = x |> f |> g(1)\n"),
        ("fn f(x){m<-x}", "fn f(x) { m <- x }\n"),
        ("test t{}", "test t {}\n"),
        ("train A:M(n=1){}", "train A: M(n = 1) {}\n"),
        ("train M{auxiliary={ a:-1 ,b:f (2) , }}", "train M { auxiliary = {a: -1, b: f(2),} }\n"),
        (
            "train M{\nauxiliary={\n# first\na:1,\nb:[ 1 ]}\n}",
            "train M {\n    auxiliary = {\n        # first\n        a: 1,\n        b: [1]\n    }\n}\n",
        ),
        ("train M { a = {} }", "train M { a = {} }\n"),
        ("layer f(x){loss  a=x\nloss=1}", "layer f(x) {\n    loss a = x\n    loss = 1\n}\n"),
        (
            "fn f(x) {\n  if a{y=1}else if b {y=2} else{\ny=3}\n}",
            "fn f(x) {\n    if a { y = 1 } else if b { y = 2 } else {\n        y = 3\n    }\n}\n",
        ),
        ("#note\n##doc\nconst a = 1 #c", "# note\n## doc\nconst a = 1  # c\n"),
        ("\n\n\nconst a = 1\n\n\n\nconst b = 2\n\n", "const a = 1\n\nconst b = 2\n"),
        ("", ""),
        ("# only", "# only\n"),
        ("#!/usr/bin/env dlc", "#!/usr/bin/env dlc\n"),
    ],
)
def test_spaces(text: str, expected: str) -> None:
    assert formatted(text) == expected


def test_layout_of_blocks_and_brackets() -> None:
    text = """layer g(u: int)(x) { # hi

  y = f(
  # inside
      a,
   -b, (c
   - d)
  )


  z = y
    # before the pipe
    |> h
  if u == 1 { y = x
  } else {
     y = z }
  # last

}
fn short(x) = x
const c = 1
layer k(x) {
  return x
}
"""
    assert (
        formatted(text)
        == """layer g(u: int)(x) {  # hi
    y = f(
        # inside
        a,
        -b, (c
            - d)
    )

    z = y
        # before the pipe
        |> h
    if u == 1 {
        y = x
    } else {
        y = z
    }
    # last
}

fn short(x) = x
const c = 1

layer k(x) {
    return x
}
"""
    )


def test_long_pipes_are_broken() -> None:
    stages = [f"dense({number}, bias = false)" for number in range(8)]
    text = f"model M {{\n    output y = x |> {' |> '.join(stages)}  # all\n}}\n"
    lines = formatted(text).splitlines()
    assert lines[1:4] == ["    output y = x", "        |> dense(0, bias = false)", "        |> dense(1, bias = false)"]
    assert lines[-2].endswith("# all")
    assert max(map(len, lines)) <= WIDTH


def test_comments_behind_successive_lines_are_aligned() -> None:
    text = "train M {\n    a = 1 # one\n    batch = 2 # two\n\n    c = 3 # three\n    d = 4\n    ee = 5 # five\n}\n"
    assert formatted(text).splitlines()[1:-1] == [
        *("    a = 1      # one", "    batch = 2  # two", "", "    c = 3  # three", "    d = 4", "    ee = 5  # five")
    ]


@pytest.mark.parametrize("text", programs(), ids=range(len(programs())))
def test_programs_of_the_project_keep_their_meaning(text: str) -> None:
    once = formatted(text)
    assert comments(once) == comments(text)
    squeezed = formatted(text.replace("    ", " "))
    assert same(squeezed, text)


def test_the_library_is_in_canonical_layout() -> None:
    for path in sorted((ROOT / "compiler/stdlib").rglob("*.dl")):
        text = path.read_text("utf-8")
        assert formatted(text) == text, f"run `dlc fmt {path.relative_to(ROOT)}`"


def comments(text: str) -> list[str]:
    return [comment.text.replace(" ", "") for comment in lex(Source("a.dl", text)).comments]


def same(first: str, second: str) -> bool:
    one, other = (ast_to_json(PARSER.parse(Source("a.dl", text)), spans=False) for text in (first, second))
    return one == other


names = st.sampled_from(["x", "y", "model", "over", "W"])
atoms = st.one_of(
    names, st.sampled_from(["1", "0.5", "1e-3", "true", "none", '"a b"', "[1,2]", "f( x )", "x [ :,-1]", "x .T"])
)


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = st.sampled_from(["+", "-", "*", "/", "//", "%", "@", "^", " and ", " or ", "|>", "\n|>"])
    return st.one_of(
        st.builds(lambda a, operator, b: f"{a}{operator}{b}", inner, operators, inner),
        st.builds(lambda a: f"- {a}", inner),
        st.builds(lambda a: f"(\n  {a})", inner),
        st.builds(lambda a: f"not {a}", inner),
        st.builds(lambda a, b: f"g({a} ,\n# c\n k={b})", inner, inner),
        st.builds(lambda a, b: f"scan t in {a} over {b} carry h=t {{ emit {a} }}", inner, inner),
    )


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.recursive(atoms, larger, max_leaves=12))
def test_random_expressions_keep_their_meaning(expression: str) -> None:
    text = f"fn f(x) {{\n y = {expression}\n\n\n return y }}"
    try:
        PARSER.parse(Source("a.dl", text))
    except SourceError:
        return
    assert same(formatted(text), text)
