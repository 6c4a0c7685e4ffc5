"""What the review station answers over HTTP, one module per subject."""
