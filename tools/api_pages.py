"""The API pages of the site: `::: keras_dbq.NAME` stands for the definition of that public name, wherever it is.

The package loads names on first use, which a reader of sources cannot follow; so the tables of names are read here, out
of the sources, without importing TensorFlow.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "keras_dbq"
# Of classes from these the constructor alone is for users, as in tests/api/interface.py.
PROTOCOLS = ("keras_dbq.quantizers.", "keras_dbq.wrapping.", "keras_dbq.schemes.")
REQUEST = re.compile(r"^::: keras_dbq\.(\w+)$", re.MULTILINE)


def expanded(markdown: str) -> str:
    """The text with each request replaced by one for the place where the name is defined."""
    return REQUEST.sub(lambda request: _requests(request[1]), markdown)


def public_names() -> dict[str, str]:
    """{name of `keras_dbq.__all__`: module that it is found in, or its own module where it is one}."""
    constants = _constants(PACKAGE)
    modules = {name: _moved().get(name, name) for name in constants["_SUBMODULES"]}
    return constants["_PUBLIC"] | {name: f"{PACKAGE}.{path}" for name, path in modules.items()}


def members(module: str) -> list[str]:
    """Names that users write of a module: its `__all__`, its table of lazy names, or what it defines itself."""
    constants = _constants(module)
    if "_PUBLIC" in constants:
        return sorted(constants["_PUBLIC"])
    if "__all__" in constants:
        return list(constants["__all__"])
    defined = [n.name for n in _tree(module).body if isinstance(n, (ast.ClassDef, ast.FunctionDef))]
    return [name for name in defined if not name.startswith("_")]


def home(module: str, name: str) -> str:
    """Dotted path of the definition that `module.name` leads to."""
    if name in (lazy := _constants(module).get("_PUBLIC", {})):
        return home(lazy[name], name)
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return home(str(node.module), alias.name)
    return f"{module}.{name}"


def _requests(name: str) -> str:
    place = public_names()[name]
    if name not in _constants(PACKAGE)["_SUBMODULES"]:
        return _request(home(place, name), f"{PACKAGE}.{name}", 3)
    shown = [member for member in members(place) if member not in _constants(PACKAGE)["_PUBLIC"]]
    parts = [_request(place, f"{PACKAGE}.{name}", 3, "members: false")]
    parts += [_request(home(place, member), f"{PACKAGE}.{name}.{member}", 4) for member in shown]
    return "\n\n".join(parts)


def _request(path: str, heading: str, level: int, *more: str) -> str:
    if path.startswith(PROTOCOLS) and not more:
        more = ("members: false",)
    options = "".join(f"\n        {line}" for line in (f"heading: {heading}", f"heading_level: {level}", *more))
    return f"::: {path}\n    options:{options}"


def _moved() -> dict[str, str]:
    return _constants(f"{PACKAGE}._moved")["MOVED"]


@functools.cache
def _tree(module: str) -> ast.Module:
    path = ROOT / module.replace(".", "/")
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())


@functools.cache
def _constants(module: str) -> dict:
    """{name: value} of the literal assignments at the top of a module."""
    return dict(_assigned(_tree(module)))


def _assigned(tree: ast.Module) -> Iterator[tuple[str, object]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            try:
                yield ast.unparse(target), ast.literal_eval(node.value)
            except ValueError:
                continue
