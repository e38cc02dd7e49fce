"""Pages that several files of tests look at."""

import pytest
from page_parts import PAGES


@pytest.fixture(scope="module", params=PAGES)
def any_page(request, tmp_path_factory):
    return PAGES[request.param](tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return PAGES["report"](tmp_path_factory.mktemp("page"))
