"""Expressions from a line of text: what repr writes is read, everything else is refused by name."""

import pytest

import composer
from composer import parse_expression
from terms import ZBL, Density, Pair, PairFormula, ThreeBody
from tests.catalogue import CATALOGUE


@pytest.mark.parametrize("name", CATALOGUE)
def test_reads_what_repr_writes(name: str) -> None:
    expr, _ = CATALOGUE[name]
    assert parse_expression(repr(expr)) == expr


def test_reads_what_a_user_writes() -> None:
    text = "ZBL() + Pair(cutoff=6, n_max=10) + ThreeBody(cutoff=4.5, n_max=4, l_max=5) * (1 + Density(cutoff=5., n_max=2))"
    assert parse_expression(text) == CATALOGUE["script"][0]
    assert parse_expression(" -2*Pair(cutoff=4)**2/4 ") == -0.5 * Pair(cutoff=4) ** 2
    assert parse_expression("sqrt(Density(cutoff=4, positive=True))") == composer.sqrt(Density(cutoff=4, positive=True))
    formula = PairFormula("D*exp(-a*r)", cutoff=5, D=0.5, a=1.5)
    assert parse_expression("PairFormula('D*exp(-a*r)', cutoff=5, D=0.5, a=1.5) - ZBL()") == formula - ZBL()
    assert parse_expression("ThreeBody(cutoff=4).named('b').fix(mixed=0)") == ThreeBody(cutoff=4).named("b").fix(mixed=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no expression"),
        ("Pair(cutoff=3", "no expression"),
        ("Paar(cutoff=3)", "Did you mean Pair"),
        ("Pair", "without brackets"),
        ("Pair(3)", "too many positional .* Write Pair.cutoff="),
        ("Pair(cutof=3)", "cutof.*Its fields are.*Write Pair.cutoff="),
        ("Pair()", "Its fields are"),
        ("Pair(cutoff=-3)", "above 0"),
        ("Pair(cutoff=3) / Pair(cutoff=4)", "below the line"),
        ("Pair(cutoff=3) / 0", "division by zero"),
        ("Pair(cutoff=3) ** 0.5", "whole numbers"),
        ("Pair(cutoff=3) ** 1000000", "Powers go up to"),
        ("2 ** Pair(cutoff=3)", "power that is an expression"),
        ("Pair(cutoff=3) % 2", "operator Mod"),
        ("exp(Pair(cutoff=3), 2)", "2 arguments"),
        ("log1p(Pair(cutoff=3))", "may become negative"),
        ("__import__('os').system('ls')", "__import__"),
        ("Pair(cutoff=3).site(None)", "site"),
        ("Pair(cutoff=3).__class__", "__class__"),
        ("Pair(**{'cutoff': 3})", r"\*\*"),
        ("[x for x in (1, 2)]", "for x in"),
        ("(lambda: 1)()", "lambda"),
        ("Pair(cutoff=3) + 'a'", "where a number or a term"),
        ("'Pair'", "Only terms"),
        ("(Pair(cutoff=3) + ZBL()).named('b')", "no term"),
        ("Pair(cutoff=3).fix(depth=1)", "fix"),
        ("Pair(cutoff=3).fix('a')", "other arguments"),
        ("Pair(cutoff=1e400)", "finite"),
        ("+".join(["ZBL()"] * 5000), "characters"),
        ("(" * 300 + "ZBL()" + ")" * 300, "no expression"),
    ],
)
def test_names_what_it_cannot_read(text: str, message: str) -> None:
    with pytest.raises(composer.AlgebraError, match=message):
        parse_expression(text)
