import pytest

from pipeline.export.card import escape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("road, 2 lanes: a-b.c", "road, 2 lanes: a-b.c"),
        ("<img src=x>&", "&lt;img src=x&gt;&amp;"),
        ("*a* _b_ `c` |d|", r"\*a\* \_b\_ \`c\` \|d\|"),
        ("[x](y) ![z](w)", r"\[x\]\(y\) \!\[z\]\(w\)"),
        ("# head\n\n## more", r"\# head \#\# more"),
        ("- list", r"\- list"),
        ("+ list", r"\+ list"),
        ("1. list", r"1\. list"),
        ("===", r"\==="),
        ("2) list", r"2\) list"),
        ("http://x www.y a@b", r"http:/\/x www\.y a\@b"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_text_is_shown_as_it_is(text, shown):
    assert escape(text) == shown
