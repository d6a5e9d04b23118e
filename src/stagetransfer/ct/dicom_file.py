"""Reading a DICOM file only if its sizes are possible: a small file may stand for gigabytes."""

import zlib
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from stagetransfer.ct.volume import MAX_VALUES
from stagetransfer.files import check_size, require_file


def read_checked(path: Path, *, force: bool = False, header_only: bool = False) -> Dataset:
    """Return a DICOM file as `dcmread` does, once its sizes are known to be possible.

    OSError if the file, its inflated content, one frame or all frames are too large. Neither the
    inflated content nor the pixels are in memory before they are checked.
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
    try:
        columns, rows = int(data.get("Columns") or 0), int(data.get("Rows") or 0)
        frames = int(data.get("NumberOfFrames") or 1) * int(data.get("SamplesPerPixel") or 1)
    except (TypeError, ValueError):
        return data  # `_pixel_damage` says what is wrong
    check_size(columns, rows)
    _check_bytes(columns * rows * frames)
    return data


def _check_bytes(count: int) -> None:
    if count > MAX_VALUES:
        raise OSError(f"its content is larger than {MAX_VALUES >> 20} million values")
