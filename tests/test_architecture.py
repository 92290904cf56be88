"""The rules that keep the tree what it is: who imports whom, how large, which clock, which layers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 500

# From the ground up; a module may import its own row (see NOT_SIDEWAYS) and every row before it.
ROWS = [
    ["meshcore.errors", "meshcore._mesh_error", "meshcore._chains", "meshcore._wakeup", "meshcore._repr"],
    [
        "meshcore.http.headers",
        "meshcore.http.classify",
        "meshcore.http.classification",
        "meshcore.http.forward",
        "meshcore.http.grpc",
        "meshcore.http.timeouts",
        "meshcore.http.retry_after",
        "meshcore.http.overrides",
        "meshcore.http.retry_on",
        "meshcore.http.hedge",
        "meshcore.http.concurrency",
        "meshcore.http.log_choice",
        "meshcore.http.log_template",
        "meshcore.http.trace_ids",
        "meshcore.codec",
        "meshcore.addresses",
        "meshcore.durations",
        "meshcore.explain",
        "meshcore.log_filter",
        "meshcore.log_levels",
        "meshcore.log_lines",
        "meshcore._native",
        "meshcore.compiled",
    ],
    # A request can say where it stands in a trace.
    ["meshcore.abc", "meshcore.http", "meshcore.tracing.propagation", "meshcore.stack", "meshcore._unwrap"],
    ["meshcore.transport", "meshcore.resolve", "meshcore.metrics", "meshcore.accounting"],
    # Between what it secures and who accepts and connects with it.
    ["meshcore.identity"],
    # Calls through any HTTP service, so: above bodies and messages; asked by layers, so: below those.
    # Spans are written as gRPC's messages are, and asked for by layers.
    ["meshcore.grpc", "meshcore.tracing"],
    ["meshcore.server", "meshcore.client", "meshcore.layers"],
    ["meshcore.pipeline", "meshcore.admin", "meshcore.registry", "meshcore.config"],
    # The process wrapper: what the proxy runs around, next to the proxy itself.
    ["meshcore.running"],
    ["meshcore.proxy", "meshcore.wrap"],
    ["meshcore.process"],
    ["meshcore"],
    # What joins it to other libraries may use all of it.
    ["meshcore.contrib"],
    ["meshcore.testing"],
    ["meshcore_cli"],
]
NOT_SIDEWAYS = [("meshcore.server", "meshcore.client"), ("meshcore.client", "meshcore.server")]

TRIO_FREE = [
    "meshcore.errors",
    "meshcore._mesh_error",
    "meshcore._chains",
    "meshcore._native",
    "meshcore._repr",
    "meshcore.codec",
    "meshcore.http.headers",
    "meshcore.http.classify",
    "meshcore.http.classification",
    "meshcore.http.forward",
    "meshcore.http.grpc",
    "meshcore.http.timeouts",
    "meshcore.http.matching",
    "meshcore.http.route_table",
    "meshcore.http.regex",
    "meshcore.http.header_edit",
    "meshcore.http.path_edit",
    "meshcore.http.retry_after",
    "meshcore.http.overrides",
    "meshcore.http.retry_on",
    "meshcore.http.hedge",
    "meshcore.http.concurrency",
    "meshcore.http.log_choice",
    "meshcore.http.log_template",
    "meshcore.http.trace_ids",
    "meshcore.log_filter",
    "meshcore.log_levels",
    "meshcore.log_lines",
    "meshcore.addresses",
    "meshcore.durations",
    "meshcore.explain",
    "meshcore.registry",
    "meshcore.config",
    "meshcore.layers.authorize.policies",
    "meshcore.layers.authorize.policy",
    "meshcore.layers.jwt.keys",
    "meshcore.layers.jwt.rules",
    "meshcore.layers.jwt.token",
    "meshcore.layers.rate_limit.gcra",
    "meshcore.layers.rate_limit.limits",
    "meshcore.layers.retry.policy",
    "meshcore.layers.retry.budget",
    "meshcore.layers.retry.latencies",
    "meshcore.layers.ext_authz.messages",
    "meshcore.layers.ext_authz.verdict",
    "meshcore.layers.balance.load",
    "meshcore.layers.failure_accrual.breaker",
    "meshcore.layers.failure_accrual.window",
    "meshcore.layers.concurrency_limit.adaptive",
    "meshcore.metrics.histogram",
    "meshcore.metrics.prometheus",
    "meshcore.grpc.framing",
    "meshcore.grpc.metadata",
    "meshcore.grpc.method",
    "meshcore.grpc.protobuf",
    "meshcore.grpc.status",
    "meshcore.tracing.propagation",
    "meshcore.tracing.span",
]
# The data path has two; instruments and embedding may look at the scheduler as well.
LOWLEVEL = [
    "meshcore._wakeup",
    "meshcore.transport.socket",
    "meshcore.admin",
    "meshcore.metrics",
    "meshcore.embed",
    "meshcore.contrib",
]


def modules(*packages: str) -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules("meshcore", "meshcore_cli")


def within(module: str, packages: list[str]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def row(module: str) -> int:
    """The row of the longest prefix that has one."""
    best, length = -1, 0
    for index, prefixes in enumerate(ROWS):
        for prefix in prefixes:
            if within(module, [prefix]) and len(prefix) > length:
                best, length = index, len(prefix)
    return best


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, blocks that only type checkers read left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield statement
                yield from executed(statement)
            continue
        yield child
        yield from executed(child)


def imports(path: Path, *, typing: bool = False) -> list[tuple[str, str | None, int]]:
    """``(module, name, line)`` of each import; with *typing*, those for type checkers too."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, str | None, int]] = []
    for node in ast.walk(tree) if typing else executed(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, None, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            found += [(str(node.module), alias.name, node.lineno) for alias in node.names]
    return found


def resolved(module: str, name: str | None) -> str:
    """``from package import submodule`` names a module, too."""
    return f"{module}.{name}" if name is not None and f"{module}.{name}" in MODULES else module


def own_imports(path: Path, *, typing: bool = False) -> list[tuple[str, str | None, int]]:
    return [
        (resolved(module, name), name, line)
        for module, name, line in imports(path, typing=typing)
        if module.partition(".")[0] in ("meshcore", "meshcore_cli")
    ]


def test_no_module_imports_from_a_later_row_of_the_table() -> None:
    wrong = []
    for module, path in MODULES.items():
        for imported, _, line in own_imports(path):
            if row(imported) > row(module):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {module} imports {imported}")
    assert wrong == []


def test_server_and_client_do_not_import_each_other_nor_layers_them() -> None:
    wrong = []
    for module, path in MODULES.items():
        for imported, _, line in own_imports(path):
            sideways = any(within(module, [a]) and within(imported, [b]) for a, b in NOT_SIDEWAYS)
            if within(module, ["meshcore.layers"]):
                sideways |= within(imported, ["meshcore.server", "meshcore.client"])
            elif within(module, ["meshcore.server", "meshcore.client"]):
                sideways |= within(imported, ["meshcore.layers"])
            if sideways:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {module} imports {imported}")
    assert wrong == []


def test_layers_do_not_import_each_other() -> None:
    wrong = []
    for module, path in MODULES.items():
        parts = module.split(".")
        if parts[:2] != ["meshcore", "layers"] or len(parts) < 3:
            continue
        for imported, _, line in own_imports(path):
            other = imported.split(".")
            if other[:2] == ["meshcore", "layers"] and other[2:3] != parts[2:3]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {module} imports {imported}")
    assert wrong == []


def test_nothing_imports_testing() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for module, path in MODULES.items()
        if not within(module, ["meshcore.testing"])
        for imported, _, line in own_imports(path, typing=True)
        if within(imported, ["meshcore.testing"])
    ]
    assert wrong == []


