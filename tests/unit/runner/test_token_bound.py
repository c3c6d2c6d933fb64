"""When `evaluate.tokens` is refused before the model says which records are edits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from editors.ft import EDITOR as FT
from editors.ike import EDITOR as IKE
from errors import ConfigError
from runner.token_bound import check_records


def check(
    bound: int | None, *, editor: Any = FT, filter_known: str = "none", on_error: str = "error"
) -> None:
    """Checks records of 50, 90 and 60 tokens."""
    cfg = SimpleNamespace(editor=editor.options, evaluate=SimpleNamespace(tokens=bound))
    source = SimpleNamespace(
        of=lambda split: SimpleNamespace(filter_known=filter_known, on_error=on_error),
        place=lambda split, place: f"{split}.json[{place}]",
        records=lambda split: [SimpleNamespace(about=f"subject {place}") for place in range(9)],
    )
    counts = {"train": {0: 10**6}, "val": {2: 50, 3: 90, 8: 60}}
    data: Any = SimpleNamespace(scenarios=counts, source=source, record_tokens=counts.__getitem__)
    check_records(cfg, data)  # type: ignore[arg-type]


def test_the_longest_record_decides_where_all_are_edits() -> None:
    for skips in (dict[str, str](), {"on_error": "skip"}):
        check(None, **skips)
        check(90, **skips)
        with pytest.raises(ConfigError, match=r"tokens=89 .* 1 of 3 .*val\.json\[3\].* has 90\."):
            check(89, **skips)
    with pytest.raises(ConfigError, match="1 of 3"):
        check(89, editor=IKE)


@pytest.mark.parametrize("later", [{"filter_known": "text"}, {"editor": IKE, "on_error": "skip"}])
def test_the_shortest_decides_where_some_may_be_left_out(later: dict[str, Any]) -> None:
    check(50, **later)
    with pytest.raises(ConfigError, match=r"tokens=49 .* 3 of 3 .*Give 90 or more"):
        check(49, **later)
