"""Text to syntax: every form of the language, with exact places and documentation."""

from pathlib import Path

import pytest
from golden import Golden, cases

from compiler.errors.diagnostics import Source, SourceError
from compiler.syntax import tree
from compiler.syntax.parser import Parser
from compiler.syntax.printer import ast_to_json, print_ast

PARSER = Parser()
ROOT = Path(__file__).parents[3]
PROGRAMS = cases("parse")


def parse(text: str) -> tree.Module:
    return PARSER.parse(Source("a.dl", text))


def expression(text: str) -> tree.Expression:
    (declaration,) = parse(f"const c = {text}").declarations
    assert isinstance(declaration, tree.Const)
    return declaration.value


def shape(node: tree.Expression) -> object:
    """An expression as nested tuples, to see how it was grouped."""
    match node:
        case tree.Name(id):
            return id
        case tree.Number(value):
            return value
        case tree.Binary(operator, left, right):
            return (shape(left), operator, shape(right))
        case tree.Unary(operator, operand):
            return (operator, shape(operand))
        case tree.Pipe(value, stage):
            return (shape(value), "|>", shape(stage))
        case tree.Range(start, stop):
            return (shape(start), "..", shape(stop))
        case tree.Attribute(value, name):
            return (shape(value), ".", name)
        case tree.Call(function, positional, _):
            return (shape(function), "()", *map(shape, positional))
        case _:
            return type(node).__name__


def body(text: str) -> tuple[tree.Statement, ...]:
    (declaration,) = parse("layer f(x) {\n" + text + "\n}").declarations
    assert isinstance(declaration, tree.Callable)
    return declaration.body.statements


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_reference_programs_parse(path: Path, golden: Golden) -> None:
    golden(f"parse/{path.stem}.ast", print_ast(PARSER.parse(Source(path.name, path.read_text("utf-8")))))


def test_every_program_of_the_project_parses() -> None:
    paths = [path for folder in ("compiler/stdlib", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.dl")]
    assert len(paths) > 20
    for path in paths:
        assert PARSER.parse(Source(str(path), path.read_text("utf-8"))).declarations


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b * c", ("a", "+", ("b", "*", "c"))),
        ("a - b - c", (("a", "-", "b"), "-", "c")),
        ("-x ^ 2", ("-", ("x", "^", 2))),
        ("a ^ b ^ c", ("a", "^", ("b", "^", "c"))),
        ("a ^ -b", ("a", "^", ("-", "b"))),
        ("a * -b", ("a", "*", ("-", "b"))),
        ("not a == b", ("not", ("a", "==", "b"))),
        ("a or b and c", ("a", "or", ("b", "and", "c"))),
        ("0..n + 1", (0, "..", ("n", "+", 1))),
        ("a or b |> f |> g", ((("a", "or", "b"), "|>", "f"), "|>", "g")),
        ("Q @ K.T / s", (("Q", "@", ("K", ".", "T")), "/", "s")),
        ("a // b % c", (("a", "//", "b"), "%", "c")),
        ("(a + b) * c", (("a", "+", "b"), "*", "c")),
        ("f(a)(b)", (("f", "()", "a"), "()", "b")),
        ("a < b and b < c", (("a", "<", "b"), "and", ("b", "<", "c"))),
        ("-f(x).T", ("-", (("f", "()", "x"), ".", "T"))),
    ],
)
def test_precedence(text: str, grouped: object) -> None:
    assert shape(expression(text)) == grouped


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("0.5", 0.5), ("1e-3", 1e-3), ("2.5E+2", 250.0), ("007", 7), ("9223372036854775807", 2**63 - 1)],
)
def test_numbers(text: str, value: float) -> None:
    number = expression(text)
    assert isinstance(number, tree.Number)
    assert number.value == value
    assert type(number.value) is type(value)


def test_text_with_escapes() -> None:
    text = expression(r'"a\n\t\"\\b # not a comment"')
    assert isinstance(text, tree.Text)
    assert text.value == 'a\n\t"\\b # not a comment'


def test_literals() -> None:
    listed = expression("[true, false, none, [], inf,]")
    assert isinstance(listed, tree.ListLiteral)
    kinds = [type(item).__name__ for item in listed.items]
    assert kinds == ["Boolean", "Boolean", "NoneLiteral", "ListLiteral", "Name"]


def test_index_forms() -> None:
    index = expression("x[:, -1, ..., None, 0:n, ::2, a:, ids]")
    assert isinstance(index, tree.Index)
    kinds = [type(item).__name__ for item in index.items]
    assert kinds == ["SliceItem", "Unary", "EllipsisItem", "NewAxis", "SliceItem", "SliceItem", "SliceItem", "Name"]
    step = index.items[5]
    assert isinstance(step, tree.SliceItem)
    assert (step.start, step.stop) == (None, None)
    assert isinstance(step.step, tree.Number)


def test_call_with_keywords() -> None:
    call = expression("softmax(x, axis = 1, where = mask,)")
    assert isinstance(call, tree.Call)
    assert len(call.positional) == 1
    assert [keyword.name for keyword in call.keywords] == ["axis", "where"]


