"""The configuration: layers, problems, paths and the settings table."""
