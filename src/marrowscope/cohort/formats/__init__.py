"""Outside annotation formats, one a file: each is converted at the door to ``shapes.AnnotatedImage``."""
