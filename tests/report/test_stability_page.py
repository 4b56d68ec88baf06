import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pipeline.clustering.stability import Spread, Stability, Suggestion
from pipeline.report.stability_page import HEIGHT, WIDTH, build_stability_page, explain, stability_table

NOTHING = Spread(0.2, 0.02)
RESULTS = [Stability(k, 8, Spread(mean, 0.05), Spread(0.8, 0.01), NOTHING, NOTHING) for k, mean in ((2, 0.3), (4, 0.9))]
SETTINGS = {"level": 8, "features": "source <decoder>"}


def test_the_page_needs_nothing_else_and_is_well_formed() -> None:
    page = build_stability_page(RESULTS, Suggestion(4, (2,)), SETTINGS)
    assert not re.search(r"https?://|<script|@import|src=", page)
    assert "source &lt;decoder&gt;" in page
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "line", "polyline", "polygon", "circle"):
                open_tags.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []
    assert build_stability_page(RESULTS, Suggestion(4, (2,)), SETTINGS) == page


def test_curves_stay_inside_and_stand_where_they_should() -> None:
    page = build_stability_page(RESULTS, Suggestion(4, ()), SETTINGS)
    for pairs in re.findall(r'points="([^"]+)"', page):
        for pair in pairs.split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    # 0.3 and 0.9 on an axis from 0 to 1
    assert f'<polyline points="0.0,{0.7 * HEIGHT:.1f} {WIDTH:.1f},{0.1 * HEIGHT:.1f}"/>' in page
    assert '<tr class="chosen"><th scope="row">4</th><td>0.90 ± 0.05</td><td>0.20 ± 0.02</td>' in page
    assert '<tr class="chance"><th scope="row">2</th>' in page


@pytest.mark.parametrize("count", [1, 40])
def test_any_number_of_values_can_be_shown(count: int) -> None:
    results = [replace(RESULTS[0], k=k) for k in range(2, 2 + count)]
    page = build_stability_page(results, Suggestion(None, ()), SETTINGS)
    assert page.count("may be chance</td>") == count
    assert 'class="marked"' not in page
    assert 2 <= len(re.findall(rf'y="{HEIGHT + 18}"', page)) <= 2 * 9


def test_the_words_say_what_was_found() -> None:
    assert "suggests none" in explain(RESULTS, Suggestion(None, ()))
    assert explain(RESULTS, Suggestion(2, (4, 9))).startswith(
        "Stability suggests k = 2; also worth a try: 4, 9. It does"
    )
    assert "the largest k that was tried" in explain(RESULTS, Suggestion(4, ()))
    table = stability_table(RESULTS, Suggestion(4, ()))
    assert re.search(r"^  2 .* may be chance$", table, re.MULTILINE)
    assert re.search(r"^  4 +0\.90 ± 0\.05 +0\.20 ± 0\.02 +0\.20 ± 0\.02 +0\.70  suggested$", table, re.MULTILINE)
