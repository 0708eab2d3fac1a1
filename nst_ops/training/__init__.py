"""Training: photographs and a painting in, a checkpoint out."""
