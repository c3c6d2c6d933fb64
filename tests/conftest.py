"""Settings and folders that all tests share."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch or a hub client is imported: one thread per test process, and no network.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run, however slow the machine is.
hypothesis.settings.register_profile(
    "tests", deadline=None, derandomize=True, max_examples=50, print_blob=True
)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data that is too large for the repository: TMKE_SHARED, by default beside the checkout."""
    folder = Path(os.environ.get("TMKE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set TMKE_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Vectors from the authors' implementations: TMKE_GOLDEN, by default tests/golden."""
    return Path(os.environ.get("TMKE_GOLDEN", ROOT / "tests" / "golden"))


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision by default, so that what is the same agrees to rounding."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Where several test processes run, the first one makes a folder for all."""

    def make_once(name: str, make: Callable[[Path], object]) -> Path:
        base = tmp_path_factory.getbasetemp()
        base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        done = base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                make(base / name)
                done.touch()
        return base / name

    return make_once


@pytest.fixture(scope="session")
def default_world(made_once: Callable[..., Path]) -> Path:
    """The world that the tiny models were taught, with all its 7,200 pictures."""
    from datamodules.world import generate_world

    return made_once("default_world", lambda folder: generate_world(folder, seed=0, size=50))


@pytest.fixture(scope="session")
def default_place(default_world: Path, made_once: Callable[..., Path]) -> None:
    """The same world where it is looked for without `data.root`, unless one is there."""
    place = ROOT / "runs" / "worlds" / "size50-seed0"

    def link(_: Path) -> None:
        if place.exists():
            return
        beside = place.with_name(f".{place.name}-{os.getpid()}")
        shutil.copytree(default_world, beside, copy_function=_link)
        beside.rename(place)

    made_once("default_place", link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def countries(made_once: Callable[..., Path]) -> Path:
    """The world of countries; its packages have to be there."""
    from datamodules.countries.generate import generate_countries

    return made_once("countries", generate_countries)
