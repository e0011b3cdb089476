"""Small images for the tests, some of forms that Pillow does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

LIMIT = 178_956_970  # Pillow's own


FORMS = {1: "B", 2: "B", 3: "H", 4: "I", 12: "d", 16: "Q"}  # types of TIFF; text as its bytes


def whole(rows):
    """All pixels of a reader by rows."""
    pixels = np.empty((rows.height, rows.width, rows.bands), rows.dtype)
    rows.read(0, pixels)
    return pixels


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def exif_block(orientation, *more, order="<"):
    """A TIFF structure with the orientation and other 12-byte entries after it."""
    entries = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0) + b"".join(more)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    return start + struct.pack(order + "H", 1 + len(more)) + entries + bytes(4)


def smooth(mode="RGB", size=(24, 16)):
    """An image in which every pixel tells where it is."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    if mode == "I;16":
        return Image.fromarray((x * 2600 + y * 37 + 300).astype(np.uint16))
    if mode == "F":
        return Image.fromarray((x - y / 7 - 5).astype(np.float32))
    if mode == "1":
        return Image.fromarray((x * y % 7 < 3).astype(np.uint8) * 255).convert("1")
    rgb = Image.fromarray(np.stack([x * 10, y * 15, (x + y) * 6], -1).clip(0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        rgb.putalpha(Image.fromarray(((x * 13 + y * 5) % 256).astype(np.uint8)))
    return rgb.quantize(16) if mode == "P" else rgb.convert(mode)


def noise(mode, size, seed=0):
    """Random samples of every value, transparent pixels with a colour among them."""
    width, height = size
    random = np.random.default_rng(seed)
    if mode == "F":
        return Image.fromarray(random.normal(0, 1e3, (height, width)).astype(np.float32))
    if mode == "I;16":
        return Image.fromarray(random.integers(0, 65536, (height, width), dtype=np.uint16))
    if mode == "1":
        return Image.fromarray(
            random.integers(0, 2, (height, width), dtype=np.uint8) * 255
        ).convert("1")
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = random.integers(0, 256, (height, width, bands), dtype=np.uint8)
    if mode in ("RGBA", "LA"):
        values[: height // 2, :, -1] = 0
    image = Image.frombytes(mode, size, values.tobytes())
    if mode == "P":
        image.putpalette(random.integers(0, 256, 768, dtype=np.uint8).tobytes())
    return image


def chunk(kind, body):
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(bits, colour, size=(8, 6), before=b"", after=b"", data=None):
    """A PNG of any colour type and depth; `before` and `after`: chunks around the pixels."""
    width, height = size
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    if data is None:
        row = -(-width * bands * bits // 8)
        data = zlib.compress(
            b"".join(
                b"\0" + bytes((x * 7 + y * 31) % 256 for x in range(row)) for y in range(height)
            )
        )
    palette = chunk(b"PLTE", bytes(i % 256 for i in range(3 * 2**bits))) if colour == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + palette
        + before
        + chunk(b"IDAT", data)
        + after
        + chunk(b"IEND", b"")
    )


def tiff(pixels, order="<", big=False, tile=None, tags=None, second=None, directory_first=False):
    """An uncompressed TIFF or BigTIFF.

    Args:
        pixels: (H, W) or (H, W, B).
        tile: side of its square tiles; None for one strip.
        tags: more tags, or others, as `{tag: (type, values)}`.
        second: like `tags`, of a second directory that has the same pixels.
    """
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    height, width, bands = pixels.shape
    pixels = pixels.astype(pixels.dtype.newbyteorder(order))
    kind = 3 if pixels.dtype.kind == "f" else 1
    common = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [pixels.itemsize * 8] * bands),
        259: (3, [1]),
        262: (3, [2 if bands >= 3 else 1]),
        277: (3, [bands]),
        339: (3, [kind] * bands),
    }
    if tile is None:
        pieces, places = [pixels.tobytes()], (273, 279)
        common[278] = (3, [height])
    else:
        rows, columns = -(-height // tile), -(-width // tile)
        filled = np.zeros((rows * tile, columns * tile, bands), pixels.dtype)
        filled[:height, :width] = pixels
        pieces = [
            filled[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile].tobytes()
            for y in range(rows)
            for x in range(columns)
        ]
        places = (324, 325)
        common |= {322: (3, [tile]), 323: (3, [tile])}
    wide = "Q" if big else "I"
    data = b"".join(pieces)
    start = 16 if big else 8
    first = common | (tags or {})

    def directory(entries, at, data_at, following):
        ends = np.cumsum([len(piece) for piece in pieces])
        entries = dict(entries)
        entries[places[0]] = (
            16 if big else 4,
            [data_at + int(end) - len(p) for end, p in zip(ends, pieces, strict=True)],
        )
        entries[places[1]] = (16 if big else 4, [len(piece) for piece in pieces])
        out = struct.pack(order + ("Q" if big else "H"), len(entries))
        room = 8 if big else 4
        beyond = at + len(out) + len(entries) * (12 + 2 * (room - 4)) + room
        values_beyond = b""
        for tag in sorted(entries):
            form, values = entries[tag]
            body = struct.pack(order + len(values) * FORMS[form], *values)
            if len(body) > room:
                body, values_beyond = (
                    struct.pack(order + wide, beyond + len(values_beyond)),
                    values_beyond + body,
                )
            out += struct.pack(order + "HH" + wide, tag, form, len(values)) + body.ljust(
                room, b"\0"
            )
        return out + struct.pack(order + wide, following) + values_beyond

    size = len(directory(first, 0, 0, 0))
    at, data_at = (start, start + size) if directory_first else (start + len(data), start)
    second_at = start + len(data) + size if second is not None else 0
    parts = [directory(first, at, data_at, second_at), data]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(
        order + ("HHHQ" if big else "HI"), *((43, 8, 0, at) if big else (42, at))
    )
    out = head + b"".join(parts if directory_first else parts[::-1])
    return out + (directory(common | second, second_at, data_at, 0) if second is not None else b"")
