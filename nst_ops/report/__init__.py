"""Reports of a run: page, contact sheet, loss curves, tables for the terminal."""
