"""What holds a video still: scene cuts, flow, smoothing, and the measure of it. No Ray."""
