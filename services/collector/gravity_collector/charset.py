"""MySQL's character sets: how the bytes of each become text, exactly as the server converts them.

Python has no codec of its own for some of them, and for others one that differs in a few characters.
Each difference below was found by asking MySQL 8.0, MySQL 9.7 and MariaDB 11.4 for every character
(`make prove WHAT=source` asks again). A character that a server stores but has no Unicode for comes as
`?`: so the server itself gives it to every client that reads UTF-8, the snapshot among them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from gravity.errors import FatalError

Decode = Callable[[bytes], str]
"""Turns the bytes of a cell into text; raises UnicodeDecodeError where they are not valid."""

UNMAPPED: Final = "?"
"""What servers print for a character that they store and have no Unicode for."""

# The upper 128 bytes of character sets that Python has no codec for.
_ARMSCII8 = (
    "\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95"
    "\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\u2741\xa7\u0589)(\xbb\xab\u2014.\u055d,-"
    "\u055f\u2026\u055c\u055b\u055e\u0531\u0561\u0532\u0562\u0533\u0563\u0534\u0564\u0535\u0565"
    "\u0536\u0566\u0537\u0567\u0538\u0568\u0539\u0569\u053a\u056a\u053b\u056b\u053c\u056c\u053d"
    "\u056d\u053e\u056e\u053f\u056f\u0540\u0570\u0541\u0571\u0542\u0572\u0543\u0573\u0544\u0574"
    "\u0545\u0575\u0546\u0576\u0547\u0577\u0548\u0578\u0549\u0579\u054a\u057a\u054b\u057b\u054c"
    "\u057c\u054d\u057d\u054e\u057e\u054f\u057f\u0550\u0580\u0551\u0581\u0552\u0582\u0553\u0583"
    "\u0554\u0584\u0555\u0585\u0556\u0586\u2019'"
)
_DEC8 = (
    "\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95"
    "\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2\xa3?\xa5?\xa7\xa4\xa9\xaa"
    "\xab????\xb0\xb1\xb2\xb3?\xb5\xb6\xb7?\xb9\xba\xbb\xbc\xbd"
    "?\xbf\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc8\xc9\xca\xcb\xcc\xcd\xce\xcf?\xd1\xd2"
    "\xd3\xd4\xd5\xd6\u0152\xd8\xd9\xda\xdb\xdc\u0178?\xdf\xe0\xe1\xe2\xe3\xe4\xe5\xe6\xe7"
    "\xe8\xe9\xea\xeb\xec\xed\xee\xef?\xf1\xf2\xf3\xf4\xf5\xf6\u0153\xf8\xf9\xfa\xfb\xfc"
    "\xff??"
)
_GEOSTD8 = (
    "\u20ac?\u201a?\u201e\u2026\u2020\u2021?\u2030?\u2039???"
    "??\u2018\u2019\u201c\u201d\u2022\u2013\u2014???\u203a??"
    "??\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf\xb0\xb1\xb2"
    "\xb3\xb4\xb5\xb6\xb7\xb8\xb9\xba\xbb\xbc\xbd\xbe\xbf\u10d0\u10d1\u10d2\u10d3\u10d4\u10d5"
    "\u10d6\u10f1\u10d7\u10d8\u10d9\u10da\u10db\u10dc\u10f2\u10dd\u10de\u10df\u10e0\u10e1\u10e2"
    "\u10f3\u10e3\u10e4\u10e5\u10e6\u10e7\u10e8\u10e9\u10ea\u10eb\u10ec\u10ed\u10ee\u10f4\u10ef"
    "\u10f0\u10f5?????????????"
    "??????????\u2116??"
)
_KEYBCS2 = (
    "\u010c\xfc\xe9\u010f\xe4\u010e\u0164\u010d\u011b\u011a\u0139\xcd\u013e\u013a\xc4\xc1\xc9"
    "\u017e\u017d\xf4\xf6\xd3\u016f\xda\xfd\xd6\xdc\u0160\u013d\xdd\u0158\u0165\xe1\xed\xf3\xfa"
    "\u0148\u0147\u016e\xd4\u0161\u0159\u0155\u0154\xbc\xa1\xab\xbb\u2591\u2592\u2593\u2502"
    "\u2524\u2561\u2562\u2556\u2555\u2563\u2551\u2557\u255d\u255c\u255b\u2510\u2514\u2534\u252c"
    "\u251c\u2500\u253c\u255e\u255f\u255a\u2554\u2569\u2566\u2560\u2550\u256c\u2567\u2568\u2564"
    "\u2565\u2559\u2558\u2552\u2553\u256b\u256a\u2518\u250c\u2588\u2584\u258c\u2590\u2580\u03b1"
    "\xdf\u0393\u03c0\u03a3\u03c3\xb5\u03c4\u03a6\u0398\u03a9\u03b4\u221e\u03c6\u03b5\u2229"
    "\u2261\xb1\u2265\u2264\u2320\u2321\xf7\u2248\xb0\u2219\xb7\u221a\u207f\xb2\u25a0\xa0"
)

_CODECS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "utf8": "utf-8",
        "utf8mb3": "utf-8",
        "utf8mb4": "utf-8",
        "ucs2": "utf-16-be",
        "utf16": "utf-16-be",
        "utf16le": "utf-16-le",
        "utf32": "utf-32-be",
    }
)
_SINGLE_BYTE_CODECS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ascii": "ascii",
        "cp1250": "cp1250",
        "cp1251": "cp1251",
        "cp1256": "cp1256",
        "cp1257": "cp1257",
        "cp850": "cp850",
        "cp852": "cp852",
        "cp866": "cp866",
        "greek": "iso8859-7",
        "hebrew": "iso8859-8",
        "hp8": "hp_roman8",
        "koi8r": "koi8-r",
        "koi8u": "koi8-u",
        "latin1": "cp1252",
        "latin2": "iso8859-2",
        "latin5": "iso8859-9",
        "latin7": "iso8859-13",
        "macce": "mac_latin2",
        "macroman": "mac_roman",
        "swe7": "ascii",
        "tis620": "tis-620",
    }
)
_SINGLE_BYTE_DIFFERENCES: Final[Mapping[str, Mapping[int, str]]] = MappingProxyType(
    {
        "cp866": {0xFC: "\u207f", 0xFD: "\xb2"},
        "cp1256": dict.fromkeys((0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF), UNMAPPED),
        "greek": {
            0xA1: "\u02bd",
            0xA2: "\u02bc",
            **dict.fromkeys((0xA4, 0xA5, 0xAA), UNMAPPED),
        },
        "hebrew": {0xAF: "\u203e"},
        "koi8u": {0x95: "\u2022"},
        # MySQL's latin1 is cp1252, with the five bytes that has no characters for kept as C1 controls.
        "latin1": {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)},
        "swe7": dict(
            zip(
                b"@[\\]^`{|}~\x7f",
                "\xc9\xc4\xd6\xc5\xdc\xe9\xe4\xf6\xe5\xfc" + UNMAPPED,
                strict=True,
            )
        ),
        "tis620": dict.fromkeys((0xA0, *range(0xDB, 0xDF), *range(0xFC, 0x100)), "\ufffd"),
    }
)
_MULTI_BYTE_DIFFERENCES: Final[Mapping[str, tuple[str, Mapping[bytes, str]]]] = MappingProxyType(
    {
        "big5": (
            "big5",
            {
                **dict.fromkeys(
                    (
                        b"\xa1\x5a",
                        b"\xa1\xc3",
                        b"\xa1\xc5",
                        b"\xa1\xfe",
                        b"\xa2\x40",
                        b"\xa2\xcc",
                        b"\xa2\xce",
                    ),
                    "\ufffd",
                ),
                **{
                    bytes((0xF9, 0xD6 + i)): c
                    for i, c in enumerate("\u7881\u92b9\u88cf\u58bb\u6052\u7ca7\u5afa")
                },
            },
        ),
        "cp932": ("cp932", {}),
        "euckr": ("cp949", {}),
        "gb18030": ("gb18030", {b"\xa8\xbc": "\u1e3f", b"\x81\x35\xf4\x37": "\ue7c7"}),
        "gb2312": ("gb2312", {}),
        "gbk": ("gbk", {}),
        "sjis": ("shift_jis", {b"\x81\x5f": "\\"}),
    }
)
_TWO_BYTES = re.compile(rb"[\x00-\x80]|[\x81-\xfe].", re.DOTALL)
_SHIFTED = re.compile(rb"[\x00-\x80\xa0-\xdf]|[\x81-\x9f\xe0-\xfc].", re.DOTALL)
_CHARACTER_OF: Final[Mapping[str, re.Pattern[bytes]]] = MappingProxyType(
    {
        **dict.fromkeys(("big5", "euckr", "gb2312", "gbk"), _TWO_BYTES),
        **dict.fromkeys(("cp932", "sjis"), _SHIFTED),
        "gb18030": re.compile(rb"[\x00-\x80]|[\x81-\xfe][\x30-\x39]..|[\x81-\xfe].", re.DOTALL),
    }
)
"""How many bytes a character takes; whether it is one, the codec says."""
_EUC_CHARACTER = re.compile(rb"\x8f..|\x8e[\xa1-\xdf]|[\xa1-\xfe].|.", re.DOTALL)
# eucjpms: the IBM extensions, from 0x8FF3F3 on.
_IBM_EXTENSION = (
    "\u2170\u2171\u2172\u2173\u2174\u2175\u2176\u2177\u2178\u2179\u2160\u2161\u2162\u2163\u2164"
    "\u2165\u2166\u2167\u2168\u2169\uff07\uff02\u3231\u2116\u2121\u70bb\u4efc\u50f4\u51ec\u5307"
    "\u5324\ufa0e\u548a\u5759\ufa0f\ufa10\u589e\u5bec\u5cf5\u5d53\ufa11\u5fb7\u6085\u6120\u654e"
    "\u663b\u6665\ufa12\uf929\u6801\ufa13\ufa14\u6a6b\u6ae2\u6df8\u6df2\u7028\ufa15\ufa16\u7501"
    "\u7682\u769e\ufa17\u7930\ufa18\ufa19\ufa1a\ufa1b\u7ae7\ufa1c\ufa1d\u7da0\u7dd6\ufa1e\u8362"
    "\ufa1f\u85b0\ufa20\ufa21\u8807\ufa22\u8b7f\u8cf4\u8d76\ufa23\ufa24\ufa25\u90de\ufa26\u9115"
    "\ufa27\ufa28\u9592\uf9dc\ufa29\u973b\u974d\u9751\ufa2a\ufa2b\ufa2c\u999e\u9ad9\u9b72\ufa2d"
    "\u9ed1"
)


class UnknownCharsetError(FatalError):
    """A column's character set can't be decoded truthfully."""


@cache
def decoder_of(charset: str, *, strict: bool = False) -> Decode:
    """The decoder of MySQL's character set `charset`.

    With `strict` it refuses characters that have no Unicode instead of giving `?`: two keys that differ
    in nothing else would become one.

    Raises:
        UnknownCharsetError: gravity does not know the character set.
    """
    decode = _decoder_of(charset)
    if not strict or charset in _CODECS:
        return decode
    return lambda raw: _without_unmapped(raw, decode(raw))


@cache
def tells_keys_apart(charset: str) -> bool:
    """Whether two different texts of `charset` are always different in Unicode."""
    if (
        charset in _CODECS or charset == "ascii"
    ):  # What is no ASCII can hardly be stored in `ascii`.
        return True
    if charset not in _SINGLE_BYTE_CODECS and charset not in _UPPER_HALVES:
        return False
    decode = _decoder_of(charset)
    return len({decode(bytes((byte,))) for byte in range(256)}) == len(range(256))


def _without_unmapped(raw: bytes, text: str) -> str:
    # A question mark of its own is one byte 0x3F in all of these sets; as a second byte it is in none.
    if text.count(UNMAPPED) != raw.count(b"?"):
        raise UnicodeDecodeError("mysql", raw, 0, len(raw), "a character without Unicode in a key")
    return text


def _decoder_of(charset: str) -> Decode:
    if charset in _CODECS:
        return codec_decoder(_CODECS[charset])
    if charset in _SINGLE_BYTE_CODECS:
        table = list(
            bytes(range(256))
            .decode(_SINGLE_BYTE_CODECS[charset], "replace")
            .replace("\ufffd", UNMAPPED)
        )
        for byte, character in _SINGLE_BYTE_DIFFERENCES.get(charset, {}).items():
            table[byte] = character
        return _table_decoder("".join(table))
    if charset in _UPPER_HALVES:
        return _table_decoder("".join(map(chr, range(128))) + _UPPER_HALVES[charset])
    if charset in _MULTI_BYTE_DIFFERENCES:
        codec, differences = _MULTI_BYTE_DIFFERENCES[charset]
        return _corrected_decoder(codec, differences, _CHARACTER_OF[charset])
    if charset in ("ujis", "eucjpms"):
        return _euc_decoder(charset)
    raise UnknownCharsetError(
        f"character set {charset!r} is not known",
        remedy="convert the column to utf8mb4, or exclude its table",
    )


def is_utf8(charset: str) -> bool:
    """Whether text of `charset` is plain UTF-8, which `bytes.decode()` reads fastest."""
    return _CODECS.get(charset) == "utf-8"


def contains_ascii(charset: str) -> bool:
    """Whether bytes below 128 are ASCII in `charset`, wherever they stand without others."""
    return charset not in ("ucs2", "utf16", "utf16le", "utf32", "swe7")


def codec_decoder(codec: str) -> Decode:
    """A decoder by one of Python's own codecs."""
    decode = codecs.getdecoder(codec)
    return lambda raw: decode(raw, "strict")[0]


