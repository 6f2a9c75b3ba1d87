"""The library's own page on a kept result: its renderers and their words, in a file that loads nothing.

Its own page asks seven other hosts for styles and scripts, and writes unexpected values into its tables as they are: a
value `<script>…` of the data would run. Here texts are escaped, and the page's policy lets no script run and nothing
be fetched. Without a script nothing folds, sorts or filters: all is shown, and sections are linked from the top.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from great_expectations.core.expectation_validation_result import ExpectationSuiteValidationResultSchema
from great_expectations.render import RenderedDocumentContent
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import pass_context

from evergreen.adapters.gx_validator.kinds import columns_of
from evergreen.adapters.gx_validator.library import VERSION, Result, error_of, refusal
from evergreen.core.data_docs import counted

HERE = Path(__file__).parent
_NO_COLUMN = "Table-Level Expectations"  # the library's name of that section


def page(full: Mapping[str, Any], title: str) -> str:
    """HTML. What the library cannot build, such as an expectation type that it does not know, is listed first."""
    results = copy.deepcopy(list(full["results"]))  # the library writes into them
    refused = [found for found in results if refusal(found["expectation_config"])]
    able = [found for found in results if not refusal(found["expectation_config"])]
    met, many = counted(full)
    document = _document({**full, "results": able})
    sections = [section.to_json_dict() for section in document.sections[1:-1]]  # without overview and run info
    return _View(custom_views_directory=str(HERE)).render(
        document,
        sections=sections,
        title=title,
        suite=str(full.get("suite_name") or ""),
        met=met,
        many=many,
        version=VERSION,
        refused=[_refused(found) for found in refused],
        contents=[*_contents(sections, able)],
        style=(HERE / "data_docs.css").read_text(),
    )


def _document(full: Mapping[str, Any]) -> RenderedDocumentContent:
    loaded = ExpectationSuiteValidationResultSchema().load(full)
    return ValidationResultsPageRenderer(run_info_at_end=True).render(loaded)


def _refused(found: Result) -> tuple[str, str, str]:
    config = found["expectation_config"]
    return config["type"], ", ".join(columns_of(config["kwargs"])), error_of(found)


def _contents(sections: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> Iterator[tuple[str, int, int]]:
    """Of each section its name, how many of its expectations were not met, and of how many."""
    for section in sections:
        name = section["section_name"]
        own = [one for one in results if one["expectation_config"]["kwargs"].get("column", _NO_COLUMN) == name]
        yield name, sum(1 for one in own if not one["success"]), len(own)


class _View(DefaultJinjaPageView):
    """Texts are texts: the library escapes what it fills into a sentence, but neither sentences nor cells."""

    _template = "data_docs.j2"

    def render_string_template(self, template: Any) -> Any:
        """As the library, with a sentence in which nothing but a line's end is markup."""
        if isinstance(template, dict) and "template" in template:
            lines = str(template["template"]).split("<br>")
            template = {**template, "template": "<br>".join(escape(line, quote=False) for line in lines)}
        return super().render_string_template(template)

    @pass_context
    def render_content_block(self, jinja_context: Any, content_block: Any, *args: Any, **kwargs: Any) -> Any:
        """As the library, with plain texts escaped, also in a list; graphs, which a script draws, are left out."""
        if isinstance(content_block, str):
            return escape(content_block, quote=False)
        if isinstance(content_block, dict) and content_block.get("content_block_type") == "graph":
            return ""
        if isinstance(content_block, list):
            content_block = [escape(one, quote=False) if isinstance(one, str) else one for one in content_block]
        return super().render_content_block(jinja_context, content_block, *args, **kwargs)
