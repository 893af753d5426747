"""Labels and invites are read from picture files."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageOps

from client_app.terminal.picture import is_picture, picture_path, text_in_picture
from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.pairing.label import Label
from peer.terminal.qr import png, svg

if TYPE_CHECKING:
    from collections.abc import Callable

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
    warnings.simplefilter("ignore")  # as outside of tests; pytest restores it
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


def test_a_target_that_is_not_a_picture_file_is_not_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kitchen").write_bytes(png(LABEL))
    for word in ("kitchen", "./attic", ".", "home.example", LABEL):
        assert not is_picture(word)


@pytest.mark.parametrize("name", ["photo", "box.ppm", "notes.txt"])
def test_a_path_with_a_slash_to_a_file_of_any_name_is_a_picture(
    shell: Any, tmp_path: Path, name: str
) -> None:
    """No device and no host has a slash in its name."""
    (tmp_path / name).write_bytes(png(LABEL))
    assert text_in_picture(tmp_path / name) == LABEL
    (tmp_path / name).write_bytes(b"P6 1 1 255")
    done = shell("pair", str(tmp_path / name))
    assert (done.code, "not a readable picture" in done.err) == (2, True)


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


# ------------------------------------------------------------------------------ forms and kinds


def drawn(scale: int = 8) -> Image.Image:
    with Image.open(io.BytesIO(png(LABEL, scale=scale))) as picture:
        return picture.convert("L")


def transparent(colour: int) -> Image.Image:
    """A code whose light modules are transparent, and whose dark ones have this grey."""
    grey = Image.new("L", drawn().size, colour)
    return Image.merge("LA", (grey, ImageOps.invert(drawn())))


def palette(background: int) -> Image.Image:
    """A palette picture in which the light modules are transparent, and black underneath."""
    picture = Image.new("P", drawn().size)
    picture.putpalette([0] * 6)
    picture.putdata([background if level else 1 - background for level in drawn().tobytes()])
    picture.info["transparency"] = background
    return picture


def deep() -> Image.Image:
    """16 bits of grey, of which the lower half is all that a clipping conversion keeps."""
    levels = b"".join(b"\xff\xff" if one else b"\0\x10" for one in drawn().tobytes())
    return Image.frombytes("I;16", drawn().size, levels)


FORMS: dict[str, Callable[[], Image.Image]] = {
    "black on transparent": lambda: transparent(0),
    "white on transparent": lambda: transparent(255),
    "transparent, in colours": lambda: transparent(0).convert("RGBA"),
    "palette with a transparent entry": lambda: palette(0),
    "16 bits of grey": deep,
    "one bit": lambda: drawn().convert("1"),
    "colours": lambda: drawn().convert("RGB"),
    "inverted": lambda: ImageOps.invert(drawn()),
    "one pixel for each module": lambda: drawn(1),
    "two pixels for each module": lambda: drawn(2),
    "mirrored": lambda: ImageOps.mirror(drawn()),
    "upside down": lambda: drawn().rotate(180),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_label_is_read_in_every_form_of_a_png(tmp_path: Path, form: str) -> None:
    FORMS[form]().save(tmp_path / "box.png")
    assert text_in_picture(tmp_path / "box.png") == LABEL


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "JPG", "webp", "gif", "bmp"])
def test_every_kind_that_is_named_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"box.{suffix}"
    drawn().convert("RGB").save(path)
    assert is_picture(str(path))
    assert text_in_picture(path) == LABEL


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_a_label_in_an_animated_picture_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    with Image.open(write_qr(tmp_path / "box.png", LABEL)) as still:
        blank = Image.new("L", still.size, 255)
        blank.save(path, save_all=True, append_images=[still.convert("L")], duration=100)
    assert text_in_picture(path) == LABEL


def test_an_animation_is_searched_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_app.terminal.picture.PICTURE_FRAMES", 3)
    path = tmp_path / "long.gif"
    with Image.open(write_qr(tmp_path / "box.png", LABEL)) as still:
        blanks = [Image.new("L", still.size, 255 - number) for number in range(3)]
        blanks[0].save(path, save_all=True, append_images=[*blanks[1:], still.convert("L")])
    with pytest.raises(UsageError, match="no label or invite"):
        text_in_picture(path)


def test_a_label_in_a_pale_picture_is_read(tmp_path: Path) -> None:
    with Image.open(write_qr(tmp_path / "box.png", LABEL)) as sharp:
        sharp.convert("L").point(lambda level: 110 + level // 16).save(tmp_path / "pale.png")
    assert text_in_picture(tmp_path / "pale.png") == LABEL


def test_a_photograph_that_says_how_it_is_turned_is_read(tmp_path: Path) -> None:
    exif = Image.new("L", (1, 1)).getexif()
    exif[0x0112] = 6  # Orientation: rotated by 90°
    drawn().rotate(90, expand=True).save(tmp_path / "photo.jpg", exif=exif)
    assert text_in_picture(tmp_path / "photo.jpg") == LABEL


def test_a_cmyk_photograph_is_read(tmp_path: Path) -> None:
    drawn().convert("CMYK").save(tmp_path / "photo.jpg")
    assert text_in_picture(tmp_path / "photo.jpg") == LABEL


KINDS = {
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo"),
    "HEIF": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC photo"),
    "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an AVIF picture"),
    "pdf": (b"%PDF-1.7\n", "a PDF document"),
    "svg": (svg(LABEL), "an SVG drawing"),
    "svgz": (b"\x1f\x8b\x08\0", "a compressed file, such as SVGZ"),
    "tiff": (b"II*\0\x08\0\0\0", "a TIFF picture"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript drawing"),
    "jxl": (b"\xff\x0a\xfa", "a JPEG XL picture"),
}


@pytest.mark.parametrize("suffix", [*KINDS, "png"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_not_read_is_named_by_its_content(
    shell: Any, tmp_path: Path, kind: str, suffix: str
) -> None:
    """A photo that was only renamed is named as well."""
    content, words = KINDS[kind]
    path = tmp_path / f"box.{suffix}"
    path.write_bytes(content)
    done = shell("pair", str(path))
    assert done.code == 2
    assert f"{path} is not a readable picture: it is {words}" in done.err
    assert "Give a PNG, JPEG, WebP, GIF or BMP file, or the text of the QR code" in done.err


def test_a_kind_is_named_without_the_libraries_that_read_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    (tmp_path / "box.svg").write_bytes(svg(LABEL))
    with pytest.raises(UsageError, match="it is an SVG drawing"):
        text_in_picture(tmp_path / "box.svg")


def test_a_kind_that_is_not_named_is_not_read_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow reads many kinds, and runs Ghostscript on one of them."""
    monkeypatch.setattr("client_app.terminal.picture.unread_kind", lambda _head: "")
    for kind in ("TIFF", "PPM", "TGA"):
        drawn().save(tmp_path / "box.png", format=kind)
        with pytest.raises(UsageError, match="of another kind"):
            text_in_picture(tmp_path / "box.png")


def test_the_url_of_a_picture_file_is_its_path(tmp_path: Path) -> None:
    path = write_qr(tmp_path / "my box.png", LABEL)
    for url in (path.as_uri(), path.as_uri().replace("file://", "file://localhost")):
        assert picture_path(url) == path
    assert picture_path("file://server/box.png") is None
