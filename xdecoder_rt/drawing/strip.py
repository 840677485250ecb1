"""A strip of texts under a picture: what its numbered badges mean, a caption, a question's answer.

Texts that are longer than the picture is wide are wrapped, and a picture too narrow for words gets
a margin, so that every text can be read at every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from xdecoder_rt.drawing.fonts import Font, line_height, load_font, text_colour, text_size

__all__ = ["KeyEntry", "Note", "with_strip"]

_GROUND = (24, 26, 31)
_RULE = (58, 62, 70)
_BRIGHT, _QUIET = (240, 241, 243), (160, 166, 176)
_NARROWEST = 16  # in text sizes
_MOST_LINES = 12
_ELLIPSIS = "…"


@dataclass(frozen=True)
class KeyEntry:
    """The meaning of a badge on the picture.

    Attributes:
        badge: its text.
        colour: its colour, sRGB.
        text: its meaning.
        value: written after that, more quietly.
        is_quiet: whether the meaning is written quietly, too.
    """

    badge: str
    colour: tuple[int, int, int]
    text: str
    value: str
    is_quiet: bool = False


@dataclass(frozen=True)
class Note:
    """A text on the whole picture.

    Attributes:
        text: a caption or an answer.
        heading: written above it, more quietly; may be empty.
        value: written after it, more quietly; may be empty.
        is_quiet: whether the text is written quietly, too.
    """

    text: str
    heading: str = ""
    value: str = ""
    is_quiet: bool = False


def with_strip(
    picture: Image.Image,
    key: Sequence[KeyEntry] = (),
    notes: Sequence[Note] = (),
    font: str | None = None,
) -> Image.Image:
    """Return a picture with texts under it.

    Args:
        picture: RGB.
        key: meanings of badges, in columns where several fit beside one another.
        notes: texts below them, each across the whole width.
        font: path of a TrueType font, or None for the built-in one.

    Returns:
        A taller picture, with a margin to the right where it was too narrow for words; `picture`
        itself if there are no texts.

    Raises:
        ArgumentError: the font cannot be read.
    """
    if not key and not notes:
        return picture
    size = text_size(picture.width, picture.height)
    width = max(picture.width, _NARROWEST * size)
    writer = _Writer(width, size, load_font(font, size))
    writer.key(key)
    if key and notes:
        writer.rule()
    for note in notes:
        writer.note(note)
    result = Image.new("RGB", (width, picture.height + writer.height), _GROUND)
    result.paste(picture, (0, 0))
    result.paste(writer.strip(), (0, picture.height))
    return result


@dataclass(frozen=True)
class _Piece:
    """Words at a place of the strip."""

    x: int
    y: int
    text: str
    colour: tuple[int, int, int]


@dataclass(frozen=True)
class _Badge:
    box: tuple[int, int, int, int]
    text: str
    colour: tuple[int, int, int]


class _Writer:
    """Lays texts out from top to bottom, then draws them.

    Args:
        width: of the strip, in pixels.
        size: of the text.
        font: to write with.
    """

    def __init__(self, width: int, size: int, font: Font) -> None:
        self._draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
        self._width, self._size, self._font = width, size, font
        self._line = line_height(self._draw, font)
        self._step = round(self._line * 1.25)
        self._pad = round(size * 0.6)
        self._y = self._pad
        self._pieces: list[_Piece] = []
        self._badges: list[_Badge] = []
        self._rules: list[int] = []

    @property
    def height(self) -> int:
        """Height of all that has been laid out, in pixels."""
        return self._y + self._pad

    def key(self, entries: Sequence[KeyEntry]) -> None:
        """Lay out badges with their meanings, row by row in equal columns."""
        if not entries:
            return
        room = self._width - 2 * self._pad
        gap, space = 2 * self._pad, self._length(" ")
        badge = max(self._badge_width(entry.badge) for entry in entries)
        indent = badge + round(0.7 * self._pad)
        widest = indent + max(
            self._length(_clean(entry.text)) + space + self._length(entry.value)
            for entry in entries
        )
        columns = max(1, min(len(entries), (room + gap) // (widest + gap)))
        column_width = (room + gap) // columns - gap
        for start in range(0, len(entries), columns):
            top = bottom = self._y
            for column, entry in enumerate(entries[start : start + columns]):
                left = self._pad + column * (column_width + gap)
                self._add_badge(left, top, badge, entry)
                self._y = top
                colour = _QUIET if entry.is_quiet else _BRIGHT
                self._flow(left + indent, column_width - indent, entry.text, entry.value, colour)
                bottom = max(bottom, self._y)
            self._y = bottom + round(0.15 * self._line)

    def note(self, note: Note) -> None:
        """Lay out a heading, and under it a text."""
        room = self._width - 2 * self._pad
        if note.heading:
            self._flow(self._pad, room, note.heading, "", _QUIET)
        colour = _QUIET if note.is_quiet else _BRIGHT
        self._flow(self._pad, room, note.text, note.value, colour)
        self._y += round(0.25 * self._line)

    def rule(self) -> None:
        """Lay out a line between what is above and what is below."""
        self._y += self._pad // 2
        self._rules.append(self._y)
        self._y += max(1, self._pad // 2) + 1

    def strip(self) -> Image.Image:
        """Draw everything."""
        strip = Image.new("RGB", (self._width, self.height), _GROUND)
        draw = ImageDraw.Draw(strip)
        for y in self._rules:
            draw.line((self._pad, y, self._width - self._pad, y), fill=_RULE)
        for badge in self._badges:
            left, top, right, bottom = badge.box
            draw.rounded_rectangle(badge.box, radius=(bottom - top) // 2, fill=badge.colour)
            draw.text(
                ((left + right) / 2, (top + bottom) / 2),
                badge.text,
                font=self._font,
                fill=text_colour(badge.colour),
                anchor="mm",
            )
        for piece in self._pieces:
            draw.text((piece.x, piece.y), piece.text, font=self._font, fill=piece.colour)
        return strip

    def _flow(
        self,
        x: int,
        room: int,
        text: str,
        value: str,
        colour: tuple[int, int, int] = _BRIGHT,
    ) -> None:
        """Lay out a wrapped text, and its value after the last word or, without room, below."""
        lines = self._wrapped(_clean(text), room)
        for line in lines:
            self._pieces.append(_Piece(x, self._y, line, colour))
            self._y += self._step
        if value:
            begin = self._length(lines[-1]) + self._length(" ") if lines else 0
            if lines and begin + self._length(value) <= room:
                self._pieces.append(_Piece(x + begin, self._y - self._step, value, _QUIET))
            else:
                self._pieces.append(_Piece(x, self._y, value, _QUIET))
                self._y += self._step

    def _wrapped(self, text: str, room: int) -> list[str]:
        """Break into lines no wider than `room`, between words, or within one that is wider."""
        lines: list[str] = []
        line = ""
        for word in text.split(" "):
            longer = f"{line} {word}" if line else word
            if self._length(longer) <= room:
                line = longer
                continue
            if line:
                lines.append(line)
            *full, line = self._broken(word, room)
            lines += full
            if len(lines) > _MOST_LINES:
                break
        if line:
            lines.append(line)
        if len(lines) > _MOST_LINES:
            last = lines[_MOST_LINES - 1]
            while last and self._length(last + _ELLIPSIS) > room:
                last = last[:-1]
            lines = [*lines[: _MOST_LINES - 1], last + _ELLIPSIS]
        return lines

    def _broken(self, word: str, room: int) -> list[str]:
        parts, part = [], ""
        for letter in word:
            if part and self._length(part + letter) > room:
                parts.append(part)
                part = ""
            part += letter
        return [*parts, part]

    def _add_badge(self, x: int, y: int, width: int, entry: KeyEntry) -> None:
        badge_width = self._badge_width(entry.badge)
        left = x + (width - badge_width) // 2
        box = (left, y, left + badge_width - 1, y + self._badge_height - 1)
        self._badges.append(_Badge(box, entry.badge, entry.colour))

    @property
    def _badge_height(self) -> int:
        return round(self._line * 1.15)

    def _badge_width(self, text: str) -> int:
        return max(self._badge_height, self._length(text) + round(0.6 * self._size))

    def _length(self, text: str) -> int:
        return round(self._draw.textlength(text, font=self._font))


def _clean(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())
