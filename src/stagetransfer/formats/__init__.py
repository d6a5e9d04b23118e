"""What one file of a CT, a mask or outlines holds: DICOM, NIfTI, MetaImage, NRRD, ImageJ."""
