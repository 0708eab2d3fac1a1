"""Files to arrays and back: Pillow for images, PyAV for videos. No torch, no Ray."""
