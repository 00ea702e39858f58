"""A readable dump of a program: what each stage gives, and the loops it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from composer.codegen.outputs import Output, Table
from composer.codegen.program import Program, walk
from composer.codegen.recompute import LEAVES
from composer.codegen.schedule import Nest, Schedule
from composer.ir.nodes import Node, show
from composer.ir.sums import given_of, relation_of

INLINE = 60  # characters up to which a value used once is written where it is used


def dump(program: Program, names: Mapping[str, str] | None = None) -> str:
    """The stages of a program as text.

    Each stage lists its values (one definition a line, arguments first), its outputs, and the loop nests of its schedule.
    Arguments: program; names to show instead of the keys of parameters. Returns: lines of text.
    """
    lines: list[str] = []
    for number, stage in enumerate(program.stages):
        lines.append(f"stage {number}")
        outputs = [o for o in stage if isinstance(o, Output)]
        tables = [o for o in stage if isinstance(o, Table)]
        for table in tables:
            lines.append(f"  columns of a Jacobian: {len(table.slots)} slots, {len(table.columns)} entries, {len(table.rows)} channels")
        values = _Values([o.node for o in outputs])
        lines += ["  values"] + [f"    {line}" for line in values.lines] if values.lines else []
        lines += ["  outputs"] + [f"    {_target(o)} = {values.text(o.node)}" for o in outputs] if outputs else []
        lines += ["  loops"] + [f"    {_nest(n)}" for n in Schedule(outputs).nests] if outputs else []
        for kind, arrays in (("read at neighbours by later stages", program.fields), ("collected from neighbours", program.adjoints)):
            lines += [f"  {kind}: {', '.join(arrays[number])}"] if arrays.get(number) else []
    text = "\n".join(lines)
    for key, name in (names or {}).items():
        text = text.replace(key, name)
    return text


def _target(output: Output) -> str:
    match output.kind:
        case "force":
            return f"dE/d{'xyz'[output.axis]}[{', '.join(sorted(i.key for i in output.node.free))}]"
        case "parameter" if output.target is not None:
            return f"gradient of {show(output.target)}"
    return f"{output.kind} {output.name}"


def _nest(nest: Nest) -> str:
    loops = [*(n.key for n in nest.loops), *(r.key for r in nest.ranges)]
    tied = {"": "", "ne": ", k unlike j", "lt": ", k before j", "gt": ", k after j"}[nest.relation]
    work = [f"{len(nest.sums)} sums", f"{len(nest.stores)} kept for each neighbour", f"{len(nest.sinks)} outputs"]
    return f"level {nest.level}: over {', '.join(loops) or 'the site'}{tied}: " + ", ".join(w for w in work if not w.startswith("0 "))


class _Values:
    """Numbers for values that occur more than once or are long; everything else is written in place."""

    def __init__(self, roots: Iterable[Node]) -> None:
        roots = list(roots)
        self.names: dict[Node, str] = {}
        self.lines: list[str] = []
        self.memo: dict[Node, str] = {}
        uses: dict[Node, int] = {}
        for node in walk(roots):
            for inner in node.args:
                uses[inner] = uses.get(inner, 0) + 1
        self.uses = uses
        for root in roots:
            self.text(root)

    def text(self, root: Node) -> str:
        pending = [root]
        while pending:
            node = pending[-1]
            waiting = [a for a in (() if node.op == "near" else node.args) if a not in self.memo]
            if waiting:
                pending += waiting
                continue
            pending.pop()
            if node not in self.memo:
                self.memo[node] = self._name(node, self._write(node))
        return self.memo[root]

    def _name(self, node: Node, text: str) -> str:
        simple = node.op in LEAVES or (node.op == "norm" and len(text) < INLINE)
        if simple or (self.uses.get(node, 0) <= 1 and len(text) <= INLINE):
            return text
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return name

    def _write(self, node: Node) -> str:
        inner = [self.memo[a] for a in node.args] if node.op != "near" else [f"field {node.args[0].key.hex()[:8]}"]
        match node.op:
            case "add":
                return "(" + " + ".join(inner) + ")"
            case "mul":
                return " ".join(inner)
            case "pow":
                return f"{inner[0]}^{node.data[0]}"
            case "norm":
                return show(node)
            case "sum":
                given = given_of(node)
                tied = f" {relation_of(node)} {given.key}" if relation_of(node) and given else f" {relation_of(node)}".rstrip()
                return f"sum[{', '.join(node.data[2:])}{tied}] {inner[0]}"
            case "where":
                return f"({inner[2]} if {inner[0]} < {inner[1]} else {inner[3]})"
            case "near":
                return f"{inner[0]}[{node.data[0]}]"
            case "stack":
                return f"[{', '.join(inner)}][{node.data[0]}]"
            case "at":
                return f"{inner[0]}[{node.data[0]} = {node.data[1]}]"
            case op if op in LEAVES:
                return show(node)
        return f"{node.op}({', '.join(inner)})"
