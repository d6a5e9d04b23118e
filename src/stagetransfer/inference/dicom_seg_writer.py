"""Writing label maps as a DICOM SEG object, which a viewer overlays on its series.

The segments are the codes of `stagetransfer.inference.label_map` that occur. Their types use a
private coding scheme (99STAGETRANSFER), because the classes depend on the run's data set.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from stagetransfer.ct.input_problems import first_line
from stagetransfer.errors import UserError
from stagetransfer.inference.label_map import DISCLAIMER, LabelMap


def write_segmentation(
    path: Path, maps: Mapping[Path, LabelMap], names: Sequence[str], run: str, number: int
) -> None:
    """Write the label maps (H, W) of a series, by DICOM file of the slice, as one SEG.

    `names` are those of the codes; `number` is the series number of the SEG. Empty maps and
    incomplete headers of the series are a UserError.
    """
    stack = np.stack(list(maps.values()))
    present = [code for code in range(len(names)) if (stack == code).any()]
    if not present:
        raise UserError(f"--seg: {path.name}: no window of this series was read. Omit --seg")
    algorithm = hd.AlgorithmIdentificationSequence(
        name="StageTransfer",
        version=version("stagetransfer"),
        family=codes.cid7162.ArtificialIntelligence,
        parameters={"run": run},
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=segment,
            segment_label=names[code][:64],
            segmented_property_category=(
                codes.SCT.MorphologicallyAbnormalStructure
                if code < len(names) - 3
                else codes.SCT.SpatialAndRelationalConcept  # a mark, or not read
            ),
            segmented_property_type=hd.sr.CodedConcept(
                value=f"CODE{code}", scheme_designator="99STAGETRANSFER", meaning=names[code][:64]
            ),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for segment, code in enumerate(present, 1)
    ]
    try:
        segmentation = hd.seg.Segmentation(
            source_images=[dcmread(file) for file in maps],
            pixel_array=np.stack([stack == code for code in present], axis=-1),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=number,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="StageTransfer",
            manufacturer_model_name="stagetransfer predict",
            software_versions=version("stagetransfer"),
            device_serial_number="0",
            content_description=DISCLAIMER,
            content_label="PREDICTION",
            series_description=f"StageTransfer: {DISCLAIMER}",
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
        )
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--seg: no SEG can be made for this series ({first_line(error)}). Omit --seg"
        ) from error
    segmentation.save_as(path)
