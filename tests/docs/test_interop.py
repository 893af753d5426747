"""The table of docs/interop.md has the rows that the tests run."""

from tests.kit.documents import DOCS
from tests.kit.foreign_programs import table

MARK = "<!-- table: foreign programs -->\n"


def test_the_page_has_the_results_that_the_tests_show() -> None:
    page = (DOCS / "interop.md").read_text()
    assert page.partition(MARK)[2].startswith(table() + "\n\n")
