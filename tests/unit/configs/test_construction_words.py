"""The command line of `python -m construction`."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.construction import PriceOptions
from configs.construction_words import construction_help, load_construction_config
from errors import ConfigError


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    path = tmp_path / "fàcts=1, 2.csv"
    path.write_text("subject\n")
    return f"rows={path}"


def test_what_follows_from_the_surroundings(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_construction_config([rows, f"output_dir={tmp_path}"])
    assert config.rows == rows.removeprefix("rows=")
    assert config.pictures == str(tmp_path / "images")
    assert config.endpoint.base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1/")
    config = load_construction_config([rows, f"output_dir={tmp_path}"])
    assert config.endpoint.base_url == "http://localhost:8000/v1"


def test_a_dry_run_needs_neither_folder_nor_key(rows: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert load_construction_config([rows, "dry_run=true"]).dry_run


def test_all_mistakes_are_told_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as error:
        load_construction_config(
            [
                f"rows={tmp_path}/absent.csv", f"output_dir={tmp_path}/file/out", "limit=0",
                "endpoint.modle=x", "endpoint.base_url=localhost:8000", "budget.dollars=2",
                "batch.size=100000",
            ]
        )  # fmt: skip
    message = str(error.value)
    for part in (
        "7 mistakes", "absent.csv: there is no such file", "limit=0: input should be greater",
        "endpoint.modle; did you mean endpoint.model", "an address is needed, such as http://",
        "file is no folder", "OPENAI_API_KEY is not set", "batch.size=100000", "Nothing was sent",
    ):  # fmt: skip
        assert part in message, message


@pytest.mark.parametrize("address", ["http://me:secret@host/v1", "https://host/v1?key=secret"])
def test_an_address_holds_no_secret(rows: str, address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the key comes from OPENAI_API_KEY"):
        load_construction_config([rows, f"output_dir={tmp_path}", f"endpoint.base_url={address}"])


def test_dollars_need_the_prices_of_the_model(rows: str) -> None:
    words = [rows, "dry_run=true", "budget.dollars=2", "endpoint.model=gpt-4o-mini"]
    with pytest.raises(ConfigError, match=r"prices\.model=gpt-4o-mini and its prices\.input"):
        load_construction_config(words)
    assert load_construction_config([*words, "prices.model=gpt-4o-mini"])
    assert load_construction_config([*words[:3], "endpoint.model=gpt-4o-2024-08-06"])


@pytest.mark.parametrize(
    ("model", "are_of"),
    [("gpt-4o", True), ("gpt-4o-2024-08-06", True), ("gpt-4o-mini", False), ("gpt-4", False)],
)
def test_prices_are_of_a_model_and_its_dated_versions(model: str, are_of: bool) -> None:
    assert PriceOptions(model="gpt-4o", input=1.0, output=1.0, batch=0.5).are_of(model) == are_of


def test_help_is_the_manual() -> None:
    shown = construction_help()
    assert shown.startswith("Makes records of the benchmark")
    assert "defaults" not in shown
    assert "  model: gpt-4o " in shown