def test_groups_types_and_results() -> None:
    text = (
        "fn f(n: int, bias = true, cell: layer)(x: f32[batch, ..., 2 * n], m: bool[batch] = none, t: i32, s: f32[])"
        " -> [batch], i32[batch, n] = x, t"
    )
    (function,) = parse(text).declarations
    assert isinstance(function, tree.Callable)
    settings, tensors = function.groups
    assert [type(parameter.annotation).__name__ for parameter in settings] == ["SettingType", "NoneType", "SettingType"]
    x, mask, t, scalar = (parameter.annotation for parameter in tensors)
    assert isinstance(x, tree.TensorAnnotation)
    assert x.dimensions is not None
    assert [type(item).__name__ for item in x.dimensions] == ["Name", "EllipsisItem", "Binary"]
    assert isinstance(mask, tree.TensorAnnotation)
    assert mask.dtype == "bool"
    assert isinstance(t, tree.TensorAnnotation)
    assert t.dimensions is None
    assert isinstance(scalar, tree.TensorAnnotation)
    assert scalar.dimensions == ()
    assert [result.dtype for result in function.results] == [None, "i32"]
    (result,) = function.body.statements
    assert isinstance(result, tree.Return)
    assert isinstance(result.value, tree.TupleLiteral)
    assert str(function.head).endswith(":1:1")
    assert function.head.end_column == text.index(" = x, t") + 1


def test_gradient_clause_after_both_kinds_of_body() -> None:
    for text in (
        "fn f(x) = x gradient(x, y, dy) = dy",
        "fn f(x) {\n    return x\n} gradient(x, y, dy) {\n    return dy\n}",
    ):
        (function,) = parse(text).declarations
        assert isinstance(function, tree.Callable)
        assert function.gradient is not None
        assert [name.id for name in function.gradient.parameters] == ["x", "y", "dy"]


def test_statements() -> None:
    text = """param W: [n, units] = glorot_uniform
    state m = zeros
    state v: [c] = ones
    a, _ = split(x, 2)
    m <- 0.9 * m
    if a { b = 1 } else if c { b = 2 } else { b = 3 }
    for p, q in pairs {
        emit p, q
    }
    x - 1
    return a, b"""
    kinds = [type(statement).__name__ for statement in body(text)]
    assert kinds == [
        *("ParamDeclaration", "StateDeclaration", "StateDeclaration", "Assign", "StateUpdate", "If", "For"),
        *("ExpressionStatement", "Return"),
    ]
    condition = body(text)[5]
    assert isinstance(condition, tree.If)
    assert condition.otherwise is not None
    (inner,) = condition.otherwise.statements
    assert isinstance(inner, tree.If)
    assert inner.otherwise is not None


def test_scan_is_an_expression() -> None:
    text = (
        "hs, h = scan a in x, i in 0..n over time reverse = true where = mask truncate = 8"
        " carry h = zeros(3), c = h {\nh = a\n emit h\n}"
    )
    (assign,) = body(text)
    assert isinstance(assign, tree.Assign)
    scan = assign.value
    assert isinstance(scan, tree.Scan)
    assert [given.name for given in scan.inputs] == ["a", "i"]
    assert [option.name for option in scan.options] == ["reverse", "where", "truncate"]
    assert [carry.name for carry in scan.carries] == ["h", "c"]
    assert len(scan.body.statements) == 2
    (piped,) = body("y = g(scan a in x over 1 {\n b = a\n emit b\n}, 2) |> f")
    assert isinstance(piped, tree.Assign)
    assert isinstance(piped.value, tree.Pipe)


def test_model_and_experiments() -> None:
    model, named, plain, generate, test, imported = parse(
        """model M(n = 3) {
    input tokens: i32[batch, time] in 0..n padded by mask
    output a, b = f(tokens)
}
train Big: M(n = 4) {
    data = npz("a.npz")
    target y: i32[batch] in 0..n
    augment { tokens = noise(tokens) }
    metrics = [accuracy(a, y)]
}
train M { loss = mse(a, y) }
generate M {
    feed tokens from a
    length = 5
}
test sums { assert(1 == 1) }
import "other.dl"
"""
    ).declarations
    assert isinstance(model, tree.Model)
    given, output = model.body.statements
    assert isinstance(given, tree.InputDeclaration)
    assert (given.keyword, given.name, given.mask) == ("input", "tokens", "mask")
    assert isinstance(given.range, tree.Range)
    assert isinstance(output, tree.OutputDeclaration)
    assert [name.id for name in output.names] == ["a", "b"]
    assert isinstance(named, tree.Train)
    assert (named.name, named.model.id, [setting.name for setting in named.settings]) == ("Big", "M", ["n"])
    assert [target.keyword for target in named.targets] == ["target"]
    assert [entry.key for entry in named.entries] == ["data", "metrics"]
    assert named.augment is not None
    assert isinstance(plain, tree.Train)
    assert (plain.name, plain.settings) == (None, ())
    assert isinstance(generate, tree.Generate)
    assert generate.feed is not None
    assert [name.id for name in generate.feed] == ["tokens", "a"]
    assert isinstance(test, tree.Test)
    assert isinstance(imported, tree.Import)
    assert imported.path == "other.dl"


