"""A normal form of arithmetic expressions: what two problems share when only names and wording differ.

Sums and products are flattened and their operands sorted; a division joins the product it divides. Numbers are exact.

>>> canonical("3*(14+2)")
'(14+2)*3'
>>> canonical("(2+14)*3") == canonical("3*(14+2)"), canonical("8-(5-2)") == canonical("2+8-5")
(True, True)
>>> canonical("48/2*0.50")
'1/2*48/2'

Values are never computed: ``6*8`` and ``48`` are different expressions.
"""

from __future__ import annotations

import ast
from fractions import Fraction

LARGEST = 1000
"""Longest expression read, in characters."""


def canonical(text: str) -> str:
    """The normal form of an expression in decimal numbers, ``+ - * /``, brackets and ``%`` (a hundredth).

    Raises:
        ValueError: anything else; the message quotes the text.
    """
    readable = text.replace("%", "*0.01").replace(",", "").replace("$", "").strip()
    if len(readable) > LARGEST:
        raise ValueError(f"an expression of {len(readable)} characters is too long; at most {LARGEST} are read")
    try:
        tree = ast.parse(readable, mode="eval").body
        return _sum(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no arithmetic expression") from error


def _sum(tree: ast.expr) -> str:
    plus: list[str] = []
    minus: list[str] = []

    def collect(node: ast.expr, positive: bool) -> None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
            collect(node.left, positive)
            collect(node.right, positive is isinstance(node.op, ast.Add))
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            collect(node.operand, positive is isinstance(node.op, ast.UAdd))
        else:
            (plus if positive else minus).append(_product(node))

    collect(tree, True)
    return "+".join(sorted(plus)) + "".join(f"-{term}" for term in sorted(minus))


def _product(tree: ast.expr) -> str:
    over: list[str] = []
    under: list[str] = []

    def collect(node: ast.expr, numerator: bool) -> None:
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
            collect(node.left, numerator)
            collect(node.right, numerator is isinstance(node.op, ast.Mult))
        else:
            (over if numerator else under).append(_factor(node))

    collect(tree, True)
    return "*".join(sorted(over)) + "".join(f"/{factor}" for factor in sorted(under))


def _factor(tree: ast.expr) -> str:
    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return str(tree.value)
    if isinstance(tree, ast.Constant) and isinstance(tree.value, float):
        return str(Fraction(str(tree.value)))
    if isinstance(tree, (ast.BinOp, ast.UnaryOp)) and isinstance(tree.op, (ast.Add, ast.Sub, ast.UAdd, ast.USub)):
        return f"({_sum(tree)})"
    raise ValueError(f"{type(tree).__name__} is not read")