def _table_decoder(table: str) -> Decode:
    decode = codecs.charmap_decode
    return lambda raw: decode(raw, "strict", table)[0]


def _corrected_decoder(
    codec: str, differences: Mapping[bytes, str], character: re.Pattern[bytes]
) -> Decode:
    """A decoder by `codec`, but for the characters of `differences` and those that it does not know."""
    plain = codec_decoder(codec)
    suspicious = re.compile(b"|".join(map(re.escape, differences)) or rb"(?!)")

    def one(part: bytes) -> str:
        return differences.get(part) or _known(plain, part)

    def decode(raw: bytes) -> str:
        if suspicious.search(raw) is None:
            try:
                return plain(raw)
            except UnicodeDecodeError:
                pass
        # The match may straddle two characters, so the text is cut into characters first.
        return "".join(map(one, _cut(raw, character)))

    return decode


def _known(decode: Decode, part: bytes) -> str:
    """One character, `?` where the server has none for these bytes."""
    try:
        return decode(part)
    except UnicodeDecodeError:
        return UNMAPPED


def _cut(raw: bytes, character: re.Pattern[bytes]) -> list[bytes]:
    parts = character.findall(raw)
    if sum(map(len, parts)) != len(raw):
        raise UnicodeDecodeError("mysql", raw, 0, len(raw), "a character is cut short")
    return parts


