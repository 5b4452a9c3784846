"""Readers of file formats; each gives a recording or arrays and names the file in its errors."""
