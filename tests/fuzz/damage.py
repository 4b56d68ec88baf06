"""Strategies for damaged bytes and for values of any shape."""

from hypothesis import strategies as st

SPECIAL = [
    "",
    "null",
    "true",
    "~",
    "1e-5",
    ".inf",
    ".nan",
    "0x10",
    "1_0",
    "\x00",
    "\ud800",
    "\u2028",
    "=cmd()",
    "<script>",
]
TEXT = st.text(max_size=12) | st.sampled_from(SPECIAL)
NUMBERS = st.integers() | st.integers(-3, 300) | st.floats() | st.sampled_from([10**400, 2**63, -(2**31), 255, 256])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with some bytes changed, cut off, put in or repeated; now and then as it was."""
    data = bytearray(whole)
    places = st.integers(0, len(whole))
    for _ in range(draw(st.integers(0, 3))):
        place = min(draw(places), len(data))
        match draw(st.integers(0, 5)):
            case 0 if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case 1 if place < len(data):
                data[place] = draw(st.integers(0, 255))
            case 2:
                del data[place:]
            case 3:
                data[place:place] = draw(st.binary(max_size=9))
            case 4:
                del data[place : place + draw(st.integers(1, 40))]
            case 5:
                data[place : place + 8] = draw(st.sampled_from([b"\xff" * 8, bytes(8), b"\x7f\xff\xff\xff" * 2]))
    return bytes(data)


@st.composite
def flipped(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with one to three flipped bits."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        data[draw(st.integers(0, len(whole) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)