CONTEXTUAL = (
    *("const", "fn", "layer", "init", "model", "optimizer", "schedule", "train", "generate", "test", "import"),
    *("param", "state", "input", "output", "view", "target", "augment", "feed", "from", "gradient", "padded", "by"),
    *("over", "carry"),
)


@pytest.mark.parametrize("word", CONTEXTUAL)
def test_keywords_are_names_where_a_name_can_stand(word: str) -> None:
    parse(
        f"fn {word}({word} = 1, other = 2)({word}: [n]) {{\n"
        f"    {word} = {word} + f({word}, {word} = {word})[{word}]\n"
        f"    {word}, b = {word}(a)\n"
        f"    {word} <- {word}.{word}\n"
        f"    y = scan {word} in {word} over {word} carry {word} = {word} {{ emit {word} }}\n"
        f"    for {word} in {word} {{ {word} }}\n"
        f"    param {word}: [{word}] = {word}\n"
        f"    return {word}\n"
        f"}}\n"
        f"train {word}: {word} {{\n    {word} = {word}\n    target {word}: i32[{word}] in {word} padded by {word}\n}}\n"
        f"generate {word} {{ feed {word} from {word} }}\n"
    )


def test_newlines() -> None:
    text = """y = f(
        a,

        # a remark
        b,
    )
    z = y |> g
        # another
        |> h

    w = [1,
        2]"""
    assert [type(statement).__name__ for statement in body(text)] == ["Assign"] * 3
    assert shape(body("y = x\n    |> f\n    |> g")[0].value) == (("x", "|>", "f"), "|>", "g")  # type: ignore[union-attr]


def test_minus_at_the_start_of_a_line_is_a_statement() -> None:
    assert [type(statement).__name__ for statement in body("y = x\n- 1")] == ["Assign", "ExpressionStatement"]


def test_places() -> None:
    text = "fn f(x) {\n    y = (x + 1) * x.T[0]\n    return y\n}"
    (function,) = parse(text).declarations
    assert isinstance(function, tree.Callable)
    assert (function.span.line, function.span.column, function.span.end_line, function.span.end_column) == (1, 1, 4, 2)
    assign = function.body.statements[0]
    assert isinstance(assign, tree.Assign)
    product = assign.value
    assert isinstance(product, tree.Binary)
    places = [(node.span.column, node.span.end_column) for node in (assign, product, product.left, product.right)]
    assert places == [(5, 25), (9, 25), (9, 16), (19, 25)]
    assert product.span.source is parse(text).source or product.span.source.text == text


def test_documentation_belongs_to_what_follows() -> None:
    text = """## A layer.
##
##   Indented.
layer f(
    ## the size
    units: int,
    x,
) {
    ## the weights
    param W: [n] = zeros
    ## not shown, but allowed
    return x
}

## one

## two
const c = 1
"""
    layer, const = parse(text).declarations
    assert isinstance(layer, tree.Callable)
    assert layer.doc == "A layer.\n\n  Indented."
    assert [parameter.doc for parameter in layer.groups[0]] == ["the size", None]
    weights = layer.body.statements[0]
    assert isinstance(weights, tree.ParamDeclaration)
    assert weights.doc == "the weights"
    assert isinstance(const, tree.Const)
    assert const.doc == "one\n\ntwo"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "\r\n# x\r\n", "\t"])
def test_empty_files(text: str) -> None:
    assert parse(text).declarations == ()


def test_windows_newlines_and_tabs() -> None:
    unix = "fn f(x) {\n    y = x\n    return y  # y\n}\n"
    other = unix.replace("\n", "\r\n").replace("    ", "\t")
    assert ast_to_json(parse(unix), spans=False) == ast_to_json(parse(other), spans=False)


def test_names_in_other_scripts() -> None:
    assert shape(expression("α * Größe_2")) == ("α", "*", "Größe_2")


def test_deep_nesting_is_refused_and_wide_text_is_not() -> None:
    parse("const c = [" + ", ".join(["1"] * 5000) + "]")
    parse("const c = " + " + ".join(["1"] * 150))
    for text in ("1 + " * 5000 + "1", "-" * 4000 + "1", "(" * 4000 + "1" + ")" * 4000, "f" + "(1)" * 3000):
        with pytest.raises(SourceError) as caught:
            parse(f"const c = {text}")
        assert [mistake.code for mistake in caught.value.diagnostics] == ["E0117"]


def test_printed_syntax() -> None:
    printed = print_ast(parse("## doc\nconst c = -n"))
    assert printed.splitlines() == [
        "Module a.dl",
        "    Const name='c' doc='doc'  @2:1-2:13",
        "        value: Unary operator='-'  @2:11-2:13",
        "            operand: Name id='n'  @2:12-2:13",
    ]


def test_syntax_as_data() -> None:
    data = ast_to_json(parse("const c = 1"))
    assert data["declarations"] == [
        {
            "node": "Const",
            "name": "c",
            "value": {"node": "Number", "value": 1, "span": [1, 11, 1, 12]},
            "doc": None,
            "span": [1, 1, 1, 12],
        }
    ]
