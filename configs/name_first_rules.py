"""What `evaluate.name_first` needs of scenario, protocol and data."""

from collections.abc import Iterator
from typing import Any

from configs import schema
from configs.protocol_rules import keeps_edits
from datamodules.scenarios import SCENARIOS
from datamodules.source import DataOptions, texted_names

_NAMED = "reliability_s"  # what a scenario asks whose probes show pictures of the subject


def name_first_rules(command: str, sections: dict[str, Any]) -> Iterator[str]:
    """A name stands for a picture in a text question, so both have to be there."""
    options: schema.EvaluateOptions | None = sections.get("evaluate")
    if command != "evaluate" or not getattr(options, "name_first", False):
        return
    scenario: schema.ScenarioOptions | None = sections.get("scenario")
    data: DataOptions | None = sections.get("data")
    able = [name for name, served in SCENARIOS.items() if _NAMED in served.probes]
    if scenario is not None and scenario.name not in able:
        yield (
            f"evaluate.name_first=true: scenario={scenario.name} asks about no picture that could "
            f"be named; use scenario={' or '.join(able)}, or evaluate.name_first=false"
        )
    if (protocol := keeps_edits(sections)) is not None:
        yield (
            f"evaluate.name_first=true with protocol={protocol}: what is asked by a name is asked "
            "of single edits; use protocol=single, or evaluate.name_first=false"
        )
    if data is not None and not data.edits_text():
        yield (
            f"evaluate.name_first=true: the edits of data={data.name} have no text question that a "
            f"name could be put into; use data={', '.join(texted_names())}, or "
            "evaluate.name_first=false"
        )
