"""Files to arrays and back: Pillow for pictures, PyAV for films. No torch, no Ray."""
