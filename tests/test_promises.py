"""The page of promises names tests that exist, and no promise is without one."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "promises.md"
NAMED = re.findall(r"`((?:\w+/)?test_\w+\.py)::(test_\w+)`( \(\*slow\*\))?", PAGE.read_text())


def _test(file, name):
    functions = ast.parse((HERE / file).read_text()).body
    return next(one for one in functions if isinstance(one, ast.FunctionDef) and one.name == name)


@pytest.mark.parametrize(("file", "name", "slow"), NAMED, ids=lambda one: one)
def test_the_tests_that_hold_promises_exist(file, name, slow):
    decorators = [ast.unparse(one) for one in _test(file, name).decorator_list]
    assert ("pytest.mark.slow" in decorators) == bool(slow)


def test_every_promise_has_a_test():
    promises = re.split(r"^- ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert len(promises) > 20
    for promise in promises:
        assert "::test_" in promise, promise.splitlines()[0]


def test_the_readme_leads_to_the_page():
    assert "docs/promises.md" in (HERE.parent / "README.md").read_text()
