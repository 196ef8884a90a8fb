"""NVFP4 codec."""
