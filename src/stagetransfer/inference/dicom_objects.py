"""DICOM objects of a predicted series: SEG, TID 1500 structured report, Secondary Captures.

A SEG holds one binary segment per code of `stagetransfer.inference.label_map` that occurs, and a
second one, in the same series, the lung: in one object they would overlap, which takes several
times the memory. The report has a measurement group per code, which refers to its segment by number
and tracking UID. Secondary Captures hold the pictures, for viewers that show neither.

Marks, "not read", normal lung and the lung have SNOMED codes. Other classes depend on the run's
data set, and have codes of a private scheme (99STAGETRANSFER) that are made from their names.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from stagetransfer.errors import first_line
from stagetransfer.inference.label_map import DISCLAIMER, OUTSIDE, LabelMap
from stagetransfer.inference.prediction_figures import Colour

_NORMAL = ("nor", "normal", "healthy")
_MARKS = (codes.SCT.Uncertain, codes.SCT.Unknown, codes.SCT.NotEvaluated)
_SCHEME = "99STAGETRANSFER"
_TYPE_2 = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
    "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip
_ALGORITHM: dict[str, Any] = {
    "name": "StageTransfer", "version": version("stagetransfer"),
    "family": codes.cid7162.ArtificialIntelligence,
}  # fmt: skip
_DESCRIPTION = f"StageTransfer: {DISCLAIMER}"
_ERRORS = (AttributeError, ValueError, KeyError, TypeError, IndexError)


class NotWritable(Exception):
    """The series' header does not allow an object; the message says why."""


@dataclass(frozen=True)
class CodeResult:
    """What the report says of one code: name, colour, share in [0, 1], mean probability.

    The probability is the mean of the calibrated probabilities of the code's windows, of the class
    that is the most probable; NaN if there are none.
    """

    name: str
    colour: Colour
    share: float
    probability: float


