"""`handfast-device label` with and without a daemon."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from iam import Store
from peer.pairing.label import Label, token_verifier
from peer.pairing.typed import TypedCode
from tests.kit.daemon import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.device import Kit


MOVES = re.compile(r"([Mmh])(-?[0-9.]+)(?:[ ,]?(-?[0-9.]+))?")


def rasterize(svg: Path, picture: Path) -> Path:
    """Draw the lines of an SVG as pixels, eight per unit, as a printer would."""
    text = svg.read_text()
    [path] = re.findall(r' d="([^"]*)"', "".join(re.findall(r"<path[^>]*stroke[^>]*>", text)))
    lines: list[tuple[int, int, int]] = []
    x = y = 0
    for word, one, other in MOVES.findall(path):
        if word == "h":
            lines.append((x, y, int(one)))
            x += int(one)
        else:
            x = int(one) + (x if word == "m" else 0)
            y = int(float(other)) + (y if word == "m" else 0)
    size = max(at + long for at, _, long in lines) + 4
    image = Image.new("L", (size, size), 255)
    for left, top, long in lines:
        image.paste(0, (left, top, left + long, top + 1))
    image.resize((8 * size, 8 * size), Image.Resampling.NEAREST).save(picture)
    return picture


def scan(path: Path) -> str:
    """The text that an independent scanner reads."""
    found = subprocess.run(
        ["zbarimg", "--quiet", "--raw", str(path)], check=True, capture_output=True, text=True
    )
    return found.stdout.removesuffix("\n")


async def test_a_label_is_created_without_a_daemon_and_not_replaced_silently(kit: Kit) -> None:
    assert (await run(kit.home, "label")).code == 3
    made = json.loads((await run(kit.home, "init", "--json")).out)
    first = await run(kit.home, "label", "--json")
    assert first.err == ""
    label = Label.parse_untrusted(json.loads(first.out)["label"]["text"])
    code = TypedCode.parse_untrusted(json.loads(first.out)["label"]["code"])
    assert label.device.hex == made["fingerprint"]
    assert code.is_printed
    again = await run(kit.home, "label", "--json")
    assert (again.code, again.out, "--yes" in again.err) == (1, "", True)
    other = json.loads((await run(kit.home, "label", "--yes", "--json")).out)["label"]
    assert Label.parse_untrusted(other["text"]) != label
    assert other["code"] != code.text


async def test_a_running_daemon_uses_a_new_label_immediately(kit: Kit) -> None:
    daemon = await kit.daemon()
    await daemon.run("close")
    refused = await daemon.run("open", "--methods", "label", "--no-wait")
    assert (refused.code, "handfast-device label" in refused.err) == (8, True)
    assert "label        none" in (await daemon.run("status")).out
    await daemon.json("label")
    assert (await daemon.run("label")).code == 1
    assert "label        created" in (await daemon.run("status")).out
    opened = await daemon.json("open", "--methods", "label", "--no-wait")
    assert opened["window"]["methods"] == ["label"]
    assert "code" not in opened["window"], "no one needs it"
    assert [line for line in daemon.log_lines if "HANDFAST:" in line] == []


async def test_neither_token_nor_code_is_stored_or_logged(kit: Kit) -> None:
    """A copy of the store contains only verifiers, so the code has to be guessed."""
    daemon = await kit.daemon("-v")
    made = (await daemon.json("label"))["label"]
    label = Label.parse_untrusted(made["text"])
    events = (await daemon.run("events")).out
    assert "label-made" in events
    assert await daemon.stop() == 0
    stored = b"".join(path.read_bytes() for path in kit.home.glob("device.db*"))
    assert token_verifier(label.device, label.token).hex().encode() in stored
    for secret in (
        *(label.token, label.token.hex().encode(), made["text"].split(":")[4].encode()),
        *(made["code"].encode(), made["code"].replace("-", "").encode()),
    ):
        assert secret not in stored
        assert secret not in "".join([events, *daemon.log_lines]).encode()


@pytest.mark.needs_tool("zbarimg")
async def test_a_scanner_reads_the_printed_label(kit: Kit, tmp_path: Path) -> None:
    await run(kit.home, "init")
    png, svg = tmp_path / "box.png", tmp_path / "box.svg"
    made = await run(kit.home, "label", "--png", str(png), "--svg", str(svg), "--json")
    text = json.loads(made.out)["label"]["text"]
    assert scan(png) == text
    assert scan(rasterize(svg, tmp_path / "printed.png")) == text
    assert {path.stat().st_mode & 0o777 for path in (png, svg)} == {0o600}


async def test_an_output_file_that_exists_prevents_a_new_label(kit: Kit, tmp_path: Path) -> None:
    await run(kit.home, "init")
    taken = tmp_path / "box.png"
    taken.write_bytes(b"mine")
    for path in (taken, tmp_path / "nowhere" / "box.png"):
        assert (await run(kit.home, "label", "--png", str(path))).code == 2
    assert taken.read_bytes() == b"mine"
    assert (await run(kit.home, "label")).code == 0, "the failed attempt created a label"


async def test_the_output_fits_eighty_columns_and_names_the_next_command(kit: Kit) -> None:
    await run(kit.home, "init")
    made = await run(kit.home, "label", "--terminal")
    text, code = made.out.splitlines()
    assert Label.parse_untrusted(text).text == text
    assert len(code) == 12
    assert "█" in made.err
    assert "handfast pair --code CODE" in made.err
    assert max(map(len, made.err.splitlines())) <= 80
    quiet = await run(kit.home, "-q", "label", "--yes")
    assert quiet.err == ""


async def test_revive_keeps_the_label_and_reports_whether_the_code_was_blocked(kit: Kit) -> None:
    assert (await run(kit.home, "label", "--revive")).code == 3
    await run(kit.home, "init")
    missing = await run(kit.home, "label", "--revive")
    assert (missing.code, "handfast-device label" in missing.err) == (3, True)
    made = json.loads((await run(kit.home, "label", "--json")).out)["label"]
    with closing(Store.open(kit.home / "device.db")) as store:
        stored_label: Any = store.attempts["label"]
        store.commit(store.state, attempts={"label": {**stored_label, "failures": 20}})
    assert (await run(kit.home, "label", "--revive", "--yes")).code == 2
    daemon = await kit.daemon()
    assert "its code is blocked" in (await daemon.run("status")).out
    assert await daemon.json("label", "--revive") == {"schema": 1, "revived": True}
    assert "its code is blocked" not in (await daemon.run("status")).out
    assert await daemon.stop() == 0
    result = await run(kit.home, "label", "--revive")
    assert (result.code, result.out) == (0, "the code on the label is not blocked\n")
    assert Label.parse_untrusted(made["text"]).verifier.hex() == stored_label["token"]


async def test_label_is_refused_if_the_configuration_says_the_board_has_none(kit: Kit) -> None:
    await run(kit.home, "init")
    (kit.home / "device.d").mkdir()
    (kit.home / "device.d" / "board.toml").write_text("[board]\nlabel = false\n")
    refused = await run(kit.home, "label")
    assert (refused.code, refused.out, "label = true" in refused.err) == (1, "", True)
    daemon = await kit.daemon()
    assert await daemon.run("label") == refused
    status = await daemon.json("status")
    assert status["board"] == {"display": True, "label": False, "button": False}
    assert "label        none (the configuration says" in (await daemon.run("status")).out
