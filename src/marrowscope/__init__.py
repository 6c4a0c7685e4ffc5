"""marrowscope: from photographs of a bone marrow smear to a patient's CBLC ratio, every cell open to the eye.

For research use: it supports a qualified person, it does not diagnose.
"""

__version__ = "0.1.0"
