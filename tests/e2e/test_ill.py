"""The shop while recommendations fails in one way after another: its pages are there, and it recovers by itself."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from observability.testing import eventually
from tests.crowd import Crowd
from tests.ill import ILLS, Ill, world

pytestmark = pytest.mark.full

PEOPLE = 8
ILL_S = 2.0


@pytest.mark.parametrize("ill", ILLS.values(), ids=ILLS)
def test_pages_go_on(ill: Ill, tmp_path: Path) -> None:
    """Every page is a 200, and none takes long; with the end of the fault, recommendations come back."""
    with world(tmp_path) as well:
        with closing(Crowd(int(well.pair.url.rpartition(":")[2]), PEOPLE, pause_s=0.02)) as crowd, ill(well):
            time.sleep(ILL_S)
        eventually(lambda: well.recommends(10), 30)
    assert {page.status for page in crowd.pages} == {200}
    assert max(page.took_s for page in crowd.pages) < 5
