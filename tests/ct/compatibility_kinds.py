"""The kinds of files of the table of compatibility, written in small."""

from __future__ import annotations

import base64
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom.data
import roifile
import SimpleITK as sitk
from annotation_files import contour, segmentation, structure_set
from ct_series import (
    HIGH_THROUGHPUT,
    PLAIN,
    dataset,
    enhanced,
    phantom,
    save,
    series,
)
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.multival import MultiValue
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    CTImageStorage,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from stagetransfer.ct import PngScale

HU = phantom(4, 40, 36)
WHOLE = HU.astype(np.int16)
PYDICOM = Path(pydicom.data.__file__).parent / "test_files"
NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
AFFINE = np.array([[-0.7, 0, 0, 30], [0, -0.7, 0, 20], [0, 0, 2.5, -100], [0, 0, 0, 1]])
SIGNED = {"PixelRepresentation": 1, "RescaleIntercept": "0"}
TRUTH = np.zeros(HU.shape)
TRUTH[1:3, 6:18, 4:15] = 1
CORNERS = np.array([[3.5, 5.5], [14.5, 5.5], [14.5, 17.5], [3.5, 17.5]])


@dataclass
class Kind:
    """What is written, which reader judges it, and how `find_series` is called.

    `mask` writes a mask or outlines of `TRUTH`, which `reference` then reads; "" is `TRUTH` itself.
    """

    name: str
    write: Callable[[Path], Any]
    reference: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    mask: Callable[[Path], Any] | None = None


def ct(**header: Any) -> Callable[[Path], Any]:
    return lambda folder: series(folder, HU, **header)


def slices(changes: Callable[[int], dict[str, Any]]) -> Callable[[Path], None]:
    """Slices that differ in their header, by their number."""

    def write(folder: Path) -> None:
        for index, plane in enumerate(HU + 1024):
            save(dataset(plane, index=index, **changes(index)), folder / f"{index}.dcm")

    return write


def then(write: Callable[[Path], Any], change: Callable[[Path], Any]) -> Callable[[Path], None]:
    """A folder that is changed after it was written."""

    def both(folder: Path) -> None:
        write(folder)
        change(folder)

    return both


def shipped(path: Path) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)

    return write


def each(folder: Path, change: Callable[[Path], Any]) -> None:
    for path in sorted(folder.iterdir()):
        change(path)


def without_preamble(path: Path) -> None:
    data = pydicom.dcmread(path)
    del data.file_meta, data.preamble
    with path.with_suffix("").open("wb") as file:
        data.save_as(file, implicit_vr=True, little_endian=True)
    path.unlink()


def falling_table(folder: Path) -> None:
    for index, plane in enumerate(HU + 1024):
        data = dataset(2047 - plane, index=index, RescaleSlope=None, RescaleIntercept=None)
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [2048, 0, 16], list(range(2047, -1, -1))
        item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
        data.ModalityLUTSequence = [item]
        save(data, folder / f"{index}.dcm")


