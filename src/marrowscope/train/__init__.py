"""Training: the only place with PyTorch, timm and Ultralytics; prediction never imports it."""
