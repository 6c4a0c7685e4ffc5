"""One cell: contour quality, matching with expert contours, crop, morphology and call."""