def high_throughput(syntax: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        data = dataset(np.zeros((32, 32), int))
        data.PixelData = encapsulate([base64.b64decode(HIGH_THROUGHPUT)])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax
        folder.mkdir(parents=True)
        data.save_as(folder / "x.dcm", enforce_file_format=True)

    return write


def directory(folder: Path) -> None:
    data = dataset(HU[0], SOPClassUID=None)
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    save(data, folder / "DICOMDIR")


def preview(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "preview.png")


def truncated(folder: Path) -> None:
    each(folder, lambda path: path.write_bytes(path.read_bytes()[:-300]))


def nifti(
    name: str = "x.nii.gz",
    kind: Any = nibabel.Nifti1Image,
    axes: str = "LPS",
    values: np.ndarray = WHOLE,
    scale: tuple[float, float] | None = None,
    affine: Any = AFFINE,
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        image = kind(values.T, affine)
        turn = nibabel.orientations
        start = turn.io_orientation(AFFINE)
        image = image.as_reoriented(turn.ornt_transform(start, turn.axcodes2ornt(axes)))
        if scale:
            image.header.set_slope_inter(*scale)
        nibabel.save(image, folder / name)

    return write


def itk(
    name: str, values: np.ndarray = WHOLE, zipped: bool = False, vector: bool = False
) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        image = sitk.GetImageFromArray(values, isVector=vector)
        image.SetSpacing((0.7, 0.7, 2.5))
        image.SetOrigin((-30, -20, -100))
        sitk.WriteImage(image, str(folder / name), zipped)

    return write


def turned(name: str) -> Callable[[Path], None]:
    """Axes (slice, front, right), as a sagittal acquisition has them."""

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        image = sitk.PermuteAxes(sitk.GetImageFromArray(WHOLE), (2, 1, 0))
        sitk.WriteImage(sitk.Flip(image, (False, True, True)), str(folder / name))

    return write


def text_header(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / name).write_bytes(text.encode() + HU.astype("<i2").tobytes())

    return write


def png(mode: type = np.uint16) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        for index, plane in enumerate(HU + 1024):
            Image.fromarray(plane.astype(mode)).save(folder / f"{index}.png")

    return write


def rois(folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "in.zip", "w") as archive:
        for index in (1, 2):
            roi = roifile.ImagejRoi.frompoints(CORNERS + 0.5, name="1")
            roi.position = len(HU) - index  # ImageJ sorts by the instance number
            archive.writestr(f"{index}.roi", roi.tobytes())


def outlines(sop: bool) -> Callable[[Path], Any]:
    contours = [contour(CORNERS, index, sop) for index in (1, 2)]
    return lambda folder: structure_set(folder / "rs.dcm", {"1": contours})


def seg(kind: str, cosines: list[float] | None = None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        made = segmentation(folder.with_name("in"), kind, np.where(TRUTH, 2, 0))
        for one in [*made.SharedFunctionalGroupsSequence, *made.PerFrameFunctionalGroupsSequence]:
            for group in one.get("PlaneOrientationSequence", []) if cosines else []:
                group.ImageOrientationPatient = cosines
        made.save_as(folder / "seg.dcm")

    return write


def masks(write: Callable[[Path], Any], name: str, reference: str) -> Kind:
    return Kind(name, ct(), reference, mask=write)


def kinds() -> Iterator[Kind]:
    """Yield the kinds in the order of the table."""
    syntaxes = [
        *PLAIN, RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless,
        JPEG2000Lossless, JPEG2000,
    ]  # fmt: skip
    for syntax in syntaxes:
        yield Kind(f"DICOM, {syntax.name}", ct(syntax=syntax), "GDCM")
    for uid in (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K):
        yield Kind(f"DICOM, {uid.name}", high_throughput(uid), "pydicom")
    yield Kind("signed stored values", ct(**SIGNED), "GDCM")
    yield Kind("12 of 16 bits", ct(BitsStored=12), "GDCM")
    yield Kind("signed, 12 of 16 bits", ct(**SIGNED, BitsStored=12), "GDCM")
    yield Kind("RescaleSlope 0.5", ct(RescaleSlope="0.5"), "GDCM")
    yield Kind("MONOCHROME1", ct(PhotometricInterpretation="MONOCHROME1"), "pydicom")
    yield Kind("modality LUT instead of a slope", falling_table, "pydicom")
    yield Kind("no Modality, CT class", ct(Modality=None), "GDCM")
    yield Kind("empty SOPClassUID", ct(SOPClassUID=""), "pydicom")
    two = MultiValue(str, [CTImageStorage, CTImageStorage])
    yield Kind("multi-valued SOPClassUID", ct(SOPClassUID=two), "pydicom")
    yield Kind("no SOPClassUID", ct(SOPClassUID=None), "pydicom")
    yield Kind("RescaleType Houndsfield Unit (sic)", ct(RescaleType="Houndsfield Unit"), "GDCM")
    unspecified = {"unspecified_is_hu": True}
    yield Kind("RescaleType US, `--unspecified-hu`", ct(RescaleType="US"), "GDCM", unspecified)
    bare = then(ct(), lambda folder: each(folder, without_preamble))
    yield Kind("neither preamble nor suffix", bare, "pydicom")
    rename = then(ct(), lambda folder: each(folder, lambda p: p.rename(p.with_suffix(""))))
    yield Kind("no suffix", rename, "GDCM")
    yield Kind(
        "gantry tilted by 20 degrees",
        ct(ImageOrientationPatient=[1, 0, 0, 0, 0.9396926, -0.3420201]),
        "pydicom",
    )
    prone = slices(lambda k: {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]})
    yield Kind("prone", prone, "GDCM")
    feet = slices(lambda k: {"ImageOrientationPatient": [-1, 0, 0, 0, 1, 0]})
    yield Kind("feet first", feet, "GDCM")
    yield Kind("pixels of 0.61 x 0.83 mm", ct(spacing=("0.61", "0.83")), "GDCM")
    steps = slices(lambda k: {"ImagePositionPatient": [-30, -20, [0, 10, 20, 40][k]]})
    yield Kind("slice intervals of 10 and 20 mm", steps, "pydicom")
    phases = slices(
        lambda k: {"AcquisitionNumber": k % 2, "ImagePositionPatient": [-30, -20, k // 2]}
    )
    yield Kind("two acquisitions in one series", phases, "pydicom")
    people = slices(lambda k: {"patient": f"P{k % 2}"})
    yield Kind("two patients in one series", people, "pydicom")
    for shared in (True, False):
        groups = "shared" if shared else "own"
        write = lambda folder, s=shared: enhanced(folder / "x.dcm", HU, shared=s)  # noqa: E731
        yield Kind(f"enhanced CT, {groups} functional groups", write, "highdicom")
    yield Kind("with a DICOMDIR", then(ct(), directory), "pydicom")
    yield Kind("with an 8-bit preview", then(ct(), preview), "pydicom")
    for name in ("CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"):
        yield Kind(f"pydicom's {name}", shipped(PYDICOM / name), "GDCM")
    for tag, value in (
        ("RescaleSlope", None), ("RescaleSlope", ""), ("RescaleSlope", "0"),
        ("RescaleSlope", "nan"), ("RescaleSlope", ["1", "2"]), ("RescaleIntercept", None),
        ("RescaleType", "US"), ("RescaleType", "OD"), ("RescaleType", "HU_MOD"), ("PatientID", ""),
        ("ImagePositionPatient", None), ("BurnedInAnnotation", "YES"), ("NumberOfFrames", 2),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), ("PixelSpacing", ["0", "0"]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]),
    ):  # fmt: skip
        text = " ".join(map(str, value)) if isinstance(value, list) else value
        shown = {None: "absent", "": "empty"}.get(text, text)
        yield Kind(f"{tag} {shown}", slices(lambda k, t=tag, v=value: {t: v}))
    yield Kind("truncated pixels", then(ct(), truncated))
    for name in (
        "MR_small.dcm", "rtdose.dcm", "rtplan.dcm", "reportsi.dcm", "SC_rgb_jpeg.dcm",
        "no_meta.dcm", "waveform_ecg.dcm", "liver_1frame.dcm",
    ):  # fmt: skip
        yield Kind(f"pydicom's {name}", shipped(PYDICOM / name))
    yield Kind("NIfTI (.nii)", nifti("x.nii"), "SimpleITK")
    yield Kind("NIfTI (.nii.gz)", nifti(), "SimpleITK")
    yield Kind("NIfTI-2", nifti(kind=nibabel.Nifti2Image), "nibabel")
    for axes in ("RAS", "PSR", "AIL"):
        yield Kind(f"NIfTI, axes {axes}", nifti(axes=axes), "SimpleITK")
    yield Kind("NIfTI, float", nifti(values=HU + 0.5), "nibabel")
    stored = (HU + 1024).astype(np.int16)
    yield Kind("NIfTI, scaled", nifti(values=stored, scale=(1, -1024)), "nibabel")
    yield Kind("NIfTI, name of nnU-Net", nifti("case_0000.nii.gz"), "nibabel")
    archived = then(nifti(), lambda folder: (folder / "._x.nii.gz").write_bytes(b"fork"))
    yield Kind("NIfTI with a `._` file", archived, "nibabel")
    yield Kind("nibabel's anatomical.nii", shipped(NIBABEL / "anatomical.nii"), "nibabel")
    yield Kind("nibabel's standard.nii.gz", shipped(NIBABEL / "standard.nii.gz"), "nibabel")
    yield Kind("nibabel's functional.nii (4D)", shipped(NIBABEL / "functional.nii"))
    yield Kind("NIfTI with NaN", nifti(values=np.where(TRUTH, np.nan, HU)))
    yield Kind("NIfTI without sform and qform", nifti(affine=None))
    sheared = AFFINE + np.array([[0, 0.3, 0, 0]] + [[0] * 4] * 3)
    yield Kind("NIfTI, sheared", nifti(affine=sheared))
    beside = then(nifti(), shipped(NIBABEL / "analyze.hdr"))
    yield Kind("NIfTI beside Analyze (.hdr)", beside, "nibabel")
    for name in ("x.mha", "x.mhd", "x.nrrd", "x.nhdr"):
        yield Kind(f"{name[1:]}", itk(name), "SimpleITK")
        yield Kind(f"{name[1:]}, compressed", itk(name, zipped=True), "SimpleITK")
        yield Kind(f"{name[1:]}, sagittal", turned(name), "SimpleITK")
    sizes = "sizes: 36 40 4\nencoding: raw\nendian: little\n"
    space = "space: RAS\nspace directions: (0.7,0,0) (0,0.7,0) (0,0,2)\nspace origin: (1,2,3)\n"
    head = f"NRRD0004\ntype: short\ndimension: 3\n{sizes}"
    yield Kind(".nrrd, space RAS", text_header("x.nrrd", f"{head}{space}\n"), "SimpleITK")
    yield Kind(".nrrd without a space", text_header("x.nrrd", f"{head}\n"))
    meta = "NDims = 3\nDimSize = 36 40 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    yield Kind(".mha without TransformMatrix", text_header("x.mha", meta))
    yield Kind(".mha, truncated", then(itk("x.mha"), truncated))
    yield Kind(".mhd without its .raw", then(itk("x.mhd"), lambda f: (f / "x.raw").unlink()))
    yield Kind(".nrrd of vectors", itk("x.nrrd", np.zeros((4, 40, 36, 3), np.uint8), vector=True))
    yield Kind("8-bit PNG alone", png(np.uint8), "", {"scale": PngScale(1, -1024)})
    inside = TRUTH.astype(np.uint8)
    yield masks(nifti("m.nii.gz", values=inside), "mask, NIfTI", "nibabel")
    yield masks(nifti("m.nii.gz", axes="RSA", values=inside), "mask, NIfTI, axes RSA", "nibabel")
    shifted = nifti("m.nii.gz", values=inside + 4, scale=(1, -4))
    yield masks(shifted, "mask, NIfTI with an intercept", "nibabel")
    empty = nifti("m.nii.gz", values=np.where(TRUTH, 1, np.nan))
    yield masks(empty, "mask, NIfTI with NaN as background", "nibabel")
    for name in ("m.mha", "m.nrrd", "m.seg.nrrd"):
        yield masks(itk(name, inside), f"mask, {name[1:]}", "SimpleITK")
    for kind in ("BINARY", "LABELMAP"):
        yield masks(seg(kind), f"mask, DICOM SEG, {kind.lower()}", "highdicom")
    yield masks(seg("FRACTIONAL"), "mask, DICOM SEG, fractional", "pixels drawn")
    yield masks(seg("BINARY", [1, 0, 0, 0, 0, -1]), "mask, DICOM SEG, coronal", "")
    yield masks(seg("BINARY", [1, 0, 0, 0, 0.94, 0.342]), "mask, DICOM SEG, tilted", "")
    yield masks(outlines(True), "outlines, RTSTRUCT by SOPInstanceUID", "pixels drawn")
    yield masks(outlines(False), "outlines, RTSTRUCT by position", "pixels drawn")
    yield masks(rois, "outlines, ROI manager of ImageJ (.zip)", "pixels drawn")