@dataclass(frozen=True)
class ObjectMaker:
    """Makes the objects of one series."""

    codes: Sequence[CodeResult]  # in their order; the last three are the marks and "not read"
    number: int  # series number of the SEG; the report has the next one, the captures the one after
    parameters: Mapping[str, str]  # of the algorithm, such as the run, by name

    def make(self, maps: Mapping[Path, LabelMap]) -> dict[str, Dataset]:
        """Return "seg", "lung.seg" and "sr", made of the label maps (H, W) by file of the slice.

        NotWritable if the header lacks what the standard requires, or no lung was found.
        """
        present = np.unique(np.concatenate([np.unique(one) for one in maps.values()]))
        numbers = {int(code): n for n, code in enumerate(present[present != OUTSIDE], 1)}
        if not numbers:
            raise NotWritable("no slice has lung")
        segment = np.zeros(len(self.codes) + 1, np.uint8)  # of each code; the last is OUTSIDE
        for code, number in numbers.items():
            segment[code] = number
        labels = np.stack([segment[one] for one in maps.values()])
        lung = len(self.codes)
        try:
            sources = [read_header(file) for file in maps]
            tracking = [hd.UID() for _ in range(lung + 1)]
            series = hd.UID()
            segments = self._segmentation(sources, labels, numbers, tracking, series)
            report = self._report(sources, segments, numbers, tracking)
            np.minimum(labels, 1, out=labels)
            lungs = self._segmentation(sources, labels, {lung: 1}, tracking, series)
        except _ERRORS as error:
            raise NotWritable(first_line(error)) from error
        return {"seg": segments, "lung.seg": lungs, "sr": report}

    def write_captures(self, pictures: Mapping[Path, Path], orientation: str) -> int:
        """Write pictures as Secondary Captures beside themselves, and return their number.

        Args:
            pictures: the file of the slice, by picture.
            orientation: letters of the patient's sides along rows and columns, such as "LP".
        """
        series = hd.UID()
        for number, (picture, file) in enumerate(pictures.items(), 1):
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            try:
                capture = hd.sc.SCImage.from_ref_dataset(
                    read_header(file), pixels, "RGB", 8, "PATIENT", series,
                    self.number + 2, hd.UID(), number, "StageTransfer",
                    patient_orientation=(orientation[0], orientation[1]),
                    transfer_syntax_uid=ExplicitVRLittleEndian,
                    series_description=_DESCRIPTION,
                )  # fmt: skip
            except _ERRORS as error:
                raise NotWritable(first_line(error)) from error
            capture.BurnedInAnnotation = "NO"
            capture.Laterality = ""  # required, and empty: both lungs
            capture.save_as(picture.with_suffix(".sc.dcm"))
        return len(pictures)

    def _segmentation(
        self, sources: Sequence[Dataset], labels: NDArray[np.uint8], numbers: Mapping[int, int],
        tracking: Sequence[str], series: str,
    ) -> Any:  # fmt: skip
        """Return a SEG of the segments 1, 2, ... of `labels` (slices, H, W), numbered by code."""
        lung = len(self.codes)
        algorithm = hd.AlgorithmIdentificationSequence(
            **_ALGORITHM, parameters=dict(self.parameters)
        )
        shown = [*((one.name[:64], one.colour) for one in self.codes), ("lung", (1.0, 1.0, 1.0))]
        segments = []
        for code, number in numbers.items():
            (name, colour), (category, kind) = shown[code], self._concept(code)
            rgb = (round(255 * value) for value in colour)
            segments.append(
                hd.seg.SegmentDescription(
                    segment_number=number,
                    segment_label=name,
                    segmented_property_category=category,
                    segmented_property_type=kind,
                    algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                    algorithm_identification=algorithm,
                    tracking_uid=tracking[code],
                    tracking_id=name,
                    anatomic_regions=None if code == lung else [codes.SCT.Lung],
                    display_color=hd.color.CIELabColor.from_rgb(*rgb),
                )
            )
        return hd.seg.Segmentation(
            source_images=sources,
            pixel_array=labels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=series,
            series_number=self.number,
            sop_instance_uid=hd.UID(),
            instance_number=2 if lung in numbers else 1,
            manufacturer="StageTransfer",
            manufacturer_model_name="stagetransfer predict",
            software_versions=version("stagetransfer"),
            device_serial_number="0",
            content_description=DISCLAIMER,
            content_label="PREDICTION",
            series_description=_DESCRIPTION,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
        )

    def _report(
        self, sources: Sequence[Dataset], segmentation: Any, numbers: Mapping[int, int],
        tracking: Sequence[str],
    ) -> Any:  # fmt: skip
        """Return the TID 1500 report: shares, mean probabilities and the algorithm."""
        sr = hd.sr
        parameters = [f"{name}={value}" for name, value in self.parameters.items()]
        algorithm = sr.AlgorithmIdentification(**_ALGORITHM, parameters=parameters)
        groups: list[Any] = []
        for code, one in enumerate(self.codes):
            of = "lung" if code == len(self.codes) - 1 else "lung that was read"
            measured = {f"share of the {of}": (100 * one.share, codes.UCUM.Percent)}
            if code < len(self.codes) - 1:
                measured["mean calibrated probability"] = (one.probability, codes.UCUM.NoUnits)
            measurements = [
                sr.Measurement(_private(name), float(f"{value:.6g}"), unit)
                for name, (value, unit) in measured.items()
                if np.isfinite(value)
            ]
            common: dict[str, Any] = {
                "tracking_identifier": sr.TrackingIdentifier(tracking[code], one.name[:64]),
                "finding_type": self._concept(code)[1],
                "finding_sites": [sr.FindingSite(codes.SCT.Lung)],
                "algorithm_id": algorithm,
                "measurements": measurements,
            }
            if code in numbers:
                segment = sr.ReferencedSegment(
                    segmentation.SOPClassUID,
                    segmentation.SOPInstanceUID,
                    numbers[code],
                    source_series=sr.SourceSeriesForSegmentation(sources[0].SeriesInstanceUID),
                )
                of_volume = sr.VolumetricROIMeasurementsAndQualitativeEvaluations
                groups.append(of_volume(**common, referenced_segment=segment))
            else:
                groups.append(sr.MeasurementsAndQualitativeEvaluations(**common))
        device = sr.DeviceObserverIdentifyingAttributes(
            hd.UID(), "StageTransfer", "StageTransfer", "stagetransfer predict"
        )
        observer = sr.ObserverContext(codes.DCM.Device, device)
        content = sr.MeasurementReport(
            sr.ObservationContext(observer_device_context=observer),
            codes.LN.CTUnspecifiedBodyRegion,
            groups,
            title=codes.DCM.ImagingMeasurementReport,
        )
        return sr.ComprehensiveSR(
            [segmentation, *sources], content, hd.UID(), self.number + 1, hd.UID(), 1,
            "StageTransfer", series_description=_DESCRIPTION,
        )  # fmt: skip

    def _concept(self, code: int) -> tuple[Code, Code]:
        """Return the category and the type of a code, or of the lung."""
        count = len(self.codes)
        if code == count:
            return codes.SCT.AnatomicalStructure, codes.SCT.Lung
        if code >= count - len(_MARKS):
            return codes.SCT.SpatialAndRelationalConcept, _MARKS[code - count]
        name = self.codes[code].name
        if name.lower() in _NORMAL:
            return codes.SCT.Tissue, codes.SCT.Normal
        return codes.SCT.MorphologicallyAbnormalStructure, _private(name)


def read_header(file: Path) -> Dataset:
    """Return a slice's header, without what would make an object invalid.

    Attributes that may be empty but not absent are added as empty. References to the study or the
    patient that are incomplete, as after some de-identification, are removed. Objects made of the
    header are in UTF-8, because the names of classes may have any characters.
    """
    header = dcmread(file, stop_before_pixels=True, force=True)  # find_series has checked it
    header.SpecificCharacterSet = "ISO_IR 192"  # what was read keeps its own until it is written
    for name in _TYPE_2:
        if name not in header:
            setattr(header, name, None)
    for name in ("ReferencedStudySequence", "ReferencedPatientSequence"):
        if not all(item.get("ReferencedSOPClassUID") for item in header.get(name) or ()):
            del header[name]
    return header


def _private(name: str) -> Code:
    """Return a code of the private scheme; the same name has the same code in all runs."""
    return Code(hashlib.sha256(name.encode()).hexdigest()[:16], _SCHEME, name[:64])
