"""Tests, in folders that mirror the package; what they share lies here."""
