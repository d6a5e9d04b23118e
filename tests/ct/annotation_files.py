"""Annotation files for the tests: DICOM SEG by highdicom, and RT structure sets."""

import highdicom as hd
import numpy as np
from ct_series import ROOT, dataset, save
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage


def segmentation(scans, kind, values):
    """Return a SEG of the values 2 and 5 of a mask (Z, H, W), made by highdicom."""
    source = [dcmread(path) for path in sorted(scans.glob("*.dcm"))]
    segments = [
        hd.seg.SegmentDescription(
            number,
            label,
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Lesion,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in ((1, "GGO"), (2, "artefact"))
    ]
    stack = np.stack([values == 2, values == 5], axis=-1)
    if kind == "FRACTIONAL":
        stack = np.where(stack, 0.8, 0.3)
    if kind == "LABELMAP":
        stack = (stack * [1, 2]).sum(axis=-1).astype(np.uint8)
    return hd.seg.Segmentation(
        source,
        stack,
        kind,
        segments,
        series_instance_uid=hd.UID(),
        series_number=7,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="None",
        manufacturer_model_name="None",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=kind != "FRACTIONAL",
    )


def item(**tags):
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def contour(pixels, index=1, sop=True, kind="CLOSED_PLANAR", lift=0.0):
    """A contour on a slice of `series`, given in pixels."""
    height = 2.5 * index - 100 + lift
    points = np.column_stack([pixels * 0.7 + [-30, -20], np.full(len(pixels), height)])
    made = item(ContourGeometricType=kind, ContourData=points.round(4).ravel().tolist())
    if sop:
        made.ContourImageSequence = [item(ReferencedSOPInstanceUID=f"{ROOT}.1.{index + 1}")]
    return made


def structure_set(path, regions, uid=f"{ROOT}.1"):
    """Write the contours of each region, by its name."""
    data = dataset(np.zeros((2, 2)))
    del data.PixelData
    data.Modality = "RTSTRUCT"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    series_item = item(SeriesInstanceUID=uid)
    study = item(RTReferencedSeriesSequence=[series_item] if uid else [])
    data.ReferencedFrameOfReferenceSequence = [item(RTReferencedStudySequence=[study])]
    numbered = list(enumerate(regions.items(), 1))
    data.StructureSetROISequence = [item(ROINumber=n, ROIName=name) for n, (name, _) in numbered]
    data.ROIContourSequence = [
        item(ReferencedROINumber=n, ContourSequence=contours) for n, (_, contours) in numbered
    ]
    save(data, path)
    return path
