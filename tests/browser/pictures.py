"""The pictures of the report's page in the docs: `make pictures` draws them anew.

They are looked at by people, and compared with nothing: another machine has other fonts.
"""

from __future__ import annotations

import os
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bms_async.cli.report_page.render import render_report
from tests.browser.devtools import Page, browsing, the_browser
from tests.browser.sample_reports import Sample, part_of, rollout_of_80, run_of_12000

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
_COLOURS = 256
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def render(sample: Sample, version: str | None = None) -> str:
    report, calls, head, known, left = sample
    return render_report(report, calls, left, head=head, known=known, version=version)


def small(picture: bytes) -> bytes:
    """Return a picture of a browser with a palette of 256 colours, which a page needs no more than."""
    width, height, pixels = _decode(picture)
    counts = Counter(pixels)
    # Colours that nobody can tell apart are one: the most frequent of them.
    alike: dict[bytes, bytes] = {}
    for colour, _ in counts.most_common():
        alike.setdefault(bytes(value >> 3 for value in colour), colour)
    kept = list(alike.values())[:_COLOURS]
    nearest = {key: min(range(len(kept)), key=partial(_distance_of, kept, colour)) for key, colour in alike.items()}
    place = {colour: nearest[bytes(value >> 3 for value in colour)] for colour in counts}
    indexes = bytes(place[colour] for colour in pixels)
    rows = b"".join(b"\0" + indexes[at : at + width] for at in range(0, width * height, width))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = b"".join(bytes(colour) for colour in kept)
    chunks = (b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _distance_of(kept: Sequence[bytes], colour: bytes, index: int) -> int:
    return sum((a - b) ** 2 for a, b in zip(kept[index], colour, strict=True))


def _decode(picture: bytes) -> tuple[int, int, list[bytes]]:
    """Return the width, the height and the colours of a PNG with 8 bits for each of 3 or 4 channels."""
    at, data, width, height, channels = len(_SIGNATURE), b"", 0, 0, 3
    while at < len(picture):
        length, kind = struct.unpack_from(">I4s", picture, at)
        body = picture[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colours = struct.unpack_from(">IIBB", body)
            assert depth == 8
            channels = {2: 3, 6: 4}[colours]
        elif kind == b"IDAT":
            data += body
        at += length + 12
    raw, stride = zlib.decompress(data), width * channels
    before, pixels = bytearray(stride), list[bytes]()
    for row in range(height):
        begin = row * (stride + 1)
        line = _unfiltered(raw[begin], bytearray(raw[begin + 1 : begin + 1 + stride]), before, channels)
        pixels += [bytes(line[place : place + 3]) for place in range(0, stride, channels)]
        before = line
    return width, height, pixels


def _unfiltered(kind: int, line: bytearray, above: bytearray, step: int) -> bytearray:
    if kind == 2:
        return bytearray((value + up) & 255 for value, up in zip(line, above, strict=True))
    for place in range(len(line)) if kind else ():
        left = line[place - step] if place >= step else 0
        corner = above[place - step] if place >= step else 0
        up = above[place]
        if kind == 1:
            line[place] = (line[place] + left) & 255
        elif kind == 3:
            line[place] = (line[place] + (left + up) // 2) & 255
        else:
            guess = left + up - corner
            line[place] = (line[place] + min((left, up, corner), key=lambda each: abs(guess - each))) & 255
    return line


def on_paper(text: str) -> str:
    """Return a page with the margins that a printer leaves."""
    return text.replace("</style>", "@media print { body { padding: 12mm; } }\n</style>", 1)


def draw(page: Page, file: Path, name: str, text: str, **window: object) -> None:
    file.write_text(text, encoding="utf-8")
    height, media = int(str(window.pop("clip", 0))), str(window.pop("media", ""))
    page.open(file.as_uri(), **window)  # type: ignore[arg-type]
    if media:
        page.ask("Emulation.setEmulatedMedia", media=media)
    shot = page.shoot(height or None)
    target = FOLDER / f"{name}.png"
    target.write_bytes(small(shot))
    sys.stdout.write(f"{target.name}: {target.stat().st_size / 1000:.0f} kB\n")


def main() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    FOLDER.mkdir(exist_ok=True)
    small_run, large_run = rollout_of_80(), run_of_12000()
    with TemporaryDirectory() as folder, browsing(the_browser(), Path(folder) / "profile") as page:
        file = Path(folder) / "page.html"
        draw(page, file, "report-light", render(small_run), width=1280, clip=2900)
        draw(page, file, "report-dark", render(small_run), width=1280, dark=True, clip=2900)
        draw(page, file, "report-narrow", render(small_run), width=390, clip=2600)
        draw(page, file, "report-print", on_paper(render(small_run)), width=794, media="print", clip=2900)
        draw(page, file, "report-12000", render(large_run), width=1280, clip=3000)
        draw(page, file, "report-live", render(part_of(large_run, 0.4), "4800"), width=1280, clip=1000)


if __name__ == "__main__":
    main()
