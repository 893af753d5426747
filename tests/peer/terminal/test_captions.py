"""Text below a QR code in a picture file."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from client_app.terminal.picture import text_in_picture
from peer.identity import Fingerprint
from peer.pairing.label import Label
from peer.terminal import qr

LABEL = Label(Fingerprint(bytes(range(32))), b"t" * 16).text
CAPTION = ("kitchen", "6MWQJMB3", "4K7P-2M9X-1T")


@pytest.mark.parametrize(
    "caption",
    [CAPTION, ("K\u00fcche im Keller", "A"), ("\u674e", "6MWQJMB3"), ("x" * 64, "y"), ("", "")],
)
def test_a_scanner_reads_the_code_above_a_caption(tmp_path: Path, caption: tuple[str, ...]) -> None:
    path = tmp_path / "label.png"
    path.write_bytes(qr.png(LABEL, caption))
    assert text_in_picture(path) == LABEL


def test_each_line_of_a_png_has_ink_and_the_code_is_unchanged() -> None:
    plain = Image.open(io.BytesIO(qr.png(LABEL))).convert("L")
    whole = Image.open(io.BytesIO(qr.png(LABEL, CAPTION))).convert("L")
    assert whole.width == plain.width
    assert whole.crop((0, 0, plain.width, plain.height)).tobytes() == plain.tobytes()
    below = whole.crop((0, plain.height, whole.width, whole.height))
    rows = [0 in below.crop((0, y, below.width, y + 1)).tobytes() for y in range(below.height)]
    starts = [y for y in range(1, len(rows)) if rows[y] and not rows[y - 1]]
    assert len(starts) + rows[0] == len(CAPTION)


def test_the_letters_of_a_png_differ() -> None:
    pictures = {qr.png("A", (letter,)) for letter in "ABCDEFGHJKLMNPQRSTVWXYZ0123456789-"}
    assert len(pictures) == 34


def test_the_caption_of_an_svg_is_its_text_and_cannot_add_markup() -> None:
    name = "K\u00fcche & <script>\"'"
    root = ElementTree.fromstring(qr.svg(LABEL, (name, *CAPTION[1:])))
    texts = [one.text for one in root.iter() if one.tag.endswith("text")]
    assert texts == [name, *CAPTION[1:]]
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    assert float(root.attrib["height"]) > float(root.attrib["width"])


def test_without_a_caption_the_picture_is_the_code_alone() -> None:
    assert not re.search(b"<text", qr.svg(LABEL))
    assert qr.svg(LABEL) == qr.svg(LABEL, ("",))
