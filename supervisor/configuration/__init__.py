"""Reads the configuration - layers, conversion, what must hold across fields - and documents every setting."""
