"""Utilities without domain knowledge: files, archives, downloads, text."""
