"""Writes docs/api.md, the public names of the package, from its docstrings: `python scripts/api.py`.

A name is public if the `__init__.py` of its room lists it in `__all__` (`hf_usod.loading` is a room of one file).
`--check` writes nothing and fails if the page would change. The sources are read, not imported.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from hf_usod.cli import exit_status
from hf_usod.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
ROOMS = {
    "hf_usod": "The package itself",
    "hf_usod.loading": "From a name, folder or Hub id to a model",
    "hf_usod.adapters": "Task adapters",
    "hf_usod.objectives": "The terms of the training objectives",
    "hf_usod.labels": "Pseudo-labels",
    "hf_usod.data": "Images and their views",
    "hf_usod.inference": "From files to files",
    "hf_usod.evaluation": "Scores",
    "hf_usod.experiments": "The paper's tables",
    "hf_usod.conversion": "Foreign checkpoints",
    "hf_usod.hub": "Publishing",
}
HEAD = """# Python

The public names of each room, with the first lines of what their docstrings say; `help(name)` says the rest: shapes,
ranges, units, errors. Written by `python scripts/api.py`.
"""
LONGEST_VALUE = 100  # of a constant, to be shown


def source_file(module: str) -> Path:
    """The file of a module, or of a package's `__init__`."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def parse(module: str) -> ast.Module:
    return ast.parse(source_file(module).read_text(encoding="utf-8"))


def public_names(module: str) -> list[str]:
    """What `__all__` lists; without one, the functions and classes that the module defines and does not hide."""
    tree = parse(module)
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return sorted(ast.literal_eval(node.value), key=str.lower)
    definitions = (node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return sorted((name for name in definitions if not name.startswith("_")), key=str.lower)


def definition(module: str, name: str) -> ast.stmt | None:
    """The statement that defines a name, wherever it is imported from; None for what is no name of the package."""
    tree = parse(module)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node
    package = module if source_file(module).name == "__init__.py" else module.rpartition(".")[0]
    for part in ast.walk(tree):
        if isinstance(part, ast.ImportFrom) and part.level and name in [alias.name for alias in part.names]:
            base = package.split(".")[: len(package.split(".")) - part.level + 1]
            origin = ".".join([*base, part.module] if part.module else base)
            return definition(origin, name)
    return None


def first_paragraph(node: ast.AST) -> str:
    text = ast.get_docstring(node) if isinstance(node, ast.FunctionDef | ast.ClassDef) else None
    paragraph = (text or "").strip().split("\n\n")[0]
    return "" if paragraph.startswith(("Args:", "Raises:", "Returns:")) else " ".join(paragraph.split())


def signature(node: ast.FunctionDef, name: str | None = None) -> str:
    """A function's signature on a line or, if that is long, an argument a line; without `self` and `cls`."""
    arguments = re.sub(r"^(self|cls)(, |$)", "", ast.unparse(node.args))
    result = f" -> {ast.unparse(node.returns)}" if node.returns and name is None else ""
    line = f"{name or node.name}({arguments}){result}"
    if len(line) <= 110:
        return line
    return f"{name or node.name}(\n    {_one_line_each(arguments)},\n){result}"


def _one_line_each(arguments: str) -> str:
    """Parts arguments at the commas that are outside brackets and quotes."""
    depth, quote, text = 0, "", ""
    for position, letter in enumerate(arguments):
        if letter in "\"'" and quote in ("", letter):
            quote = "" if quote else letter
        elif not quote:
            depth += (letter in "([{") - (letter in ")]}")
        text += "\n   " if letter == " " and depth == 0 and not quote and arguments[position - 1] == "," else ""
        text += letter
    return text


def describe_class(node: ast.ClassDef) -> str:
    """How an object is made (by `__init__`, or its fields), and its public methods."""
    methods = [member for member in node.body if isinstance(member, ast.FunctionDef)]
    fields = [
        f"    {ast.unparse(member.target)}: {ast.unparse(member.annotation)}{_default(member.value)}"
        for member in node.body
        if isinstance(member, ast.AnnAssign) and "ClassVar" not in ast.unparse(member.annotation)
    ]
    lines = [signature(method, node.name) for method in methods if method.name == "__init__"]
    lines = lines or [f"class {node.name}({', '.join(map(ast.unparse, node.bases))})".replace("()", ""), *fields]
    properties = {"property", "abstractmethod"}
    for method in methods:
        if not method.name.startswith("_") and ast.get_docstring(method):
            of_value = properties & {ast.unparse(decorator) for decorator in method.decorator_list}
            lines.append("." + (method.name if of_value else signature(method)))
    return "\n".join(lines)


def _default(value: ast.expr | None) -> str:
    return f" = {ast.unparse(value)}" if isinstance(value, ast.Constant | ast.Tuple) else ""


def describe(module: str, name: str) -> Iterator[str]:
    """The entry of a name.

    Raises:
        ValueError: if the package does not define it.
    """
    node = definition(module, name)
    if node is None:
        raise ValueError(f"{module}: lists {name}, which nothing defines.")
    yield f"### {name}\n"
    if isinstance(node, ast.FunctionDef):
        yield f"```python\n{signature(node)}\n```\n"
    elif isinstance(node, ast.ClassDef):
        yield f"```python\n{describe_class(node)}\n```\n"
    elif len(text := ast.unparse(node)) <= LONGEST_VALUE:
        yield f"```python\n{text}\n```\n"
    if paragraph := first_paragraph(node):
        yield f"{paragraph}\n"


def render() -> str:
    """The whole page."""
    parts = [HEAD]
    for module, title in ROOMS.items():
        names = [name for name in public_names(module) if not name.startswith("_")]
        parts.append(f"## {title}: `{module}`\n")
        for name in names:
            parts.extend(describe(module, name))
    return "\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not up to date")
    page = render()
    if not parser.parse_args().check:
        write_text(PAGE, page)
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        print(f"{PAGE}: is not up to date; run scripts/api.py.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(exit_status("api.py", main))