def test_private_modules_and_names_stay_in_their_package() -> None:
    wrong = []
    for module, path in MODULES.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for imported, name, line in own_imports(path, typing=True):
            parts = imported.split(".")
            for index, part in enumerate(parts):
                if part.startswith("_") and not within(package, [".".join(parts[:index])]):
                    wrong.append(f"{path.relative_to(ROOT)}:{line}: {imported} is private")
            private = name is not None and name.startswith("_") and not name.startswith("__")
            owner = imported if MODULES.get(imported, path).name == "__init__.py" else imported.rpartition(".")[0]
            if private and imported.rpartition(".")[2] != name and not within(package, [owner]):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {imported}.{name} is private")
    assert wrong == []


def test_only_those_who_may_use_the_scheduler_do() -> None:
    wrong = []
    for module, path in MODULES.items():
        if not module.startswith("meshcore.") or within(module, LOWLEVEL):
            continue
        for imported, name, line in imports(path):
            if imported.startswith("trio.lowlevel") or (imported, name) == ("trio", "lowlevel"):
                wrong.append(f"{path.relative_to(ROOT)}:{line}")
        wrong += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in executed(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "trio.lowlevel"
        ]
    assert wrong == []


def test_no_module_of_the_library_reads_a_clock_of_its_own() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {imported}"
        for module, path in modules("meshcore").items()
        for imported, _, line in imports(path, typing=True)
        if imported in ("time", "asyncio", "threading")
    ]
    assert wrong == []


def test_no_module_is_longer_than_the_limit() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in MODULES.values()
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_trio_free_modules_do_not_import_trio() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for module, path in MODULES.items()
        if within(module, TRIO_FREE)
        for imported, _, line in imports(path)
        if imported.partition(".")[0] == "trio"
    ]
    assert wrong == []


def test_trio_free_modules_load_without_trio() -> None:
    names = [module for module in MODULES if within(module, TRIO_FREE)]
    loadable = [name for name in names if not within(name, ["meshcore.layers", "meshcore.metrics", "meshcore.grpc"])]
    script = (
        "import importlib, sys\n"
        f"for name in {loadable!r}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as error:\n"
        # An engine of the extra `fast` that is not installed.
        "        assert error.name in ('ngh2', 'httptools'), error\n"
        "    assert 'trio' not in sys.modules, name\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    assert result.returncode == 0


LAYER_MODULES = {
    module: path
    for module, path in MODULES.items()
    if within(module, ["meshcore.layers"])
    and path.name != "__init__.py"
    and not path.name.startswith("_")
    # A layer is a module, or the module `layer` of a package with its policies beside it.
    and (module.count(".") == 2 or path.name == "layer.py")
}


@pytest.mark.parametrize("module", LAYER_MODULES)
def test_each_layer_module_defines_one_layer_with_a_docstring(module: str) -> None:
    tree = ast.parse(LAYER_MODULES[module].read_text())
    layers = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and is_layer(node)
    ]
    assert len(layers) == 1, [node.name for node in layers]
    assert ast.get_docstring(layers[0])


def is_layer(node: ast.ClassDef) -> bool:
    """By its base, or by its ``layer`` method."""
    methods = {child.name for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)}
    return "layer" in methods or any("ServiceLayer" in ast.unparse(base) for base in node.bases)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    text = MODULES[module].read_text()
    assert text.strip() == "" or ast.get_docstring(ast.parse(text))


def test_words_that_mean_nothing_are_not_module_names() -> None:
    meaningless = {"utils", "util", "helpers", "misc", "common", "handlers", "handler", "manager", "context"}
    assert [module for module in MODULES if module.rpartition(".")[2].lstrip("_") in meaningless] == []
