"""The house rules that a tool does not know: which way imports go, and how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY_POINTS = ("train", "evaluate", "edit", "play", "pretrain", "report")
TORCH_FREE = ("caching.folder", "configs", "editors.hub", "reporting", "results.files",
              "results.folder", "results.lock", "results.log_file", "results.screen",
              "results.writing")  # fmt: skip

# Room -> what it may import of ours, from the ground up: a room knows only rooms above it in this
# table. `errors` and `options` are open to all; entry points (the files at the root, and the
# `__main__.py` of a room) may import any room.
ARROWS = {
    "metrics": set(),
    "results": {"metrics"},
    "caching": {"results.files"},
    "models": {"metrics.functional", "metrics.precision", "results.files", "caching"},
    "datamodules": {"models.chat", "models.row_keys", "models.rows", "results.files",
                    "results.log_file", "results.screen"},
    "editors": {
        "metrics.functional", "metrics.precision", "models", "datamodules.records",
        "datamodules.mentions", "datamodules.scenarios", "datamodules.prompt_encoder",
        "datamodules.row_length",
        "results.files",
    },
    "configs": {
        "editors.hub", "editors.options", "editors.registry", "editors.checkpoint",
        "datamodules.scenarios",
        "datamodules.source", "datamodules.left_out", "datamodules.mentions", "datamodules.records",
        "datamodules.picture_file", "results.files", "results.lock", "results.log_file",
        "results.screen", "metrics.headlines", "caching.folder",
    },
    "reporting": {
        "results", "metrics.bootstrap", "metrics.chain", "metrics.concentration",
        "metrics.headlines", "metrics.name_first", "metrics.seeds",
        "datamodules.picture_file", "datamodules.pictures",
    },
    "loggers": {
        "results", "configs", "metrics.bootstrap", "metrics.headlines", "metrics.name_first",
        "reporting.gallery", "reporting.thumbnails", "datamodules.pictures",
    },
    "lightning_modules": {"metrics", "models", "caching", "datamodules", "editors", "results"},
    "runner": {
        "metrics", "models", "caching", "datamodules", "editors", "results", "configs",
        "lightning_modules",
    },
    "construction": {"datamodules", "results", "configs", "reporting.thumbnails"},
    "editing": {
        "models", "datamodules", "editors", "results", "configs", "lightning_modules", "runner",
        "reporting.card", "reporting.formats", "reporting.labels", "reporting.naming",
    },
    "playground": {"datamodules", "editing", "editors", "configs", "results.files"},
    "analysis": {
        "metrics", "models", "datamodules", "editors", "results", "configs", "reporting",
        "lightning_modules", "runner",
    },
    "pretraining": {
        "metrics", "models", "datamodules", "editors", "results", "configs", "lightning_modules",
        "runner", "analysis",
    },
}  # fmt: skip
# Third-party packages of the strict folders; the standard library is open to all.
THIRD_PARTY = {"metrics": {"torch", "torchmetrics", "numpy"}}
GROUND = {"errors", "options"}
OURS = {*ARROWS, *GROUND, *ENTRY_POINTS, "benchmarks", "tests"}


def python_files(folder: str) -> list[Path]:
    """The files of a room, or of one module of it; entry points inside it are no part of it."""
    module = ROOT / f"{folder.replace('.', '/')}.py"
    files = [module] if module.is_file() else sorted((ROOT / folder).rglob("*.py"))
    return [path for path in files if path.name != "__main__.py"]


def inner_entry_points() -> list[Path]:
    return sorted(path for room in ARROWS for path in (ROOT / room).rglob("__main__.py"))


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
    return [name for name in ours if not allowed(name, ARROWS[folder] | {folder, *GROUND})]


def test_no_room_knows_a_room_below_it() -> None:
    rooms = list(ARROWS)
    upward = {
        room: [name for name in ARROWS[room] if name.split(".")[0] not in rooms[:place]]
        for place, room in enumerate(rooms)
    }
    assert not {room: names for room, names in upward.items() if names}


@pytest.mark.parametrize("folder", ARROWS)
def test_imports_go_one_way(folder: str) -> None:
    wrong = {str(p.relative_to(ROOT)): wrong_arrows(folder, p) for p in python_files(folder)}
    assert not {path: names for path, names in wrong.items() if names}


@pytest.mark.parametrize("folder", THIRD_PARTY)
def test_strict_folders_import_little(folder: str) -> None:
    open_to_all = set(sys.stdlib_module_names) | {folder, *GROUND} | THIRD_PARTY[folder]
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


@pytest.mark.parametrize("path", inner_entry_points(), ids=lambda path: path.parent.name)
def test_inner_entry_points_answer_before_anything_heavy_loads(path: Path) -> None:
    heavy = {"lightning_modules", "runner"}
    assert not {name.split(".")[0] for name in imports(path, at_import=True)} & heavy


def test_no_file_needs_wandb_to_be_installed() -> None:
    """It is loaded by its name where a run starts, after it was found."""
    files = [p for folder in ARROWS for p in python_files(folder)]
    assert not [p for p in files if any(name.split(".")[0] == "wandb" for name in imports(p))]


def in_new_interpreter(code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code from the checkout's root."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_options_load_without_torch() -> None:
    code = (
        "import sys\n"
        "import configs.launch\n"
        "from editors.registry import editor_names, registration\n"
        "assert editor_names(), 'no editor found'\n"
        "for name in editor_names(): registration(name)\n"
        "from datamodules.source import source_names, source_options\n"
        "names = 'cckeb counterfact countries folder hub mcmke mmedit mmke tmke vlkeb world zsre'\n"
        "assert source_names() == names.split()\n"
        "for name in source_names(): source_options(name)\n"
        "heavy = 'torch lightning transformers datasets wandb pandas numpy PIL'.split()\n"
        "print(sorted(set(heavy) & set(sys.modules)))\n"
    )
    run = in_new_interpreter(code)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def test_commands_load_on_systems_with_fewer_signals() -> None:
    """As Windows: the command line is judged, and a report is written, without them."""
    code = (
        "import multiprocessing.connection, os, random, shutil, signal, subprocess, sys\n"
        "sys.modules |= dict.fromkeys(('fcntl', 'resource'))\n"
        "del os.register_at_fork\n"
        "for name in 'SIGALRM SIGUSR1 SIGUSR2 pthread_sigmask sigwaitinfo'.split():\n"
        "    delattr(signal, name)\n"
        "import configs.launch, datamodules.workers, results.lock, runner.watch\n"
        "from configs.signals import signals\n"
        "signals.install()\n"
    )
    run = in_new_interpreter(code)
    assert run.returncode == 0, run.stderr


def _too_long(paths: list[Path], limit: int) -> dict[str, int]:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in paths}
    return {name: length for name, length in lengths.items() if length > limit}


def test_no_file_is_too_long() -> None:
    folders = (*ARROWS, "tests", "benchmarks")
    assert not _too_long([p for folder in folders for p in python_files(folder)], 400)


def test_entry_points_are_thin() -> None:
    paths = [*(ROOT / f"{name}.py" for name in ENTRY_POINTS), *inner_entry_points()]
    assert not _too_long([path for path in paths if path.is_file()], 120)


def test_no_junk_drawer() -> None:
    junk = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [p for folder in ARROWS for p in python_files(folder) if p.name in junk]
