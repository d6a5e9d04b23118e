"""CT slices and series in Hounsfield units, annotations, and ROI patches cut from them."""
