"""Text for people: columns that stay readable, times, capabilities. And the JSON for their programs."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from headcount.model import Member, Status

GAP = "  "
COLOURS = {
    Status.UP: "green",
    Status.UNREADY: "yellow",
    Status.SUSPECT: "yellow",
    Status.DOWN: "red",
    Status.LEFT: "bright_black",
}


def shown(text: str) -> str:
    """Text from elsewhere, safe to print: no character that would move the cursor or ring a bell."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def wide(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def cut(text: str, columns: int) -> str:
    """The text, in so many columns at most."""
    if wide(text) <= columns:
        return text
    while text and wide(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def columns() -> int | None:
    """How wide the terminal is; None where the output goes elsewhere, and nothing need be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None,
    spare: Sequence[int] = (),
    paint: Mapping[int, Sequence[str]] | None = None,
) -> str:
    """Aligned columns without lines, so that every line of it is good for `grep` and `awk`.

    Where `width` is not enough, the `spare` columns are left out, the first ones first, and the last one
    that stays is cut; ids never are. `paint` gives the colours of a column's cells."""
    cells = [[shown(cell).replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(wide(row[i]) for row in cells) for i in range(len(head))]
    keep = [i for i in range(len(head)) if any(row[i] for row in cells[1:]) or not rows]
    for i in spare:
        least = sum(widths[k] + len(GAP) for k in keep[:-1]) + min(12, widths[keep[-1]])
        if width is not None and least > width and i in keep:
            keep.remove(i)
    lines = []
    for number, row in enumerate(cells):
        line, room = "", width
        for i in keep:
            text = row[i]
            if room is not None and i == keep[-1] and i != keep[0]:
                text = cut(text, max(1, room))
            padding = " " * (widths[i] - wide(text)) + GAP if i != keep[-1] else ""
            if room is not None:
                room -= widths[i] + len(GAP)
            colour = (paint or {}).get(i, ())[number - 1] if number and (paint or {}).get(i) else None
            line += (click.style(text, fg=colour) if colour and text else text) + padding
        lines.append(click.style(line.rstrip(), bold=True) if number == 0 else line.rstrip())
    return "\n".join(lines)


def ago(seconds: float) -> str:
    """How long ago, in a few characters."""
    if seconds < 1:
        return "now"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def clock(at: datetime) -> str:
    """A time of day as the reader's own clock shows it; with the date, unless it is today."""
    here = at.astimezone()
    today = datetime.now(UTC).astimezone().date() == here.date()
    return f"{here:%H:%M:%S}" if today else f"{here:%Y-%m-%d %H:%M}"


def unpacked(capabilities: bytes) -> tuple[bool, Any]:
    """Whether these bytes are MessagePack that is worth showing, and what they say.

    Nearly any short text is valid MessagePack too, of one small number: so only whole maps, lists and
    strings count."""
    import msgspec

    try:
        value = msgspec.msgpack.decode(capabilities)
        msgspec.json.encode(value)
    except (msgspec.DecodeError, TypeError, ValueError, RecursionError):
        return False, None
    return isinstance(value, dict | list | str), value


def capabilities(value: bytes) -> str:
    """Capabilities in one line: unpacked, or as text, or as the first of their bytes."""
    import msgspec

    if not value:
        return ""
    packed, inner = unpacked(value)
    if packed:
        return inner if isinstance(inner, str) else msgspec.json.encode(inner).decode()
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text.replace("\n", " ").isprintable():
        return text
    return value[:12].hex(" ") + (f" … ({len(value):,} bytes)" if len(value) > 12 else "")


def marks(member: Member) -> str:
    """What an operator has said of it."""
    said = []
    if member.disabled is not None:
        said.append(f"disabled: {member.disabled}" if member.disabled else "disabled")
    if member.forced_down:
        said.append("forced down")
    if member.expelled:
        said.append("expelled")
    return ", ".join(said)


def as_dict(member: Member | None, **more: Any) -> dict[str, Any] | None:
    """A member as JSON has it; capabilities in base64, and unpacked where that can be."""
    if member is None:
        return None
    packed, inner = unpacked(member.capabilities)
    return {
        "group_id": member.group_id,
        "member_id": member.member_id,
        "incarnation": member.incarnation,
        "status": member.status.value,
        "since": member.since.isoformat(),
        "capabilities": base64.b64encode(member.capabilities).decode(),
        **({"unpacked": json.loads(_json(inner))} if packed else {}),
        "disabled": member.disabled,
        "forced_down": member.forced_down,
        "expelled": member.expelled,
        **more,
    }


def _json(value: Any) -> bytes:
    import msgspec

    return msgspec.json.encode(value)


def put(value: Any) -> None:
    """One line of JSON, out at once."""
    click.echo(json.dumps(value, ensure_ascii=False))
    sys.stdout.flush()
