"""A map as a DICOM SEG object, which a viewer lays over its series.

Segment n is code n - 1 of `stagetransfer.inference.window_labels.codes`: the run's classes, then
the two marks. Their types are coded in a private scheme (99STAGETRANSFER), because the classes are
whatever the run's data set defines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.sr.codedict import codes as standard
from pydicom.uid import ExplicitVRLittleEndian

from stagetransfer.ct.problems import reason
from stagetransfer.errors import UserError
from stagetransfer.inference.label_map import Map
from stagetransfer.inference.window_labels import NOTICE


def write_segmentation(
    path: Path, maps: Mapping[Path, Map], names: Sequence[str], run: str, number: int
) -> None:
    """Writes the maps (H, W) of a series' slices, each beside its DICOM file, as one SEG.

    Args:
        names: of the codes; those that no pixel has are left out.
        run: the run's name, kept as the algorithm's.
        number: the SEG's own series number.

    Raises:
        UserError: the maps are empty, or the series' headers lack what a SEG must repeat.
    """
    stack = np.stack(list(maps.values()))
    there = [code for code in range(len(names)) if (stack == code).any()]
    if not there:
        raise UserError(f"{path.name}: nothing of this series was read; leave out --seg")
    values = np.zeros(stack.shape, np.uint8)
    for place, code in enumerate(there, 1):
        values[stack == code] = place
    algorithm = hd.AlgorithmIdentificationSequence(
        name="StageTransfer",
        version=version("stagetransfer"),
        family=standard.cid7162.ArtificialIntelligence,
        parameters={"run": run},
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=place,
            segment_label=names[code],
            segmented_property_category=standard.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=hd.sr.CodedConcept(
                value=f"CODE{code}", scheme_designator="99STAGETRANSFER", meaning=names[code][:64]
            ),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for place, code in enumerate(there, 1)
    ]
    try:
        made = hd.seg.Segmentation(
            source_images=[dcmread(file) for file in maps],
            pixel_array=values,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=number,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="StageTransfer",
            manufacturer_model_name="second opinion",
            software_versions=version("stagetransfer"),
            device_serial_number="0",
            content_description=NOTICE,
            content_label="SECOND_OPINION",
            series_description=f"StageTransfer: {NOTICE}",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
        )
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--seg: this series can't have one ({reason(error)})") from error
    made.save_as(path)
