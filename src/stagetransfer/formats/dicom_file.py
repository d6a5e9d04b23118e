"""Reading a DICOM file only if its sizes are possible: a small file may stand for gigabytes."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.encaps import generate_fragments
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from stagetransfer.files import check_size, require_file
from stagetransfer.formats.unusable import MAX_VALUES

# Of files without a transfer syntax, by whether the VR is implicit and the order little endian.
_PLAIN: dict[tuple[bool | None, bool | None], UID] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
# The markers of a JPEG or JPEG-LS frame header (SOF), which holds its size.
_FRAME_HEADERS = {0xF7, *range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x00, 0x01, *range(0xD0, 0xD9)}  # markers without a segment; FF 00 is none


def read_checked(path: Path, *, force: bool = False, header_only: bool = False) -> Dataset:
    """Return a DICOM file as `dcmread` does, once its sizes are known to be possible.

    OSError if the file, its inflated content, one frame or all frames are too large, before these
    are in memory. Values of one bit count an eighth, so a reader must keep them packed.
    """
    require_file(path)
    _check_bytes(path.stat().st_size)
    with path.open("rb") as file:
        read_preamble(file, force=True)
        meta = _read_file_meta_info(file)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            inflater, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), file.read(), 0
            while rest and not inflater.eof:
                size += len(inflater.decompress(rest, 2**20))
                _check_bytes(size)
                rest = inflater.unconsumed_tail
    data: Dataset = dcmread(path, force=force, stop_before_pixels=header_only)
    if "TransferSyntaxUID" not in data.file_meta and data.original_encoding in _PLAIN:
        data.file_meta.TransferSyntaxUID = _PLAIN[data.original_encoding]
    try:
        columns, rows = int(data.get("Columns") or 0), int(data.get("Rows") or 0)
        frames = int(data.get("NumberOfFrames") or 1) * int(data.get("SamplesPerPixel") or 1)
        packed = 8 if int(data.get("BitsAllocated") or 8) == 1 else 1
    except (TypeError, ValueError):
        return data  # `_pixel_damage` says what is wrong
    check_size(columns, rows)
    _check_bytes(columns * rows * frames // packed)
    for width, height in _encoded_sizes(data):
        check_size(width, height)
    return data


def frame_header(data: Dataset, number: int) -> Dataset:
    """Return the header of one frame of an enhanced multi-frame object as that of a single slice.

    The functional groups of the frame, and those of all frames (PS3.3, C.7.6.16), become its tags.
    """
    flat = Dataset()
    flat.update(data)
    flat.file_meta = data.file_meta
    shared = data.get("SharedFunctionalGroupsSequence") or []
    for group in (*shared, data.PerFrameFunctionalGroupsSequence[number]):
        for element in group:
            if element.VR == "SQ" and element.value:
                flat.update(element.value[0])
    own = {
        "InstanceNumber": number + 1,
        "NumberOfFrames": 1,
        "AcquisitionNumber": flat.get("FrameAcquisitionNumber"),
        "TemporalPositionIdentifier": flat.get("TemporalPositionIndex"),
    }
    for name, value in own.items():
        flat.pop(name, None)  # an element of `data` must not change
        setattr(flat, name, value)
    return flat


def _encoded_sizes(data: Dataset) -> Iterator[tuple[int, int]]:
    """Yield the width and height that each JPEG, JPEG-LS or JPEG 2000 frame itself claims.

    A decoder takes memory for these, whatever the header's Rows and Columns say.
    """
    syntax = data.get("file_meta", {}).get("TransferSyntaxUID")
    if "PixelData" not in data or syntax is None or not syntax.is_encapsulated:
        return
    for frame in generate_fragments(data.PixelData):
        if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) >= 24:  # JPEG 2000: the SIZ segment
            right, bottom, left, top = struct.unpack(">4I", frame[8:24])
            yield right - left, bottom - top
        elif frame[:2] == b"\xff\xd8":
            place = 2  # of a marker; a segment's length follows
            # As decoders do, this skips whatever lies between two segments.
            while 0 <= (place := frame.find(b"\xff", place)) <= len(frame) - 9:
                if frame[place + 1] in _FRAME_HEADERS:
                    height, width = struct.unpack(">2H", frame[place + 5 : place + 9])
                    yield width, height
                    break
                if frame[place + 1] == 0xFF:
                    place += 1  # a fill byte
                elif frame[place + 1] in _ALONE:
                    place += 2
                else:
                    place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")


def _check_bytes(count: int) -> None:
    if count > MAX_VALUES:
        raise OSError(f"its content is larger than {MAX_VALUES >> 20} million values")
