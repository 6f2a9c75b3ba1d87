"""The page on what validation found: by Great Expectations' renderers, and by the twin."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest

from evergreen.adapters.duckdb_window import DuckdbWindow
from evergreen.adapters.gx_validator import GxValidator
from evergreen.core.ports import PartRows, Validator
from evergreen.fakes.store import InMemoryStore
from evergreen.fakes.validator import FakeValidator

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>"
FRAME = pl.DataFrame({"hour": [5, None, 99, 7], "carrier": ["AA", None, EVIL, "UA"], EVIL: [1, 2, 3, 4]})
LOADING = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "video", "audio", "source"}


def expectation(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "meta": {"notes": EVIL}}


EXPECTATIONS = (
    expectation("expect_column_values_to_be_between", column="hour", min_value=0, max_value=23),
    expectation("expect_column_values_to_not_be_null", column="hour", mostly=0.5),
    expectation("expect_column_values_to_be_in_set", column="carrier", value_set=["AA", "UA"]),
    expectation("expect_column_values_to_be_in_set", column=EVIL, value_set=[EVIL]),
    expectation("expect_column_values_to_not_be_null", column=f"gone {EVIL}"),
    expectation("expect_table_row_count_to_be_between", min_value=4),
)


def gx_validator() -> Validator:
    return GxValidator(InMemoryStore(), DuckdbWindow())


@pytest.fixture(params=[gx_validator, FakeValidator])
def validator(request: pytest.FixtureRequest) -> Validator:
    made: Validator = request.param()
    return made


class Read(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.ids: set[str] = set()
        self.policy = self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [str(found[name]) for name in ("href", "src", "action") if name in found]
        self.handlers += [name for name in found if name.startswith("on")]
        self.ids.add(str(found.get("id")))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(found["content"])

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(validator: Validator, *expectations: dict[str, Any]) -> str:
    full = validator.validate([PartRows.of(FRAME)], {"name": f"s {EVIL}", "expectations": list(expectations)}).full
    return validator.data_docs(json.loads(json.dumps(full, default=str)), f"flights {EVIL}")


def test_it_shows_what_was_found_and_takes_no_word_of_the_data_for_markup(validator: Validator) -> None:
    page = Read(page_of(validator, *EXPECTATIONS))
    assert f"flights {EVIL}" in page.text
    assert EVIL in page.text.replace(f"flights {EVIL}", "")  # a column, for instance
    assert "hour" in page.text
    assert not LOADING & set(page.tags)
    assert page.handlers == []


def test_it_is_made_of_what_was_kept_and_leaves_that_as_it_is(validator: Validator) -> None:
    full = validator.validate([PartRows.of(FRAME)], {"name": "s", "expectations": [*EXPECTATIONS[:3]]}).full
    kept = json.dumps(full, default=str)
    again = json.loads(kept)
    first = validator.data_docs(again, "flights")
    assert json.dumps(again) == json.dumps(json.loads(kept))
    assert _without_ids(validator.data_docs(again, "flights")) == _without_ids(first)


def test_an_empty_suite_has_a_page(validator: Validator) -> None:
    assert "flights" in page_of(validator)


def _without_ids(page: str) -> str:
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", page)


# ---------------------------------------------------------------- Great Expectations only


def test_each_column_has_its_section_with_the_unexpected_values() -> None:
    page = Read(page_of(gx_validator(), *EXPECTATIONS))
    words = " ".join(page.text.split())
    assert "2 of 6 expectations were met" in words
    assert "carrier: 1 of 1 not met" in words
    assert "values must belong to this set: AA UA" in words
    assert "1 unexpected values found. ≈33.33%" in words
    assert "99" in words
    assert "Must have greater than or equal to 4 rows" in words
    assert 'raised an exception:Error: The column "gone' in words
    links = {one.removeprefix("#") for one in page.addresses}
    assert {one for one in links if one.startswith("section-")} <= page.ids


def test_it_loads_nothing_and_may_run_nothing() -> None:
    html = page_of(gx_validator(), *EXPECTATIONS)
    page = Read(html)
    assert page.policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "script" not in page.policy
    assert [one for one in page.addresses if not one.startswith("#")] == []
    assert not re.search(r"url\(|@import|https?://", html)


def test_what_the_library_cannot_build_is_listed_first() -> None:
    unknown = expectation("expect_nothing_of_the_kind", column="hour")
    wrong = expectation("expect_column_values_to_be_between", column="hour", nonsense=EVIL)
    words = " ".join(Read(page_of(gx_validator(), EXPECTATIONS[1], unknown, wrong)).text.split())
    assert "1 of 3 expectations were met" in words
    assert "expect_nothing_of_the_kind (hour): expect_nothing_of_the_kind not found" in words
    assert words.index("Could not be judged") < words.index("values must not be null")
