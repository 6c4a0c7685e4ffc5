"""One cell: which contours count, how they match an expert's, the crop, its measurements, its call."""
