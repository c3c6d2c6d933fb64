"""The house rules that a tool does not know: which way imports go, and how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = ("train", "evaluate", "pretrain", "report")
# Entry points inside a folder: they may read configurations and start what trains and judges.
INNER_ENTRY_POINTS = ("models/__main__.py", "reporting/neurons.py")
TORCH_FREE = ("configs", "reporting")

# Folder -> what it may import of ours. `errors` is open to all.
ARROWS = {
    "models": {"models"},
    "editors": {
        "editors", "models", "metrics.functional", "datamodules.records",
        "datamodules.tokenisation",
    },
    "lightning_modules": {
        "lightning_modules", "editors", "models", "datamodules", "metrics", "configs",
        "reporting.heatmap", "reporting.results", "reporting.tables",
    },
    "datamodules": {"datamodules", "models.chat", "models.rows"},
    "metrics": {"metrics"},
    "reporting": {"reporting", "metrics.bootstrap", "metrics.headlines"},
    "configs": {"configs", "editors.options"},
}  # fmt: skip
# Third-party packages of the strict folders; the standard library is open to all.
THIRD_PARTY = {"metrics": {"torch", "torchmetrics", "numpy", "jaxtyping"}}
OURS = {*ARROWS, "errors", *ENTRY_POINTS, "benchmarks", "tests"}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, *, at_import: bool = False) -> list[str]:
    """Dotted names that a file imports; with `at_import` only those that run at its import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(_executed(tree)) if at_import else list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [_module(node.module, alias.name) for alias in node.names]
    return names


def _executed(tree: ast.AST) -> list[ast.AST]:
    """Nodes outside functions and `if TYPE_CHECKING`."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        skipped = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not skipped and not typing_only:
            found += [node, *_executed(node)]
    return found


def _module(module: str, name: str) -> str:
    """`from models import rows` names the module models.rows, `from errors import X` does not."""
    as_path = ROOT / module.replace(".", "/")
    is_module = (as_path / f"{name}.py").is_file() or (as_path / name / "__init__.py").is_file()
    return f"{module}.{name}" if is_module else module


def allowed(name: str, roots: set[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def wrong_arrows(folder: str, path: Path) -> list[str]:
    ours = [name for name in imports(path) if name.split(".")[0] in OURS]
    is_entry_point = path in [ROOT / name for name in INNER_ENTRY_POINTS]
    more = {"errors", "configs", "lightning_modules"} if is_entry_point else {"errors"}
    return [name for name in ours if not allowed(name, ARROWS[folder] | more)]


@pytest.mark.parametrize("folder", ARROWS)
def test_imports_go_one_way(folder: str) -> None:
    wrong = {str(p.relative_to(ROOT)): wrong_arrows(folder, p) for p in python_files(folder)}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize("folder", THIRD_PARTY)
def test_strict_folders_import_little(folder: str) -> None:
    open_to_all = set(sys.stdlib_module_names) | {folder, "errors"} | THIRD_PARTY[folder]
    wrong = {
        str(p.relative_to(ROOT)): [n for n in imports(p) if n.split(".")[0] not in open_to_all]
        for p in python_files(folder)
    }
    assert not {path: names for path, names in wrong.items() if names}


def test_the_arrow_check_sees_a_wrong_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from editors.mend import editor\n    import lightning_modules\n")
    assert sorted(wrong_arrows("models", bad)) == ["editors.mend.editor", "lightning_modules"]
    bad.write_text("from models.deltas import Delta\nfrom models import rows\n")
    assert wrong_arrows("datamodules", bad) == ["models.deltas"]


@pytest.mark.parametrize("folder", TORCH_FREE)
def test_folders_that_answer_before_torch_loads(folder: str) -> None:
    heavy = {"torch", "lightning", "transformers", "torchmetrics", "datasets"}
    wrong = {
        str(p.relative_to(ROOT)): sorted(
            {n.split(".")[0] for n in imports(p, at_import=True)} & heavy
        )
        for p in python_files(folder)
    }
    assert not {path: names for path, names in wrong.items() if names}


def test_inner_entry_points_answer_before_anything_heavy_loads() -> None:
    wrong = [
        name
        for path in INNER_ENTRY_POINTS
        for name in imports(ROOT / path, at_import=True)
        if name.split(".")[0] == "lightning_modules"
    ]
    assert not wrong


def test_options_load_without_torch() -> None:
    code = (
        "import sys\n"
        "import configs.launch\n"
        "from editors.options import editor_names, options_class\n"
        "assert editor_names(), 'no editor found'\n"
        "for name in editor_names(): options_class(name)\n"
        "heavy = {'torch', 'lightning', 'transformers', 'datasets', 'wandb', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def _too_long(paths: list[Path], limit: int) -> dict[str, int]:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in paths}
    return {name: length for name, length in lengths.items() if length > limit}


def test_no_file_is_too_long() -> None:
    folders = (*ARROWS, "tests", "benchmarks")
    assert not _too_long([p for folder in folders for p in python_files(folder)], 400)


def test_entry_points_are_thin() -> None:
    paths = [ROOT / name for name in (*(f"{n}.py" for n in ENTRY_POINTS), *INNER_ENTRY_POINTS)]
    assert not _too_long([path for path in paths if path.is_file()], 120)


def test_no_junk_drawer() -> None:
    junk = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [p for folder in ARROWS for p in python_files(folder) if p.name in junk]
