"""What `--help` prints: the head of a command's YAML file, and its groups with their options."""

import re

from configs.composing import CONFIG_DIR
from configs.overrides import command_groups, group_options

_FOOT = """
Keys: every file in configs/ explains its keys, line by line; configs/{command}.yaml has those of no
group. `a.b=value` sets key b of group a, `key=value` one of no group. A path or name is used as it
is typed: docs/command-line.md.
  python {command}.py --cfg job ...    prints all keys with their values and runs nothing
"""
_FOOT_OF_RUNS = """\
  python {command}.py -m ...           makes a run of each combination of a,b,c: docs/sweeps.md
  python {command}.py --hydra-help     has the other flags
"""


def help_text(command: str) -> str:
    """The help of a command."""
    text = (CONFIG_DIR / f"{command}.yaml").read_text(encoding="utf-8")
    head = [line.removeprefix("#").removeprefix(" ") for line in _head(text)]
    groups = [line for group in command_groups(command) for line in _group(group, text)]
    title = "Groups (group=option picks the file configs/<group>/<option>.yaml; * is the default):"
    foot = _FOOT if command == "edit" else _FOOT + _FOOT_OF_RUNS  # which makes no run
    return "\n".join([*head, "", title, *groups, foot.format(command=command)])


def _group(group: str, primary: str) -> list[str]:
    """What a group is for, and its options with the first sentence of each file."""
    match = re.search(rf"^  - {group}: (\S+) *# (.*)$", primary, flags=re.MULTILINE)
    default, purpose = match.groups() if match else ("", "")
    lines = [f"\n  {group}: {purpose}"]
    for option in group_options(group):
        text = (CONFIG_DIR / group / f"{option}.yaml").read_text(encoding="utf-8")
        first = next(line for line in _head(text) if not line.startswith("# @package"))
        sentence = re.split(r"\s{2,}(?:run|use):", first.removeprefix("# "))[0]
        mark = "*" if option == default else " "
        lines.append(f"   {mark}{option:<15} {sentence}")
    return lines


def _head(text: str) -> list[str]:
    """The comment that a YAML file begins with."""
    lines = text.splitlines()
    return lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
