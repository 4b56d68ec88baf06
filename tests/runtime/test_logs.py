import logging

import pytest

from pipeline.runtime.logs import PlainFormatter


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b31mb\x07\x00", r"a\x9b31mb\x07\x00"),
        ("one\r\ntwo\tthree", "one\\r\ntwo\\tthree"),
        ("exe\u202egpj", r"exe\u202egpj"),
        ("half \udc80", r"half \udc80"),
        ("Größe 5\u00a0%, … “x” ±", "Größe 5\u00a0%, … “x” ±"),
    ],
)
def test_a_terminal_is_told_nothing_but_text(text, shown):
    record = logging.LogRecord("fs4", logging.INFO, "", 0, "%s", (text,), None)
    assert PlainFormatter("%(message)s").format(record) == shown
