"""Find nucleated cells: letterbox, network, decode, sub-pixel contours."""
