"""Expressions of the C family: node -> text, with shared parts as named locals. C++ and CUDA use the same printer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from composer.errors import BackendError
from composer.ir.nodes import Node, is_const, make

FUNCTION_NAMES = {f: f for f in ("exp", "log", "sqrt", "sin", "cos", "tanh", "expm1", "log1p")} | {"erfc": "complementary_error"}
INLINE_LENGTH = 160


class Lowering:
    """Rewrites powers into chains of products, so that x^5, x^6 and x^12 share their squares."""

    def __init__(self) -> None:
        self.memo: dict[Node, Node] = {}

    def __call__(self, node: Node) -> Node:
        found = self.memo.get(node)
        if found is None:
            args = node.args if node.op == "near" else tuple(self(a) for a in node.args)
            if node.op == "pow":
                found = self.chain(args[0], node.data[0])
            else:
                found = node if args == node.args else make(node.op, args, node.data, node.free)
            self.memo[node] = found
        return found

    def chain(self, base: Node, n: int) -> Node:
        if n < 0:
            inverse = make("pow", (base,), (-1,))
            return inverse if n == -1 else self.chain(inverse, -n)
        if n == 1:
            return base
        half = self.chain(base, n // 2)
        square = make("mul", (half, half))
        return square if n % 2 == 0 else make("mul", sorted((square, base), key=lambda x: x.key))


class Block:
    """Straight-line code of one scope: `resolve` names what is loaded, everything else is computed here."""

    def __init__(self, resolve: Callable[[Node], str | None], prefix: str) -> None:
        self.resolve, self.prefix = resolve, prefix
        self.lines: list[str] = []
        self.text: dict[Node, str] = {}
        self.uses: dict[Node, int] = {}

    def emit(self, roots: Iterable[Node]) -> list[str]:
        """Texts of the roots; their common parts become locals in `lines`."""
        roots = list(roots)
        order: list[Node] = []
        for root in roots:
            self._count(root, order)
        for node in order:
            if node not in self.text:
                self.text[node] = self._name(node, roots)
        return [self.text[r] for r in roots]

    def _count(self, root: Node, order: list[Node]) -> None:
        pending = [(root, False)]
        while pending:
            node, done = pending.pop()
            if done:
                order.append(node)
                continue
            self.uses[node] = self.uses.get(node, 0) + 1
            if self.uses[node] > 1 or node in self.text:
                continue
            pending.append((node, True))
            if is_const(node) or self.resolve(node) is None:
                pending.extend((a, False) for a in reversed(node.args))

    def _name(self, node: Node, roots: list[Node]) -> str:
        if is_const(node):
            return number(node.data[0])
        loaded = self.resolve(node)
        text = loaded if loaded is not None else self.operation(node)
        if (loaded is not None and self.uses[node] < 2) or (loaded is None and self.uses[node] < 2 and len(text) < INLINE_LENGTH):
            return text
        if loaded is not None and loaded.isidentifier():
            return loaded
        name = f"{self.prefix}{len(self.lines)}"
        self.lines.append(f"const real {name} = {text};")
        return name

    def operation(self, node: Node) -> str:
        a = [self.text[x] for x in node.args]
        match node.op:
            case "add":
                return "(" + _joined(a) + ")"
            case "mul":
                return f"(-{a[1]})" if is_const(node.args[0], -1.0) else f"{a[0]}*{a[1]}"
            case "pow":
                return f"(real(1)/({a[0]}))"
            case "where":
                return f"where({', '.join(a)})"
            case "norm":
                return f"sqrt({a[0]}*{a[0]} + {a[1]}*{a[1]} + {a[2]}*{a[2]})"
            case op if op in FUNCTION_NAMES:
                return f"{FUNCTION_NAMES[op]}({a[0]})"
        raise BackendError(
            f"Code for a node of kind {node.op!r} was asked for. The printer knows no such node. Report the expression that led here."
        )


def _joined(terms: list[str]) -> str:
    text = terms[0]
    for term in terms[1:]:
        text += f" - {term[2:-1]}" if term.startswith("(-") and term.count("(") == 1 else f" + {term}"
    return text


def number(value: float) -> str:
    text = repr(float(value))
    return f"real({text})" if value >= 0 else f"(real({text}))"
