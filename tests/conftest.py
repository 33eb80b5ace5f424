"""What all tests share: `--update-golden`, and the golden files of the whole session."""

from __future__ import annotations

import pytest
from golden import Golden

LAST = "last"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files with what the tests produce")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{LAST}: runs after all other tests, since it looks at what they did")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker(LAST) is not None)


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with a golden file: `golden("checker/unknown_name.error", text)`."""
    return Golden(update=request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def is_whole_run(request: pytest.FixtureRequest) -> bool:
    """Whether every test of the project runs, so that what none of them touched is stale."""
    config = request.config
    selects = any(config.getoption(option) for option in ("keyword", "markexpr", "deselect", "lf", "ignore"))
    return not selects and not request.session.testsfailed and config.args_source.name == "TESTPATHS"
