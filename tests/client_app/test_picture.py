"""Labels and invites are read from picture files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from client_app.terminal.picture import is_picture, text_in_picture
from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.pairing.label import Label
from peer.terminal.qr import png, svg

if TYPE_CHECKING:
    from pathlib import Path

LABEL = Label(Fingerprint(bytes(range(32))), b"t" * 16).text
OTHER = Label(Fingerprint(bytes(range(32))), b"u" * 16).text


def write_qr(path: Path, text: str) -> Path:
    path.write_bytes(png(text))
    return path


def write_qr_codes(path: Path, *texts: str) -> Path:
    """Write one picture with several QR codes."""
    codes = []
    for number, text in enumerate(texts):
        with Image.open(write_qr(path.with_name(f"{number}.png"), text)) as picture:
            codes.append(picture.convert("L"))
    whole = Image.new("L", (sum(one.width for one in codes), max(one.height for one in codes)), 255)
    at = 0
    for one in codes:
        whole.paste(one, (at, 0))
        at += one.width
    whole.save(path)
    return path


def test_a_written_label_is_read_back(tmp_path: Path) -> None:
    path = write_qr(tmp_path / "box.png", LABEL)
    assert is_picture(str(path))
    assert text_in_picture(path) == LABEL


@pytest.mark.parametrize("turned", [0, 90, 180, 7])
def test_a_label_in_a_photograph_is_read(tmp_path: Path, turned: int) -> None:
    """The photograph has low contrast, is rotated and small, and is a compressed JPEG."""
    with Image.open(write_qr(tmp_path / "box.png", LABEL)) as sharp:
        photo = sharp.convert("L").rotate(turned, expand=True, fillcolor=255)
        photo = photo.point(lambda level: 60 + level // 2).resize((300, 300))
    photo.save(tmp_path / "photo.jpg", quality=50)
    assert text_in_picture(tmp_path / "photo.jpg") == LABEL


@pytest.mark.parametrize(
    ("texts", "wrong"),
    [
        (("HTTPS://EXAMPLE.COM/",), "no label or invite"),
        ((LABEL, OTHER), "more than one label or invite"),
    ],
)
def test_a_picture_without_exactly_one_label_is_refused(
    tmp_path: Path, texts: tuple[str, ...], wrong: str
) -> None:
    with pytest.raises(UsageError, match=wrong):
        text_in_picture(write_qr_codes(tmp_path / "photo.png", *texts))


def test_another_qr_code_beside_the_label_is_ignored(tmp_path: Path) -> None:
    both = write_qr_codes(tmp_path / "photo.png", "HTTPS://EXAMPLE.COM/", LABEL, LABEL)
    assert text_in_picture(both) == LABEL


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + bytes(500)])
def test_a_file_that_is_not_a_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "box.png"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a readable picture"):
        text_in_picture(path)


@pytest.mark.parametrize("most", [1000, 328 * 328 - 1])  # Pillow raises an error, then warns
def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    path = write_qr(tmp_path / "box.png", LABEL)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    with pytest.raises(UsageError, match="is not a readable picture"):
        text_in_picture(path)


def test_a_file_that_is_too_large_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.terminal.picture.PICTURE_BYTES", 100)
    with pytest.raises(UsageError, match="too large"):
        text_in_picture(write_qr(tmp_path / "box.png", LABEL))


def test_a_missing_library_is_reported_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    with pytest.raises(UsageError, match="zxingcpp is not installed") as caught:
        text_in_picture(write_qr(tmp_path / "box.png", LABEL))
    assert "scan" in caught.value.advice


def test_a_target_that_is_not_a_picture_file_is_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "kitchen").write_bytes(png(LABEL))
    for word in ("kitchen", str(tmp_path / "kitchen"), "home.example"):
        assert not is_picture(word)


def test_a_picture_that_is_missing_or_a_drawing_is_not_taken_for_a_host(
    shell: Any, tmp_path: Path
) -> None:
    drawing = tmp_path / "box.svg"
    drawing.write_bytes(svg(LABEL))
    for path, error in ((tmp_path / "box.png", "there is no file"), (drawing, "not a readable")):
        done = shell("pair", str(path))
        assert (done.code, error in done.err) == (2, True)


def test_the_command_reports_what_is_wrong_with_a_picture(shell: Any, tmp_path: Path) -> None:
    path = write_qr(tmp_path / "box.png", "HTTPS://EXAMPLE.COM/")
    done = shell("pair", str(path))
    assert (done.code, "no label or invite" in done.err) == (2, True)
