"""No file of ours is written in place: a run that is killed leaves a whole file or none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_imports import ARROWS, ENTRY_POINTS, ROOT, inner_entry_points, python_files

SAFE = {"replacing", "replacing_folder"}
METHODS = {
    "write_text", "write_bytes", "save", "save_file", "save_pretrained", "savez", "savefig",
    "write_table", "write_image", "to_parquet", "to_csv", "to_json", "to_excel", "tofile",
    "copyfile", "copytree", "copy2", "move", "truncate",
}  # fmt: skip
FUNCTIONS = {"save_file", "savez", "savefig", "write_table", "copyfile", "copytree", "copy2"}
DUMPS = {"dump", "safe_dump", "dump_all"}  # into a stream, where one is given
PLACES = {
    ("loggers/curve_file.py", "_append"): "lines are added, and a cut one is taken back",
    ("loggers/curve_file.py", "save"): "Lightning's own name for it; see `_append`, `_rewrite`",
    ("caching/environment.py", "_open"): "LMDB's file, which it writes in transactions",
    ("caching/environment.py", "_fill_up"): "the same, behind all that is in it",
    ("caching/store.py", "open"): "the same",
    ("runner/caching.py", "open_cache"): "the same",
    ("construction/journal.py", "opened"): "lines are added, and a cut one is taken back",
    ("construction/journal.py", "_add"): "the same",
    ("lightning_modules/checkpoints.py", "_stream"): "into the file that `replacing` gave",
    ("results/files.py", "_to_disk"): "opened to be brought to the disk",
    ("results/log_file.py", "write"): "lines are added",
    ("results/provenance.py", "_forget_peak"): "a switch of the kernel",
    ("results/lock.py", "locked"): "a label: the lock is on the file that is there",
    ("datamodules/world/generate.py", "_write"): "in the folder that `replacing_folder` gave",
    ("datamodules/world/generate.py", "_write_views"): "in the same folder",
    ("datamodules/packed/export.py", "_write_split"): "in the folder that `replacing_folder` gave",
    ("datamodules/countries/generate.py", "_write"): "in the folder that `replacing_folder` gave",
    ("datamodules/countries/generate.py", "_write_pictures"): "in the same folder",
    ("pretraining/vision/alignment.py", "align"): "no file: a tower is put on a device",
    ("pretraining/vision/reading.py", "measure_reading"): "the same",
    ("models/minigpt4/convert.py", "_write"): "in the folder that `replacing_folder` gave",
    ("models/minigpt4/convert.py", "convert"): "in the same folder",
    ("models/parts_folder.py", "_store"): "in the folder that `replacing_folder` gave",
    ("reporting/thumbnails.py", "_as_jpeg"): "into memory",
    ("editing/base_folder.py", "copy_beside"): "in the folder that `replacing_folder` gave",
    ("editing/export.py", "finish"): "in the same folder",
    ("editing/plain.py", "take_code_along"): "in the same folder",
    ("editing/plain.py", "_write"): "in the same folder",
    ("editing/saving.py", "_write_value"): "in the folder that `replacing_folder` gave",
    ("editing/saving.py", "write_deltas"): "in the same folder",
    ("editing/hub.py", "_edit_parcel"): "in a temporary folder, which is sent",
    ("editing/hub.py", "_editor_parcel"): "in the same folder",
    ("construction/data_set.py", "copy_pictures"): "in the folder that `replacing_folder` gave",
    ("edit.py", "main"): "no file: `save` of the prompt, see `editing.saving`",
    ("editing/prompt.py", "save"): "the same",
    ("editing/session.py", "save"): "the same",
}
"""(file, function) that writes outside a block of `replacing`, and why it may."""


def sources() -> list[Path]:
    folders = [path for folder in ARROWS for path in python_files(folder)]
    return [*folders, *inner_entry_points(), *(ROOT / f"{name}.py" for name in ENTRY_POINTS)]


def in_place(tree: ast.AST, function: str = "", *, safe: bool = False) -> Iterator[tuple[str, int]]:
    """Function and line of each call that writes a file outside a block of `replacing`."""
    for node in ast.iter_child_nodes(tree):
        name, is_safe = function, safe
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name, is_safe = node.name, False
        elif isinstance(node, ast.With):
            is_safe = safe or any(called(item.context_expr) in SAFE for item in node.items)
            if is_safe:
                node = ast.Module(node.body, [])
        if isinstance(node, ast.Call) and not safe and writes(node):
            yield function, node.lineno
        yield from in_place(node, name, safe=is_safe)


def called(node: ast.expr) -> str:
    """Last part of the name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    target = node.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def writes(call: ast.Call) -> bool:
    name, is_method = called(call), isinstance(call.func, ast.Attribute)
    if name == "open" and ast.unparse(call.func) not in ("Image.open", "os.open"):
        return any(letter in mode(call, is_method=is_method) for letter in "wax+")
    if name in DUMPS:
        return len(call.args) > 1 or any(word.arg in ("stream", "fp") for word in call.keywords)
    if name == "save" and not call.args and not is_super(call):
        return False
    return name in (METHODS if is_method else FUNCTIONS)


def is_super(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and called(call.func.value) == "super"


def mode(call: ast.Call, *, is_method: bool) -> str:
    """The mode of a call of `open`; one that is no plain text counts as writing."""
    given = [word.value for word in call.keywords if word.arg == "mode"]
    given += call.args[0 if is_method else 1 :][:1]
    if not given:
        return "r"
    value = given[0].value if isinstance(given[0], ast.Constant) else None
    return value if isinstance(value, str) else "w"


def test_every_file_is_written_beside_its_place() -> None:
    found = {
        (str(path.relative_to(ROOT)), function): line
        for path in sources()
        for function, line in in_place(ast.parse(path.read_text(encoding="utf-8")))
    }
    unknown = {f"{file}:{line} {name}" for (file, name), line in found.items()
               if (file, name) not in PLACES}  # fmt: skip
    assert not unknown, "use results.files.replacing"
    assert not PLACES.keys() - found.keys(), "these write nothing any more"


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')", "open(path, mode='ab')", "path.open('w')", "path.open(mode)",
        "path.write_text(text)", "path.write_bytes(b'')", "save_file(tensors, path)",
        "torch.save(value, path)", "picture.save(path)", "json.dump(value, file)",
        "yaml.safe_dump(value, stream=file)", "pq.write_table(table, path)",
        "frame.to_parquet(path)", "figure.savefig(path)", "shutil.copyfile(a, b)",
        "model.save_pretrained(folder)", "os.truncate(path, 0)",
    ],
)  # fmt: skip
def test_the_check_sees_what_writes_in_place(line: str) -> None:
    assert list(in_place(ast.parse(f"def f():\n    {line}"))) == [("f", 2)]
    block = f"def f():\n    with replacing(path) as temporary:\n        {line}"
    assert list(in_place(ast.parse(block))) == []
    inner = f"with replacing(path):\n    def f():\n        {line}"
    assert list(in_place(ast.parse(inner))) == [("f", 3)], "it may be called after the block"


@pytest.mark.parametrize(
    "line", ["open(path)", "path.open('rb')", "write_text(path, '')", "yaml.safe_dump(value)",
             "module.save()", "Image.open(path)", "text.replace('a', 'b')"],
)  # fmt: skip
def test_the_check_lets_others_pass(line: str) -> None:
    assert list(in_place(ast.parse(line))) == []