def _euc_decoder(charset: str) -> Decode:
    is_microsoft = charset == "eucjpms"

    def one(part: bytes) -> str:
        return _euc_character(part, is_microsoft=is_microsoft)

    def decode(raw: bytes) -> str:
        if raw.isascii():
            return raw.decode("ascii")
        return "".join(_known(one, part) for part in _cut(raw, _EUC_CHARACTER))

    return decode


# EUC-JP: rows and cells count from 0xA1; single shifts announce half-width katakana and the third plane.
_EUC_FIRST, _EUC_ROW, _FIRST_USER_ROW = 0xA1, 94, 84
_KATAKANA_SHIFT, _THIRD_PLANE_SHIFT = 0x8E, 0x8F
_PRIVATE_USE = 0xE000
_IBM_EXTENSION_START = (0xF3 - _EUC_FIRST) * _EUC_ROW + 0xF3 - _EUC_FIRST
_MICROSOFT_DIFFERENCES: Final = {b"\x8f\xa2\xb7": "\uff5e", b"\x8f\xa2\xc3": "\uffe4"}


def _euc_character(part: bytes, *, is_microsoft: bool) -> str:
    """One character of EUC-JP as MySQL maps it: user-defined rows to the private use area."""
    if len(part) == 1 or part[0] == _KATAKANA_SHIFT:
        return part.decode("ascii" if len(part) == 1 else "euc_jp")
    row, cell = part[-2] - _EUC_FIRST, part[-1] - _EUC_FIRST
    is_third_plane = part[0] == _THIRD_PLANE_SHIFT
    if is_microsoft and is_third_plane:
        if part in _MICROSOFT_DIFFERENCES:
            return _MICROSOFT_DIFFERENCES[part]
        extension = row * _EUC_ROW + cell - _IBM_EXTENSION_START
        if 0 <= extension < len(_IBM_EXTENSION):
            return _IBM_EXTENSION[extension]
    if row >= _FIRST_USER_ROW and 0 <= cell < _EUC_ROW:
        user_rows = _EUC_ROW * 10 if is_third_plane else 0
        return chr(_PRIVATE_USE + user_rows + (row - _FIRST_USER_ROW) * _EUC_ROW + cell)
    if is_microsoft and not is_third_plane and row >= 0 and cell >= 0:
        return _as_shift_jis(row, cell).decode("cp932")
    if part == b"\xa1\xc0":
        return "\\"
    return part.decode("euc_jp")


def _as_shift_jis(row: int, cell: int) -> bytes:
    """The same place of JIS X 0208 in Shift JIS: two rows share a lead byte, 0x7F is left out."""
    lead = (row >> 1) + 0x81
    lead += 0x40 * (lead > 0x9F)  # noqa: PLR2004 - katakana stand between the two ranges of lead bytes
    return bytes((lead, cell + 0x9F if row & 1 else cell + 0x40 + (cell >= 0x3F)))  # noqa: PLR2004


_UPPER_HALVES: Final[Mapping[str, str]] = MappingProxyType(
    {"armscii8": _ARMSCII8, "dec8": _DEC8, "geostd8": _GEOSTD8, "keybcs2": _KEYBCS2}
)
